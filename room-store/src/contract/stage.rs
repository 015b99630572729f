//! A room on stage: the few gestures all cases are made of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::{
    ids::{EdgeId, Epoch, Mid, OpId, PeerId, Position, RoomId, Seq, SessionId, Sid},
    json::RawJson,
    signalling::Minfo,
};

use super::{Fault, Harness};
use crate::{
    change::{
        Broadcast, EndedBy, Expired, Head, Hold, Join, Joined, LossReason, Refreshed, ReservePublication,
        ReserveSubscription, SubscriptionReserved,
    },
    error::StoreError,
    feed::{FeedItem, RoomFeed},
    log::{Entry, EntryId, Event, LogRead},
    record::{Actor, Attachment, ConnectionId, Placement, Publication, Released, Subscription},
    settings::RoomSettings,
    store::RoomStore,
};

/// A store and one of its rooms.
pub struct Stage<H> {
    /// The implementation's side.
    pub harness: H,
    /// The store.
    pub store: Arc<dyn RoomStore>,
    /// The room the gestures are about.
    pub room: RoomId,
    last: AtomicU64,
}

/// A member with the socket it came by.
#[derive(Debug, Clone)]
pub struct Player {
    /// As it is named in calls.
    pub actor: Actor,
    /// Its socket.
    pub attachment: Attachment,
    /// What its join was answered with.
    pub joined: Joined,
}

impl Player {
    /// As its edge refreshes it.
    pub fn hold(&self) -> Hold {
        let Actor { peer, session, .. } = self.actor.clone();
        Hold { peer, session, connection: self.attachment.connection }
    }
}

impl<H: Harness> Stage<H> {
    /// A fresh store with default settings.
    pub async fn new() -> Self {
        Self::with(RoomSettings::default()).await
    }

    /// A fresh store with these settings.
    pub async fn with(settings: RoomSettings) -> Self {
        let harness = H::fresh(settings).await;
        let store = harness.store();
        Self { harness, store, room: room("stage"), last: AtomicU64::new(0) }
    }

    /// A number nobody else on this stage has.
    pub fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A socket nobody else has, on one of two edges.
    pub fn socket(&self) -> Attachment {
        let number = self.number();
        Attachment {
            edge: edge(if number.is_multiple_of(2) { "even" } else { "odd" }),
            connection: ConnectionId(number),
        }
    }

    /// A join by a new socket, as a client without a past makes it.
    pub fn joining(&self, uid: &str) -> Join {
        Join {
            room: self.room.clone(),
            peer: peer(uid),
            attachment: self.socket(),
            resume: None,
            since: None,
            fresh: SessionId::of(u128::from(self.number())),
            op: None,
        }
    }

    /// Carries out a join that is expected to work.
    pub async fn admit(&self, join: Join) -> Player {
        let attachment = join.attachment.clone();
        let (room, peer) = (join.room.clone(), join.peer.clone());
        let joined = self.store.join(join).await.expect("the join works");
        let actor = Actor { room, peer, session: joined.session.clone() };
        Player { actor, attachment, joined }
    }

    /// A new member.
    pub async fn join(&self, uid: &str) -> Player {
        self.admit(self.joining(uid)).await
    }

    /// A publication as it is about to be reserved.
    pub fn publishing(&self, player: &Player) -> ReservePublication {
        ReservePublication {
            actor: player.actor.clone(),
            mid: Mid::of(&player.actor.peer, self.number()),
            minfo: minfo(),
            candidates: vec![placement("n1")],
            recording: None,
            always_recorded: false,
            op: None,
        }
    }

    /// Publishes a stream, up to its confirmation.
    pub async fn publish(&self, player: &Player) -> Arc<Publication> {
        let reserved = self.store.reserve_publication(self.publishing(player)).await.expect("reserved");
        self.store.confirm_publication(player.actor.clone(), &reserved.mid).await.expect("confirmed")
    }

    /// A subscription as it is about to be reserved.
    pub fn subscribing(&self, player: &Player, mid: &Mid) -> ReserveSubscription {
        ReserveSubscription {
            actor: player.actor.clone(),
            sid: Sid::of(&player.actor.peer, self.number()),
            mid: mid.clone(),
            placement: None,
            op: None,
        }
    }

    /// Subscribes to a stream, up to its confirmation.
    pub async fn subscribe(&self, player: &Player, mid: &Mid) -> Arc<Subscription> {
        let request = self.subscribing(player, mid);
        let SubscriptionReserved { subscription, .. } =
            self.store.reserve_subscription(request).await.expect("reserved");
        self.store.confirm_subscription(player.actor.clone(), &subscription.sid).await.expect("confirmed")
    }

    /// Ends a stream as its client does.
    pub async fn unpublish(&self, player: &Player, mid: &Mid) -> Result<Released, StoreError> {
        self.store.remove_publication(mid, EndedBy::Client(player.actor.clone())).await
    }

    /// Ends a subscription as its client does.
    pub async fn unsubscribe(&self, player: &Player, sid: &Sid) -> Result<Released, StoreError> {
        self.store.remove_subscription(sid, EndedBy::Client(player.actor.clone())).await
    }

