//! What is lost between an edge and the store, and in the store itself.

use std::{sync::Arc, time::Duration};

use proto::ids::{Mid, PeerId, RecordingId, SessionId, Sid};

use super::{
    Fault, Harness, Stage,
    following::carry_out,
    stage::{Player, edge, minfo, op, peer, placement},
};
use crate::{
    change::{Assertion, EndedBy, Head, Hold, JoinKind, LossReason, Reassert},
    error::StoreError,
    feed::{FeedItem, RoomEvent},
    follow::Follower,
    log::{Entry, EntryId, RemoveReason},
    record::{ConnectionId, Publication, Subscription},
    settings::RoomSettings,
};

pub async fn an_unreachable_store_does_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    stage.inject(Fault::Unavailable);
    assert_eq!(stage.store.leave(a.actor.clone(), None).await, Err(StoreError::Unavailable));
    stage.inject(Fault::Unavailable);
    assert_eq!(stage.store.ping().await, Err(StoreError::Unavailable));
    stage.store.ping().await.expect("it is there again");
    assert_eq!(stage.story().await, ["+a"]);
}

const TTL: Duration = Duration::from_secs(6);

/// Each call is made, its reply or the call itself lost, and made again as it is. What was released is told once: not again where only
/// the reply was lost.
async fn each_call_twice<H: Harness>(fault: Fault) {
    let stage = Stage::<H>::new().await;
    let told_again = usize::from(fault != Fault::LostReply);
    macro_rules! twice {
        ($call:expr) => {{
            stage.inject(fault);
            assert_eq!($call.await.err(), Some(StoreError::Timeout));
            $call.await.expect("the repeated call works")
        }};
    }
    let watcher = stage.join("w").await;
    let join = stage.joining("a");
    let joined = twice!(stage.store.join(join.clone()));
    let expected = if fault == Fault::LostReply { JoinKind::Resumed } else { JoinKind::New };
    assert_eq!((joined.how, &joined.session), (expected, &join.fresh));
    let (attachment, actor) = (join.attachment.clone(), watcher.actor.clone());
    let actor = crate::Actor { peer: join.peer.clone(), session: joined.session.clone(), ..actor };
    let a = Player { actor, attachment, joined };
    let publish = stage.publishing(&a);
    let stream = twice!(stage.store.reserve_publication(publish.clone()));
    twice!(stage.store.confirm_publication(a.actor.clone(), &stream.mid));
    twice!(stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, Some(true), None));
    let subscribe = stage.subscribing(&a, &stream.mid);
    let sid = twice!(stage.store.reserve_subscription(subscribe.clone())).subscription.sid.clone();
    twice!(stage.store.confirm_subscription(a.actor.clone(), &sid));
    let said = stage.saying(&a, "hello");
    twice!(stage.store.broadcast(said.clone()));
    assert_eq!(twice!(stage.unsubscribe(&a, &sid)).subscriptions.len(), told_again);
    assert_eq!(twice!(stage.unpublish(&a, &stream.mid)).publications.len(), told_again);
    twice!(stage.store.refresh(&stage.room, &a.attachment.edge, vec![a.hold()]));
    twice!(stage.store.socket_closed(a.actor.clone(), a.attachment.clone(), false));
    let (left, streams) = (stage.join("a").await, stage.publish(&a).await);
    assert_eq!(left.actor, a.actor);
    let left = twice!(stage.store.leave(a.actor.clone(), Some(op("bye"))));
    assert_eq!((left.ended, left.released.publications.len()), (true, told_again), "{streams:?}");
    let story = [
        "+w",
        "+a",
        "+a/stream",
        "~a/stream audio true video false",
        r#"a says "hello""#,
        "-a/stream unpublished",
        "+a/stream",
        "-a/stream owner_left",
        "-a",
    ];
    assert_eq!(stage.story().await, story, "each once");
}

