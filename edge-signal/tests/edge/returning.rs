//! Sessions of which the store and their clients' edges do not think the same: what it has lost, or did unheard.

use std::sync::Arc;
use std::time::Duration;

use room_store::contract::{Fault, FaultyRooms};
use room_store::{MemoryRooms, RoomSettings, RoomStore as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::rig::call::Call;
use crate::rig::client::Client;
use crate::rig::directory::TestDirectory;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, TestEdge, store, two_edges};

/// Leases are refreshed at least every quarter of it; a client that is not looked after for so long is closed.
const TTL: Duration = Duration::from_secs(8);
/// Rooms are whole again within this time after the store has lost everything.
const HEALED: Duration = Duration::from_secs(5);

/// A store of short leases.
fn quick_store() -> MemoryRooms {
    MemoryRooms::new(RoomSettings { ttl: TTL, grace: TTL, ..RoomSettings::default() })
}

async fn session(client: &mut Client) -> Value {
    client.done("join", json!({"rid": "r"})).await["session"].clone()
}

/// Joins with a session as its client does: again when it is told that the store cannot for now.
async fn come_back(client: &mut Client, session: &Value) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = client.ask("join", json!({"rid": "r", "session": session})).await;
        if answer["ok"] == true {
            return answer["data"].clone();
        }
        assert_eq!(answer["errorCode"], 11, "{answer}");
        assert!(Instant::now() < until, "not in time: {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn members(rooms: &MemoryRooms) -> Vec<String> {
    let snapshot = rooms.snapshot(&"r".parse().expect("valid")).await.expect("answered").expect("there");
    snapshot.members.iter().map(|member| member.peer.to_string()).collect()
}

/// For longer than it takes until every lease was refreshed, and with signs of life.
async fn leases_refreshed(client: &mut Client) {
    for _ in 0..6 {
        client.idle(TTL / 10).await;
        client.ask("nothing", json!({})).await;
    }
}

#[tokio::test]
async fn a_client_whose_return_was_lost_in_a_failover_comes_back_once_more() {
    let rooms = quick_store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let Call { mut ann, mut bob, cat: _cat, mid } = Call::between(&one, &two).await;
    let session = session(&mut ann).await;
    let before = rooms.checkpoint();
    let mut again = Client::connect(two.address, "ann").await;
    again.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!(ann.closed().await.0, 4000);
    rooms.restore(before);
    // The store has the session on the socket that is closed by now.
    assert_eq!(again.closed().await.0, 1012, "it is to come back");
    let mut again = Client::connect(two.address, "ann").await;
    let resumed = again.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    assert_eq!(bob.heard().await, []);
}

#[tokio::test]
async fn who_has_left_without_being_told_so_does_not_come_back() {
    let (rooms, sfu) = (quick_store(), TestSfu::start("sfu-1", "boot-1").await);
    let faulty = FaultyRooms::new(Arc::new(rooms.clone()));
    let nodes = TestDirectory::of(&[("sfu-1", "boot-1", sfu.address)]).await;
    let edge = TestEdge::of("", Arc::new(faulty.clone()), nodes);
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let leave = json!({"rid": "r", "op": "bye"});
    faulty.fail_all(Some(Fault::LostReply));
    assert_eq!(ann.refused("leave", leave.clone()).await, 11);
    faulty.fail_all(None);
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    leases_refreshed(&mut ann).await;
    assert_eq!(members(&rooms).await, ["bob"]);
    ann.done("leave", leave).await;
    assert_eq!(ann.refused("getusers", json!({"rid": "r"})).await, 2);
    assert_eq!(bob.heard().await, []);
    // To come in anew is another matter.
    ann.done("join", json!({"rid": "r"})).await;
    leases_refreshed(&mut ann).await;
    assert_eq!(members(&rooms).await, ["ann", "bob"]);
}

#[tokio::test]
async fn who_asks_again_to_leave_may_have_left_the_first_time() {
    let (rooms, sfu) = (quick_store(), TestSfu::start("sfu-1", "boot-1").await);
    let faulty = FaultyRooms::new(Arc::new(rooms.clone()));
    let nodes = TestDirectory::of(&[("sfu-1", "boot-1", sfu.address)]).await;
    let edge = TestEdge::of("", Arc::new(faulty.clone()), nodes);
    edge.ready().await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    assert_eq!(bob.notified("peer-join").await["uid"], "ann");
    faulty.fail_all(Some(Fault::LostReply));
    assert_eq!(ann.refused("leave", json!({"rid": "r"})).await, 11);
    faulty.fail_all(None);
    assert_eq!(ann.refused("leave", json!({"rid": "r"})).await, 2);
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    leases_refreshed(&mut bob).await;
    assert_eq!(bob.heard().await, []);
    assert_eq!(members(&rooms).await, ["bob"]);
}

