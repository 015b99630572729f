//! What was recorded when the store lost it, in virtual time.

use proto::ids::RecordingId;
use room_store::{SetBy, SetRecording};

use super::*;

fn id(text: &str) -> RecordingId {
    RecordingId::new(text).expect("valid")
}

async fn set(store: &MemoryRooms, mid: &Mid, expected: Option<RecordingId>, recording: Option<RecordingId>) {
    let by = SetBy::Edge(room());
    store.set_recording(SetRecording { by, mid: mid.clone(), expected, recording }).await.expect("there");
}

async fn recorded(store: &MemoryRooms) -> Option<RecordingId> {
    let snapshot = store.snapshot(&room()).await.expect("answered").expect("a room");
    snapshot.publications[0].recording.clone()
}

fn known(side: &Side, mid: &Mid) -> Option<RecordingId> {
    let room = side.rooms.room(&room()).expect("open");
    room.model().stream(mid).expect("published").recording.clone()
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_was_lost_in_a_failover_is_put_back_before_anybody_is_told() {
    let (store, one, two) = two_sides();
    let (ann, bob) = (one.join("ann", 1).await, two.join("bob", 2).await);
    let stream = one.publish(&ann, 1).await;
    settle().await;
    let before = store.checkpoint();
    set(&store, &stream.mid, None, Some(id("R1"))).await;
    settle().await;
    store.restore(before);
    two.say(&bob, "hello").await;
    healed().await;
    assert_eq!(recorded(&store).await, Some(id("R1")));
    for side in [&one, &two] {
        assert_eq!(known(side, &stream.mid), Some(id("R1")));
    }
    let recordings = one.members.assertions(&room())[0].publications[0].recording.clone();
    assert_eq!(recordings, Some(id("R1")), "and would be put back with its stream");
}

#[tokio::test(start_paused = true)]
async fn a_recording_whose_end_was_lost_is_told_again_and_left_to_its_node() {
    let (store, one, two) = two_sides();
    let (ann, bob) = (one.join("ann", 1).await, two.join("bob", 2).await);
    let stream = one.publish(&ann, 1).await;
    set(&store, &stream.mid, None, Some(id("R1"))).await;
    settle().await;
    let before = store.checkpoint();
    set(&store, &stream.mid, Some(id("R1")), None).await;
    settle().await;
    assert_eq!(known(&two, &stream.mid), None);
    store.restore(before);
    two.say(&bob, "hello").await;
    healed().await;
    assert_eq!((recorded(&store).await, known(&two, &stream.mid)), (Some(id("R1")), Some(id("R1"))));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_everything_gets_the_recording_back_with_its_stream() {
    let (store, one, two) = two_sides();
    let (ann, _bob) = (one.join("ann", 1).await, two.join("bob", 2).await);
    let stream = one.publish(&ann, 1).await;
    set(&store, &stream.mid, None, Some(id("R1"))).await;
    settle().await;
    store.forget_everything();
    one.rooms.put_back(&room()).await.expect("put back");
    assert_eq!(recorded(&store).await, Some(id("R1")));
}
