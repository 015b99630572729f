//! What stands in the files that settings name: the shared secret, certificate and key. Read when the settings are checked,
//! so that a file nobody can use is named before anything starts, and again by whoever uses it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use telemetry::settings::{Contradiction, Secret};

use crate::auth::{KeyError, Keyring, SharedSecret, VerifyingKey};
use crate::https::{self, Address};
use crate::settings::{AuthSettings, EdgeSettings, PublicKeySettings, TlsSettings};

impl AuthSettings {
    /// The secret that tokens are signed with, from the settings or from the file they name; `None`: there is none.
    pub fn shared_secret(&self) -> Result<Option<SharedSecret>, Contradiction> {
        secret("auth.hs256_secret", self.hs256_secret.as_ref(), self.hs256_secret_file.as_deref())
    }

    /// The one before it.
    fn previous_secret(&self) -> Result<Option<SharedSecret>, Contradiction> {
        let file = self.hs256_previous_secret_file.as_deref();
        secret("auth.hs256_previous_secret", self.hs256_previous_secret.as_ref(), file)
    }

    /// Alone it would be the one in force.
    pub(crate) fn check_previous_secret(&self) -> Result<(), Contradiction> {
        if self.previous_secret()?.is_none() || self.shared_secret()?.is_some() {
            return Ok(());
        }
        let key = if self.hs256_previous_secret.is_some() { "" } else { "_file" };
        Err(Contradiction::new(format!("auth.hs256_previous_secret{key}"), "needs auth.hs256_secret beside it"))
    }
}

impl EdgeSettings {
    /// The secret that session tokens are signed with, from the settings or from the file they name; `None`: there is none.
    pub(crate) fn session_secret(&self) -> Result<Option<SharedSecret>, Contradiction> {
        secret("session.secret", self.session.secret.as_ref(), self.session.secret_file.as_deref())
    }
}

/// What stands at `key`, or in the file that `key` with `_file` names.
fn secret(key: &str, given: Option<&Secret>, file: Option<&Path>) -> Result<Option<SharedSecret>, Contradiction> {
    let of_file = format!("{key}_file");
    let (key, secret) = match (given, file) {
        (Some(_), Some(_)) => return Err(Contradiction::new(of_file, format!("cannot be used with {key}"))),
        (Some(secret), None) => (key, secret.expose().as_bytes().to_vec()),
        (None, Some(path)) => (of_file.as_str(), secret_file(&of_file, path)?),
        (None, None) => return Ok(None),
    };
    SharedSecret::new(secret).map(Some).map_err(|error| Contradiction::new(key, error.to_string()))
}

/// A public key in PEM has a kilobyte, comments around it not counted.
const MAX_KEY_BYTES: u64 = 64 * 1024;
/// Keys that settings may list: more than two or three at a time are a mistake.
const MAX_KEYS: usize = 16;
/// How often a server is asked for its keys at most and at least.
const JWKS_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

impl AuthSettings {
    /// The keys that stand in the settings or in files they name; `None`: there are none, and no server to fetch some from.
    pub fn keyring(&self) -> Result<Option<Keyring>, Contradiction> {
        if self.public_keys.len() > MAX_KEYS {
            return Err(Contradiction::new("auth.public_keys", format!("at most {MAX_KEYS} keys")));
        }
        let public = self.public_keys.iter().enumerate().map(|(index, key)| key.read(index));
        let mut keys = public.collect::<Result<Vec<_>, _>>()?;
        // Behind the others, so that an index is one of theirs.
        let secrets = [self.shared_secret()?, self.previous_secret()?];
        keys.extend(secrets.iter().flatten().map(VerifyingKey::shared_secret));
        let ring = Keyring::new(keys).map_err(|error| {
            Contradiction::new(format!("auth.public_keys.{}.kid", error.index()), error.to_string())
        })?;
        Ok(self.has_keys().then_some(ring))
    }

    /// Where further keys are fetched from.
    pub(crate) fn jwks_address(&self) -> Result<Option<Address>, Contradiction> {
        let read =
            |url: &String| Address::new(url).map_err(|error| Contradiction::new("auth.jwks_url", error.to_string()));
        self.jwks_url.as_ref().map(read).transpose()
    }

    pub(crate) fn check_jwks(&self) -> Result<(), Contradiction> {
        if self.jwks_address()?.is_none() && self.jwks_ca.is_some() {
            return Err(Contradiction::new("auth.jwks_ca", "has no meaning without auth.jwks_url"));
        }
        if !JWKS_INTERVALS.contains(&Duration::from(self.jwks_interval)) {
            return Err(Contradiction::new("auth.jwks_interval", "1s to 24h"));
        }
        if let Some(path) = &self.jwks_ca {
            https::roots(Some(path)).map_err(|error| Contradiction::new("auth.jwks_ca", error.to_string()))?;
        }
        Ok(())
    }
}

