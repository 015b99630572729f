//! What steps say they did, to whoever makes them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::ids::{Position, RoomId};

use super::{
    Fault, Harness, Stage,
    stage::{op, placement},
};
use crate::{
    change::{Assertion, EndedBy, Join, JoinKind, Reassert},
    error::StoreError,
    log::RemoveReason,
    settings::RoomSettings,
    witness::{Deed, Fact, Witness},
};

/// Short enough to wait for on a real clock.
fn settings() -> RoomSettings {
    RoomSettings { ttl: Duration::from_secs(6), grace: Duration::from_secs(3), ..RoomSettings::default() }
}

/// All that was said, in short, and where.
#[derive(Default)]
struct Seen(Mutex<Vec<(String, Position)>>);

impl Witness for Seen {
    fn saw(&self, _: &RoomId, deeds: &[Deed], restored: bool) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = if restored { " (restored)" } else { "" };
        seen.extend(deeds.iter().map(|deed| (format!("{}{mark}", short(&deed.fact)), deed.position)));
    }
}

impl Seen {
    /// What was said since this was asked last.
    fn take(&self) -> Vec<String> {
        self.take_placed().into_iter().map(|(text, _)| text).collect()
    }

    fn take_placed(&self) -> Vec<(String, Position)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn short(fact: &Fact) -> String {
    match fact {
        Fact::RoomOpened => "opened".to_owned(),
        Fact::RoomClosed => "closed".to_owned(),
        Fact::PeerJoined { peer } => format!("+{peer}"),
        Fact::PeerLeft { peer, why } => format!("-{peer} {}", why.name()),
        Fact::StreamPublished { owner, node, .. } => format!("+{owner}/stream on {node}"),
        Fact::StreamUnpublished { owner, why, .. } => format!("-{owner}/stream {}", why.name()),
        Fact::StreamSubscribed { subscriber, node, .. } => format!("{subscriber} > stream by {node}"),
        Fact::StreamUnsubscribed { subscriber, why, .. } => format!("{subscriber} | stream {}", why.name()),
    }
}

/// A stage whose steps are seen.
async fn stage<H: Harness>() -> (Stage<H>, Arc<Seen>) {
    let (mut stage, seen) = (Stage::<H>::with(settings()).await, Arc::<Seen>::default());
    stage.store = stage.store.witnessed(Arc::clone(&seen) as _);
    (stage, seen)
}

pub async fn a_step_says_what_it_did<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    assert_eq!(seen.take(), ["opened", "+a"]);
    let b = stage.join("b").await;
    assert_eq!(seen.take(), ["+b"]);
    let stream = stage.publish(&a).await;
    assert_eq!(seen.take(), ["+a/stream on n1"], "nothing of the reservation");
    let subscription = stage.subscribe(&b, &stream.mid).await;
    assert_eq!(seen.take(), ["b > stream by n1"]);
    stage.say(&a, "hello").await;
    stage.refresh(&a).await;
    stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, Some(true), None).await.expect("muted");
    assert_eq!(seen.take(), Vec::<String>::new());
    stage.unsubscribe(&b, &subscription.sid).await.expect("ended");
    assert_eq!(seen.take(), ["b | stream unsubscribed"]);
    stage.subscribe(&b, &stream.mid).await;
    stage.unpublish(&a, &stream.mid).await.expect("ended");
    assert_eq!(seen.take()[1..], ["b | stream stream_ended", "-a/stream unpublished"]);
    stage.leave(&a).await;
    assert_eq!(seen.take(), ["-a left"]);
    stage.leave(&b).await;
    assert_eq!(seen.take(), ["-b left", "closed"]);
    stage.join("a").await;
    assert_eq!(seen.take(), ["opened", "+a"], "again");
}

