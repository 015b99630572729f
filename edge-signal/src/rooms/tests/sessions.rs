//! What becomes of a session that the store does not have, or not here, in virtual time.

use room_store::{Hold, LossReason};
use tokio::time::Instant;

use super::*;

fn hold(player: &Player) -> Hold {
    let Player { actor, connection, .. } = player;
    Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: *connection }
}

/// What the socket is told when a refresh finds its session on another.
async fn superseded(side: &Side, player: &mut Player) -> Vec<String> {
    let lost = vec![(hold(player), LossReason::Superseded)];
    side.rooms.refreshed(&room(), Refreshed { head: None, lost });
    settle().await;
    player.heard()
}

#[tokio::test(start_paused = true)]
async fn only_long_after_the_last_break_is_a_session_found_on_another_socket_superseded_for_good() {
    let store = MemoryRooms::new(RoomSettings::default());
    let mut side = Side::new("one", &store);
    let mut ann = side.join("ann", 1).await;
    let lookout = side.lookout.take().expect("nobody runs it yet");
    tokio::spawn(lookout.run(side.shutdown.clone()));
    // A client that only answers pings: what it last answered is in the refresh after it.
    sleep(MAX_PING + MAX_REFRESH).await;
    let told = superseded(&side, &mut ann).await;
    assert!(told[0].starts_with("lost Contested"), "{told:?}");
    sleep(Duration::from_secs(20)).await;
    let told = superseded(&side, &mut ann).await;
    assert!(told[0].starts_with("lost Lost"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_taken_for_dead_and_is_alive_comes_back_with_its_streams() {
    let (store, one, two) = two_sides();
    let ann = one.join("ann", 1).await;
    one.publish(&ann, 1).await;
    let half = store.settings().ttl / 2;
    sleep(half).await;
    let mut bob = two.join("bob", 2).await;
    sleep(half).await;
    let expired = store.expire_due(&room(), usize::MAX).await.expect("answered");
    assert_eq!(expired.peers, ["ann".parse::<PeerId>().expect("valid")]);
    settle().await;
    assert_eq!(bob.heard(), ["-ann/stream owner_expired", "-ann"]);
    one.rooms.put_back(&room()).await.expect("put back");
    settle().await;
    assert_eq!(bob.heard(), ["+ann", "+ann/stream"]);
    assert_eq!(names(&store).await, ["ann", "bob", "ann/stream"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_about_to_leave_is_not_put_back() {
    let (store, one, _two) = two_sides();
    let (ann, _bob) = (one.join("ann", 1).await, one.join("bob", 2).await);
    one.members.set_leaving(&ann.actor, ann.connection, true);
    store.forget_everything();
    one.rooms.put_back(&room()).await.expect("put back");
    assert_eq!(names(&store).await, ["bob"]);
    one.members.depart(&ann.actor, ann.connection, ann.following.place());
    assert!(one.members.departed(&room(), Instant::now()).is_empty(), "nor later");
}

#[tokio::test(start_paused = true)]
async fn who_has_come_back_elsewhere_and_left_is_not_between_two_sockets_any_more() {
    let (store, one, two) = two_sides();
    let (ann, _bob) = (one.join("ann", 1).await, one.join("bob", 2).await);
    one.members.depart(&ann.actor, ann.connection, ann.following.place());
    let attachment = Attachment { edge: one.edge.clone(), connection: ann.connection };
    store.socket_closed(ann.actor.clone(), attachment, false).await.expect("answered");
    assert_eq!(one.members.departed(&room(), Instant::now()).len(), 1);
    let again = two.join("ann", 3).await;
    assert_eq!(again.actor.session, ann.actor.session, "resumed");
    store.leave(again.actor.clone(), None).await.expect("left");
    settle().await;
    assert!(one.members.departed(&room(), Instant::now()).is_empty());
}
