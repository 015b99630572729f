//! Publications, subscriptions, broadcasts.

use proto::{
    ids::{Mid, NodeId, RecordingId, Sid},
    json::RawJson,
};

use super::{
    Harness, Stage,
    stage::{minfo, placement},
};
use crate::{
    change::{Broadcast, EndedBy, Join, ReservePublication, SetBy, SetRecording},
    error::{Conflict, StoreError},
    log::{EntryId, Event, RemoveReason},
    record::{Placement, Publication, Released},
    settings::{Limits, RoomSettings},
};

pub async fn a_reservation_is_nobodys_business<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    assert!(!reserved.confirmed);
    assert_eq!(reserved.minfo.raw(), minfo().raw());
    assert_eq!(stage.store.publication(a.actor.clone(), &reserved.mid).await.as_ref(), Ok(&reserved));
    assert_eq!(stage.store.publication(b.actor.clone(), &reserved.mid).await, Err(StoreError::UnknownPublication));
    assert_eq!(stage.unpublish(&b, &reserved.mid).await, Err(StoreError::UnknownPublication));
    assert!(stage.store.publications(b.actor.clone(), None, 9).await.expect("a member").items.is_empty());
    assert!(stage.join("c").await.joined.publications.is_empty());
    let released = stage.unpublish(&a, &reserved.mid).await.expect("its own");
    assert_eq!(released.publications, [(reserved.mid.clone(), reserved.placement.clone())]);
    assert_eq!(stage.story().await, ["+a", "+b", "+c"], "neither its beginning nor its end is told");
    let late = stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await;
    assert_eq!(late, Err(StoreError::UnknownPublication));
}

pub async fn a_stream_is_told_once_when_confirmed<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    assert!(stream.confirmed);
    let again = stage.store.confirm_publication(a.actor.clone(), &stream.mid).await;
    assert_eq!(again.as_ref(), Ok(&stream));
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream"]);
    let log = stage.log().await;
    assert_eq!(log[2].event, Event::StreamAdd(stream.clone()));
    assert!(log[2].concerns(&b.actor.peer) && !log[2].concerns(&a.actor.peer));
    let foreign = stage.store.confirm_publication(b.actor.clone(), &stream.mid).await;
    assert_eq!(foreign, Err(StoreError::NotOwner));
}

pub async fn subscriptions_are_listed_by_node_in_parts<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let node = &stream.placement.node;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(stage.subscribe(&b, &stream.mid).await);
    }
    expected.sort_by(|one, other| one.sid.cmp(&other.sid));
    stage.store.reserve_subscription(stage.subscribing(&b, &stream.mid)).await.expect("reserved");
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|last: &std::sync::Arc<crate::record::Subscription>| last.sid.clone());
        let page = stage.store.subscriptions_on(&stage.room, node, after, 2).await.expect("answered");
        assert!(page.items.len() <= 2);
        found.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(found, expected, "confirmed ones only, each once, in order");
    let elsewhere = NodeId::new("elsewhere").expect("valid");
    assert_eq!(stage.store.subscriptions_on(&stage.room, &elsewhere, None, 9).await.expect("answered").items, []);
}

pub async fn ending_a_stream_ends_its_subscriptions<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let (stream, other) = (stage.publish(&a).await, stage.publish(&a).await);
    let subscription = stage.subscribe(&b, &stream.mid).await;
    let kept = stage.subscribe(&b, &other.mid).await;
    let released = stage.unpublish(&a, &stream.mid).await.expect("its own");
    assert_eq!(released.publications, [(stream.mid.clone(), stream.placement.clone())]);
    assert_eq!(released.subscriptions, [(subscription.sid.clone(), subscription.placement.clone())]);
    assert_eq!(stage.unsubscribe(&b, &subscription.sid).await, Ok(Released::default()), "it can still be given up");
    let gone = stage.store.subscription(b.actor.clone(), &subscription.sid).await;
    assert_eq!(gone, Err(StoreError::UnknownSubscription));
    assert_eq!(stage.store.subscription(b.actor.clone(), &kept.sid).await, Ok(kept));
}

