//! What becomes of the clients of an edge that is killed, on a real Redis.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Deployment, TTL, settings};
use crate::rig::PATIENCE;
use crate::rig::client::Client;
use crate::rig::process::EdgeProcess;

/// An edge to be killed beside two that live on, with two members: Ann, who publishes, and Cat. Bob is on another.
async fn call() -> (Deployment, EdgeProcess, Client, Client, Client) {
    let deployment = Deployment::start("").await;
    let further = "log: {level: warn}\n";
    let dying = EdgeProcess::start(&settings("dying", deployment.redis.port(), deployment.sfu.address, further)).await;
    let mut bob = Client::joined(deployment.two.address, "bob", "r").await;
    let mut ann = Client::joined(dying.address, "ann", "r").await;
    assert_eq!(ann.publish("r").await["ok"], true);
    let mut cat = Client::joined(dying.address, "cat", "r").await;
    while bob.notified("peer-join").await["uid"] != "cat" {}
    bob.heard().await;
    ann.heard().await;
    cat.heard().await;
    (deployment, dying, ann, bob, cat)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_killed_edge_resume_on_another_at_once_and_hear_what_they_missed() {
    let (deployment, mut dying, mut ann, mut bob, cat) = call().await;
    let joined = ann.done("join", json!({"rid": "r"})).await;
    dying.kill();
    drop((ann, cat));
    for n in 0..3 {
        bob.done("broadcast", json!({"rid": "r", "data": n})).await;
    }
    let start = Instant::now();
    let mut ann = Client::connect(deployment.one.address, "ann").await;
    let since = json!({"epoch": joined["epoch"], "seq": joined["seq"]});
    let resumed = ann.done("join", json!({"rid": "r", "session": joined["session"], "since": since})).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(resumed["session"], joined["session"]);
    assert_eq!(resumed["own"]["pubs"].as_array().map(Vec::len), Some(1), "{resumed}");
    for n in 0..3 {
        assert_eq!(ann.notified("broadcast").await["data"], n);
    }
    assert_eq!(bob.heard().await, [], "nobody else saw anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_killed_edge_who_do_not_come_back_leave_once_when_their_leases_end() {
    let (_deployment, mut dying, ann, mut bob, cat) = call().await;
    dying.kill();
    drop((ann, cat));
    let start = Instant::now();
    let mut heard = Vec::new();
    let left =
        |heard: &[(String, serde_json::Value)]| heard.iter().filter(|(method, _)| method == "peer-leave").count();
    while left(&heard) < 2 {
        assert!(start.elapsed() < PATIENCE, "{heard:?}");
        bob.idle(Duration::from_millis(200)).await;
        heard.extend(bob.heard().await);
    }
    assert!(start.elapsed() > TTL / 2, "not before their leases end: {:?}", start.elapsed());
    bob.idle(Duration::from_secs(3)).await;
    heard.extend(bob.heard().await);
    let mut told: Vec<String> =
        heard.iter().map(|(method, data)| format!("{method} {}", data["uid"].as_str().expect("text"))).collect();
    told.sort();
    assert_eq!(told, ["peer-leave ann", "peer-leave cat", "stream-remove ann"]);
}
