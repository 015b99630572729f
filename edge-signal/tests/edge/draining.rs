//! Nodes that go away in an orderly way: what they carry moves, and nobody is sent there any more.

use std::sync::Arc;
use std::time::Duration;

use crate::rig::client::Client;
use crate::rig::directory::TestDirectory;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, TestEdge, store};
use room_store::contract::{Fault, FaultyRooms};
use serde_json::{Value, json};

/// Two nodes, an edge, and a member with a stream: the node it is on, the other, and what was published.
async fn call() -> (TestSfu, TestSfu, TestEdge, Client, Value) {
    let (one, two) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    let edge = TestEdge::start("", &store(), &[("sfu-1", one.address), ("sfu-2", two.address)]);
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let published = ann.publish("r").await["data"].clone();
    let (leaving, staying) = if published["sfuid"] == "sfu-1" { (one, two) } else { (two, one) };
    leaving.state.watched("r").await;
    staying.state.described().await;
    (leaving, staying, edge, ann, published)
}

#[tokio::test]
async fn owners_are_told_to_move_and_new_streams_go_elsewhere() {
    let (leaving, staying, edge, mut ann, published) = call().await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    leaving.state.drain(2_000).await;
    let told = ann.notified("stream-migrate").await;
    assert_eq!(told, json!({"rid": "r", "mid": published["mid"], "reason": "draining"}));
    let again = ann.publish("r").await["data"].clone();
    assert_eq!(again["sfuid"].as_str(), Some(staying.state.id()));
    ann.done("unpublish", json!({"rid": "r", "mid": published["mid"]})).await;
    assert_eq!(bob.notified("stream-add").await["mid"], again["mid"]);
    let removed = bob.notified("stream-remove").await;
    assert_eq!(removed["mid"], published["mid"], "the old one goes after the new one came");
    let told = bob.heard().await.into_iter().filter(|(method, _)| method == "stream-migrate").count();
    assert_eq!(told, 0, "it owns none");
}

#[tokio::test]
async fn an_owner_that_comes_back_meanwhile_is_told_again() {
    let (leaving, _staying, edge, mut ann, published) = call().await;
    leaving.state.drain(2_000).await;
    assert_eq!(ann.notified("stream-migrate").await["mid"], published["mid"]);
    let joined = ann.done("join", json!({"rid": "r"})).await;
    drop(ann);
    let mut back = Client::connect(edge.address, "ann").await;
    back.done("join", json!({"rid": "r", "session": joined["session"]})).await;
    // Those who have not moved are told again after ten seconds: it is told for having come back.
    let told = tokio::time::timeout(Duration::from_secs(5), back.notified("stream-migrate")).await.expect("at once");
    assert_eq!(told["mid"], published["mid"]);
}

/// The node ends what is left when its time is over, whether the store is quick, slow or away.
#[tokio::test]
async fn owners_are_told_to_move_while_the_store_is_away() {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let store = FaultyRooms::new(Arc::new(store()));
    let directory = TestDirectory::of(&[("sfu-1", "boot-1", sfu.address)]).await;
    let edge = TestEdge::of("", Arc::new(store.clone()), directory);
    edge.ready().await;
    let mut owners = Vec::new();
    for number in 0..3 {
        let room = format!("r{number}");
        let mut owner = Client::joined(edge.address, "ann", &room).await;
        let mid = owner.publish(&room).await["data"]["mid"].clone();
        sfu.state.watched(&room).await;
        owners.push((owner, room, mid));
    }
    store.fail_all(Some(Fault::Unavailable));
    sfu.state.drain(10_000).await;
    for (owner, room, mid) in &mut owners {
        // All are told in half of the node's time.
        let told = tokio::time::timeout(Duration::from_secs(9), owner.notified("stream-migrate")).await;
        assert_eq!(told.expect("in time"), json!({"rid": room, "mid": mid, "reason": "draining"}));
    }
}

#[tokio::test]
async fn a_publish_that_meets_a_node_just_draining_goes_to_another() {
    let (leaving, staying, _edge, mut ann, _) = call().await;
    // The edge does not know yet: the watch is quiet, and the next probe is to come.
    leaving.state.drain_silently(60_000);
    let published = ann.publish("r").await;
    assert_eq!(published["data"]["sfuid"].as_str(), Some(staying.state.id()), "{published}");
}

#[tokio::test]
async fn a_node_that_drains_no_more_is_used_again() {
    let (leaving, staying, edge, _ann, _) = call().await;
    leaving.state.drain(60_000).await;
    staying.die();
    leaving.state.drain_no_more();
    let published = async {
        for number in 0.. {
            let room = format!("room{number}");
            let mut client = Client::joined(edge.address, &format!("peer{number}"), &room).await;
            if client.publish(&room).await["ok"] == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("it takes streams");
}
