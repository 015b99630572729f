//! The same intent, asked for again.

use std::time::Duration;

use proto::ids::{Mid, SessionId, Sid};

use super::{Harness, Stage, stage::op};
use crate::{
    change::{Broadcast, JoinKind, Left, ReservePublication, ReserveSubscription},
    error::{Conflict, StoreError},
    log::EntryId,
    record::{Actor, Released},
    settings::RoomSettings,
};

pub async fn a_repeated_join_is_the_same_session<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut join = stage.joining("a");
    join.op = Some(op("in"));
    let a = stage.admit(join).await;
    let stream = stage.publish(&a).await;
    let mut again = stage.joining("a");
    again.op = Some(op("in"));
    let again = stage.admit(again).await;
    assert_eq!((again.joined.how, &again.actor), (JoinKind::Resumed, &a.actor), "on another edge, too");
    assert_eq!(again.joined.own_publications, [stream]);
    stage.leave(&again).await;
    let mut anew = stage.joining("a");
    anew.op = Some(op("in"));
    assert_eq!(stage.admit(anew).await.joined.how, JoinKind::New, "what it made has ended");
    let mut other = stage.joining("b");
    other.op = Some(op("in"));
    assert_eq!(stage.admit(other).await.joined.how, JoinKind::New, "another peer's op is another");
}

pub async fn a_repeated_leave_is_no_error<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    stage.publish(&a).await;
    let left = stage.store.leave(a.actor.clone(), Some(op("out"))).await.expect("a member");
    assert_eq!(left.released.publications.len(), 1);
    let again = stage.store.leave(a.actor.clone(), Some(op("out"))).await;
    assert_eq!(again, Ok(Left { released: Released::default(), ended: true }));
    assert_eq!(stage.store.leave(a.actor.clone(), Some(op("out 2"))).await, Err(StoreError::NotMember));
    let nobodys = Actor { session: SessionId::of(u128::MAX), ..a.actor.clone() };
    let again = stage.store.leave(nobodys, Some(op("out"))).await;
    assert_eq!(again, Ok(Left { released: Released::default(), ended: true }), "from a socket that knows no session");
    assert_eq!(stage.story().await, ["+a", "+a/stream", "-a/stream owner_left", "-a"]);
    let back = stage.join("a").await;
    let late = stage.store.leave(back.actor.clone(), Some(op("out"))).await;
    assert_eq!(late, Ok(Left { released: Released::default(), ended: false }), "it was the earlier session that left");
    assert_eq!(stage.refresh(&back).await, None);
}

pub async fn a_repeated_publish_is_the_same_stream<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let publish = async || {
        let mut request = stage.publishing(&a);
        request.op = Some(op("camera"));
        stage.store.reserve_publication(request).await
    };
    let first = publish().await.expect("reserved");
    assert_eq!(publish().await.as_ref(), Ok(&first));
    let confirmed = stage.store.confirm_publication(a.actor.clone(), &first.mid).await.expect("confirmed");
    assert_eq!(publish().await.as_ref(), Ok(&confirmed));
    let mut join = stage.joining("a");
    join.resume = Some(a.actor.session.clone());
    stage.admit(join).await;
    assert_eq!(publish().await, Ok(confirmed), "from another socket, too");
    assert_eq!(stage.story().await, ["+a", "+a/stream"]);
}

pub async fn a_repeated_subscribe_is_the_same_subscription<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscribe = async || {
        let mut request = stage.subscribing(&b, &stream.mid);
        request.op = Some(op("watch"));
        stage.store.reserve_subscription(request).await
    };
    let first = subscribe().await.expect("reserved");
    assert_eq!(subscribe().await.as_ref(), Ok(&first));
    let confirmed =
        stage.store.confirm_subscription(b.actor.clone(), &first.subscription.sid).await.expect("confirmed");
    assert_eq!(subscribe().await.expect("known").subscription, confirmed);
}