pub async fn who_leaves_takes_streams_along_and_each_is_said<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (of_a, of_b) = (stage.publish(&a).await, stage.publish(&b).await);
    stage.subscribe(&a, &of_b.mid).await;
    stage.subscribe(&b, &of_a.mid).await;
    seen.take();
    stage.leave(&a).await;
    let said = ["a | stream subscriber_gone", "b | stream stream_ended", "-a/stream owner_left", "-a left"];
    assert_eq!(seen.take(), said);
    stage.store.socket_closed(b.actor.clone(), b.attachment.clone(), true).await.expect("ended");
    assert_eq!(seen.take(), ["-b/stream owner_left", "-b closed", "closed"]);
}

pub async fn a_deed_is_where_its_entry_is<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    let joined = a.joined.position;
    let stream = stage.publish(&a).await;
    let published = stage.head().await.position;
    stage.subscribe(&a, &stream.mid).await;
    stage.leave(&a).await;
    let left = stage.head().await.position;
    let said = |text: &str, position| (text.to_owned(), position);
    let unpublished = Position { seq: published.seq.next(), ..published };
    let expected = [
        said("opened", joined),
        said("+a", joined),
        said("+a/stream on n1", published),
        said("a > stream by n1", published),
        said("a | stream subscriber_gone", published),
        said("-a/stream owner_left", unpublished),
        said("-a left", left),
        said("closed", left),
    ];
    assert_eq!(seen.take_placed(), expected);
}

pub async fn a_resume_says_nothing_and_a_takeover_both<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    stage.publish(&a).await;
    seen.take();
    let resume = stage.joining("a");
    let resumed =
        stage.admit(Join { resume: Some(a.actor.session.clone()), ..resume }).await;
    assert_eq!((resumed.joined.how, seen.take()), (JoinKind::Resumed, Vec::new()));
    let anew = stage.join("a").await;
    assert_eq!(anew.joined.how, JoinKind::TookOver);
    assert_eq!(seen.take(), ["-a/stream owner_left", "-a superseded", "+a"], "the room was never empty");
}

pub async fn a_repeated_call_says_nothing_more<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let join = Join { op: Some(op("j")), ..stage.joining("a") };
    let a = stage.admit(join.clone()).await;
    stage.admit(join).await;
    assert_eq!(seen.take(), ["opened", "+a"]);
    let stream = stage.publish(&a).await;
    stage.store.confirm_publication(a.actor.clone(), &stream.mid).await.expect("again");
    assert_eq!(seen.take(), ["+a/stream on n1"]);
    let subscription = stage.subscribe(&a, &stream.mid).await;
    stage.store.confirm_subscription(a.actor.clone(), &subscription.sid).await.expect("again");
    assert_eq!(seen.take(), ["a > stream by n1"]);
    for _ in 0..2 {
        stage.unsubscribe(&a, &subscription.sid).await.expect("ended");
        stage.unpublish(&a, &stream.mid).await.expect("ended");
    }
    assert_eq!(seen.take(), ["a | stream unsubscribed", "-a/stream unpublished"]);
    for _ in 0..2 {
        stage.store.leave(a.actor.clone(), Some(op("l"))).await.expect("left");
    }
    assert_eq!(seen.take(), ["-a left", "closed"]);
    let refused = stage.store.confirm_publication(a.actor, &stream.mid).await;
    assert_eq!((refused.err(), seen.take()), (Some(StoreError::NotMember), Vec::new()));
}

pub async fn a_reservation_that_is_dropped_says_nothing<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    let stream = stage.publish(&a).await;
    seen.take();
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    stage.store.reserve_subscription(stage.subscribing(&a, &stream.mid)).await.expect("reserved");
    stage.unpublish(&a, &reserved.mid).await.expect("given back");
    assert_eq!(seen.take(), Vec::<String>::new());
    stage.unpublish(&a, &stream.mid).await.expect("ended");
    assert_eq!(seen.take(), ["-a/stream unpublished"], "nobody was subscribed");
}