    /// Something said to the others.
    pub fn saying(&self, player: &Player, text: &str) -> Broadcast {
        let data = RawJson::of(&text).expect("a text is JSON");
        Broadcast { actor: player.actor.clone(), data, entry: EntryId(self.number()), op: None }
    }

    /// Says something to the others.
    pub async fn say(&self, player: &Player, text: &str) {
        self.store.broadcast(self.saying(player, text)).await.expect("said");
    }

    /// Leaves.
    pub async fn leave(&self, player: &Player) {
        self.store.leave(player.actor.clone(), None).await.expect("left");
    }

    /// The member's socket closes.
    pub async fn close(&self, player: &Player) {
        self.store.socket_closed(player.actor.clone(), player.attachment.clone(), false).await.expect("noted");
    }

    /// Refreshes one member from its socket; why that can't be, if it can't.
    pub async fn refresh(&self, player: &Player) -> Option<LossReason> {
        let edge = &player.attachment.edge;
        let Refreshed { lost, .. } = self.store.refresh(&self.room, edge, vec![player.hold()]).await.expect("answered");
        lost.into_iter().next().map(|(_, reason)| reason)
    }

    /// Lets time pass.
    pub async fn wait(&self, by: Duration) {
        self.harness.advance(by).await;
    }

    /// Ends what is due in the room.
    pub async fn expire(&self) -> Expired {
        self.store.expire_due(&self.room, usize::MAX).await.expect("answered")
    }

    /// The next call fails so.
    pub fn inject(&self, fault: Fault) {
        self.harness.inject(fault);
    }

    /// The end of the room's log; there must be one.
    pub async fn head(&self) -> Head {
        self.store.head(&self.room).await.expect("answered").expect("the room exists")
    }

    /// Everything the log holds of the present epoch.
    pub async fn log(&self) -> Vec<Arc<Entry>> {
        let epoch = self.head().await.position.epoch;
        self.log_after(start(epoch)).await
    }

    /// The log after a position it must reach back to.
    pub async fn log_after(&self, after: Position) -> Vec<Arc<Entry>> {
        match self.store.log_after(&self.room, after, None, usize::MAX).await.expect("answered") {
            LogRead::Entries(entries) => entries,
            lost @ LogRead::Lost { .. } => panic!("the log does not reach back: {lost:?}"),
        }
    }

    /// The log's entries in short.
    pub async fn story(&self) -> Vec<String> {
        self.log().await.iter().map(|entry| short(entry)).collect()
    }

    /// Uids of the members.
    pub async fn members(&self) -> Vec<String> {
        let snapshot = self.store.snapshot(&self.room).await.expect("answered");
        snapshot.into_iter().flat_map(|snapshot| snapshot.members).map(|member| member.peer.to_string()).collect()
    }

    /// The next item of a feed, which must come.
    pub async fn next(&self, feed: &mut RoomFeed) -> FeedItem {
        let next = tokio::time::timeout(Duration::from_secs(5), feed.next());
        next.await.expect("the feed brings something").expect("the feed is open")
    }
}

/// An entry in short, without the parts that are random.
pub(super) fn short(entry: &Entry) -> String {
    match &entry.event {
        Event::PeerJoin(member) => format!("+{}", member.peer),
        Event::PeerLeave(peer) => format!("-{peer}"),
        Event::StreamAdd(publication) => format!("+{}/stream", publication.owner),
        Event::StreamRemove { owner, reason, .. } => format!("-{owner}/stream {}", reason.name()),
        Event::StreamUpdate(publication) => {
            let muted = publication.minfo.muted();
            format!("~{}/stream audio {} video {}", publication.owner, muted.audio, muted.video)
        }
        Event::Recording { stream, recording } => {
            let on = if stream.recording.is_some() { "on" } else { "off" };
            format!("{}/stream recording {recording} {on}", stream.owner)
        }
        Event::Broadcast { peer, data } => format!("{peer} says {}", data.get()),
    }
}

/// The place before the first entry of an epoch.
pub(super) fn start(epoch: Epoch) -> Position {
    Position { epoch, seq: Seq::START }
}

/// A room's id.
pub(super) fn room(text: &str) -> RoomId {
    RoomId::new(text).expect("a valid rid")
}

/// A peer's id.
pub(super) fn peer(text: &str) -> PeerId {
    PeerId::new(text).expect("a valid uid")
}

/// An edge's id.
pub(super) fn edge(text: &str) -> EdgeId {
    EdgeId::new(text).expect("a valid edge id")
}

/// A client's name for an intent.
pub(super) fn op(text: &str) -> OpId {
    OpId::new(text).expect("a valid op")
}

/// A node, in its first start.
pub(super) fn placement(node: &str) -> Placement {
    Placement {
        node: node.parse().expect("a valid node id"),
        boot: "boot-1".parse().expect("a valid boot id"),
        region: "here".parse().expect("a valid region"),
    }
}

/// A description with a key nobody knows.
pub(super) fn minfo() -> Minfo {
    let raw = RawJson::new(r#"{"video":true,"mine":1.50,"audio":true}"#).expect("JSON");
    Minfo::new(raw).expect("a minfo")
}
