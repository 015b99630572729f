//! Life events: what an edge tells of its clients' calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boon::{Compiler, Schemas};
use proto::sfu::GoneReason;
use room_store::{MemoryRooms, RoomSettings};
use serde_json::{Value, json};
use telemetry::events::EventOut;
use telemetry::kafka::Full;

use crate::rig::client::Client;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, TestEdge, store};

/// What was told, in order.
#[derive(Default)]
struct Told(Mutex<Vec<Value>>);

impl EventOut for Told {
    fn put(&self, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        let event: Value = serde_json::from_slice(&payload).expect("JSON");
        assert_eq!(event["room"], key);
        self.0.lock().expect("nobody panicked").push(event);
        Ok(())
    }
}

impl Told {
    fn all(&self) -> Vec<Value> {
        self.0.lock().expect("nobody panicked").clone()
    }

    /// In short.
    fn story(&self) -> Vec<String> {
        self.all().iter().map(short).collect()
    }

    /// Waits until so many were told.
    async fn until(&self, count: usize) {
        let there = async {
            while self.all().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("{:?}", self.story()));
    }
}

fn short(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().map(|text| format!(" {text}")).unwrap_or_default();
    let kind = event["type"].as_str().expect("a kind");
    format!("{kind}{}{}{}", text("peer"), text("sfuid"), text("reason"))
}

/// Each is as the schema says.
fn check(events: &[Value]) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.schema.json");
    let schema = compiler.compile(path, &mut schemas).expect("a schema");
    for event in events {
        schemas.validate(event, schema).unwrap_or_else(|error| panic!("{event}: {error:#}"));
    }
}

#[tokio::test]
async fn a_calls_life_is_told_once_and_in_order() {
    let (sfu, told) = (TestSfu::start("sfu-1", "boot-1").await, Arc::<Told>::default());
    let edge = TestEdge::telling("id: one\n", &store(), &[("sfu-1", sfu.address)], told.clone());
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    let sid = bob.subscribe("r", &mid).await["data"]["sid"].clone();
    bob.done("broadcast", json!({"rid": "r", "data": "not an event"})).await;
    ann.done("mute", json!({"rid": "r", "mid": mid, "audio": true})).await;
    bob.done("unsubscribe", json!({"rid": "r", "mid": mid, "sid": sid})).await;
    bob.subscribe("r", &mid).await;
    ann.done("unpublish", json!({"rid": "r", "mid": mid})).await;
    ann.publish("r").await;
    ann.done("leave", json!({"rid": "r"})).await;
    bob.done("leave", json!({"rid": "r"})).await;
    let expected = [
        "room-opened",
        "peer-joined ann",
        "peer-joined bob",
        "stream-published ann sfu-1",
        "stream-subscribed bob sfu-1",
        "stream-unsubscribed bob unsubscribed",
        "stream-subscribed bob sfu-1",
        "stream-unsubscribed bob stream_ended",
        "stream-unpublished ann unpublished",
        "stream-published ann sfu-1",
        "stream-unpublished ann owner_left",
        "peer-left ann left",
        "peer-left bob left",
        "room-closed",
    ];
    assert_eq!(told.story(), expected);
    let events = told.all();
    check(&events);
    assert!(events.iter().all(|event| event["service"] == "edge-signal" && event["edge"] == "one"));
    assert_eq!((&events[4]["stream"], &events[4]["subscription"]), (&mid, &sid));
    let traces: BTreeSet<_> = events.iter().map(|event| event["trace"].as_str().expect("a trace")).collect();
    assert_eq!(traces.len(), 10, "each of the requests that changed something has one");
    assert!(events.is_sorted_by_key(|event| event["seq"].as_u64()), "{events:?}");
}