pub async fn streams_are_ended_by_their_owner_only<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&a, &stream.mid).await;
    assert_eq!(stage.unpublish(&b, &stream.mid).await, Err(StoreError::NotOwner));
    let muted = stage.store.mute(b.actor.clone(), b.attachment.clone(), &stream.mid, Some(true), None).await;
    assert_eq!(muted, Err(StoreError::NotOwner));
    assert_eq!(stage.unsubscribe(&b, &subscription.sid).await, Err(StoreError::UnknownSubscription));
    let confirmed = stage.store.confirm_subscription(b.actor.clone(), &subscription.sid).await;
    assert_eq!(confirmed, Err(StoreError::UnknownSubscription));
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream"]);
}

pub async fn ending_a_stream_twice_is_no_error<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    stage.unpublish(&a, &stream.mid).await.expect("its own");
    assert_eq!(stage.unpublish(&a, &stream.mid).await, Ok(Released::default()));
    assert_eq!(stage.unpublish(&b, &stream.mid).await, Err(StoreError::UnknownPublication), "for its owner only");
    let unknown = Mid::new("a#0000000000").expect("valid");
    assert_eq!(stage.unpublish(&a, &unknown).await, Err(StoreError::UnknownPublication));
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "-a/stream unpublished"]);
}

pub async fn a_node_ends_only_what_it_carries<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&b, &stream.mid).await;
    let lost =
        |placement: Placement| EndedBy::Node { room: stage.room.clone(), placement, reason: RemoveReason::NodeLost };
    let elsewhere = lost(placement("n2"));
    let restarted = lost(Placement { boot: "boot-2".parse().expect("valid"), ..placement("n1") });
    for by in [elsewhere, restarted] {
        assert_eq!(stage.store.remove_publication(&stream.mid, by.clone()).await, Ok(Released::default()));
        assert_eq!(stage.store.remove_subscription(&subscription.sid, by).await, Ok(Released::default()));
    }
    let by = || lost(placement("n1"));
    let released = stage.store.remove_subscription(&subscription.sid, by()).await.expect("answered");
    assert_eq!(released.subscriptions, [(subscription.sid.clone(), placement("n1"))]);
    let released = stage.store.remove_publication(&stream.mid, by()).await.expect("answered");
    assert_eq!(released.publications, [(stream.mid.clone(), placement("n1"))]);
    assert_eq!(stage.store.remove_publication(&stream.mid, by()).await, Ok(Released::default()), "told once");
    let log = stage.log().await;
    assert_eq!(super::stage::short(&log[3]), "-a/stream node_lost");
    assert!(log[3].concerns(&a.actor.peer), "its owner is told, too");
    assert_eq!(log.len(), 4);
    assert_eq!(stage.unpublish(&a, &stream.mid).await, Ok(Released::default()));
    assert_eq!(stage.unsubscribe(&b, &subscription.sid).await, Ok(Released::default()));
}

pub async fn only_the_socket_a_session_is_on_can_mute<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let stream = stage.publish(&a).await;
    let again = Join { resume: Some(a.actor.session.clone()), ..stage.joining("a") };
    let again = stage.admit(again).await;
    let late = stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, Some(true), None).await;
    assert_eq!(late, Err(StoreError::NotMember));
    let muted = stage.store.mute(again.actor.clone(), again.attachment.clone(), &stream.mid, Some(true), None).await;
    assert!(muted.expect("its own").minfo.muted().audio);
}

pub async fn muting_is_told_when_it_changes_something<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    let early = stage.store.mute(a.actor.clone(), a.attachment.clone(), &reserved.mid, Some(true), None).await;
    assert_eq!(early, Err(StoreError::UnknownPublication));
    let stream = stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await.expect("confirmed");
    let mute = |audio, video| stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, audio, video);
    assert_eq!(mute(None, None).await.as_ref(), Ok(&stream));
    assert_eq!(mute(Some(false), Some(false)).await.as_ref(), Ok(&stream));
    let muted = mute(Some(true), None).await.expect("its own");
    let expected = r#"{"video":true,"mine":1.50,"audio":true,"muted":{"audio":true,"video":false}}"#;
    assert_eq!(muted.minfo.raw().get(), expected, "every other key is as given");
    assert_eq!(mute(Some(true), None).await, Ok(muted.clone()));
    mute(None, Some(true)).await.expect("its own");
    let late = stage.join("b").await;
    assert_eq!(late.joined.publications[0].minfo.muted().with(None, None), muted.minfo.muted().with(None, Some(true)));
    assert_eq!(
        stage.story().await,
        ["+a", "+a/stream", "~a/stream audio true video false", "~a/stream audio true video true", "+b"]
    );
}

