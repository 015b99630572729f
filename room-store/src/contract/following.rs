//! Feeds, and what is made of them.

use std::{sync::Arc, time::Duration};

use super::{Harness, Stage, stage::room};
use crate::{
    change::Head,
    feed::{FeedItem, RoomEvent, RoomFeed},
    follow::{Follow, Follower, READ_LIMIT},
    log::Entry,
    settings::RoomSettings,
};

/// Carries out what a follower asks for until it asks for nothing more. What it delivers, in order.
pub(super) async fn carry_out<H: Harness>(stage: &Stage<H>, follower: &mut Follower) -> Vec<Arc<Entry>> {
    let mut delivered = Vec::new();
    while let Some(follow) = follower.poll() {
        match follow {
            Follow::Deliver(entry) => delivered.push(entry),
            Follow::ReadLog { after, id } => {
                let read = stage.store.log_after(&stage.room, after, id, READ_LIMIT).await.expect("answered");
                follower.handle_read(read);
            }
            Follow::StartEpoch { seen } => {
                let head = stage.store.start_epoch(&stage.room, seen).await.expect("answered");
                follower.handle_epoch(head);
            }
            Follow::Resync => {
                let snapshot = stage.store.snapshot(&stage.room).await.expect("answered").expect("a room");
                follower.restart(snapshot.head);
            }
            Follow::Superseded { .. } => {}
        }
    }
    delivered
}

/// Follows until the follower is where the log is.
async fn follow<H: Harness>(stage: &Stage<H>, feed: &mut RoomFeed, follower: &mut Follower) -> Vec<Arc<Entry>> {
    let mut delivered = carry_out(stage, follower).await;
    while follower.position() != stage.head().await.position {
        follower.handle_item(stage.next(feed).await);
        delivered.extend(carry_out(stage, follower).await);
    }
    delivered
}

pub async fn a_feed_brings_each_entry_once_in_order<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut feed = stage.store.subscribe(&stage.room).await.expect("a room need not exist yet");
    let a = stage.join("a").await;
    let b = stage.join("b").await;
    let stream = stage.publish(&b).await;
    stage.store.reserve_subscription(stage.subscribing(&a, &stream.mid)).await.expect("reserved");
    stage.say(&a, "hello").await;
    stage.leave(&b).await;
    for entry in stage.log().await {
        assert_eq!(stage.next(&mut feed).await, FeedItem::Event(RoomEvent::Entry(entry)));
    }
    let fresh = stage.store.start_epoch(&stage.room, a.joined.position.epoch).await.expect("answered").expect("a room");
    assert_eq!(stage.next(&mut feed).await, FeedItem::Event(RoomEvent::EpochStarted(fresh)));
}

pub async fn a_slow_receiver_learns_that_it_lags<H: Harness>() {
    let stage = Stage::<H>::with(RoomSettings { feed_entries: 4, ..RoomSettings::default() }).await;
    let mut feed = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let a = stage.join("a").await;
    for _ in 0..20 {
        stage.say(&a, "too fast").await;
    }
    // A store elsewhere brings them in its own time, and nobody takes them meanwhile.
    stage.wait(Duration::from_secs(1)).await;
    let mut lagged = false;
    for _ in 0..5 {
        lagged |= stage.next(&mut feed).await == FeedItem::Lagged;
    }
    assert!(lagged, "within what the queue can hold");
}

pub async fn a_follower_that_lags_misses_nothing<H: Harness>() {
    let stage = Stage::<H>::with(RoomSettings { feed_entries: 4, ..RoomSettings::default() }).await;
    let mut feed = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let a = stage.join("a").await;
    let mut follower = Follower::new(Head { position: a.joined.position, id: a.joined.head });
    let mut delivered = Vec::new();
    for burst in [1, 3, 20, 0, 300, 2, 5] {
        for number in 0..burst {
            stage.say(&a, &format!("{burst}/{number}")).await;
        }
        delivered.extend(follow(&stage, &mut feed, &mut follower).await);
    }
    assert_eq!(delivered, stage.log_after(a.joined.position).await);
}

pub async fn a_superseded_socket_is_told<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let first = stage.join("a").await;
    let mut feed = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let mut join = stage.joining("a");
    join.resume = Some(first.actor.session.clone());
    let second = stage.admit(join).await;
    let third = stage.join("a").await;
    for (player, resumed) in [(&first, true), (&second, false)] {
        let expected = RoomEvent::Superseded {
            peer: player.actor.peer.clone(),
            session: player.actor.session.clone(),
            attachment: player.attachment.clone(),
            resumed,
        };
        assert_eq!(stage.next(&mut feed).await, FeedItem::Event(expected));
    }
    stage.close(&third).await;
    let fourth = stage.join("a").await;
    stage.say(&fourth, "nobody was superseded").await;
    assert!(matches!(stage.next(&mut feed).await, FeedItem::Event(RoomEvent::Entry(_))));
}

pub async fn feeds_of_other_rooms_are_silent<H: Harness>() {
    let mut stage = Stage::<H>::new().await;
    let mut feed = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let first = std::mem::replace(&mut stage.room, room("another"));
    let elsewhere = stage.join("a").await;
    stage.say(&elsewhere, "elsewhere").await;
    stage.room = first;
    let a = stage.join("a").await;
    let FeedItem::Event(RoomEvent::Entry(entry)) = stage.next(&mut feed).await else { panic!("no entry") };
    assert_eq!(entry.position, a.joined.position);
}

pub async fn a_dropped_feed_harms_nobody<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let dropped = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let mut kept = stage.store.subscribe(&stage.room).await.expect("subscribed");
    drop(dropped);
    stage.join("a").await;
    assert!(matches!(stage.next(&mut kept).await, FeedItem::Event(RoomEvent::Entry(_))));
    drop(kept);
    stage.join("b").await;
    let mut anew = stage.store.subscribe(&stage.room).await.expect("subscribed");
    let c = stage.join("c").await;
    let FeedItem::Event(RoomEvent::Entry(entry)) = stage.next(&mut anew).await else { panic!("no entry") };
    assert_eq!(entry.position, c.joined.position, "from its subscription on");
}
