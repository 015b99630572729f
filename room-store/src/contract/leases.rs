//! Leases, by the store's clock.

use std::{collections::BTreeSet, time::Duration};

use super::{Harness, Stage, stage::room};
use crate::{
    change::{Expired, JoinKind, LossReason},
    error::StoreError,
    settings::RoomSettings,
};

const MOMENT: Duration = Duration::from_millis(100);

/// Short enough to wait for on a real clock, long enough not to be met by accident.
fn settings() -> RoomSettings {
    RoomSettings {
        ttl: Duration::from_secs(6),
        grace: Duration::from_secs(3),
        reservation: Duration::from_secs(2),
        ..RoomSettings::default()
    }
}

fn peers(expired: &Expired) -> Vec<&str> {
    expired.peers.iter().map(proto::ids::PeerId::as_str).collect()
}

pub async fn an_unseen_session_expires_at_its_ttl<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let a = stage.join("a").await;
    stage.wait(MOMENT * 55).await;
    assert_eq!(stage.expire().await, Expired::default());
    stage.wait(MOMENT * 6).await;
    assert_eq!(peers(&stage.expire().await), ["a"]);
    assert_eq!(stage.refresh(&a).await, Some(LossReason::Gone));
    assert_eq!(stage.store.leave(a.actor, None).await, Err(StoreError::NotMember));
}

pub async fn frames_keep_a_session<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b, c) = (stage.join("a").await, stage.join("b").await, stage.join("c").await);
    for _ in 0..3 {
        stage.wait(settings().ttl / 2).await;
        assert_eq!(stage.refresh(&a).await, None, "by refreshing");
        stage.say(&b, "here").await;
        assert_eq!(stage.refresh(&c).await, None);
    }
    stage.wait(settings().ttl / 2).await;
    stage.store.members(b.actor.clone(), None, 1).await.expect("by any call");
    stage.refresh(&a).await;
    stage.wait(settings().ttl / 2 + MOMENT).await;
    assert_eq!(peers(&stage.expire().await), ["c"]);
}

pub async fn a_closed_socket_leaves_the_grace<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b, late) = (stage.join("a").await, stage.join("b").await, stage.join("late").await);
    stage.wait(settings().grace + settings().grace / 2).await;
    stage.refresh(&a).await;
    stage.refresh(&b).await;
    for player in [&a, &late] {
        stage.close(player).await;
        stage.close(player).await;
    }
    stage.store.members(a.actor.clone(), None, 1).await.expect("a call on its way counts, but not as a frame");
    stage.wait(settings().grace / 2 + MOMENT).await;
    assert_eq!(peers(&stage.expire().await), ["late"], "at most the grace, not more than the ttl");
    stage.wait(settings().grace / 2).await;
    assert_eq!(peers(&stage.expire().await), ["a"]);
    assert_eq!(stage.members().await, ["b"]);
}

pub async fn a_socket_closed_for_good_ends_what_is_still_on_it<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let mut join = stage.joining("b");
    join.resume = Some(b.actor.session.clone());
    let moved = stage.admit(join).await;
    for (player, streams) in [(&a, 1), (&a, 0), (&b, 0)] {
        let closed = stage.store.socket_closed(player.actor.clone(), player.attachment.clone(), true).await;
        assert_eq!(closed.expect("noted").publications.len(), streams);
    }
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "-a/stream owner_left", "-a"]);
    assert_eq!(stage.refresh(&moved).await, None, "its session goes on, on another socket");
    assert_eq!(stage.store.publication(moved.actor, &stream.mid).await, Err(StoreError::UnknownPublication));
}

pub async fn a_refresh_overtaken_by_the_close_changes_nothing<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    stage.close(&a).await;
    assert_eq!(stage.refresh(&a).await, None);
    stage.wait(settings().grace + MOMENT).await;
    stage.refresh(&b).await;
    assert_eq!(peers(&stage.expire().await), ["a"]);
    stage.close(&b).await;
    let mut elsewhere = b.clone();
    elsewhere.attachment = stage.socket();
    assert_eq!(stage.refresh(&elsewhere).await, None, "another socket of the session that the store has forgotten");
    stage.wait(settings().grace + MOMENT).await;
    assert_eq!(stage.expire().await, Expired::default());
}

pub async fn a_stale_close_changes_nothing<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let old = stage.join("a").await;
    let mut join = stage.joining("a");
    join.resume = Some(old.actor.session.clone());
    let new = stage.admit(join).await;
    stage.close(&old).await;
    stage.wait(settings().grace + MOMENT).await;
    assert_eq!(stage.expire().await, Expired::default());
    let newest = stage.join("a").await;
    assert_eq!(newest.joined.superseded, Some(new.attachment.clone()), "it was attached all the while");
    stage.close(&new).await;
    stage.wait(settings().grace + MOMENT).await;
    assert_eq!(stage.expire().await, Expired::default());
}

