//! How etcd is reached: the settings below `etcd`, the same for edges and nodes. Checked without a network; files are read
//! when the settings are checked, and again by whoever connects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use http::Uri;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use telemetry::settings::{Contradiction, Secret};

/// Below which everything of ours is kept when nothing else is said.
pub const DEFAULT_PREFIX: &str = "/sluice";

/// More members than etcd works with.
const MAX_ENDPOINTS: usize = 16;
const MAX_PREFIX: usize = 128;
/// A PEM file larger than this is not one.
const MAX_FILE: u64 = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// etcd cuts clients that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Keys below `etcd`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port` of each member; none: etcd is not used.
    pub endpoints: Vec<String>,
    /// Before every key; begins with `/`.
    pub prefix: String,
    /// Who we are to etcd, where it asks.
    pub username: Option<String>,
    /// The password of `username`.
    pub password: Option<Secret>,
    /// A file that holds it instead.
    pub password_file: Option<PathBuf>,
    /// For `https` endpoints.
    pub tls: EtcdTls,
}

/// Keys below `etcd.tls`; files in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdTls {
    /// Who issues the certificates of etcd's members.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where etcd asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: DEFAULT_PREFIX.to_owned(),
            username: None,
            password: None,
            password_file: None,
            tls: EtcdTls::default(),
        }
    }
}

/// Settings that have been checked, with what their files hold.
pub(super) struct Checked {
    pub(super) endpoints: Vec<String>,
    pub(super) prefix: String,
    pub(super) options: ConnectOptions,
}

impl EtcdConfig {
    /// Whether etcd is used.
    pub fn is_set(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether it can be used. Errors name the key, from `etcd` on.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.checked().map(drop)
    }

    pub(super) fn checked(&self) -> Result<Checked, Contradiction> {
        let tls = self.check_endpoints()?;
        self.check_prefix()?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            // A member that has lost the others says so, instead of showing the past.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = self.user()? {
            options = options.with_user(name, password);
        }
        if let Some(tls) = self.tls.options(tls)? {
            options = options.with_tls(tls);
        }
        Ok(Checked { endpoints: self.endpoints.clone(), prefix: self.prefix.clone(), options })
    }

    /// Whether they are `https`.
    fn check_endpoints(&self) -> Result<bool, Contradiction> {
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Contradiction::new("etcd.endpoints", format!("at most {MAX_ENDPOINTS}")));
        }
        let tls = self.endpoints.first().is_some_and(|first| first.starts_with("https:"));
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let wrong = |reason: &str| Err(Contradiction::new(format!("etcd.endpoints.{index}"), reason));
            let scheme = endpoint.parse::<Uri>().ok().filter(is_bare).and_then(|uri| uri.scheme().cloned());
            match scheme.as_ref().map(http::uri::Scheme::as_str) {
                Some("http" | "https") => {}
                _ => return wrong("must be http://host:port or https://host:port"),
            }
            if endpoint.starts_with("https:") != tls {
                return wrong("http and https cannot be mixed");
            }
        }
        Ok(tls)
    }

    fn check_prefix(&self) -> Result<(), Contradiction> {
        let good = self.prefix.len() <= MAX_PREFIX
            && self.prefix.starts_with('/')
            && !self.prefix.ends_with('/')
            && self.prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
        if good {
            return Ok(());
        }
        let reason =
            format!("must begin with / and not end so, of at most {MAX_PREFIX} letters, digits, /, -, _ and .");
        Err(Contradiction::new("etcd.prefix", reason))
    }

    fn user(&self) -> Result<Option<(String, String)>, Contradiction> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err(Contradiction::new("etcd.password_file", "cannot be used with etcd.password"));
            }
            (Some(password), None) => Some(("etcd.password", password.expose().to_owned())),
            (None, Some(path)) => Some(("etcd.password_file", password_in(path)?)),
            (None, None) => None,
        };
        match (&self.username, password) {
            (Some(name), Some((_, password))) if !name.is_empty() && !password.is_empty() => {
                Ok(Some((name.clone(), password)))
            }
            (Some(name), _) if name.is_empty() => Err(Contradiction::new("etcd.username", "is empty")),
            (Some(_), Some((key, _))) => Err(Contradiction::new(key, "is empty")),
            (Some(_), None) => Err(Contradiction::new("etcd.password", "needed with etcd.username")),
            (None, Some((key, _))) => Err(Contradiction::new(key, "has no meaning without etcd.username")),
            (None, None) => Ok(None),
        }
    }
}

impl EtcdTls {
    fn options(&self, tls: bool) -> Result<Option<TlsOptions>, Contradiction> {
        if !tls {
            let set = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
            return match set.into_iter().find(|(_, path)| path.is_some()) {
                Some((key, _)) => {
                    Err(Contradiction::new(format!("etcd.tls.{key}"), "has no meaning without https endpoints"))
                }
                None => Ok(None),
            };
        }
        let ca = self.ca.as_ref().ok_or_else(|| Contradiction::new("etcd.tls.ca", "needed with https endpoints"))?;
        let mut roots = RootCertStore::empty();
        for root in certificates("etcd.tls.ca", ca)? {
            roots.add(root).map_err(|error| Contradiction::new("etcd.tls.ca", format!("{}: {error}", ca.display())))?;
        }
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(read("etcd.tls.ca", ca)?));
        let (cert, key) = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(Contradiction::new("etcd.tls.key", "needed with etcd.tls.cert")),
            (None, Some(_)) => return Err(Contradiction::new("etcd.tls.cert", "needed with etcd.tls.key")),
            (None, None) => return Ok(Some(options)),
        };
        check_pair(roots, cert, key)?;
        let identity = Identity::from_pem(read("etcd.tls.cert", cert)?, read("etcd.tls.key", key)?);
        options = options.identity(identity);
        Ok(Some(options))
    }
}

/// The scheme, a host and nothing behind the port.
fn is_bare(uri: &Uri) -> bool {
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    authority.is_some_and(|it| !it.host().is_empty()) && uri.path() == "/" && uri.query().is_none()
}

/// Whether the key is that of the certificate.
fn check_pair(roots: RootCertStore, cert: &Path, key: &Path) -> Result<(), Contradiction> {
    let chain = certificates("etcd.tls.cert", cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("etcd.tls.key", key, "key", &error))?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, private))
        .map(drop)
        .map_err(|error| Contradiction::new("etcd.tls.key", format!("cannot be used with {}: {error}", cert.display())))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Contradiction> {
    let wrong = |error| unusable(key, path, "certificate", &error);
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong(PemError::NoItemsFound)) } else { Ok(found) }
}

fn unusable(key: &str, path: &Path, what: &str, error: &PemError) -> Contradiction {
    let reason = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => format!("holds no {what} in PEM"),
        error => error.to_string(),
    };
    Contradiction::new(key, format!("{}: {reason}", path.display()))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, Contradiction> {
    let wrong = |reason: String| Contradiction::new(key, format!("{}: {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(wrong("is too large".to_owned()));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

/// A line break at the end is the editor's, not the password's.
fn password_in(path: &Path) -> Result<String, Contradiction> {
    let key = "etcd.password_file";
    let text = String::from_utf8(read(key, path)?)
        .map_err(|_| Contradiction::new(key, format!("{}: is not UTF-8", path.display())))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