/// The same of what is asked by others than the member.
async fn each_call_by_others_twice<H: Harness>(fault: Fault) {
    let settings = RoomSettings { ttl: TTL, grace: TTL / 2, ..RoomSettings::default() };
    let stage = Stage::<H>::with(settings).await;
    let told_again = usize::from(fault != Fault::LostReply);
    macro_rules! twice {
        ($call:expr) => {{
            stage.inject(fault);
            assert_eq!($call.await.err(), Some(StoreError::Timeout));
            $call.await.expect("the repeated call works")
        }};
    }
    let (watcher, old) = (stage.join("w").await, stage.join("a").await);
    // By its node.
    let (stream, given_up) = (stage.publish(&old).await, stage.publish(&old).await);
    let (sub, watched) = (stage.subscribe(&watcher, &stream.mid).await, stage.subscribe(&watcher, &given_up.mid).await);
    let ended = || {
        let (room, placement) = (stage.room.clone(), stream.placement.clone());
        EndedBy::Node { room, placement, reason: RemoveReason::TransportEnded }
    };
    assert_eq!(twice!(stage.store.remove_subscription(&sub.sid, ended())).subscriptions.len(), told_again);
    let released = twice!(stage.store.remove_publication(&given_up.mid, ended()));
    assert_eq!((released.publications.len(), released.subscriptions.len()), (told_again, told_again), "{watched:?}");
    // By another socket of its owner's.
    let join = stage.joining("a");
    let joined = twice!(stage.store.join(join.clone()));
    let expected = if fault == Fault::LostReply { JoinKind::Resumed } else { JoinKind::TookOver };
    assert_eq!((joined.how, &joined.session), (expected, &join.fresh));
    assert_eq!((joined.released.publications.len(), joined.superseded.is_some()), (told_again, told_again == 1));
    let actor = crate::Actor { session: joined.session.clone(), ..old.actor.clone() };
    let a = Player { actor, attachment: join.attachment, joined };
    // By an edge that puts it back, or lets the log begin anew.
    let stream = stage.publish(&a).await;
    let sessions = vec![assertion(&a, &[&stream], &[])];
    let again = Reassert { room: stage.room.clone(), edge: a.attachment.edge.clone(), sessions };
    assert_eq!(twice!(stage.store.reassert(again.clone())).lost, []);
    let story =
        ["+w", "+a", "+a/stream", "+a/stream", "-a/stream transport_ended", "-a/stream owner_left", "+a/stream"];
    assert_eq!(stage.story().await, story, "each once");
    let seen = stage.head().await.position.epoch;
    let fresh = twice!(stage.store.start_epoch(&stage.room, seen)).expect("a room");
    assert_ne!(fresh.position.epoch, seen);
    assert_eq!(stage.head().await, fresh, "once");
    stage.harness.forget_everything().await;
    assert_eq!(twice!(stage.store.reassert(again.clone())).lost, []);
    assert_eq!(stage.story().await, ["+a", "+a/stream"], "each once");
    // By nobody any more.
    stage.wait(TTL + TTL / 10).await;
    let expired = twice!(stage.store.expire_due(&stage.room, usize::MAX));
    assert_eq!((expired.peers.len(), expired.released.publications.len()), (told_again, told_again));
    assert_eq!(stage.story().await, ["+a", "+a/stream", "-a/stream owner_expired", "-a"], "each once");
    let (b, closed) = (stage.join("b").await, stage.join("c").await);
    stage.publish(&closed).await;
    let released = twice!(stage.store.socket_closed(closed.actor.clone(), closed.attachment.clone(), true));
    assert_eq!(released.publications.len(), told_again);
    assert_eq!(stage.members().await, [b.actor.peer.as_str()]);
}

pub async fn a_lost_reply_is_repeated_safely<H: Harness>() {
    each_call_twice::<H>(Fault::LostReply).await;
    each_call_by_others_twice::<H>(Fault::LostReply).await;
}

pub async fn a_lost_request_is_repeated_safely<H: Harness>() {
    each_call_twice::<H>(Fault::LostRequest).await;
    each_call_by_others_twice::<H>(Fault::LostRequest).await;
}

