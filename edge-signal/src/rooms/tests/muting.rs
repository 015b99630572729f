//! What was muted and lost in a failover, in virtual time.

use room_store::contract::{Fault, FaultyRooms};

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_muted_and_lost_in_a_failover_is_muted_again() {
    let (store, one, two) = two_sides();
    let (ann, bob) = (one.join("ann", 1).await, two.join("bob", 2).await);
    let stream = one.publish(&ann, 1).await;
    settle().await;
    let before = store.checkpoint();
    one.mute(&ann, &stream.mid, true).await;
    settle().await;
    store.restore(before);
    two.say(&bob, "hello").await;
    healed().await;
    for side in [&one, &two] {
        let room = side.rooms.room(&room()).expect("open");
        assert!(room.model().stream(&stream.mid).expect("published").minfo.muted().audio);
    }
    let snapshot = store.snapshot(&room()).await.expect("answered").expect("a room");
    assert!(snapshot.publications[0].minfo.muted().audio);
}

/// Ann has muted her stream, the store has lost that, and it has failed to be set again so far: in the way of that is what is returned
/// last.
async fn lost_mute(fault: Fault) -> (MemoryRooms, Side, Player, Side, Player, Mid, FaultyRooms) {
    let store = MemoryRooms::new(RoomSettings::default());
    let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
    let (one, two) = (Side::through("one", &store, Arc::new(in_the_way.clone())), Side::new("two", &store));
    let (ann, bob) = (one.join("ann", 1).await, two.join("bob", 2).await);
    let Publication { mid, .. } = &*one.publish(&ann, 1).await;
    settle().await;
    let before = store.checkpoint();
    one.mute(&ann, mid, true).await;
    settle().await;
    in_the_way.fail_calls("mute", Some(fault));
    store.restore(before);
    two.say(&bob, "hello").await;
    healed().await;
    assert!(!is_muted(&store).await);
    (store, one, ann, two, bob, mid.clone(), in_the_way)
}

async fn is_muted(store: &MemoryRooms) -> bool {
    let snapshot = store.snapshot(&room()).await.expect("answered").expect("a room");
    snapshot.publications[0].minfo.muted().audio
}

#[tokio::test(start_paused = true)]
async fn a_room_goes_on_while_what_was_muted_is_being_set_again() {
    let (store, _one, mut ann, two, bob, ..) = lost_mute(Fault::Late(Duration::from_secs(20))).await;
    two.say(&bob, "still here").await;
    settle().await;
    assert_eq!(ann.heard().pop().expect("heard"), "bob: still here");
    sleep(Duration::from_secs(20)).await;
    assert!(is_muted(&store).await);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_muted_again_at_once_is_muted_later() {
    let (store, _one, _ann, _two, _bob, _mid, in_the_way) = lost_mute(Fault::Unavailable).await;
    in_the_way.fail_calls("mute", None);
    sleep(Duration::from_secs(1)).await;
    assert!(is_muted(&store).await);
}

#[tokio::test(start_paused = true)]
async fn what_its_owner_has_set_otherwise_since_is_not_set_again() {
    let (store, one, ann, _two, _bob, mid, in_the_way) = lost_mute(Fault::Unavailable).await;
    one.mute(&ann, &mid, false).await;
    in_the_way.fail_calls("mute", None);
    sleep(Duration::from_secs(5)).await;
    assert!(!is_muted(&store).await);
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_asks_for_while_something_is_being_set_again_comes_after_it() {
    let (store, one, ann, _two, _bob, mid, _in_the_way) = lost_mute(Fault::Late(Duration::from_secs(20))).await;
    assert!(one.rooms.owner_mutes(&mid).now_or_never().is_none());
    one.mute(&ann, &mid, false).await;
    sleep(Duration::from_mins(1)).await;
    assert!(!is_muted(&store).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_set_again_in_a_room_that_its_owner_has_left() {
    let (store, one, ann, _two, _bob, _mid, in_the_way) = lost_mute(Fault::Unavailable).await;
    one.members.depart(&ann.actor, ann.connection, ann.following.place());
    in_the_way.fail_calls("mute", None);
    sleep(Duration::from_secs(5)).await;
    assert!(!is_muted(&store).await);
}
