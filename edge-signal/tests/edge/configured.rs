//! Settings that are not about limits: each has an effect.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edge_signal::auth::{SharedSecret, SigningKey, TokenRequest, mint};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::rig::client::Client;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, SECRET, TestEdge, store};

fn token(issuer: Option<&str>, audience: Option<&str>) -> String {
    let request = TokenRequest {
        peer: "ann".into(),
        rid: "r".into(),
        grants: vec![],
        ttl: Duration::from_mins(10),
        id: None,
        record: false,
        issuer: issuer.map(str::to_owned),
        audience: audience.map(str::to_owned),
    };
    mint(&SigningKey::shared_secret(&SharedSecret::new(SECRET).expect("long enough")), &request, SystemTime::now())
        .expect("mints")
}

async fn let_in(edge: &TestEdge, token: &str) -> bool {
    let query = format!("peer=ann&access_token={token}");
    let mut client = Client::with(edge.address, &query, &[]).await.expect("upgraded");
    let joining = async { client.ask("join", json!({"rid": "r"})).await["ok"] == true };
    let closed = async {
        let mut other = Client::with(edge.address, &query, &[]).await.expect("upgraded");
        other.closed().await.0 != 4000
    };
    tokio::select! {
        joined = joining => joined,
        closed = closed => closed,
    }
}

#[tokio::test]
async fn issuer_and_audience_are_asked_for_when_set() {
    let settings = format!("auth: {{hs256_secret: {SECRET:?}, issuer: app, audience: sluice}}\n");
    let edge = TestEdge::alone(&settings);
    assert!(let_in(&edge, &token(Some("app"), Some("sluice"))).await);
    for wrong in [token(None, None), token(Some("other"), Some("sluice")), token(Some("app"), Some("other"))] {
        let query = format!("peer=ann&access_token={wrong}");
        let mut client = Client::with(edge.address, &query, &[]).await.expect("upgraded");
        assert_eq!(client.closed().await.0, 4000);
    }
}

#[tokio::test]
async fn the_secret_can_stand_in_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{SECRET}\n")).expect("written");
    let edge = TestEdge::alone(&format!("auth: {{hs256_secret_file: {:?}}}\n", file.path()));
    assert!(let_in(&edge, &token(None, None)).await);
    let mut stranger = Client::connect(edge.address, "ann").await;
    assert_eq!(stranger.closed().await, (4000, "access token missing".to_owned()));
}

#[tokio::test]
async fn the_secret_can_be_replaced_while_tokens_of_the_one_before_are_about() {
    let new = "another-secret-of-thirty-two-bytes";
    let old = format!("auth: {{hs256_secret: {new}, hs256_previous_secret: {SECRET}}}\n");
    assert!(let_in(&TestEdge::alone(&old), &token(None, None)).await);
    let edge = TestEdge::alone(&format!("auth: {{hs256_secret: {new}}}\n"));
    let query = format!("peer=ann&access_token={}", token(None, None));
    let mut late = Client::with(edge.address, &query, &[]).await.expect("upgraded");
    assert_eq!(late.closed().await, (4000, "access token invalid".to_owned()));
}

