//! The log and what is read from it.

use proto::ids::{Epoch, Position, Seq, SessionId};

use super::{Harness, Stage, stage::start};
use crate::{
    change::{Join, JoinKind, Missed},
    log::{EntryId, LogRead},
    settings::RoomSettings,
};

fn at(epoch: Epoch, seq: u64) -> Position {
    Position { epoch, seq: Seq::new(seq).expect("small") }
}

pub async fn positions_have_no_holes<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let stream = stage.publish(&a).await;
    stage.store.mute(a.actor.clone(), a.attachment.clone(), &stream.mid, None, Some(true)).await.expect("its own");
    stage.say(&b, "hello").await;
    stage.publish(&b).await;
    stage.leave(&a).await;
    let log = stage.log().await;
    let epoch = a.joined.position.epoch;
    assert_eq!(log.len(), 8);
    for (index, entry) in log.iter().enumerate() {
        assert_eq!(entry.position, at(epoch, index as u64 + 1));
    }
    let mut ids: Vec<_> = log.iter().map(|entry| entry.id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), log.len(), "each has its own identity");
    let head = stage.head().await;
    assert_eq!((head.position, head.id), (at(epoch, 8), Some(log[7].id)));
}

pub async fn what_was_missed_follows_a_resume<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let seen = stage.head().await.position;
    stage.close(&a).await;
    stage.publish(&b).await;
    stage.say(&b, "one").await;
    stage.join("c").await;
    let mut join = stage.joining("a");
    (join.resume, join.since) = (Some(a.actor.session.clone()), Some(seen));
    let again = stage.admit(join).await;
    assert_eq!(again.joined.how, JoinKind::Resumed);
    let Missed::Entries(missed) = &again.joined.missed else { panic!("{:?}", again.joined.missed) };
    assert_eq!(*missed, stage.log_after(seen).await);
    assert_eq!(missed.last().map(|entry| entry.position), Some(again.joined.position));
}

pub async fn one_does_not_hear_oneself<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let seen = stage.head().await.position;
    stage.say(&a, "mine").await;
    stage.say(&b, "theirs").await;
    stage.publish(&a).await;
    let mut join = stage.joining("a");
    (join.resume, join.since) = (Some(a.actor.session.clone()), Some(seen));
    let Missed::Entries(missed) = stage.admit(join).await.joined.missed else { panic!("nothing was told") };
    assert_eq!(missed.iter().map(|entry| super::stage::short(entry)).collect::<Vec<_>>(), [r#"b says "theirs""#]);
}

pub async fn what_was_said_before_a_session_is_not_told_to_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let early = stage.head().await.position;
    stage.say(&a, "secret").await;
    let since = async |uid: &str, session: Option<&SessionId>, since: Position| {
        let join = Join { resume: session.cloned(), since: Some(since), ..stage.joining(uid) };
        stage.admit(join).await
    };
    let new = since("c", None, early).await;
    assert_eq!((new.joined.how, &new.joined.missed), (JoinKind::New, &Missed::Resync));
    let session = Some(&new.actor.session);
    assert_eq!(since("c", session, early).await.joined.missed, Missed::Resync, "it was not in yet");
    assert_eq!(since("c", session, new.joined.position).await.joined.missed, Missed::Entries(vec![]));
    stage.say(&a, "hello").await;
    let again = since("c", session, new.joined.position).await;
    assert!(matches!(again.joined.missed, Missed::Entries(missed) if missed.len() == 1));
    let taken = since("b", None, early).await;
    assert_eq!((taken.joined.how, &taken.joined.missed), (JoinKind::TookOver, &Missed::Resync), "it proves no session");
    let session = Some(&taken.actor.session);
    assert_eq!(since("b", session, early).await.joined.missed, Missed::Resync);
    assert_eq!(since("b", session, taken.joined.position).await.joined.missed, Missed::Entries(vec![]));
    stage.leave(&taken).await;
    let back = since("b", Some(&b.actor.session), early).await;
    assert_eq!((back.joined.how, &back.joined.missed), (JoinKind::New, &Missed::Resync));
    let fresh = stage.store.start_epoch(&stage.room, early.epoch).await.expect("answered").expect("a room");
    stage.say(&a, "in the new epoch").await;
    let again = since("b", Some(&back.actor.session), fresh.position).await;
    assert!(matches!(again.joined.missed, Missed::Entries(missed) if missed.len() == 1), "it was in all the while");
}

pub async fn too_long_a_gap_is_a_resync<H: Harness>() {
    let stage = Stage::<H>::with(RoomSettings { log_entries: 4, ..RoomSettings::default() }).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    let seen = stage.head().await;
    for _ in 0..4 {
        stage.say(&b, "again").await;
    }
    let resume = async || {
        let mut join = stage.joining("a");
        (join.resume, join.since) = (Some(a.actor.session.clone()), Some(seen.position));
        stage.admit(join).await.joined.missed
    };
    assert!(matches!(resume().await, Missed::Entries(missed) if missed.len() == 4), "just within");
    stage.say(&b, "too much").await;
    assert_eq!(resume().await, Missed::Resync);
    let read = stage.store.log_after(&stage.room, seen.position, seen.id, 9).await;
    assert_eq!(read, Ok(LogRead::Lost { head: Some(stage.head().await), diverged: false }));
}

