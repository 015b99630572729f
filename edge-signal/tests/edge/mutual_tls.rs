//! Mutual TLS between an edge and its nodes: who shows no certificate of the right authority, or one for another name, is not spoken
//! to, on either side.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::rig::client::Client;
use crate::rig::directory::TestDirectory;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, TestEdge, store};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// An authority that signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Signed {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Signed { cert, key: key.serialize_pem() }
    }
}

/// A node that shows what the authority signed for this name, and believes the authority.
async fn node(authority: &Authority, name: &str) -> TestSfu {
    let Signed { cert, key } = authority.sign(name);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(&authority.pem));
    TestSfu::start_tls("sfu-1", "boot-1", tls).await
}

/// An edge that shows this, and believes the authority.
async fn edge(files: &TempDir, authority: &Authority, own: &Signed, address: SocketAddr) -> TestEdge {
    edge_with(files, authority, own, address, "").await
}

/// Likewise, with more settings of `grpc.tls`.
async fn edge_with(files: &TempDir, authority: &Authority, own: &Signed, address: SocketAddr, more: &str) -> TestEdge {
    let file = |name: &str, text: &str| -> PathBuf {
        let path: &Path = files.path();
        std::fs::write(path.join(name), text).expect("written");
        path.join(name)
    };
    let (ca, cert, key) = (file("ca.pem", &authority.pem), file("cert.pem", &own.cert), file("key.pem", &own.key));
    let directory = TestDirectory::of(&[]).await;
    directory.register("sfu-1", "boot-1", &format!("https://{address}")).await;
    let settings =
        format!("grpc: {{tls: {{ca: {}, cert: {}, key: {}{more}}}}}\n", ca.display(), cert.display(), key.display());
    TestEdge::of(&settings, Arc::new(store()), directory)
}

/// Whether the edge gets to hear of its node.
async fn hears(edge: &TestEdge) -> bool {
    timeout(Duration::from_secs(2), edge.readiness.ready()).await.is_ok()
}

/// Waits until the edge says why it is not ready, in these words.
async fn says(edge: &TestEdge, words: &[&str]) {
    let mut said = String::new();
    let saying = async {
        while !words.iter().all(|word| said.contains(word)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            said = edge.http("/readyz", "").await;
        }
    };
    let in_time = timeout(PATIENCE, saying).await.is_ok();
    assert!(in_time, "{words:?} are not in {said}");
}

#[tokio::test]
async fn an_edge_and_a_node_of_one_authority_speak() {
    let (authority, files) = (Authority::new(), TempDir::new().expect("a directory"));
    let sfu = node(&authority, "127.0.0.1").await;
    let edge = edge(&files, &authority, &authority.sign("edge-1"), sfu.address).await;
    timeout(PATIENCE, edge.readiness.ready()).await.expect("ready in time");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    assert_eq!(ann.publish("r").await["data"]["sfuid"], "sfu-1");
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_spoken_to() {
    let (authority, files) = (Authority::new(), TempDir::new().expect("a directory"));
    let sfu = node(&Authority::new(), "127.0.0.1").await;
    let edge = edge(&files, &authority, &authority.sign("edge-1"), sfu.address).await;
    assert!(!hears(&edge).await);
    says(&edge, &["sfu-1", "invalid peer certificate"]).await;
    assert_eq!(sfu.state.describes(), 0);
}

#[tokio::test]
async fn a_node_with_a_certificate_for_another_name_is_not_spoken_to() {
    let (authority, files) = (Authority::new(), TempDir::new().expect("a directory"));
    let sfu = node(&authority, "sfu-2.example").await;
    let edge = edge(&files, &authority, &authority.sign("edge-1"), sfu.address).await;
    assert!(!hears(&edge).await);
    says(&edge, &["sfu-1", "not valid for name"]).await;
    assert_eq!(sfu.state.describes(), 0);
}

#[tokio::test]
async fn nodes_may_all_have_certificates_for_one_name_whatever_their_addresses() {
    let (authority, files) = (Authority::new(), TempDir::new().expect("a directory"));
    let sfu = node(&authority, "nodes.example").await;
    let named =
        edge_with(&files, &authority, &authority.sign("edge-1"), sfu.address, ", server_name: nodes.example").await;
    timeout(PATIENCE, named.readiness.ready()).await.expect("ready in time");
    // Then it is this name that counts, and no other.
    let sfu = node(&authority, "127.0.0.1").await;
    let named =
        edge_with(&files, &authority, &authority.sign("edge-1"), sfu.address, ", server_name: nodes.example").await;
    says(&named, &["sfu-1", "not valid for name"]).await;
}

#[tokio::test]
async fn an_edge_of_another_authority_is_not_answered() {
    let (authority, files) = (Authority::new(), TempDir::new().expect("a directory"));
    let sfu = node(&authority, "127.0.0.1").await;
    let edge = edge(&files, &authority, &Authority::new().sign("edge-1"), sfu.address).await;
    assert!(!hears(&edge).await);
    says(&edge, &["sfu-1", "received fatal alert"]).await;
    assert_eq!(sfu.state.describes(), 0);
}