pub async fn lost_writes_show_and_a_new_epoch_heals<H: Harness>() {
    for writes_after in [0, 1, 2, 3] {
        let stage = Stage::<H>::new().await;
        let (a, b) = (stage.join("a").await, stage.join("b").await);
        let start = Head { position: b.joined.position, id: b.joined.head };
        let mut follower = Follower::new(start);
        stage.harness.checkpoint().await;
        stage.say(&a, "lost 1").await;
        let stream = stage.publish(&a).await;
        for entry in stage.log_after(start.position).await {
            follower.handle_item(FeedItem::Event(RoomEvent::Entry(entry)));
        }
        assert_eq!(carry_out(&stage, &mut follower).await.len(), 2);
        stage.harness.lose_writes().await;
        assert_eq!(stage.head().await.position, start.position);
        for number in 0..writes_after {
            stage.say(&b, &format!("after {number}")).await;
        }
        follower.handle_head(stage.head().await);
        let told: Vec<Arc<Entry>> = carry_out(&stage, &mut follower).await;
        assert!(told.is_empty(), "nothing of another life is told");
        let fresh = stage.head().await.position;
        assert_ne!(fresh.epoch, start.position.epoch, "after {writes_after} writes");
        assert_eq!(follower.position(), fresh);
        let assertion = Assertion { hold: a.hold(), publications: vec![stream.clone()], subscriptions: vec![] };
        let reassert =
            Reassert { room: stage.room.clone(), edge: a.attachment.edge.clone(), sessions: vec![assertion] };
        stage.store.reassert(reassert).await.expect("answered");
        assert_eq!(stage.store.publication(b.actor.clone(), &stream.mid).await.as_ref(), Ok(&stream));
        assert_eq!(stage.story().await, ["+a/stream"], "the state is right again");
    }
}

fn assertion(player: &Player, publications: &[&Arc<Publication>], subscriptions: &[&Arc<Subscription>]) -> Assertion {
    let publications = publications.iter().map(|record| Arc::clone(record)).collect();
    let subscriptions = subscriptions.iter().map(|record| Arc::clone(record)).collect();
    Assertion { hold: player.hold(), publications, subscriptions }
}

pub async fn a_store_that_lost_everything_is_told_again<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&b, &stream.mid).await;
    let before = stage.store.snapshot(&stage.room).await.expect("answered").expect("a room");
    stage.harness.forget_everything().await;
    assert_eq!(stage.store.head(&stage.room).await, Ok(None));
    assert_eq!(stage.refresh(&a).await, Some(LossReason::Gone));
    let reassert = |player: &Player, sessions| Reassert {
        room: stage.room.clone(),
        edge: player.attachment.edge.clone(),
        sessions,
    };
    let second = reassert(&b, vec![assertion(&b, &[], &[&subscription])]);
    assert!(
        stage.store.reassert(second).await.expect("answered").lost.is_empty(),
        "a stream may come after those who watch it"
    );
    let first = reassert(&a, vec![assertion(&a, &[&stream], &[])]);
    assert!(stage.store.reassert(first).await.expect("answered").lost.is_empty());
    let after = stage.store.snapshot(&stage.room).await.expect("answered").expect("a room");
    assert_eq!((&after.members, &after.publications), (&before.members, &before.publications));
    assert_ne!(after.head.position.epoch, before.head.position.epoch);
    assert_eq!(stage.store.subscription(b.actor.clone(), &subscription.sid).await, Ok(subscription.clone()));
    assert_eq!(stage.refresh(&a).await, None, "with the same session");
    let released = stage.unpublish(&a, &stream.mid).await.expect("its own");
    assert_eq!(released.subscriptions, [(subscription.sid.clone(), subscription.placement.clone())]);
    assert_eq!(stage.story().await, ["+b", "+a", "+a/stream", "-a/stream unpublished"]);
}

pub async fn a_room_of_many_members_with_streams_is_told_again<H: Harness>() {
    const MEMBERS: u64 = 500;
    let stage = Stage::<H>::new().await;
    // One is a member by another session by then.
    let newer = stage.join("p250").await;
    let session = |number: u64| {
        let peer = peer(&format!("p{number}"));
        let record = |stream| {
            let (mid, owner, minfo) = (Mid::of(&peer, stream), peer.clone(), minfo());
            Arc::new(Publication {
                mid,
                owner,
                minfo,
                placement: placement("n1"),
                confirmed: true,
                recording: RecordingId::new("R").ok(),
                always_recorded: stream == 1,
            })
        };
        let publications = vec![record(1), record(2)];
        let hold = Hold { peer, session: SessionId::of(9), connection: ConnectionId(1_000 + number) };
        Assertion { hold, publications, subscriptions: vec![] }
    };
    let sessions: Vec<Assertion> = (0..MEMBERS).map(session).collect();
    let (lost, kept): (Vec<_>, Vec<_>) =
        sessions.iter().cloned().partition(|assertion| assertion.hold.peer == newer.actor.peer);
    let reassert = Reassert { room: stage.room.clone(), edge: newer.attachment.edge.clone(), sessions };
    let answer = stage.store.reassert(reassert).await.expect("answered");
    assert_eq!(answer.lost, [(lost[0].hold.clone(), LossReason::Superseded)]);
    let after = stage.store.snapshot(&stage.room).await.expect("answered").expect("a room");
    assert_eq!(after.members.len() as u64, MEMBERS);
    let mut expected: Vec<_> = kept.into_iter().flat_map(|assertion| assertion.publications).collect();
    expected.sort_by(|one, other| one.mid.cmp(&other.mid));
    assert_eq!(after.publications, expected);
}

