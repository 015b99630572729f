//! Tokens signed with private keys, whose public halves stand in the settings or are fetched from a server that rotates them and
//! goes away.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::rig::client::Client;
use crate::rig::keys::{KeyServer, TestKey};
use crate::rig::{PATIENCE, TestEdge};

/// An edge that fetches keys about this often.
fn edge(server: &KeyServer, interval: &str) -> TestEdge {
    let address = server.address;
    TestEdge::alone(&format!("auth: {{jwks_url: \"http://{address}/keys\", jwks_interval: {interval}}}\n"))
}

/// How a connection with this token ends.
#[derive(Debug, PartialEq)]
enum Outcome {
    In,
    /// For good; the reason.
    Refused(String),
    /// Not now.
    Later,
}

async fn connect(edge: &TestEdge, token: &str) -> Outcome {
    let query = format!("peer=ann&access_token={token}");
    match Client::with(edge.address, &query, &[]).await {
        Ok(mut client) => {
            let join = client.send("join", &json!({"rid": "r"})).await;
            match client.answer_or_close(join).await {
                Ok(joined) if joined["ok"] == true => Outcome::In,
                Err((4000, reason)) => Outcome::Refused(reason),
                other => panic!("{other:?}"),
            }
        }
        Err(Error::Http(answer)) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {
            Outcome::Later
        }
        Err(error) => panic!("{error}"),
    }
}

async fn becomes(edge: &TestEdge, token: &str, expected: Outcome) {
    let trying = async {
        while connect(edge, token).await != expected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("never {expected:?}"));
}

#[tokio::test]
async fn public_keys_in_the_settings_and_in_files_check_tokens() {
    let (one, two, other) = (TestKey::generate("one"), TestKey::generate("two"), TestKey::generate("one"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), two.public_pem()).expect("written");
    let edge = TestEdge::alone(&format!(
        "auth:\n  public_keys:\n  - {{kid: one, algorithm: EdDSA, key: {:?}}}\n  - {{kid: two, algorithm: EdDSA, key_file: {:?}}}\n",
        one.public_pem(),
        file.path()
    ));
    assert_eq!(connect(&edge, &one.token("ann")).await, Outcome::In);
    assert_eq!(connect(&edge, &two.token("ann")).await, Outcome::In);
    assert_eq!(connect(&edge, &other.token("ann")).await, Outcome::Refused("access token invalid".to_owned()));
    let unknown = TestKey::generate("three").token("ann");
    assert_eq!(
        connect(&edge, &unknown).await,
        Outcome::Refused("access token is signed with an unknown key".to_owned())
    );
}

#[tokio::test]
async fn keys_of_a_server_are_fetched_and_followed_when_it_rotates_them() {
    let (old, new) = (TestKey::generate("old"), TestKey::generate("new"));
    let server = KeyServer::start(&[&old]).await;
    let edge = edge(&server, "1h");
    assert_eq!(connect(&edge, &old.token("ann")).await, Outcome::In, "the first waits for the first fetch");
    server.publish(&[&old, &new]);
    becomes(&edge, &new.token("ann"), Outcome::In).await;
    assert_eq!(connect(&edge, &old.token("ann")).await, Outcome::In);
    server.publish(&[&new]);
    let stranger = TestKey::generate("stranger").token("ann");
    let refused = || Outcome::Refused("access token is signed with an unknown key".to_owned());
    becomes(&edge, &stranger, refused()).await;
    assert_ne!(connect(&edge, &old.token("ann")).await, Outcome::In, "what is not published any more is not trusted");
}

#[tokio::test]
async fn an_unknown_key_has_the_server_asked_now_and_then_however_often_it_is_named() {
    let key = TestKey::generate("k");
    let server = KeyServer::start(&[&key]).await;
    let edge = edge(&server, "1h");
    assert_eq!(connect(&edge, &key.token("ann")).await, Outcome::In);
    let (before, begun) = (server.asked(), std::time::Instant::now());
    for n in 0..50 {
        let stranger = TestKey::generate(&format!("stranger{n}")).token("ann");
        assert_ne!(connect(&edge, &stranger).await, Outcome::In);
    }
    let fetches = server.asked() - before;
    let due = begun.elapsed().as_secs() / 5 + 1;
    assert!(fetches as u64 <= due, "{fetches} fetches in {:?}", begun.elapsed());
    assert_eq!(connect(&edge, &key.token("ann")).await, Outcome::In, "whose key is known notices nothing");
}

