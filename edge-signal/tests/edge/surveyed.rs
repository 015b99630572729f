//! What nodes know of streams when nobody else does.

use std::time::Duration;

use crate::rig::client::Client;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, SECRET, TestEdge, store};
use serde_json::json;

#[tokio::test]
async fn a_member_whose_edge_is_gone_is_brought_back_by_its_node_when_the_store_has_lost_everything() {
    let rooms = store();
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let nodes = [("sfu-1", sfu.address)];
    let edge = |id: &str| TestEdge::start(&format!("id: {id}\nsession: {{secret: {SECRET}}}\n"), &rooms, &nodes);
    let (one, two) = (edge("one"), edge("two"));
    one.ready().await;
    two.ready().await;
    let mut ann = Client::joined(one.address, "ann", "r").await;
    let mut bob = Client::joined(two.address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    ann.done("mute", json!({"rid": "r", "mid": mid, "audio": true})).await;
    bob.notified("stream-update").await;
    let recorded = ann.done("record", json!({"rid": "r", "mid": mid, "on": true})).await["recording"].clone();
    bob.notified("recording").await;
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    one.stop().await;
    rooms.forget_everything();
    // Nobody but the node knows of the stream.
    let there = async {
        loop {
            let pubs = bob.done("getpubs", json!({"rid": "r"})).await["pubs"].clone();
            if pubs[0]["mid"] == mid {
                return pubs;
            }
            bob.idle(Duration::from_millis(100)).await;
        }
    };
    let pubs = tokio::time::timeout(PATIENCE, there).await.expect("it comes back");
    assert_eq!(pubs[0]["minfo"]["muted"]["audio"], true, "as it was described last");
    assert_eq!(pubs[0]["recording"], recorded);
    let mut ann = Client::connect(two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
}