pub async fn a_member_of_many_subscriptions_is_told_again<H: Harness>() {
    const SUBSCRIPTIONS: u64 = 2_500;
    let stage = Stage::<H>::new().await;
    let (ann, bob) = (peer("ann"), peer("bob"));
    let record = |number| {
        let (sid, mid) = (Sid::of(&ann, number), Mid::of(&bob, number));
        Arc::new(Subscription { sid, subscriber: ann.clone(), mid, placement: placement("n1"), confirmed: true })
    };
    let subscriptions: Vec<_> = (0..SUBSCRIPTIONS).map(record).collect();
    let session = |number, peer: &PeerId, subscriptions: &[_]| {
        let hold = Hold { peer: peer.clone(), session: SessionId::of(number), connection: ConnectionId(7) };
        Assertion { hold, publications: vec![], subscriptions: subscriptions.to_vec() }
    };
    let reassert = |number| {
        let sessions = vec![session(number, &ann, &subscriptions), session(number, &bob, &[])];
        Reassert { room: stage.room.clone(), edge: edge("odd"), sessions }
    };
    assert_eq!(stage.store.reassert(reassert(1)).await.expect("answered").lost, []);
    let node = placement("n1").node;
    let page = stage.store.subscriptions_on(&stage.room, &node, None, 10_000).await.expect("answered");
    assert_eq!(page.items, subscriptions);
    let lost = stage.store.reassert(reassert(2)).await.expect("answered").lost;
    let lost: Vec<_> = lost.iter().map(|(hold, reason)| (hold.peer.as_str(), *reason)).collect();
    assert_eq!(lost, [("ann", LossReason::Superseded), ("bob", LossReason::Superseded)], "each is named once");
}

pub async fn a_reassertion_changes_nothing_that_is_known<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (kept, ended, others) = (stage.publish(&a).await, stage.publish(&a).await, stage.publish(&b).await);
    let given_up = stage.subscribe(&a, &others.mid).await;
    stage.unpublish(&a, &ended.mid).await.expect("its own");
    stage.unsubscribe(&a, &given_up.sid).await.expect("its own");
    stage.store.mute(a.actor.clone(), a.attachment.clone(), &kept.mid, Some(true), None).await.expect("its own");
    let before = stage.store.snapshot(&stage.room).await;
    let sessions = vec![assertion(&a, &[&kept, &ended, &others], &[&given_up])];
    let reassert = Reassert { room: stage.room.clone(), edge: a.attachment.edge.clone(), sessions };
    let answer = stage.store.reassert(reassert.clone()).await.expect("answered");
    assert!(answer.lost.is_empty());
    assert_eq!(stage.store.snapshot(&stage.room).await, before);
    assert_eq!(stage.unsubscribe(&a, &given_up.sid).await, Ok(crate::Released::default()));
    let newer = stage.join("a").await;
    let answer = stage.store.reassert(reassert).await.expect("answered");
    assert_eq!(answer.lost, [(a.hold(), LossReason::Superseded)], "an old session does not come back");
    assert!(newer.joined.own_publications.is_empty());
    assert_eq!(stage.store.publications(b.actor.clone(), None, 9).await.expect("a member").items, []);
}

pub async fn one_of_many_starts_the_epoch<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let seen = a.joined.position.epoch;
    let mut fresh = Vec::new();
    for _ in 0..3 {
        let head = stage.store.start_epoch(&stage.room, seen).await.expect("answered").expect("a room");
        fresh.push(head.position.epoch);
    }
    assert!(fresh.iter().all(|epoch| *epoch == fresh[0] && *epoch != seen));
    stage.say(&a, "hello").await;
    let head = stage.store.start_epoch(&stage.room, seen).await.expect("answered").expect("a room");
    assert_eq!((head.position.epoch, head.position.seq.get()), (fresh[0], 1), "nothing is lost by asking late");
    assert_ne!(head.id, None::<EntryId>);
    assert_eq!(stage.store.start_epoch(&super::stage::room("nowhere"), seen).await, Ok(None));
}
