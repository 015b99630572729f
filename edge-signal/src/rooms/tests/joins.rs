//! Sockets that join at the same time: the edge hears of them in another order than the store.

use super::*;

#[tokio::test(start_paused = true)]
async fn whoever_is_heard_of_after_the_room_went_back_for_another_hears_all_in_order_too() {
    let store = MemoryRooms::new(RoomSettings::default());
    let side = Side::new("one", &store);
    let [ann, bob, cid] =
        [side.ask(&room(), "ann", 1).await, side.ask(&room(), "bob", 2).await, side.ask(&room(), "cid", 3).await];
    // The room is followed from the last of them, and tells what comes after.
    let mut cid = cid.enter();
    side.say(&cid, "hello").await;
    settle().await;
    // It goes back to the first, and the one between is heard of only then.
    let mut ann = ann.enter();
    settle().await;
    let mut bob = bob.enter();
    settle().await;
    assert_eq!(ann.heard(), ["+bob", "+cid", "cid: hello"]);
    assert_eq!(bob.heard(), ["+cid", "cid: hello"]);
    side.say(&ann, "all here").await;
    settle().await;
    for player in [&mut bob, &mut cid] {
        assert_eq!(player.heard(), ["ann: all here"]);
    }
}
