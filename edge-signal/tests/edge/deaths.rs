//! When streams are lost with their node and when they are not: nodes that die, stand still, or are cut off, with and without a
//! store and a directory to say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rig::client::{AUDIO, Client};
use crate::rig::directory::{TestDirectory, record};
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, TestEdge, store};
use room_store::contract::{Fault, FaultyRooms};
use room_store::etcd::{EtcdConfig, EtcdDirectory};
use room_store::{NodeDirectory as _, NodeRegistry as _};
use serde_json::{Value, json};
use servers::Etcd;

/// One node with a lease, an edge that asks the directory, and two members of a room with a stream of the first.
struct Call {
    sfu: TestSfu,
    directory: Arc<TestDirectory>,
    store: FaultyRooms,
    edge: TestEdge,
    ann: Client,
    bob: Client,
    mid: Value,
}

async fn call() -> Call {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let directory = TestDirectory::of(&[("sfu-1", "boot-1", sfu.address)]).await;
    let store = FaultyRooms::new(Arc::new(store()));
    let edge = TestEdge::of("", Arc::new(store.clone()), directory.clone());
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    bob.notified("stream-add").await;
    sfu.state.watched("r").await;
    Call { sfu, directory, store, edge, ann, bob, mid }
}

impl Call {
    /// The stream is lost, and its owner is told to publish again.
    async fn is_lost(&mut self) {
        let removed = self.bob.notified("stream-remove").await;
        assert_eq!((&removed["mid"], &removed["reason"]), (&self.mid, &json!("node_lost")));
        assert_eq!(self.ann.notified("stream-migrate").await["mid"], self.mid);
    }

