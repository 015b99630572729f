//! An authority of one test, and certificates it signed for a server and a client.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// Certificates and keys in PEM files, gone on drop.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// A new authority, and what it signed: a server's certificate for `localhost` and `127.0.0.1`, and a client's.
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("certificates").expect("a temporary directory");
        let made = Self { directory };
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Unlike those it signs: OpenSSL takes a certificate by its own name for a self-signed one.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        made.write("ca.pem", &authority.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(authority, key);
        made.sign("server", &["localhost", "127.0.0.1"], &issuer);
        made.sign("client", &["client"], &issuer);
        made
    }

    fn sign(&self, name: &str, subjects: &[&str], issuer: &Issuer<'_, KeyPair>) {
        let key = KeyPair::generate().expect("a key");
        let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let mut certificate = CertificateParams::new(subjects).expect("names");
        certificate.distinguished_name.push(DnType::CommonName, name);
        certificate.use_authority_key_identifier_extension = true;
        let certificate = certificate.signed_by(&key, issuer).expect("signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where all of it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// The server's key.
    pub fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// The client's certificate.
    pub fn client(&self) -> PathBuf {
        self.path("client.pem")
    }

    /// The client's key.
    pub fn client_key(&self) -> PathBuf {
        self.path("client.key")
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