#[tokio::test]
async fn an_edge_without_tokens_lets_only_pages_of_this_machine_in() {
    let evil = [("origin", "https://evil.example")];
    let edge = TestEdge::alone("");
    let mut page = Client::with(edge.address, "peer=ann", &evil).await.expect("upgraded");
    let (code, reason) = page.closed().await;
    assert!(code == 4000 && reason.contains("auth.insecure_no_auth"), "{code} {reason}");
    let mut rebound = Client::with(edge.address, "peer=ann", &[("host", "evil.example")]).await.expect("upgraded");
    assert_eq!(rebound.closed().await.0, 4000);
    for path in ["/rtc-config", "/metrics"] {
        assert!(edge.http(path, "Origin: https://evil.example\r\n").await.starts_with("HTTP/1.1 403"), "{path}");
        assert!(edge.http(path, "Origin: http://localhost:5173\r\n").await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let own = Client::with(edge.address, "peer=ann", &[("origin", "http://localhost:5173")]).await.expect("upgraded");
    assert!(own.survives().await);
    for settings in ["auth: {insecure_no_auth: true}\n".to_owned(), format!("auth: {{hs256_secret: {SECRET}}}\n")] {
        let edge = TestEdge::alone(&settings);
        let query = format!("peer=ann&access_token={}", token(None, None));
        let client = Client::with(edge.address, &query, &evil).await.expect("upgraded");
        assert!(client.survives().await, "{settings}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_may_send_its_token_in_a_header() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let edge = TestEdge::alone(&format!("auth: {{hs256_secret: {SECRET}}}\n"));
    let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("connects");
    let preflight = "OPTIONS /rtc-config HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\
                     Access-Control-Request-Headers: authorization\r\nConnection: close\r\n\r\n";
    stream.write_all(preflight.as_bytes()).await.expect("written");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("readable");
    assert!(
        answer.starts_with("HTTP/1.1 204") && answer.contains("access-control-allow-headers: authorization"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_nothing_further_is_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let edge = TestEdge::alone("");
    for requests in [0, 1] {
        let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("connects");
        for _ in 0..requests {
            stream.write_all(b"GET /rtc-config HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
        }
        let begun = tokio::time::Instant::now();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.expect("closed, not cut");
        assert_eq!(answers.matches("HTTP/1.1 200").count(), requests);
        assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    }
}

/// A connection that has asked something and keeps open; `None`: it was not let in.
async fn keeping_open(edge: &TestEdge) -> Option<tokio::net::TcpStream> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let asking = async {
        let mut stream = tokio::net::TcpStream::connect(edge.address).await.ok()?;
        stream.write_all(b"GET /rtc-config HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ok()?;
        let read = stream.read(&mut [0; 1_024]).await.ok()?;
        (read > 0).then_some(stream)
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("answered or cut in time")
}

#[tokio::test]
async fn connections_that_are_no_websockets_are_bounded_in_all_and_of_one_address() {
    for (settings, most) in [
        ("limits: {connections_per_address: 1}\n", 66),
        ("limits: {connections: 2, connections_per_address: 1}\ntrusted_proxies: [127.0.0.0/8]\n", 260),
    ] {
        let edge = TestEdge::alone(settings);
        let mut held = Vec::new();
        while let Some(stream) = keeping_open(&edge).await {
            held.push(stream);
            assert!(held.len() <= most, "{settings}");
        }
        assert_eq!(held.len(), most, "{settings}");
        held.pop();
        let again = async { while keeping_open(&edge).await.is_none() {} };
        tokio::time::timeout(PATIENCE, again).await.expect("room again");
    }
}

#[tokio::test]
async fn operators_endpoints_can_have_an_address_of_their_own() {
    let edge = TestEdge::alone("admin_listen: 127.0.0.1:0\n");
    assert_ne!(edge.address, edge.admin_address);
    assert!(edge.http("/healthz", "").await.starts_with("HTTP/1.1 404"));
    assert!(TestEdge::http_at(edge.admin_address, "/healthz", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_are_placed_in_the_edges_region_first() {
    let (far, near) = (TestSfu::start("far", "boot-1").await, TestSfu::start("near", "boot-1").await);
    let nodes = format!(
        "nodes:\n- {{id: far, region: west, grpc: \"http://{}\"}}\n- {{id: near, grpc: \"http://{}\", weight: 1}}\n",
        far.address, near.address
    );
    let edge = TestEdge::start(&format!("region: east\n{nodes}"), &store(), &[]);
    far.state.described().await;
    near.state.described().await;
    edge.ready().await;
    for n in 0..6 {
        let room = format!("room{n}");
        let mut client = Client::joined(edge.address, &format!("peer{n}"), &room).await;
        assert_eq!(client.publish(&room).await["data"]["sfuid"], "near");
    }
}

#[tokio::test]
async fn clients_can_connect_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let files = tempfile::tempdir().expect("a directory");
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let edge = TestEdge::alone(&format!("tls: {{cert: {cert:?}, key: {key:?}}}\n"));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let address = edge.address;
    let answer = tokio::task::spawn_blocking(move || https_get(address, roots, "/healthz")).await.expect("done");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn https_get(address: SocketAddr, roots: RootCertStore, path: &str) -> String {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).expect("connects"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).expect("readable");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