#[tokio::test]
async fn who_leaves_a_room_that_the_store_has_lost_is_gone_with_its_streams() {
    let rooms = store();
    let (sfu, one, two) = two_edges(&rooms).await;
    let Call { mut ann, mut bob, cat: _cat, mid } = Call::between(&one, &two).await;
    rooms.forget_everything();
    ann.done("leave", json!({"rid": "r"})).await;
    assert_eq!(bob.notified("stream-remove").await["mid"], mid);
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    let mid = mid.as_str().expect("text").to_owned();
    sfu.state.until(|| sfu.state.closed().contains(&mid)).await;
    assert_eq!(bob.heard().await, []);
    assert_eq!(members(&rooms).await, ["bob", "cat"]);
}

/// Comes back so long after everything was lost: to the edge it was on, or to another.
async fn comes_back(after: Duration, to_the_same: bool) {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let Call { mut ann, mut bob, cat: _cat, mid } = Call::between(&one, &two).await;
    let session = session(&mut ann).await;
    drop(ann);
    bob.idle(Duration::from_millis(500)).await;
    rooms.forget_everything();
    bob.idle(after).await;
    let mut ann = Client::connect(if to_the_same { one.address } else { two.address }, "ann").await;
    let resumed = come_back(&mut ann, &session).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    bob.idle(HEALED).await;
    assert_eq!(bob.heard().await, []);
    assert_eq!(members(&rooms).await, ["ann", "bob", "cat"]);
}

#[tokio::test]
async fn who_comes_back_to_its_edge_as_soon_as_everything_is_lost_has_its_streams() {
    comes_back(Duration::ZERO, true).await;
}

#[tokio::test]
async fn who_comes_back_to_another_edge_as_soon_as_everything_is_lost_has_its_streams() {
    comes_back(Duration::ZERO, false).await;
}

/// By then edges have noticed, and only they who are on a socket are there again.
#[tokio::test]
async fn who_comes_back_to_another_edge_once_the_loss_is_noticed_has_its_streams() {
    comes_back(Duration::from_millis(1_300), false).await;
}

/// The store comes back, in the same life, as it was before Ann joined, while she is between two sockets: with the others, or empty.
async fn lost_with_the_last_writes(empty: bool) {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let nothing = rooms.checkpoint();
    let mut bob = Client::joined(two.address, "bob", "r").await;
    let before = rooms.checkpoint();
    let mut ann = Client::joined(one.address, "ann", "r").await;
    let mid = ann.publish("r").await["data"]["mid"].clone();
    let session = session(&mut ann).await;
    assert_eq!(bob.notified("stream-add").await["mid"], mid);
    bob.heard().await;
    drop(ann);
    bob.idle(Duration::from_millis(500)).await;
    rooms.restore(if empty { nothing } else { before });
    let mut ann = Client::connect(one.address, "ann").await;
    let resumed = come_back(&mut ann, &session).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    bob.idle(HEALED).await;
    assert_eq!(bob.heard().await, []);
    assert_eq!(members(&rooms).await, ["ann", "bob"]);
}

#[tokio::test]
async fn who_was_lost_with_the_last_writes_while_between_two_sockets_comes_back_to_its_streams() {
    lost_with_the_last_writes(false).await;
}

#[tokio::test]
async fn who_was_lost_with_its_whole_room_while_between_two_sockets_comes_back_to_its_streams() {
    lost_with_the_last_writes(true).await;
}

#[tokio::test]
async fn a_session_that_has_ended_elsewhere_is_not_put_back_where_it_was_before() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let mut bob = Client::joined(two.address, "bob", "r").await;
    let mut ann = Client::joined(one.address, "ann", "r").await;
    assert_eq!(ann.publish("r").await["ok"], true);
    let session = session(&mut ann).await;
    drop(ann);
    bob.idle(Duration::from_millis(500)).await;
    let mut again = Client::connect(two.address, "ann").await;
    assert_eq!(again.done("join", json!({"rid": "r", "session": session})).await["session"], session);
    again.done("leave", json!({"rid": "r"})).await;
    bob.notified("peer-leave").await;
    bob.heard().await;
    let mut ann = Client::connect(one.address, "ann").await;
    let joined = come_back(&mut ann, &session).await;
    assert_ne!(joined["session"], session);
    let heard: Vec<String> = bob.heard().await.into_iter().map(|(method, _)| method).collect();
    assert_eq!(heard, ["peer-join"]);
}
