//! `grpc.tls.*`: what the edge shows SFU nodes, and whom of them it believes. The files are read when the settings are checked, so
//! that one nobody can use is named before anything starts, and once more for use.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use telemetry::settings::Contradiction;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// `grpc.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcSettings {
    /// Mutual TLS with SFU nodes. All three or none: with them only `https://` nodes are spoken to, without only `http://` ones.
    pub tls: GrpcTlsSettings,
}

/// `grpc.tls.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcTlsSettings {
    /// PEM file with the authorities that signed nodes' certificates.
    pub ca: Option<PathBuf>,
    /// PEM file with this edge's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// The name that nodes' certificates are for. Absent: each is for the host of its node's address.
    pub server_name: Option<String>,
}

impl GrpcTlsSettings {
    /// What to speak to SFU nodes with; `None`: plain text.
    pub fn client_config(&self) -> Result<Option<ClientTlsConfig>, Contradiction> {
        let (ca, cert, key) = match (&self.ca, &self.cert, &self.key) {
            (Some(ca), Some(cert), Some(key)) => (ca, cert, key),
            (None, None, None) if self.server_name.is_some() => return Err(missing("ca")),
            (None, None, None) => return Ok(None),
            (None, _, _) => return Err(missing("ca")),
            (_, None, _) => return Err(missing("cert")),
            (_, _, None) => return Err(missing("key")),
        };
        if let Some(name) = &self.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|error| Contradiction::new("grpc.tls.server_name", error.to_string()))?;
        }
        let ca = Certificate::from_pem(pem::<CertificateDer<'_>>("ca", ca, "certificate")?);
        let chain = pem::<CertificateDer<'_>>("cert", cert, "certificate")?;
        let identity = Identity::from_pem(chain, pem::<PrivateKeyDer<'_>>("key", key, "key")?);
        let config = ClientTlsConfig::new().ca_certificate(ca).identity(identity);
        // Whether they belong together shows when they are used.
        Endpoint::from_static("https://node").tls_config(config.clone()).map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Contradiction::new("grpc.tls.key", format!("cannot be used with {}: {cause}", cert.display()))
        })?;
        Ok(Some(config))
    }
}

fn missing(key: &str) -> Contradiction {
    Contradiction::new(format!("grpc.tls.{key}"), "needed with the rest of grpc.tls")
}

/// A file's text, in which there is what should be.
fn pem<T: PemObject>(key: &str, path: &Path, what: &str) -> Result<Vec<u8>, Contradiction> {
    let unusable =
        |reason: String| Contradiction::new(format!("grpc.tls.{key}"), format!("{}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let none = || format!("holds no {what} in PEM");
    let found: Vec<T> = T::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| match error {
        PemError::NoItemsFound => unusable(none()),
        error => unusable(error.to_string()),
    })?;
    if found.is_empty() { Err(unusable(none())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn all_of_it_is_needed_and_what_cannot_be_used_is_named() {
        let directory = TempDir::new().expect("a directory");
        let pair = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(vec!["edge".to_owned()]).expect("valid").self_signed(&pair).expect("signed");
        let cert = Some(file(&directory, "cert.pem", &certificate.pem()));
        let key = Some(file(&directory, "key.pem", &pair.serialize_pem()));
        let others_key = Some(file(&directory, "other.pem", &KeyPair::generate().expect("a key").serialize_pem()));
        let prose = Some(file(&directory, "prose.pem", "certainly\n"));
        let tls = |ca: &Option<PathBuf>, cert: &Option<PathBuf>, key: &Option<PathBuf>| {
            let settings = GrpcTlsSettings { ca: ca.clone(), cert: cert.clone(), key: key.clone(), server_name: None };
            settings.client_config().map(|config| config.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(tls(&None, &None, &None), Ok(false));
        assert_eq!(tls(&cert, &cert, &key), Ok(true));
        let named = |settings: GrpcTlsSettings, name: &str| {
            let settings = GrpcTlsSettings { server_name: Some(name.to_owned()), ..settings };
            settings.client_config().map(|config| config.is_some()).map_err(|error| error.to_string())
        };
        let whole = GrpcTlsSettings { ca: cert.clone(), cert: cert.clone(), key: key.clone(), server_name: None };
        assert_eq!(named(whole.clone(), "nodes.sluice.internal"), Ok(true));
        assert!(named(whole, "no name").expect_err("unusable").starts_with("grpc.tls.server_name: "));
        assert!(named(GrpcTlsSettings::default(), "nodes").expect_err("unusable").starts_with("grpc.tls.ca: needed"));
        let none = Some(directory.path().join("none"));
        for (ca, cert, key, start, rest) in [
            (&None, &cert, &key, "grpc.tls.ca: needed", ""),
            (&cert, &None, &key, "grpc.tls.cert: needed", ""),
            (&cert, &cert, &None, "grpc.tls.key: needed", ""),
            (&none, &cert, &key, "grpc.tls.ca: ", "none: No such file"),
            (&prose, &cert, &key, "grpc.tls.ca: ", "prose.pem: holds no certificate"),
            (&cert, &prose, &key, "grpc.tls.cert: ", "prose.pem: holds no certificate"),
            (&cert, &cert, &prose, "grpc.tls.key: ", "prose.pem: holds no key"),
            (&cert, &cert, &others_key, "grpc.tls.key: cannot be used with ", "cert.pem"),
        ] {
            let error = tls(ca, cert, key).expect_err("unusable");
            assert!(error.starts_with(start) && error.contains(rest), "{error}");
        }
    }
}
