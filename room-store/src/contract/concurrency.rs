//! Many at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proto::ids::RecordingId;

use super::{Harness, Stage, stage::Player};
use crate::{
    change::{JoinKind, SetBy, SetRecording},
    error::StoreError,
    feed::{FeedItem, RoomEvent},
    log::{Entry, Event},
    record::Publication,
    settings::RoomSettings,
};

/// What one who only reads the log knows of a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    members: BTreeSet<String>,
    /// Owner, and what is recorded.
    streams: BTreeMap<String, (String, Option<RecordingId>)>,
}

impl View {
    /// Applies an entry that must make sense.
    pub(super) fn apply(&mut self, entry: &Entry) {
        let at = entry.position;
        match &entry.event {
            Event::PeerJoin(member) => assert!(self.members.insert(member.peer.to_string()), "{at}: joined twice"),
            Event::PeerLeave(peer) => {
                assert!(self.members.remove(peer.as_str()), "{at}: left twice");
                assert!(!self.streams.values().any(|(owner, _)| owner == peer.as_str()), "{at}: left with streams");
            }
            Event::StreamAdd(record) => {
                assert!(self.members.contains(record.owner.as_str()), "{at}: a stream of nobody");
                let known = self.streams.insert(record.mid.to_string(), known(record));
                assert_eq!(known, None, "{at}: added twice");
            }
            Event::StreamRemove { mid, .. } => {
                assert!(self.streams.remove(mid.as_str()).is_some(), "{at}: removed twice");
            }
            Event::StreamUpdate(record) => assert!(self.streams.contains_key(record.mid.as_str()), "{at}: unknown"),
            Event::Recording { stream, recording } => {
                let now = known(stream);
                let before = self.streams.insert(stream.mid.to_string(), now.clone());
                assert!(before.is_some_and(|before| before != now), "{at}: unknown, or nothing new");
                assert!(stream.recording.as_ref().is_none_or(|it| it == recording), "{at}: another");
            }
            Event::Broadcast { peer, .. } => assert!(self.members.contains(peer.as_str()), "{at}: from nobody"),
        }
    }

    /// What a snapshot says.
    pub(super) async fn of<H: Harness>(stage: &Stage<H>) -> Self {
        let snapshot = stage.store.snapshot(&stage.room).await.expect("answered");
        let Some(snapshot) = snapshot else { return Self::default() };
        let streams = snapshot.publications.iter();
        Self {
            members: snapshot.members.iter().map(|member| member.peer.to_string()).collect(),
            streams: streams.map(|record| (record.mid.to_string(), known(record))).collect(),
        }
    }
}

fn known(record: &Publication) -> (String, Option<RecordingId>) {
    (record.owner.to_string(), record.recording.clone())
}

/// A life in the room: in, a few streams, out or not.
async fn live<H: Harness>(stage: &Stage<H>, number: usize) {
    let uid = format!("p{}", number % 40);
    let me = stage.join(&uid).await;
    for round in 0..4 {
        let Ok(stream) = stage.store.reserve_publication(stage.publishing(&me)).await else { return };
        tokio::task::yield_now().await;
        if stage.store.confirm_publication(me.actor.clone(), &stream.mid).await.is_err() {
            return;
        }
        let _ = stage.store.broadcast(stage.saying(&me, "hello")).await;
        let _ =
            stage.store.mute(me.actor.clone(), me.attachment.clone(), &stream.mid, Some(round % 2 == 0), None).await;
        let recording = Some(RecordingId::of(stage.number().into()));
        let by = SetBy::Client(me.actor.clone());
        let set = SetRecording { by, mid: stream.mid.clone(), expected: None, recording: recording.clone() };
        let _ = stage.store.set_recording(set.clone()).await;
        if round % 2 == 0 {
            let _ = stage.store.set_recording(SetRecording { expected: recording, recording: None, ..set }).await;
        }
        tokio::task::yield_now().await;
        if (number + round).is_multiple_of(3) {
            let _ = stage.unpublish(&me, &stream.mid).await;
        }
    }
    if number.is_multiple_of(2) {
        let _ = stage.store.leave(me.actor.clone(), None).await;
    }
}

pub async fn many_at_once_agree_with_the_log<H: Harness>() {
    let settings = RoomSettings { log_entries: 10_000, feed_entries: 10_000, ..RoomSettings::default() };
    let stage = Arc::new(Stage::<H>::with(settings).await);
    let mut feed = stage.store.subscribe(&stage.room).await.expect("subscribed");
    // Never empty: what was said would be forgotten with the last to leave.
    stage.join("host").await;
    let lives: Vec<_> = (0..60)
        .map(|number| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { live(&stage, number).await })
        })
        .collect();
    for life in lives {
        life.await.expect("a life goes well");
    }
    let log = stage.log().await;
    assert!(log.len() > 150, "much has happened: {}", log.len());
    let mut view = View::default();
    for (index, entry) in log.iter().enumerate() {
        assert_eq!(entry.position.seq.get(), index as u64 + 1, "no holes");
        view.apply(entry);
    }
    assert_eq!(view, View::of(&stage).await);
    for entry in log {
        loop {
            match stage.next(&mut feed).await {
                FeedItem::Event(RoomEvent::Entry(heard)) => break assert_eq!(heard, entry, "the feed is the log"),
                FeedItem::Event(RoomEvent::Superseded { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub async fn one_uid_from_many_sockets_has_one_session<H: Harness>() {
    let stage = Arc::new(Stage::<H>::new().await);
    let joins: Vec<_> = (0..20)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.join("a").await })
        })
        .collect();
    let mut players: Vec<Player> = Vec::new();
    for join in joins {
        players.push(join.await.expect("joined"));
    }
    let new = players.iter().filter(|player| player.joined.how == JoinKind::New).count();
    assert_eq!(new, 1);
    let mut alive = 0;
    for player in &players {
        match stage.store.broadcast(stage.saying(player, "me")).await {
            Ok(()) => alive += 1,
            Err(error) => assert_eq!(error, StoreError::NotMember),
        }
    }
    assert_eq!(alive, 1);
    assert_eq!(stage.story().await, ["+a", r#"a says "me""#]);
}

pub async fn expiry_by_many_edges_happens_once<H: Harness>() {
    let ttl = Duration::from_secs(2);
    let stage = Arc::new(Stage::<H>::with(RoomSettings { ttl, ..RoomSettings::default() }).await);
    for number in 0..10 {
        let player = stage.join(&format!("p{number}")).await;
        stage.publish(&player).await;
    }
    stage.wait(ttl + Duration::from_millis(100)).await;
    let sweeps: Vec<_> = (0..8)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.expire().await })
        })
        .collect();
    let (mut peers, mut streams) = (0, 0);
    for sweep in sweeps {
        let expired = sweep.await.expect("swept");
        peers += expired.peers.len();
        streams += expired.released.publications.len();
    }
    assert_eq!((peers, streams), (10, 10), "each is one edge's to close");
    assert_eq!(stage.log().await.len(), 40);
    assert_eq!(View::of(&stage).await, View::default());
}