    async fn streams(&mut self) -> usize {
        self.bob.done("getpubs", json!({"rid": "r"})).await["pubs"].as_array().expect("a list").len()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test]
async fn a_node_that_refuses_one_edge_but_lives_keeps_its_streams() {
    let mut call = call().await;
    call.directory.set_alive(Some(true));
    let address = call.sfu.die();
    // What a firewall's REJECT looks like from here.
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Longer than two refusals and the question take.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    refused.await;
    let pubs = call.bob.done("getpubs", json!({"rid": "r"})).await;
    assert_eq!(pubs["pubs"][0]["mid"], call.mid);
    call.directory.set_alive(Some(false));
    assert_eq!(call.bob.notified("stream-remove").await["mid"], call.mid);
}

/// As while etcd has no leader.
#[tokio::test]
async fn a_node_that_refuses_one_edge_is_not_dead_because_nobody_can_be_asked_just_now() {
    let mut call = call().await;
    call.directory.set_alive(None);
    let address = std::mem::replace(&mut call.sfu, TestSfu::start("other", "boot").await).die();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Longer than two refusals and the question take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(call.streams().await, 1);
    call.directory.set_alive(Some(false));
    call.is_lost().await;
}

#[tokio::test]
async fn another_process_at_a_nodes_address_takes_no_streams_from_one_that_lives_elsewhere() {
    let mut call = call().await;
    call.directory.set_alive(Some(true));
    let address = call.sfu.die();
    call.sfu = TestSfu::start_at("sfu-1", "boot-2", address).await;
    call.sfu.state.watched("r").await;
    // Longer than the comparison, a probe and the question take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pubs = call.bob.done("getpubs", json!({"rid": "r"})).await;
    assert_eq!(pubs["pubs"][0]["mid"], call.mid);
    call.directory.set_alive(Some(false));
    assert_eq!(call.bob.notified("stream-remove").await["reason"], "node_lost");
}

#[tokio::test]
async fn a_node_that_stands_still_keeps_its_streams_as_long_as_its_lease_lives() {
    let mut call = call().await;
    call.sfu.freeze();
    // Longer than it may be silent without one.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(call.streams().await, 1);
    call.directory.end_lease("sfu-1");
    call.is_lost().await;
}

#[tokio::test]
async fn a_node_that_only_lost_its_lease_keeps_its_streams() {
    let mut call = call().await;
    call.directory.end_lease("sfu-1");
    // Longer than it may be silent.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(call.streams().await, 1);
    let subscribed = call.bob.subscribe("r", &call.mid).await;
    assert_eq!(subscribed["ok"], true, "{subscribed}");
    assert_eq!(call.ann.publish("r").await["errorCode"], 10, "but it gets nothing new");
}

#[tokio::test]
async fn a_node_that_dies_while_the_store_is_away_is_not_forgotten() {
    let mut call = call().await;
    call.store.fail_all(Some(Fault::Unavailable));
    drop(std::mem::replace(&mut call.sfu, TestSfu::start("other", "boot").await));
    // It is found dead after a second; and longer than one event is written for.
    tokio::time::sleep(Duration::from_secs(5)).await;
    call.store.fail_all(None);
    call.is_lost().await;
}

#[tokio::test]
async fn what_ends_on_its_node_while_the_store_is_away_is_not_forgotten() {
    let mut call = call().await;
    call.store.fail_all(Some(Fault::LostRequest));
    call.sfu.state.lose(text(&call.mid)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    call.store.fail_all(None);
    let removed = call.bob.notified("stream-remove").await;
    assert_eq!((&removed["mid"], &removed["reason"]), (&call.mid, &json!("transport_ended")));
}

#[tokio::test]
async fn a_node_that_died_while_no_edge_ran_is_found_by_its_records() {
    let call = call().await;
    call.edge.stop().await;
    call.sfu.die();
    call.directory.end_lease("sfu-1");
    let edge = TestEdge::of("", Arc::new(call.store.clone()), call.directory.clone());
    let mut carl = Client::joined(edge.address, "carl", "r").await;
    let removed = carl.notified("stream-remove").await;
    assert_eq!((&removed["mid"], &removed["reason"]), (&call.mid, &json!("node_lost")));
}

/// What the node's address was outlives its lease: who starts meanwhile asks it.
#[tokio::test]
async fn an_edge_that_starts_while_a_node_is_cut_from_etcd_alone_takes_no_streams_from_it() {
    let etcd = Etcd::start().await;
    let config = EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() };
    let connect = || Arc::new(EtcdDirectory::connect(&config).expect("good settings"));
    let (sfu, directory, store) = (TestSfu::start("sfu-1", "boot-1").await, connect(), store());
    let lease = directory.register(record("sfu-1", "boot-1", sfu.address)).await.expect("registered");
    let first = TestEdge::of("", Arc::new(store.clone()), directory.clone());
    first.ready().await;
    let mut ann = Client::joined(first.address, "ann", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.watched("r").await;

    drop(lease);
    let mut maps = directory.watch();
    let gone = maps.wait_for(|map| map.nodes.is_empty());
    tokio::time::timeout(PATIENCE, gone).await.expect("its lease ends").expect("it lives");
    let second = TestEdge::of("id: edge-2\n", Arc::new(store), connect());
    let mut carl = Client::joined(second.address, "carl", "r").await;
    sfu.state.until(|| sfu.state.watchers_of("r") == 2).await;
    let subscribed = carl.subscribe("r", &mid).await;
    assert_eq!(subscribed["ok"], true, "{subscribed}");
    // Longer than one may be missing of whom nobody knows where it was.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(carl.done("getpubs", json!({"rid": "r"})).await["pubs"][0]["mid"], mid);
    first.stop().await;
    sfu.die();
    let removed = carl.notified("stream-remove").await;
    assert_eq!((&removed["mid"], &removed["reason"]), (&mid, &json!("node_lost")), "that it is dead is still found");
}

#[tokio::test]
async fn two_edges_that_hear_of_one_death_end_each_stream_once() {
    let mut call = call().await;
    let second = TestEdge::of("id: edge-2\n", Arc::new(call.store.clone()), call.directory.clone());
    second.ready().await;
    let mut carl = Client::joined(second.address, "carl", "r").await;
    let dying = std::mem::replace(&mut call.sfu, TestSfu::start("other", "boot").await);
    dying.state.until(|| dying.state.watchers_of("r") == 2).await;
    drop(dying);
    call.is_lost().await;
    assert_eq!(carl.notified("stream-remove").await["mid"], call.mid);
    // Whichever edge was later has found it, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for client in [&mut call.bob, &mut carl] {
        let again = client.heard().await.into_iter().filter(|(method, _)| method == "stream-remove").count();
        assert_eq!(again, 0);
    }
}

#[tokio::test]
async fn a_node_that_stands_still_holds_up_nobody_on_another_and_new_streams_go_elsewhere() {
    let (one, two) = (TestSfu::start("sfu-1", "boot-1").await, TestSfu::start("sfu-2", "boot-2").await);
    let edge = TestEdge::start("", &store(), &[("sfu-1", one.address), ("sfu-2", two.address)]);
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "a").await;
    let published = ann.publish("a").await["data"].clone();
    let (frozen, working) = if published["sfuid"] == "sfu-1" { (one, two) } else { (two, one) };
    working.state.described().await;
    frozen.freeze();
    // More than may be outstanding at the frozen node.
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut client = Client::joined(edge.address, &format!("peer{number}"), "a").await;
        let offer = json!({"rid": "a", "mid": published["mid"], "jsep": {"type": "offer", "sdp": AUDIO}});
        let id = client.send("subscribe", &offer).await;
        crowd.push((client, id));
    }
    let start = Instant::now();
    for number in 0..20 {
        let room = format!("room{number}");
        let mut client = Client::joined(edge.address, &format!("fresh{number}"), &room).await;
        client.done("broadcast", json!({"rid": room, "data": number})).await;
        let published = client.publish(&room).await;
        assert_eq!(published["data"]["sfuid"].as_str(), Some(working.state.id()), "{published}");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    for (client, id) in &mut crowd {
        assert_eq!(client.answer(*id).await["errorCode"], 12);
    }
    frozen.thaw();
    let (client, _) = &mut crowd[0];
    let subscribed = async { while client.subscribe("a", &published["mid"]).await["ok"] != true {} };
    tokio::time::timeout(PATIENCE, subscribed).await.expect("its streams were not taken from it");
}