impl PublicKeySettings {
    fn read(&self, index: usize) -> Result<VerifyingKey, Contradiction> {
        let wrong = |key: &str, reason: String| Contradiction::new(format!("auth.public_keys.{index}.{key}"), reason);
        let (name, pem) = match (&self.key, &self.key_file) {
            (Some(key), None) => ("key", key.clone().into_bytes()),
            (None, Some(path)) => {
                let unreadable = |reason: String| wrong("key_file", format!("{}: {reason}", path.display()));
                let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
                if length > MAX_KEY_BYTES {
                    return Err(unreadable(format!("is longer than {MAX_KEY_BYTES} bytes")));
                }
                ("key_file", std::fs::read(path).map_err(|error| unreadable(error.to_string()))?)
            }
            (Some(_), Some(_)) => return Err(wrong("key_file", "cannot be used with key".to_owned())),
            (None, None) => return Err(wrong("key", "is missing, or key_file".to_owned())),
        };
        VerifyingKey::from_pem(self.algorithm, self.kid.clone(), &pem).map_err(|error| {
            let name = if error == KeyError::BadKid { "kid" } else { name };
            let place =
                self.key_file.as_ref().filter(|_| name == "key_file").map(|path| format!("{} ", path.display()));
            wrong(name, format!("{}{error}", place.unwrap_or_default()))
        })
    }
}

impl TlsSettings {
    /// What to serve TLS with; `None`: plain text.
    pub(crate) fn server_config(&self) -> Result<Option<Arc<ServerConfig>>, Contradiction> {
        let (cert, key) = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(Contradiction::new("tls.key", "needed with tls.cert")),
            (None, Some(_)) => return Err(Contradiction::new("tls.cert", "needed with tls.key")),
            (None, None) => return Ok(None),
        };
        let in_cert = |error| unusable("tls.cert", cert, "certificate", &error);
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(cert).map_err(in_cert)?.collect::<Result<_, _>>().map_err(in_cert)?;
        if chain.is_empty() {
            return Err(in_cert(PemError::NoItemsFound));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls.key", key, "key", &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
            .map_err(|error| {
                Contradiction::new("tls.key", format!("cannot be used with {}: {error}", cert.display()))
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

/// A line break at the end is the editor's, not the secret's.
fn secret_file(key: &str, path: &Path) -> Result<Vec<u8>, Contradiction> {
    let mut secret =
        std::fs::read(path).map_err(|error| Contradiction::new(key, format!("{}: {error}", path.display())))?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

fn unusable(key: &str, path: &Path, what: &str, error: &PemError) -> Contradiction {
    let reason = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => format!("holds no {what} in PEM"),
        error => error.to_string(),
    };
    Contradiction::new(key, format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn in_file(path: PathBuf) -> AuthSettings {
        AuthSettings { hs256_secret_file: Some(path), ..AuthSettings::default() }
    }

    #[test]
    fn a_secret_is_the_same_wherever_it_stands() {
        let directory = TempDir::new().expect("a directory");
        let secret = "0123456789abcdef0123456789abcdef";
        let given = AuthSettings { hs256_secret: Some(Secret::new(secret)), ..AuthSettings::default() };
        let read = in_file(file(&directory, "secret", &format!("{secret}\r\n")));
        assert_eq!(given.shared_secret(), Ok(Some(SharedSecret::new(secret).expect("long enough"))));
        assert_eq!(read.shared_secret(), given.shared_secret());
        assert_eq!(AuthSettings::default().shared_secret(), Ok(None));
    }

    #[test]
    fn a_secret_that_is_short_or_not_there_is_named() {
        let directory = TempDir::new().expect("a directory");
        let short = in_file(file(&directory, "short", "short\n")).shared_secret().expect_err("too short").to_string();
        assert_eq!(short, "auth.hs256_secret_file: the secret has 5 bytes, at least 32 are needed");
        let missing = in_file(directory.path().join("none")).shared_secret().expect_err("not there").to_string();
        assert!(missing.starts_with("auth.hs256_secret_file: ") && missing.contains("none: No such file"), "{missing}");
    }

    #[test]
    fn a_certificate_and_its_key_are_usable_and_others_are_named() {
        let directory = TempDir::new().expect("a directory");
        let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (own, other) = (made(), made());
        let cert = file(&directory, "cert.pem", &own.cert.pem());
        let key = file(&directory, "key.pem", &own.signing_key.serialize_pem());
        let others_key = file(&directory, "other.pem", &other.signing_key.serialize_pem());
        let prose = file(&directory, "prose.pem", "certainly\n");
        let tls = |cert: &PathBuf, key: &PathBuf| {
            let settings = TlsSettings { cert: Some(cert.clone()), key: Some(key.clone()) };
            settings.server_config().map(|config| config.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(tls(&cert, &key), Ok(true));
        for (cert, key, start, rest) in [
            (&prose, &key, "tls.cert: ", "prose.pem: holds no certificate in PEM"),
            (&cert, &prose, "tls.key: ", "prose.pem: holds no key in PEM"),
            (&key, &key, "tls.cert: ", "key.pem: holds no certificate"),
            (&directory.path().join("none"), &key, "tls.cert: ", "none: No such file"),
            (&cert, &others_key, "tls.key: cannot be used with ", "cert.pem"),
        ] {
            let error = tls(cert, key).expect_err("unusable");
            assert!(error.starts_with(start) && error.contains(rest), "{error}");
        }
    }
}