#[tokio::test]
async fn a_subscription_that_its_node_has_ended_says_why() {
    let (sfu, told) = (TestSfu::start("sfu-1", "boot-1").await, Arc::<Told>::default());
    let edge = TestEdge::telling("id: one\n", &store(), &[("sfu-1", sfu.address)], told.clone());
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    sfu.state.watched("r").await;
    let mut expected = told.story();
    for (reason, named) in [(GoneReason::ConsentExpired, "transport_ended"), (GoneReason::NodeEnding, "node_lost")] {
        let sid = bob.subscribe("r", &mid).await["data"]["sid"].clone();
        sfu.state.lose_because(reason, sid.as_str().expect("a sid")).await;
        expected.push("stream-subscribed bob sfu-1".to_owned());
        expected.push(format!("stream-unsubscribed bob {named}"));
        told.until(expected.len()).await;
    }
    assert_eq!(told.story(), expected);
    check(&told.all());
}

#[tokio::test]
async fn of_two_edges_the_one_whose_client_did_it_tells() {
    let rooms = store();
    let (of_one, of_two) = (Arc::<Told>::default(), Arc::<Told>::default());
    let one = TestEdge::telling("id: one\n", &rooms, &[], of_one.clone());
    let two = TestEdge::telling("id: two\n", &rooms, &[], of_two.clone());
    let mut ann = Client::joined(one.address, "ann", "r").await;
    let mut bob = Client::joined(two.address, "bob", "r").await;
    ann.notified("peer-join").await;
    ann.done("leave", json!({"rid": "r"})).await;
    bob.notified("peer-leave").await;
    bob.done("leave", json!({"rid": "r"})).await;
    assert_eq!(of_one.story(), ["room-opened", "peer-joined ann", "peer-left ann left"]);
    assert_eq!(of_two.story(), ["peer-joined bob", "peer-left bob left", "room-closed"]);
}

#[tokio::test]
async fn whichever_of_two_edges_sweeps_each_end_is_told_once() {
    const PEERS: usize = 20;
    let rooms = MemoryRooms::new(RoomSettings { grace: Duration::from_millis(300), ..RoomSettings::default() });
    let (of_one, of_two) = (Arc::<Told>::default(), Arc::<Told>::default());
    let one = TestEdge::telling("id: one\n", &rooms, &[], of_one.clone());
    let two = TestEdge::telling("id: two\n", &rooms, &[], of_two.clone());
    let mut stays = Client::joined(one.address, "stays", "r").await;
    let mut clients = Vec::new();
    for number in 0..PEERS {
        let edge = if number % 2 == 0 { &one } else { &two };
        clients.push(Client::joined(edge.address, &format!("p{number}"), "r").await);
    }
    drop(clients);
    for _ in 0..PEERS {
        stays.notified("peer-leave").await;
    }
    let mut events = of_one.all();
    events.extend(of_two.all());
    check(&events);
    let mut ends: Vec<_> = events.iter().map(short).filter(|event| event.starts_with("peer-left")).collect();
    ends.sort();
    let mut expected: Vec<_> = (0..PEERS).map(|number| format!("peer-left p{number} timeout")).collect();
    expected.sort();
    assert_eq!(ends, expected);
}

#[tokio::test]
async fn a_taken_over_session_ends_and_a_resumed_one_goes_on() {
    let (rooms, told) = (store(), Arc::<Told>::default());
    let edge = TestEdge::telling("id: one\n", &rooms, &[], told.clone());
    let mut ann = Client::connect(edge.address, "ann").await;
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    let mut back = Client::connect(edge.address, "ann").await;
    back.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!(told.story(), ["room-opened", "peer-joined ann"]);
    let mut anew = Client::connect(edge.address, "ann").await;
    anew.done("join", json!({"rid": "r"})).await;
    assert_eq!(told.story()[2..], ["peer-left ann superseded", "peer-joined ann"]);
}

#[tokio::test]
async fn streams_of_a_node_that_goes_are_told_of() {
    let (sfu, told) = (TestSfu::start("sfu-1", "boot-1").await, Arc::<Told>::default());
    let edge = TestEdge::telling("id: one\n", &store(), &[("sfu-1", sfu.address)], told.clone());
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    ann.publish("r").await;
    sfu.state.watched("r").await;
    sfu.state.drain(2_000).await;
    ann.notified("stream-migrate").await;
    told.until(4).await;
    assert_eq!(told.story()[3], "stream-migrating ann sfu-1 draining");
    check(&told.all());
}
