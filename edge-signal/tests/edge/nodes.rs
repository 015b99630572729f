//! An edge and SFU nodes that fail: slow, wrong, full, cut off, restarted, dead.

use std::time::{Duration, Instant};

use crate::rig::client::{AUDIO, Client};
use crate::rig::sfu::{Behaviour, TestSfu};
use crate::rig::{TestEdge, store};
use room_store::{Limits, MemoryRooms, RoomSettings};
use serde_json::{Value, json};
use tonic::Status;

/// A node, an edge that has heard of it, and two members of a room.
async fn call() -> (TestSfu, TestEdge, Client, Client) {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let edge = TestEdge::start("", &store(), &[("sfu-1", sfu.address)]);
    edge.ready().await;
    let ann = Client::joined(edge.address, "ann", "r").await;
    let bob = Client::joined(edge.address, "bob", "r").await;
    (sfu, edge, ann, bob)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test]
async fn a_call_is_made_and_ended() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let published = ann.publish("r").await;
    assert_eq!(published["ok"], true, "{published}");
    let added = bob.notified("stream-add").await;
    assert_eq!(added["mid"], published["data"]["mid"]);
    assert_eq!(added["sfuid"], "sfu-1");
    let subscribed = bob.subscribe("r", &added["mid"]).await;
    assert_eq!(subscribed["data"]["jsep"]["type"], "answer");
    let transports = [text(&added["mid"]), text(&subscribed["data"]["sid"])];
    assert_eq!(sfu.state.live(), transports);
    let restart = json!({"rid": "r", "mid": added["mid"], "jsep": {"type": "offer", "sdp": AUDIO}});
    ann.done("restart", restart).await;
    ann.done("leave", json!({"rid": "r"})).await;
    assert_eq!(bob.notified("stream-remove").await["mid"], added["mid"]);
    sfu.state.until(|| sfu.state.live().is_empty()).await;
}

#[tokio::test]
async fn what_a_node_refuses_is_an_error_of_the_contract() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    for (status, published, subscribed) in [
        (Status::invalid_argument("line 4: no fingerprint"), 6, 6),
        (Status::not_found("no such publication"), 8, 3),
        (Status::already_exists("taken"), 8, 9),
        (Status::internal("bug"), 8, 9),
        (Status::resource_exhausted("full"), 10, 9),
    ] {
        sfu.state.behave(Behaviour::Fails(status.clone()));
        assert_eq!(ann.publish("r").await["errorCode"], published, "{status}");
        assert_eq!(bob.subscribe("r", &mid).await["errorCode"], subscribed, "{status}");
    }
    sfu.state.behave(Behaviour::Works);
    assert_eq!(bob.subscribe("r", &mid).await["ok"], true);
}

#[tokio::test]
async fn a_call_that_was_lost_is_made_again() {
    let (sfu, _edge, mut ann, _bob) = call().await;
    sfu.state.behave(Behaviour::FailsFirst(2, Status::unavailable("busy")));
    assert_eq!(ann.publish("r").await["ok"], true);
    assert_eq!(sfu.state.calls(), 3);
}