pub async fn a_recording_is_told_when_it_begins_and_ends<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    assert_eq!(stream.recording, None);
    let set = |by: SetBy, expected: Option<&str>, now: Option<&str>| {
        let id = |text: Option<&str>| text.map(|text| RecordingId::new(text).expect("valid"));
        let request = SetRecording { by, mid: stream.mid.clone(), expected: id(expected), recording: id(now) };
        async { stage.store.set_recording(request).await.expect("there").recording.clone().map(|id| id.to_string()) }
    };
    let (by_b, by_edge) = (SetBy::Client(b.actor.clone()), SetBy::Edge(stage.room.clone()));
    assert_eq!(set(by_b.clone(), None, None).await, None, "nothing changes");
    assert_eq!(set(by_b.clone(), None, Some("R1")).await.as_deref(), Some("R1"), "a member may for another's stream");
    assert_eq!(set(by_b.clone(), None, Some("R1")).await.as_deref(), Some("R1"), "repeated");
    assert_eq!(set(by_b.clone(), None, Some("R2")).await.as_deref(), Some("R1"), "somebody was first");
    assert_eq!(set(by_edge.clone(), Some("R2"), None).await.as_deref(), Some("R1"), "another has ended");
    let late = stage.join("c").await;
    assert_eq!(late.joined.publications[0].recording, Some(RecordingId::new("R1").expect("valid")));
    let muted = stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, Some(true), None).await;
    assert!(muted.expect("its own").recording.is_some(), "muting leaves it");
    assert_eq!(set(by_edge.clone(), Some("R1"), None).await, None);
    assert_eq!(set(by_edge, Some("R1"), None).await, None, "repeated");
    let log = stage.log().await;
    let told = |at: usize| (log[at].concerns(&a.actor.peer), log[at].concerns(&b.actor.peer));
    assert_eq!((told(3), told(6)), ((true, false), (true, true)), "all but who asked");
    let Event::Recording { stream: then, .. } = &log[3].event else { panic!("{:?}", log[3]) };
    assert_eq!(**then, Publication { recording: RecordingId::new("R1").ok(), ..(*stream).clone() });
    assert_eq!(
        stage.story().await[2..],
        [
            "+a/stream",
            "a/stream recording R1 on",
            "+c",
            "~a/stream audio true video false",
            "a/stream recording R1 off"
        ]
    );
}

pub async fn what_is_recorded_from_its_beginning_is_told_so_with_the_stream<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let recording = RecordingId::new("R1").ok();
    let request = ReservePublication { recording: recording.clone(), always_recorded: true, ..stage.publishing(&a) };
    let reserved = stage.store.reserve_publication(request.clone()).await.expect("reserved");
    assert_eq!((&reserved.recording, reserved.always_recorded), (&recording, true));
    let set = |by: SetBy| {
        let mid = reserved.mid.clone();
        stage.store.set_recording(SetRecording { by, mid, expected: recording.clone(), recording: None })
    };
    assert_eq!(set(SetBy::Client(b.actor.clone())).await, Err(StoreError::UnknownPublication), "nobody knows it yet");
    let other = ReservePublication { recording: recording.clone(), ..stage.publishing(&a) };
    let other = stage.store.reserve_publication(other).await.expect("reserved");
    let ended = set(SetBy::Client(a.actor.clone())).await.expect("its own");
    assert_eq!((&ended.recording, ended.always_recorded), (&None, true));
    for mid in [&reserved.mid, &other.mid] {
        stage.store.confirm_publication(a.actor.clone(), mid).await.expect("confirmed");
    }
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "+a/stream"], "what ended before was never told");
    let log = stage.log().await;
    let recorded = log.iter().filter_map(|entry| match &entry.event {
        Event::StreamAdd(stream) => Some(stream.recording.is_some()),
        _ => None,
    });
    assert_eq!(recorded.collect::<Vec<_>>(), [false, true]);
}