#[tokio::test]
async fn while_the_server_is_away_known_keys_stay_good_and_unknown_ones_are_told_to_come_back() {
    let (known, new) = (TestKey::generate("known"), TestKey::generate("new"));
    let mut server = KeyServer::start(&[&known]).await;
    let edge = edge(&server, "1s");
    assert_eq!(connect(&edge, &known.token("ann")).await, Outcome::In);
    server.go_away().await;
    becomes(&edge, &new.token("ann"), Outcome::Later).await;
    assert_eq!(connect(&edge, &known.token("ann")).await, Outcome::In);
    server.publish(&[&known, &new]);
    server.come_back().await;
    becomes(&edge, &new.token("ann"), Outcome::In).await;
}

#[tokio::test]
async fn an_edge_without_keys_yet_is_not_ready_and_lets_nobody_in_for_now() {
    let key = TestKey::generate("k");
    let mut server = KeyServer::start(&[&key]).await;
    server.go_away().await;
    let edge = edge(&server, "1s");
    assert_eq!(connect(&edge, &key.token("ann")).await, Outcome::Later);
    let readyz = edge.http("/readyz", "").await;
    assert!(readyz.starts_with("HTTP/1.1 503") && readyz.contains("keys: no keys from http://"), "{readyz}");
    let rtc_config = edge.http(&format!("/rtc-config?access_token={}", key.token("ann")), "").await;
    assert!(rtc_config.starts_with("HTTP/1.1 503"), "{rtc_config}");
    server.come_back().await;
    becomes(&edge, &key.token("ann"), Outcome::In).await;
    assert!(!edge.http("/readyz", "").await.contains("keys:"));
}

#[tokio::test]
async fn a_token_that_names_no_key_waits_for_the_first_keys_and_for_those_that_follow_them() {
    let (old, new) = (TestKey::generate("old"), TestKey::generate("new"));
    let mut server = KeyServer::start(&[&old]).await;
    server.go_away().await;
    let edge = edge(&server, "1h");
    assert_eq!(connect(&edge, &old.unnamed_token("ann")).await, Outcome::Later);
    server.come_back().await;
    comes_in(&edge, &old.unnamed_token("ann")).await;
    server.publish(&[&new]);
    comes_in(&edge, &new.unnamed_token("ann")).await;
    let refused = Outcome::Refused("access token is signed with an unknown key".to_owned());
    becomes(&edge, &old.unnamed_token("ann"), refused).await;
}

/// Gets in, and until then is told to come back.
async fn comes_in(edge: &TestEdge, token: &str) {
    let trying = async {
        loop {
            match connect(edge, token).await {
                Outcome::In => break,
                Outcome::Later => tokio::time::sleep(Duration::from_millis(100)).await,
                refused @ Outcome::Refused(_) => panic!("{refused:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("let in in time");
}

#[tokio::test]
async fn answers_that_are_no_keys_change_nothing() {
    let key = TestKey::generate("k");
    let server = KeyServer::start(&[&key]).await;
    let edge = edge(&server, "1s");
    assert_eq!(connect(&edge, &key.token("ann")).await, Outcome::In);
    let twice = json!({"keys": []}).to_string();
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        (StatusCode::FOUND, String::new()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, twice),
        (StatusCode::OK, format!("{{\"keys\": [{}]}}", " ".repeat(300 * 1024))),
    ] {
        server.say(status, body);
        server.asked_again().await;
        server.asked_again().await;
        assert_eq!(connect(&edge, &key.token("ann")).await, Outcome::In, "{status}");
    }
    let metrics = edge.http("/metrics", "").await;
    let failures = metrics.lines().find_map(|line| line.strip_prefix("sluice_edge_jwks_failures_total "));
    assert!(failures.expect("counted").parse::<f64>().expect("a number") >= 5.0);
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_whom_the_settings_trust() {
    let key = TestKey::generate("k");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (cert, private) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let foreign = file("other.pem", other.cert.pem());
    // A TLS server that speaks HTTP and serves nothing but what is asked for here: another edge would do as well.
    let server = crate::rig::tls::Server::start(&cert, &private, json!({"keys": [key.published()]}).to_string());
    for (ca, expected) in [(&cert, Outcome::In), (&foreign, Outcome::Later)] {
        let url = format!("https://localhost:{}/keys", server.address.port());
        let edge = TestEdge::alone(&format!("auth: {{jwks_url: {url:?}, jwks_ca: {ca:?}}}\n"));
        assert_eq!(connect(&edge, &key.token("ann")).await, expected);
    }
}