#[tokio::test]
async fn a_node_that_never_answers_is_an_error_in_time_and_others_go_on() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.behave(Behaviour::NeverAnswers);
    let start = Instant::now();
    let subscribe = json!({"rid": "r", "mid": mid, "jsep": {"type": "offer", "sdp": AUDIO}});
    let waiting = bob.send("subscribe", &subscribe).await;
    bob.done("broadcast", json!({"rid": "r", "data": 1})).await;
    assert!(start.elapsed() < Duration::from_secs(2), "nothing waits for it");
    assert_eq!(bob.answer(waiting).await["errorCode"], 12);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn no_node_at_all_is_said_at_once() {
    let edge = TestEdge::alone("");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let start = Instant::now();
    assert_eq!(ann.publish("r").await["errorCode"], 10);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn another_node_takes_what_the_first_does_not() {
    let (one, two) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    let nodes = [("sfu-1", one.address), ("sfu-2", two.address)];
    let edge = TestEdge::start("", &store(), &nodes);
    edge.ready().await;
    one.state.behave(Behaviour::Fails(Status::resource_exhausted("full")));
    for n in 0..8 {
        let mut client = Client::joined(edge.address, &format!("peer{n}"), &format!("room{n}")).await;
        let published = client.publish(&format!("room{n}")).await;
        assert_eq!(published["data"]["sfuid"], "sfu-2", "{published}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_on_its_node_ends_in_its_room() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.watched("r").await;
    sfu.state.lose(text(&mid)).await;
    for client in [&mut ann, &mut bob] {
        let removed = client.notified("stream-remove").await;
        assert_eq!((&removed["mid"], &removed["reason"]), (&mid, &json!("transport_ended")));
    }
    assert_eq!(bob.subscribe("r", &mid).await["errorCode"], 3);
}

#[tokio::test]
async fn what_ended_while_the_watch_was_cut_is_found_at_its_next_opening() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let lost = ann.publish("r").await["data"]["mid"].clone();
    let kept = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.watched("r").await;
    sfu.state.forget(text(&lost));
    sfu.state.cut_watches();
    assert_eq!(bob.notified("stream-remove").await["mid"], lost);
    let pubs = bob.done("getpubs", json!({"rid": "r"})).await;
    assert_eq!(pubs["pubs"].as_array().expect("a list").len(), 1);
    assert_eq!(pubs["pubs"][0]["mid"], kept);
}

#[tokio::test]
async fn a_subscription_that_ended_while_the_watch_was_cut_counts_no_more() {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let limits = Limits { subscriptions: 1, ..Limits::default() };
    let store = MemoryRooms::new(RoomSettings { limits, ..RoomSettings::default() });
    let edge = TestEdge::start("", &store, &[("sfu-1", sfu.address)]);
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    let sid = bob.subscribe("r", &mid).await["data"]["sid"].clone();
    sfu.state.watched("r").await;
    assert_eq!(bob.subscribe("r", &mid).await["errorCode"], 409);
    sfu.state.forget(text(&sid));
    sfu.state.cut_watches();
    let subscribed = async { while bob.subscribe("r", &mid).await["ok"] != true {} };
    tokio::time::timeout(crate::rig::PATIENCE, subscribed).await.expect("there is room again");
}

#[tokio::test]
async fn a_node_that_was_restarted_has_lost_its_streams() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.watched("r").await;
    let address = sfu.die();
    let sfu = TestSfu::start_at("sfu-1", "boot-2", address).await;
    let removed = bob.notified("stream-remove").await;
    assert_eq!((&removed["mid"], &removed["reason"]), (&mid, &json!("node_lost")));
    assert_eq!(ann.notified("stream-migrate").await, json!({"rid": "r", "mid": mid, "reason": "node_lost"}));
    let published = async {
        loop {
            let answer = ann.publish("r").await;
            if answer["ok"] == true {
                return answer;
            }
        }
    };
    let again = tokio::time::timeout(crate::rig::PATIENCE, published).await.expect("the node is used again");
    assert_eq!(sfu.state.live(), [text(&again["data"]["mid"])]);
}

#[tokio::test]
async fn a_dead_nodes_streams_end_and_the_room_moves_to_another() {
    let (one, two) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    let edge = TestEdge::start("", &store(), &[("sfu-1", one.address), ("sfu-2", two.address)]);
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let published = ann.publish("r").await["data"].clone();
    let (dying, living) = if published["sfuid"] == "sfu-1" { (one, two) } else { (two, one) };
    dying.state.watched("r").await;
    let start = Instant::now();
    dying.die();
    assert_eq!(ann.notified("stream-remove").await["mid"], published["mid"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let again = ann.publish("r").await["data"].clone();
    assert_ne!(again["sfuid"], published["sfuid"]);
    assert_eq!(living.state.live(), [text(&again["mid"])]);
}

#[tokio::test]
async fn transports_are_closed_when_their_node_can_be_reached_again() {
    let (sfu, _edge, mut ann, _bob) = call().await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.behave(Behaviour::FailsFirst(4, Status::unavailable("busy")));
    ann.done("unpublish", json!({"rid": "r", "mid": mid})).await;
    sfu.state.until(|| sfu.state.closed() == [text(&mid)]).await;
}

#[tokio::test]
async fn transports_of_one_node_are_closed_while_another_answers_nothing() {
    let (one, two) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    let limits = Limits { publications: 100, ..Limits::default() };
    let store = MemoryRooms::new(RoomSettings { limits, ..RoomSettings::default() });
    let edge = TestEdge::start("", &store, &[("sfu-1", one.address), ("sfu-2", two.address)]);
    edge.ready().await;
    let full = || Behaviour::Fails(Status::resource_exhausted("full"));
    two.state.behave(full());
    let mut ann = Client::joined(edge.address, "ann", "a").await;
    let mut mids = Vec::new();
    for _ in 0..80 {
        mids.push(ann.publish("a").await["data"]["mid"].clone());
    }
    two.state.behave(Behaviour::Works);
    one.state.behave(full());
    let mut bob = Client::joined(edge.address, "bob", "b").await;
    let mid = bob.publish("b").await["data"]["mid"].clone();
    one.state.behave(Behaviour::NeverAnswers);
    for mid in mids {
        ann.done("unpublish", json!({"rid": "a", "mid": mid})).await;
    }
    bob.done("unpublish", json!({"rid": "b", "mid": mid})).await;
    two.state.until(|| two.state.closed().iter().any(|closed| closed == text(&mid))).await;
}

#[tokio::test]
async fn a_publish_whose_client_leaves_half_way_leaves_nothing_behind() {
    let (sfu, _edge, mut ann, mut bob) = call().await;
    sfu.state.behave(Behaviour::NeverAnswers);
    let offer = json!({"rid": "r", "jsep": {"type": "offer", "sdp": AUDIO}, "minfo": {"audio": true}});
    ann.send("publish", &offer).await;
    sfu.state.until(|| sfu.state.calls() > 0).await;
    drop(ann);
    sfu.state.behave(Behaviour::Works);
    sfu.state.until(|| !sfu.state.closed().is_empty()).await;
    assert_eq!(bob.done("getpubs", json!({"rid": "r"})).await["pubs"], json!([]));
}
