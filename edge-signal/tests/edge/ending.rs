//! How an edge ends that is told to, as a process of its own: by an operator's word, and at the latest at its deadline.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::rig::TestEdge;
use crate::rig::client::{AUDIO, Client};
use crate::rig::process::EdgeProcess;
use crate::rig::sfu::{Behaviour, TestSfu};

const JSON: &str = "Content-Type: application/json\r\n";

async fn edge(settings: &str) -> (TestSfu, EdgeProcess) {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let nodes = format!("nodes: [{{id: sfu-1, grpc: 'http://{}'}}]\nlog: {{level: warn}}\n", sfu.address);
    let edge = EdgeProcess::start(&format!("{nodes}{settings}")).await;
    (sfu, edge)
}

/// Its request is under way for ten seconds: longer than there is time for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_is_cut_at_the_deadline_and_the_edge_ends_in_order() {
    let (sfu, mut edge) = edge("drain: {spread: 100ms, timeout: 4s}\n").await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    sfu.state.behave(Behaviour::NeverAnswers);
    let offer = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}});
    ann.send("publish", &offer).await;
    // It is carried out before the drain begins.
    sfu.state.until(|| sfu.state.calls() > 0).await;
    let told = Instant::now();
    edge.signal(Signal::TERM);
    let status = edge.ended().await;
    assert!(status.success(), "{status}");
    let took = told.elapsed();
    // 2.25 s of it are for requests under way.
    assert!(took > Duration::from_secs(2) && took < Duration::from_millis(4_500), "{took:?}");
    ann.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_told_to_drain_is_unready_before_the_first_client_goes_and_ends_in_order() {
    let (_sfu, mut edge) = edge("drain: {spread: 2s}\n").await;
    let mut clients = Vec::new();
    for n in 0..8 {
        clients.push(Client::joined(edge.address, &format!("peer{n}"), "r").await);
    }
    let answer = TestEdge::drain_at(edge.admin_address, JSON).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let again = TestEdge::drain_at(edge.admin_address, JSON).await;
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    let admin = edge.admin_address;
    let mut closing = tokio::task::JoinSet::new();
    for mut client in clients {
        closing.spawn(async move { client.closed().await });
    }
    let (code, _) = closing.join_next().await.expect("eight").expect("closed");
    assert_eq!(code, 1001);
    assert!(!closing.is_empty());
    let ready = TestEdge::http_at(admin, "/readyz", "").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("draining"), "{ready}");
    assert!((edge.metric("sluice_edge_draining").await - 1.0).abs() < 0.1);
    let refused = Client::with(edge.address, "peer=late", &[]).await;
    assert!(refused.is_err(), "nobody new is let in");
    for (code, _) in closing.join_all().await {
        assert_eq!(code, 1001);
    }
    assert!(edge.ended().await.success());
}

#[tokio::test]
async fn only_operators_drain_an_edge() {
    let edge = TestEdge::alone("");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    for (headers, status) in [
        ("", "415"),
        ("Content-Type: text/plain\r\n", "415"),
        ("Content-Type: application/json\r\nX-Forwarded-For: 192.0.2.1\r\n", "403"),
        ("Content-Type: application/json\r\nOrigin: https://example.com\r\n", "403"),
    ] {
        let answer = TestEdge::drain_at(edge.admin_address, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers:?}: {answer}");
    }
    ann.done("keepalive", json!({"rid": "r"})).await;
    let secret = "auth: {hs256_secret: 0123456789abcdef0123456789abcdef}\n";
    let guarded = TestEdge::alone(secret);
    let answer = TestEdge::drain_at(guarded.admin_address, JSON).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}