pub async fn another_epoch_is_a_resync<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    for since in
        [Position::NONE, at(Epoch::of(7), 1), at(a.joined.position.epoch, 2), at(a.joined.position.epoch, 1 << 50)]
    {
        let mut join = stage.joining("a");
        (join.resume, join.since) = (Some(a.actor.session.clone()), Some(since));
        assert_eq!(stage.admit(join).await.joined.missed, Missed::Resync, "{since}");
    }
    let seen = stage.head().await.position;
    let fresh = stage.store.start_epoch(&stage.room, seen.epoch).await.expect("answered").expect("a room");
    assert_ne!(fresh.position.epoch, seen.epoch);
    assert_eq!((fresh.position.seq, fresh.id), (Seq::START, None));
    let read = stage.store.log_after(&stage.room, seen, None, 9).await;
    assert_eq!(read, Ok(LogRead::Lost { head: Some(fresh), diverged: false }));
    assert_eq!(stage.members().await, ["a"], "state stays as it is");
    stage.say(&a, "first").await;
    assert_eq!(stage.log().await[0].position, at(fresh.position.epoch, 1));
    let nowhere = stage.store.log_after(&super::stage::room("nowhere"), seen, None, 9).await;
    assert_eq!(nowhere, Ok(LogRead::Lost { head: None, diverged: false }));
}

pub async fn the_log_is_bounded_by_bytes_too<H: Harness>() {
    let stage = Stage::<H>::with(RoomSettings { log_bytes: 1_000, ..RoomSettings::default() }).await;
    let (a, _b) = (stage.join("a").await, stage.join("b").await);
    for _ in 0..5 {
        stage.say(&a, &"x".repeat(400)).await;
    }
    let epoch = a.joined.position.epoch;
    let lost = stage.store.log_after(&stage.room, start(epoch), None, 9).await;
    assert!(matches!(lost, Ok(LogRead::Lost { diverged: false, .. })));
    assert_eq!(stage.log_after(at(epoch, 5)).await.len(), 2, "what fits is kept");
    stage.say(&a, &"x".repeat(4_000)).await;
    let head = stage.head().await;
    assert_eq!(head.position, at(epoch, 8), "positions go on");
    assert!(stage.log_after(head.position).await.is_empty());
    for _ in 0..60 {
        let stream = stage.publish(&a).await;
        stage.unpublish(&a, &stream.mid).await.expect("its own");
    }
    let lost = stage.store.log_after(&stage.room, head.position, None, 9).await;
    assert!(matches!(lost, Ok(LogRead::Lost { diverged: false, .. })), "descriptions of streams count, too");
}

pub async fn what_was_said_ends_with_the_last_member<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    stage.say(&a, "secret").await;
    let said = stage.head().await.position;
    stage.leave(&a).await;
    assert_eq!(stage.story().await.len(), 4);
    stage.leave(&b).await;
    let lost = stage.store.log_after(&stage.room, start(said.epoch), None, 9).await;
    assert_eq!(lost, Ok(LogRead::Lost { head: Some(stage.head().await), diverged: false }));
    assert_eq!(stage.log_after(said).await.len(), 2, "who follows the room can still be told the end");
    stage.join("c").await;
    assert_eq!(stage.head().await.position, at(said.epoch, 6), "positions go on");
}

pub async fn the_log_is_read_in_parts<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let a = stage.join("a").await;
    for number in 0..9 {
        stage.say(&a, &number.to_string()).await;
    }
    let whole = stage.log().await;
    let (mut after, mut id, mut parts) = (start(a.joined.position.epoch), None, Vec::new());
    loop {
        let read = stage.store.log_after(&stage.room, after, id, 4).await.expect("answered");
        let LogRead::Entries(part) = read else { panic!("{read:?}") };
        assert!(part.len() <= 4);
        let Some(last) = part.last() else { break };
        (after, id) = (last.position, Some(last.id));
        parts.extend(part);
    }
    assert_eq!(parts, whole);
    let wrong = Some(EntryId(whole[3].id.0.wrapping_add(1)));
    let read = stage.store.log_after(&stage.room, whole[3].position, wrong, 4).await;
    assert_eq!(read, Ok(LogRead::Lost { head: Some(stage.head().await), diverged: true }), "another entry is there");
}

pub async fn a_snapshot_is_true_at_its_position<H: Harness>() {
    let stage = Stage::<H>::new().await;
    assert_eq!(stage.store.snapshot(&stage.room).await, Ok(None));
    let (b, a) = (stage.join("b").await, stage.join("a").await);
    let stream = stage.publish(&b).await;
    stage.store.reserve_publication(stage.publishing(&a)).await.expect("reserved");
    let snapshot = stage.store.snapshot(&stage.room).await.expect("answered").expect("a room");
    assert_eq!(snapshot.head, stage.head().await);
    assert_eq!(stage.members().await, ["a", "b"]);
    assert_eq!(snapshot.publications, [stream]);
}