pub async fn a_repeated_broadcast_is_said_once<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let mut said = stage.saying(&a, "hello");
    said.op = Some(op("hello"));
    for _ in 0..3 {
        said.entry = EntryId(stage.number());
        stage.store.broadcast(said.clone()).await.expect("a member");
    }
    let mut same_op = stage.saying(&b, "hello");
    same_op.op = said.op;
    stage.store.broadcast(same_op).await.expect("another peer's op is another");
    assert_eq!(stage.story().await, ["+a", "+b", r#"a says "hello""#, r#"b says "hello""#]);
}

pub async fn an_op_is_good_for_one_kind_of_request<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let stream = stage.publish(&a).await;
    let mut said = stage.saying(&a, "hello");
    said.op = Some(op("x"));
    stage.store.broadcast(said).await.expect("a member");
    let reused = || Conflict::OpReused.into();
    let mut publish = stage.publishing(&a);
    publish.op = Some(op("x"));
    assert_eq!(stage.store.reserve_publication(publish).await, Err(reused()));
    let mut subscribe = stage.subscribing(&a, &stream.mid);
    subscribe.op = Some(op("x"));
    assert_eq!(stage.store.reserve_subscription(subscribe).await, Err(reused()));
    assert_eq!(stage.store.leave(a.actor.clone(), Some(op("x"))).await, Err(reused()));
    let mut join = stage.joining("a");
    join.op = Some(op("x"));
    assert_eq!(stage.store.join(join).await, Err(reused()));
    stage.store.leave(a.actor.clone(), Some(op("y"))).await.expect("still a member");
}

pub async fn an_op_whose_stream_ended_is_spent<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let others = stage.publish(&a).await;
    let mut publish = stage.publishing(&a);
    publish.op = Some(op("p"));
    let reserved = stage.store.reserve_publication(publish.clone()).await.expect("reserved");
    let mut subscribe = stage.subscribing(&a, &others.mid);
    subscribe.op = Some(op("s"));
    let sub = stage.store.reserve_subscription(subscribe.clone()).await.expect("reserved").subscription;
    stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await.expect("reserved");
    stage.store.confirm_subscription(a.actor.clone(), &sub.sid).await.expect("reserved");
    stage.unpublish(&a, &reserved.mid).await.expect("its own");
    stage.unsubscribe(&a, &sub.sid).await.expect("its own");
    publish.mid = Mid::of(&a.actor.peer, stage.number());
    subscribe.sid = Sid::of(&a.actor.peer, stage.number());
    assert_eq!(stage.store.reserve_publication(publish).await, Err(Conflict::OpSpent.into()));
    assert_eq!(stage.store.reserve_subscription(subscribe).await, Err(Conflict::OpSpent.into()));
}

pub async fn an_op_whose_reservation_was_given_back_is_free_again<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let others = stage.publish(&a).await;
    let mut publish = stage.publishing(&a);
    publish.op = Some(op("p"));
    let reserved = stage.store.reserve_publication(publish.clone()).await.expect("reserved");
    let mut subscribe = stage.subscribing(&a, &others.mid);
    subscribe.op = Some(op("s"));
    let sub = stage.store.reserve_subscription(subscribe.clone()).await.expect("reserved").subscription;
    stage.unpublish(&a, &reserved.mid).await.expect("its own");
    stage.unsubscribe(&a, &sub.sid).await.expect("its own");
    publish.mid = Mid::of(&a.actor.peer, stage.number());
    subscribe.sid = Sid::of(&a.actor.peer, stage.number());
    let again = stage.store.reserve_publication(publish.clone()).await.expect("nothing was done with it");
    assert_eq!(again.mid, publish.mid);
    let again = stage.store.reserve_subscription(subscribe.clone()).await.expect("nothing was done with it");
    assert_eq!(again.subscription.sid, subscribe.sid);
}

pub async fn ops_are_forgotten_after_the_ttl<H: Harness>() {
    let ttl = Duration::from_secs(2);
    let stage = Stage::<H>::with(RoomSettings { ttl, ..RoomSettings::default() }).await;
    let a = stage.join("a").await;
    let mut said = stage.saying(&a, "hello");
    said.op = Some(op("hello"));
    stage.store.broadcast(said.clone()).await.expect("a member");
    stage.wait(ttl / 2).await;
    said.entry = EntryId(stage.number());
    stage.store.broadcast(said.clone()).await.expect("a member");
    assert_eq!(stage.story().await.len(), 2);
    stage.wait(ttl / 2 + Duration::from_millis(100)).await;
    stage.store.broadcast(said).await.expect("a member");
    assert_eq!(stage.story().await.len(), 3);
}