pub async fn an_edge_learns_which_sessions_are_gone_or_elsewhere<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let nobody = stage.store.refresh(&stage.room, &super::stage::edge("odd"), vec![]).await.expect("answered");
    assert_eq!((nobody.head, nobody.lost), (None, vec![]));
    let (stays, moves, leaves) = (stage.join("stays").await, stage.join("moves").await, stage.join("leaves").await);
    let mut join = stage.joining("moves");
    join.resume = Some(moves.actor.session.clone());
    let moved = stage.admit(join).await;
    stage.leave(&leaves).await;
    let taken = stage.join("stays").await;
    assert_eq!(stage.refresh(&stays).await, Some(LossReason::Superseded), "another session");
    assert_eq!(stage.refresh(&moves).await, Some(LossReason::Superseded), "another socket");
    assert_eq!(stage.refresh(&leaves).await, Some(LossReason::Gone));
    assert_eq!(stage.refresh(&moved).await, None);
    assert_eq!(stage.refresh(&taken).await, None);
    let answer = stage.store.refresh(&stage.room, &taken.attachment.edge, vec![taken.hold()]).await.expect("answered");
    assert_eq!(answer.head, Some(stage.head().await));
}

pub async fn a_due_session_lives_until_expiry_is_asked_for<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    stage.wait(settings().ttl * 3).await;
    assert_eq!(stage.members().await, ["a", "b"], "an outage expires nobody by itself");
    assert_eq!(stage.refresh(&a).await, None);
    stage.close(&b).await;
    let mut join = stage.joining("b");
    join.resume = Some(b.actor.session.clone());
    assert_eq!(stage.admit(join).await.joined.how, JoinKind::Resumed);
    assert_eq!(stage.expire().await, Expired::default());
    assert_eq!(stage.story().await, ["+a", "+b"]);
}

pub async fn expiry_tells_streams_then_members_once<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&b, &stream.mid).await;
    stage.close(&a).await;
    stage.wait(settings().grace + MOMENT).await;
    stage.refresh(&b).await;
    let expired = stage.expire().await;
    assert_eq!(peers(&expired), ["a"]);
    assert_eq!(expired.released.publications, [(stream.mid.clone(), stream.placement.clone())]);
    assert_eq!(expired.released.subscriptions, [(subscription.sid.clone(), subscription.placement.clone())]);
    assert_eq!(stage.expire().await, Expired::default());
    assert_eq!(stage.story().await[3..], ["-a/stream owner_expired", "-a"]);
}

pub async fn expiry_goes_on_in_bounded_steps<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let stays = stage.join("stays").await;
    for (uid, streams) in [("a", 1), ("b", 1), ("c", 1), ("d", 7), ("e", 1)] {
        let player = stage.join(uid).await;
        for _ in 0..streams {
            stage.publish(&player).await;
        }
    }
    stage.wait(settings().ttl / 2).await;
    stage.refresh(&stays).await;
    stage.wait(settings().ttl / 2 + MOMENT).await;
    let mut ended = Vec::new();
    for (expected, more) in [(vec!["a", "b"], true), (vec!["c"], true), (vec!["d"], true), (vec!["e"], false)] {
        assert_eq!(stage.store.due_rooms(9).await, Ok(vec![stage.room.clone()]));
        let before = stage.head().await.position.seq.get();
        let expired = stage.store.expire_due(&stage.room, 4).await.expect("answered");
        assert_eq!((peers(&expired), expired.more), (expected.clone(), more));
        let written = stage.head().await.position.seq.get() - before;
        assert!(written <= 4 || expected == ["d"], "only a first session may exceed the limit: {written}");
        ended.extend(expired.peers);
    }
    assert_eq!(ended.len(), 5);
    assert_eq!(stage.store.due_rooms(9).await, Ok(vec![]));
    let (one, two) = (stage.publishing(&stays), stage.publishing(&stays));
    stage.store.reserve_publication(one).await.expect("reserved");
    stage.store.reserve_publication(two).await.expect("reserved");
    stage.wait(settings().reservation + MOMENT).await;
    for more in [true, false] {
        let expired = stage.store.expire_due(&stage.room, 1).await.expect("answered");
        assert_eq!((expired.released.publications.len(), expired.more), (1, more), "reservations count, too");
    }
    assert_eq!(stage.members().await, ["stays"]);
}