pub async fn a_recording_of_what_is_not_there_is_an_error<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let set = |by: SetBy, mid: &Mid| {
        let recording = RecordingId::new("R1").ok();
        stage.store.set_recording(SetRecording { by, mid: mid.clone(), expected: None, recording })
    };
    let unknown = Mid::new("a#0000000000").expect("valid");
    let by_edge = || SetBy::Edge(stage.room.clone());
    assert_eq!(set(by_edge(), &unknown).await, Err(StoreError::UnknownPublication), "there is no room");
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    assert_eq!(set(SetBy::Client(a.actor.clone()), &unknown).await, Err(StoreError::UnknownPublication));
    let stream = stage.publish(&a).await;
    stage.leave(&b).await;
    assert_eq!(set(SetBy::Client(b.actor.clone()), &stream.mid).await, Err(StoreError::NotMember));
    stage.unpublish(&a, &stream.mid).await.expect("its own");
    assert_eq!(set(by_edge(), &stream.mid).await, Err(StoreError::UnknownPublication));
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "-b", "-a/stream unpublished"]);
}

pub async fn subscriptions_need_a_confirmed_stream<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let unknown = Mid::new("a#0000000000").expect("valid");
    let reserve = |mid: &Mid| stage.store.reserve_subscription(stage.subscribing(&b, mid));
    assert_eq!(reserve(&unknown).await, Err(StoreError::UnknownPublication));
    let reserved = stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    assert_eq!(reserve(&reserved.mid).await, Err(StoreError::UnknownPublication));
    let stream = stage.store.confirm_publication(a.actor.clone(), &reserved.mid).await.expect("confirmed");
    let subscription = reserve(&stream.mid).await.expect("reserved");
    assert_eq!(subscription.publication, stream);
    assert_eq!(subscription.subscription.placement, stream.placement, "on the publication's node");
    stage.unpublish(&a, &stream.mid).await.expect("its own");
    let late = stage.store.confirm_subscription(b.actor.clone(), &subscription.subscription.sid).await;
    assert_eq!(late, Err(StoreError::UnknownSubscription), "its stream ended meanwhile");
    assert_eq!(stage.story().await, ["+a", "+b", "+a/stream", "-a/stream unpublished"], "subscribing is not told");
}

pub async fn ending_a_subscription_twice_is_no_error<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let mut request = stage.subscribing(&b, &stream.mid);
    request.placement = Some(placement("n2"));
    let sid = request.sid.clone();
    stage.store.reserve_subscription(request).await.expect("reserved");
    let released = stage.unsubscribe(&b, &sid).await.expect("its own");
    assert_eq!(released.subscriptions, [(sid.clone(), placement("n2"))], "a subscription has its own node");
    assert_eq!(stage.unsubscribe(&b, &sid).await, Ok(Released::default()));
    let unknown = Sid::new("b#0000000000").expect("valid");
    assert_eq!(stage.unsubscribe(&b, &unknown).await, Err(StoreError::UnknownSubscription));
}

pub async fn ending_all_that_ended_with_a_stream_is_no_error<H: Harness>() {
    let limits = Limits { subscriptions: 400, publications: 2, ..Limits::default() };
    let stage = Stage::<H>::with(RoomSettings { limits: limits.clone(), ..RoomSettings::default() }).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let mut sids = Vec::new();
    for _ in 0..limits.subscriptions {
        sids.push(stage.subscribe(&b, &stream.mid).await.sid.clone());
    }
    stage.unpublish(&a, &stream.mid).await.expect("its own");
    for sid in sids {
        assert_eq!(stage.unsubscribe(&b, &sid).await, Ok(Released::default()));
    }
}