pub async fn ops_are_kept_for_the_ttl_and_further_ones_refused<H: Harness>() {
    let ttl = Duration::from_secs(2);
    let stage = Stage::<H>::with(RoomSettings { ops: 3, ttl, ..RoomSettings::default() }).await;
    let a = stage.join("a").await;
    let publish = async |name: &str| {
        let request = ReservePublication { op: Some(op(name)), ..stage.publishing(&a) };
        stage.store.reserve_publication(request).await
    };
    let first = publish("1").await.expect("reserved");
    let full = Err(Conflict::TooManyOps.into());
    publish("2").await.expect("reserved");
    publish("3").await.expect("reserved");
    for _ in 0..300 {
        stage.say(&a, "without an op").await;
    }
    assert_eq!(publish("4").await, full);
    let subscribe = ReserveSubscription { op: Some(op("4")), ..stage.subscribing(&a, &first.mid) };
    stage.store.confirm_publication(a.actor.clone(), &first.mid).await.expect("reserved");
    assert_eq!(stage.store.reserve_subscription(subscribe).await, Err(Conflict::TooManyOps.into()));
    assert_eq!(publish("1").await.expect("still known").mid, first.mid);
    let b = stage.join("b").await;
    let publish_as_b = ReservePublication { op: Some(op("1")), ..stage.publishing(&b) };
    stage.store.reserve_publication(publish_as_b).await.expect("another peer has its own");
    stage.wait(ttl + Duration::from_millis(100)).await;
    assert_ne!(publish("4").await.expect("the others are forgotten").mid, first.mid);
    publish("5").await.expect("reserved");
    publish("6").await.expect("reserved");
    assert_eq!(publish("7").await, full);
    let leave = || stage.store.leave(a.actor.clone(), Some(op("7")));
    assert!(leave().await.expect("nobody is kept from leaving").ended);
    assert_eq!(leave().await, Err(StoreError::NotMember));
}

pub async fn broadcasts_take_no_ops_from_other_requests<H: Harness>() {
    let settings = RoomSettings { ops: 2, broadcast_ops: 3, ..RoomSettings::default() };
    let stage = Stage::<H>::with(settings).await;
    let a = stage.join("a").await;
    let say = async |name: &str| {
        let said = Broadcast { op: Some(op(name)), ..stage.saying(&a, name) };
        stage.store.broadcast(said).await.expect("a member");
    };
    let publish = async |name: &str| {
        let request = ReservePublication { op: Some(op(name)), ..stage.publishing(&a) };
        stage.store.reserve_publication(request).await
    };
    for number in 0..20 {
        say(&number.to_string()).await;
    }
    let first = publish("camera").await.expect("there is room");
    publish("screen").await.expect("there is room");
    assert_eq!(publish("window").await, Err(Conflict::TooManyOps.into()));
    say("20").await;
    for again in ["18", "19", "20"] {
        say(again).await;
    }
    assert_eq!(stage.story().await.len(), 1 + 21, "the last few are known");
    say("17").await;
    assert_eq!(stage.story().await.len(), 1 + 22, "older ones are not");
    assert_eq!(publish("20").await, Err(Conflict::OpReused.into()));
    assert_eq!(publish("camera").await.expect("still known").mid, first.mid);
}

pub async fn a_broadcast_without_an_op_is_said_once_when_its_call_is_repeated<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    for text in ["one", "two"] {
        let said = stage.saying(&a, text);
        stage.store.broadcast(said.clone()).await.expect("a member");
        stage.say(&b, "between").await;
        stage.store.broadcast(said.clone()).await.expect("a member");
        let last = stage.log().await.into_iter().rev().find(|entry| entry.id == said.entry);
        assert!(last.is_some(), "the entry has the caller's identity");
    }
    let said = [r#"a says "one""#, r#"b says "between""#, r#"a says "two""#, r#"b says "between""#];
    assert_eq!(stage.story().await[2..], said);
}

pub async fn calls_repeated_as_they_are_do_nothing_twice<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let join = stage.joining("a");
    let a = stage.admit(join.clone()).await;
    let again = stage.admit(join).await;
    assert_eq!((again.joined.how, &again.actor), (JoinKind::Resumed, &a.actor));
    let publish = stage.publishing(&a);
    let reserved = stage.store.reserve_publication(publish.clone()).await.expect("reserved");
    assert_eq!(stage.store.reserve_publication(publish.clone()).await, Ok(reserved));
    let stream = stage.store.confirm_publication(a.actor.clone(), &publish.mid).await.expect("confirmed");
    assert_eq!(stage.store.reserve_publication(publish).await, Ok(stream.clone()));
    let subscribe = stage.subscribing(&a, &stream.mid);
    let reserved = stage.store.reserve_subscription(subscribe.clone()).await.expect("reserved");
    assert_eq!(stage.store.reserve_subscription(subscribe).await, Ok(reserved));
    assert_eq!(stage.story().await, ["+a", "+a/stream"]);
}