pub async fn an_unconfirmed_reservation_is_dropped_silently<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let a = stage.join("a").await;
    let stream = stage.publish(&a).await;
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    let sub =
        stage.store.reserve_subscription(stage.subscribing(&a, &stream.mid)).await.expect("reserved").subscription;
    stage.wait(settings().reservation + MOMENT).await;
    stage.refresh(&a).await;
    let expired = stage.expire().await;
    assert!(expired.peers.is_empty());
    assert_eq!(expired.released.publications, [(reserved.mid.clone(), reserved.placement.clone())]);
    assert_eq!(expired.released.subscriptions, [(sub.sid.clone(), sub.placement.clone())]);
    let late = stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await;
    assert_eq!(late, Err(StoreError::UnknownPublication));
    let late = stage.store.confirm_subscription(a.actor.clone(), &sub.sid).await;
    assert_eq!(late, Err(StoreError::UnknownSubscription));
    assert_eq!(stage.story().await, ["+a", "+a/stream"]);
}

pub async fn an_empty_room_is_forgotten_after_the_ttl<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let a = stage.join("a").await;
    stage.leave(&a).await;
    stage.wait(settings().ttl / 2).await;
    stage.expire().await;
    let again = stage.join("a").await;
    assert_eq!(again.joined.position.epoch, a.joined.position.epoch, "the log goes on");
    assert_eq!(stage.story().await, ["+a", "-a", "+a"]);
    stage.leave(&again).await;
    stage.wait(settings().ttl + MOMENT).await;
    assert_eq!(stage.store.due_rooms(9).await, Ok(vec![stage.room.clone()]));
    stage.expire().await;
    assert_eq!(stage.store.head(&stage.room).await, Ok(None));
    assert_eq!(stage.store.due_rooms(9).await, Ok(vec![]));
    assert_ne!(stage.join("a").await.joined.position.epoch, a.joined.position.epoch);
}

pub async fn due_rooms_are_a_hint_that_stays<H: Harness>() {
    let stage = Stage::<H>::with(settings()).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    assert_eq!(stage.store.due_rooms(9).await, Ok(vec![]));
    stage.close(&a).await;
    stage.wait(settings().grace + MOMENT).await;
    let due = Ok(vec![stage.room.clone()]);
    assert_eq!(stage.store.due_rooms(9).await, due);
    assert_eq!(stage.store.due_rooms(9).await, due, "looked at, not popped");
    assert_eq!(stage.store.due_rooms(0).await, Ok(vec![]));
    stage.refresh(&b).await;
    stage.expire().await;
    assert_eq!(stage.store.due_rooms(9).await, Ok(vec![]));
    stage.wait(settings().ttl + MOMENT).await;
    assert_eq!(stage.store.due_rooms(9).await, due, "the next lease is known");
}

pub async fn no_due_room_is_left_out<H: Harness>() {
    let mut stage = Stage::<H>::with(settings()).await;
    let rooms: BTreeSet<_> = (0..50).map(|number| room(&format!("r{number}"))).collect();
    for one in &rooms {
        stage.room = one.clone();
        stage.join("a").await;
    }
    stage.wait(settings().ttl + MOMENT).await;
    let mut seen = BTreeSet::new();
    for _ in 0..1_000 {
        seen.extend(stage.store.due_rooms(10).await.expect("answered"));
    }
    assert_eq!(seen, rooms, "also while those seen before are still due");
}

pub async fn rooms_of_any_name_expire_and_keep_no_other_from_it<H: Harness>() {
    let mut stage = Stage::<H>::with(settings()).await;
    // Names that an implementation could give to things of its own.
    let names = (0..64).map(|number| format!("exp:{number}")).chain(["totals", "exp", ":", "a:due"].map(str::to_owned));
    let odd: BTreeSet<_> = names.map(|name| room(&name)).collect();
    let plain: BTreeSet<_> = (0..20).map(|number| room(&format!("r{number}"))).collect();
    let uid = "x".repeat(128);
    for one in odd.iter().chain(&plain) {
        stage.room = one.clone();
        let player = stage.join(&uid).await;
        stage.close(&player).await;
    }
    stage.wait(settings().grace + MOMENT).await;
    let due = async || BTreeSet::from_iter(stage.store.due_rooms(1_000).await.expect("answered"));
    assert_eq!(due().await, odd.union(&plain).cloned().collect());
    for _ in ["the members", "the rooms"] {
        for one in &odd {
            let expired = stage.store.expire_due(one, usize::MAX).await.expect("answered");
            assert!(!expired.more);
        }
        assert_eq!(due().await, plain, "each is due on its own");
        stage.wait(settings().ttl + MOMENT).await;
    }
    for one in odd.iter().chain(&plain) {
        let expired = stage.store.expire_due(one, usize::MAX).await.expect("answered");
        assert_eq!(expired.peers.len(), usize::from(plain.contains(one)));
    }
}