pub async fn what_a_node_ends_says_why<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    let (one, other) = (stage.publish(&a).await, stage.publish(&a).await);
    let subscription = stage.subscribe(&a, &one.mid).await;
    seen.take();
    let by = |reason| EndedBy::Node { room: stage.room.clone(), placement: placement("n1"), reason };
    let ended = |sid, reason| stage.store.remove_subscription(sid, by(reason));
    for _ in 0..2 {
        ended(&subscription.sid, RemoveReason::TransportEnded).await.expect("ended");
    }
    assert_eq!(seen.take(), ["a | stream transport_ended"]);
    let subscription = stage.subscribe(&a, &one.mid).await;
    ended(&subscription.sid, RemoveReason::NodeLost).await.expect("ended");
    for _ in 0..2 {
        stage.store.remove_publication(&one.mid, by(RemoveReason::NodeLost)).await.expect("ended");
        stage.store.remove_publication(&other.mid, by(RemoveReason::TransportEnded)).await.expect("ended");
    }
    let said = ["a | stream node_lost", "-a/stream node_lost", "-a/stream transport_ended"];
    assert_eq!(seen.take()[1..], said);
}

pub async fn expiry_is_said_once_to_whoever_did_it<H: Harness>() {
    let (stage, one) = stage::<H>().await;
    let other = Arc::<Seen>::default();
    let others = stage.store.witnessed(Arc::clone(&other) as _);
    for uid in ["a", "b", "c", "d"] {
        let player = stage.join(uid).await;
        stage.publish(&player).await;
    }
    one.take();
    stage.wait(settings().ttl + Duration::from_millis(200)).await;
    // Two entries each: the limit ends one peer at a time.
    for _ in 0..4 {
        let (here, there) = tokio::join!(stage.store.expire_due(&stage.room, 2), others.expire_due(&stage.room, 2));
        here.expect("answered");
        there.expect("answered");
    }
    let mut said = one.take();
    said.extend(other.take());
    said.sort();
    let mut expected: Vec<String> = ["a", "b", "c", "d"].iter().map(|uid| format!("-{uid} timeout")).collect();
    expected.extend(["a", "b", "c", "d"].iter().map(|uid| format!("-{uid}/stream owner_expired")));
    expected.push("closed".to_owned());
    expected.sort();
    assert_eq!(said, expected);
}

pub async fn a_handle_says_what_is_done_by_it_only<H: Harness>() {
    let (stage, one) = stage::<H>().await;
    let other = Arc::<Seen>::default();
    let others = stage.store.witnessed(Arc::clone(&other) as _);
    let a = stage.join("a").await;
    others.leave(a.actor, None).await.expect("left");
    assert_eq!((one.take(), other.take()), (vec!["opened".to_owned(), "+a".to_owned()], vec![
        "-a left".to_owned(),
        "closed".to_owned()
    ]));
}

pub async fn what_is_put_back_is_said_as_that<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let a = stage.join("a").await;
    stage.join("b").await;
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&a, &stream.mid).await;
    seen.take();
    let assertion = Assertion { hold: a.hold(), publications: vec![stream], subscriptions: vec![subscription] };
    let sessions = vec![assertion];
    let reassert = Reassert { room: stage.room.clone(), edge: a.attachment.edge.clone(), sessions };
    stage.store.reassert(reassert.clone()).await.expect("answered");
    assert_eq!(seen.take(), Vec::<String>::new(), "all is there");
    stage.harness.forget_everything().await;
    for _ in 0..2 {
        stage.store.reassert(reassert.clone()).await.expect("answered");
    }
    let said = ["opened (restored)", "+a (restored)", "+a/stream on n1 (restored)", "a > stream by n1 (restored)"];
    assert_eq!(seen.take(), said);
    stage.join("b").await;
    assert_eq!(seen.take(), ["+b"], "nobody has put it back");
}

pub async fn what_was_lost_on_its_way_back_is_said_by_nobody<H: Harness>() {
    let (stage, seen) = stage::<H>().await;
    let join = stage.joining("a");
    stage.inject(Fault::LostReply);
    assert_eq!(stage.store.join(join.clone()).await.err(), Some(StoreError::Timeout));
    let a = stage.admit(join).await;
    assert_eq!(seen.take(), Vec::<String>::new(), "at most once");
    stage.leave(&a).await;
    assert_eq!(seen.take(), ["-a left", "closed"]);
}
