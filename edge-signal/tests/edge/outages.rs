//! What two edges make of a store that loses things: here the in-memory twin, which can lose whatever a test likes. `cluster` does the
//! same with a real one.

use std::time::Duration;

use room_store::RoomStore as _;
use serde_json::json;

use crate::rig::call::Call;
use crate::rig::client::Client;
use crate::rig::{store, two_edges};

/// Rooms are whole again within this time after the store has lost everything.
const HEALED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_request_that_meets_a_store_without_its_session_is_carried_out() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let mut call = Call::between(&one, &two).await;
    rooms.forget_everything();
    call.cat.done("broadcast", json!({"rid": "r", "data": "first"})).await;
    for client in [&mut call.ann, &mut call.bob] {
        assert_eq!(client.notified("broadcast").await["data"], "first");
    }
    call.is_whole().await;
    assert_eq!(call.bob.subscribe("r", &call.mid).await["ok"], true);
}

#[tokio::test]
async fn a_silent_call_is_put_back_as_well() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let mut call = Call::between(&one, &two).await;
    rooms.forget_everything();
    call.idle(HEALED).await;
    let snapshot = rooms.snapshot(&"r".parse().expect("valid")).await.expect("answered").expect("there");
    assert_eq!((snapshot.members.len(), snapshot.publications.len()), (3, 1));
    call.is_whole().await;
}

#[tokio::test]
async fn writes_lost_in_a_failover_are_put_back_and_nobody_notices() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let before = rooms.checkpoint();
    let mut call = Call::between(&one, &two).await;
    rooms.restore(before);
    // The twin's feeds say nothing of it, and nobody asks for anything: the next refresh shows it.
    call.idle(Duration::from_secs(10) + HEALED).await;
    call.is_whole().await;
}

#[tokio::test]
async fn a_stream_whose_end_was_lost_in_a_failover_ends_again() {
    let rooms = store();
    let (sfu, one, two) = two_edges(&rooms).await;
    let mut call = Call::between(&one, &two).await;
    let before = rooms.checkpoint();
    call.ann.done("unpublish", json!({"rid": "r", "mid": call.mid})).await;
    call.bob.notified("stream-remove").await;
    sfu.state.until(|| sfu.state.live().is_empty()).await;
    rooms.restore(before);
    // Where the log was it is another one.
    call.cat.done("broadcast", json!({"rid": "r", "data": 1})).await;
    assert_eq!(call.bob.notified("stream-add").await["mid"], call.mid, "the store says so");
    assert_eq!(call.bob.notified("stream-remove").await["mid"], call.mid, "and the node knows better");
    assert_eq!(call.bob.done("getpubs", json!({"rid": "r"})).await["pubs"], json!([]));
}

#[tokio::test]
async fn a_member_between_two_connections_comes_back_to_its_streams() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let Call { mut ann, mut bob, cat: _cat, mid } = Call::between(&one, &two).await;
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    drop(ann);
    bob.idle(Duration::from_millis(500)).await;
    rooms.forget_everything();
    bob.idle(HEALED).await;
    let mut ann = Client::connect(two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    assert_eq!(bob.heard().await, []);
}

#[tokio::test]
async fn a_request_under_way_when_everything_is_lost_is_carried_out() {
    let rooms = store();
    let (_sfu, one, two) = two_edges(&rooms).await;
    let mut call = Call::between(&one, &two).await;
    for n in 0..20 {
        let sent = call.cat.send("broadcast", &json!({"rid": "r", "data": n})).await;
        let published = call.cat.send("keepalive", &json!({"rid": "r"})).await;
        rooms.forget_everything();
        assert_eq!(call.cat.answer(published).await["ok"], true);
        assert_eq!(call.cat.answer(sent).await["ok"], true);
    }
    call.idle(HEALED).await;
    for client in [&mut call.ann, &mut call.bob, &mut call.cat] {
        let other = client.heard().await.into_iter().filter(|(method, _)| method != "broadcast").collect::<Vec<_>>();
        assert_eq!(other, []);
    }
    call.is_whole().await;
}