pub async fn streams_meet_on_the_node_that_carries_the_room<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let place = async |player, candidates: &[&str]| {
        let mut request = stage.publishing(player);
        request.candidates = candidates.iter().map(|node| placement(node)).collect();
        stage.store.reserve_publication(request).await.map(|record| record.placement.node.to_string())
    };
    assert_eq!(place(&a, &["n2", "n1"]).await.as_deref(), Ok("n2"));
    assert_eq!(place(&b, &["n1", "n3", "n2"]).await.as_deref(), Ok("n2"), "where the room is already");
    assert_eq!(place(&b, &["n1", "n3"]).await.as_deref(), Ok("n1"));
    assert_eq!(place(&b, &[]).await, Err(Conflict::NoNode.into()));
}

pub async fn limits_hold_for_each_peer<H: Harness>() {
    let limits = Limits { publications: 2, subscriptions: 1, ..Limits::default() };
    let stage = Stage::<H>::with(RoomSettings { limits, ..RoomSettings::default() }).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let first = stage.publish(&a).await;
    stage.store.reserve_publication(stage.publishing(&a)).await.expect("a reservation counts, too");
    let third = stage.store.reserve_publication(stage.publishing(&a)).await;
    assert_eq!(third, Err(Conflict::TooManyPublications.into()));
    let others = stage.publish(&b).await;
    stage.subscribe(&a, &others.mid).await;
    let second = stage.store.reserve_subscription(stage.subscribing(&a, &first.mid)).await;
    assert_eq!(second, Err(Conflict::TooManySubscriptions.into()));
    stage.subscribe(&b, &first.mid).await;
    stage.unpublish(&a, &first.mid).await.expect("its own");
    stage.publish(&a).await;
}

pub async fn a_taken_id_is_refused<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    let subscription = stage.subscribe(&b, &stream.mid).await;
    let publish = async |player, mid: &str| {
        let mut request = stage.publishing(player);
        request.mid = Mid::new(mid).expect("valid");
        stage.store.reserve_publication(request).await.map(|_| ())
    };
    let subscribe = async |player, sid: &str| {
        let mut request = stage.subscribing(player, &stream.mid);
        request.sid = Sid::new(sid).expect("valid");
        stage.store.reserve_subscription(request).await.map(|_| ())
    };
    let taken = Err(Conflict::IdTaken.into());
    assert_eq!(publish(&b, stream.mid.as_str()).await, taken);
    assert_eq!(publish(&b, subscription.sid.as_str()).await, taken, "both name transports");
    assert_eq!(subscribe(&a, subscription.sid.as_str()).await, taken);
    assert_eq!(subscribe(&a, stream.mid.as_str()).await, taken);
}

pub async fn carriers_count_what_they_carry<H: Harness>() {
    let stage = Stage::<H>::new().await;
    assert_eq!(stage.store.carriers(&stage.room).await, Ok(vec![]));
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    stage.publish(&b).await;
    let mut request = stage.subscribing(&b, &stream.mid);
    request.placement = Some(placement("n2"));
    stage.store.reserve_subscription(request).await.expect("reserved");
    let carriers = stage.store.carriers(&stage.room).await.expect("answered");
    let counts: Vec<_> = carriers.iter().map(|c| (c.placement.clone(), c.publications, c.subscriptions)).collect();
    assert_eq!(counts, [(placement("n1"), 2, 0), (placement("n2"), 0, 1)]);
}

pub async fn broadcasts_reach_all_others_verbatim<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    for text in ["null", "1e400", "[ 1, {\"b\":1,\"a\":[]} ]", r#""\u2028é☎""#, "{}", "[]"] {
        let data = RawJson::new(text).expect("JSON");
        let broadcast = Broadcast { actor: a.actor.clone(), data, entry: EntryId(stage.number()), op: None };
        stage.store.broadcast(broadcast).await.expect("a member");
        let log = stage.log().await;
        let last = log.last().expect("an entry");
        let Event::Broadcast { peer, data } = &last.event else { panic!("{last:?}") };
        assert_eq!((peer, data.get()), (&a.actor.peer, text));
        assert!(last.concerns(&b.actor.peer) && !last.concerns(&a.actor.peer));
    }
}
