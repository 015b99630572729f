//! What an edge counts is counted for all rooms and users together: labels come from fixed sets.

use std::collections::BTreeSet;

use serde_json::json;

use crate::rig::TestEdge;
use crate::rig::client::Client;
use crate::rig::process::EdgeProcess;
use crate::rig::sfu::TestSfu;

/// Names with their labels.
async fn series(edge: &EdgeProcess) -> BTreeSet<String> {
    let answer = TestEdge::http_at(edge.admin_address, "/metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let lines = answer.lines().filter(|line| line.starts_with("sluice_"));
    lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

/// Somebody joins a room, publishes and talks, and another one listens.
async fn used(edge: &EdgeProcess, n: usize) -> [Client; 2] {
    let rid = format!("room{n}");
    let mut ann = Client::joined(edge.address, &format!("ann{n}"), &rid).await;
    let mut bob = Client::joined(edge.address, &format!("bob{n}"), &rid).await;
    let published = ann.publish(&rid).await;
    assert_eq!(published["ok"], true, "{published}");
    bob.notified("stream-add").await;
    bob.subscribe(&rid, &published["data"]["mid"]).await;
    ann.done("broadcast", json!({"rid": rid, "data": n})).await;
    bob.notified("broadcast").await;
    [ann, bob]
}

/// A process of its own: what other tests' edges count is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_rooms_add_nothing_to_the_list_of_what_is_counted() {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let settings = format!("nodes: [{{id: sfu-1, grpc: 'http://{}'}}]\nlog: {{level: warn}}\n", sfu.address);
    let edge = EdgeProcess::start(&settings).await;
    let mut clients = vec![used(&edge, 0).await];
    let before = series(&edge).await;
    assert!(before.iter().any(|name| name.contains("join")), "{before:?}");
    for n in 1..=50 {
        clients.push(used(&edge, n).await);
    }
    let new: Vec<_> = series(&edge).await.difference(&before).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
}
