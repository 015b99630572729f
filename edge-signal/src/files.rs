//! What stands in the files that settings name: the shared secret, certificate and key. Read when the settings are checked,
//! so that a file nobody can use is named before anything starts, and again by whoever uses it.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use telemetry::settings::Contradiction;

use crate::auth::SharedSecret;
use crate::settings::{AuthSettings, EdgeSettings, TlsSettings};

impl AuthSettings {
    /// The secret that tokens are signed with, from the settings or from the file they name; `None`: there is none.
    pub fn shared_secret(&self) -> Result<Option<SharedSecret>, Contradiction> {
        let (key, secret) = match (&self.hs256_secret, &self.hs256_secret_file) {
            (Some(secret), _) => ("auth.hs256_secret", secret.expose().as_bytes().to_vec()),
            (None, Some(path)) => ("auth.hs256_secret_file", secret_file("auth.hs256_secret_file", path)?),
            (None, None) => return Ok(None),
        };
        SharedSecret::new(secret).map(Some).map_err(|error| Contradiction::new(key, error.to_string()))
    }
}

impl EdgeSettings {
    /// The secret that session tokens are signed with, from the settings or from the file they name; `None`: there is none.
    pub(crate) fn session_secret(&self) -> Result<Option<SharedSecret>, Contradiction> {
        let (key, secret) = match (&self.session.secret, &self.session.secret_file) {
            (Some(_), Some(_)) => {
                return Err(Contradiction::new("session.secret_file", "cannot be used with session.secret"));
            }
            (Some(secret), None) => ("session.secret", secret.expose().as_bytes().to_vec()),
            (None, Some(path)) => ("session.secret_file", secret_file("session.secret_file", path)?),
            (None, None) => return Ok(None),
        };
        SharedSecret::new(secret).map(Some).map_err(|error| Contradiction::new(key, error.to_string()))
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

    use telemetry::settings::Secret;
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
