//! What a room tells its members' sockets on this edge. A log entry's frame is written once, however many sockets it goes to.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use proto::ids::{Mid, PeerId, Position, RoomId, SessionId};
use proto::signalling::Notification;
use room_store::{ConnectionId, Entry, Event, LossReason, Publication, RemoveReason};

/// Something about a room, for all sockets that are in it.
#[derive(Debug)]
pub(crate) enum Signal {
    /// An entry of its log.
    Notice(Notice),
    /// The session on this socket goes on elsewhere, or was taken over. `resumed`: by a socket that proved to be the same.
    Superseded { connection: ConnectionId, session: SessionId, resumed: bool },
    /// The store does not have the session on this socket any more, or has it on another.
    Lost { connection: ConnectionId, session: SessionId, reason: LossReason },
    /// The same as lost to another socket, but at a time when that may be a mistake: only a new join tells.
    Contested { connection: ConnectionId, session: SessionId },
    /// From one place to another without the log between: what differs, for those who are at the first.
    Converge { from: Position, to: Position, notices: Vec<Notice> },
    /// The owner of a stream is to publish it again, elsewhere. Not in the log.
    Migrate { owner: PeerId, frame: Utf8Bytes },
}

impl Signal {
    /// Has the owner move a stream.
    pub(crate) fn migrate(room: &RoomId, owner: PeerId, mid: &Mid, reason: &'static str) -> Self {
        Self::Migrate { owner, frame: migration(room, mid, reason) }
    }
}

impl Signal {
    /// When the entry that it tells was read.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        match self {
            Self::Notice(notice) => Some(notice.read_at),
            _ => None,
        }
    }
}

/// A log entry, ready to be sent.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) position: Position,
    /// When this edge had read it.
    read_at: Instant,
    /// Who is not told.
    cause: Option<PeerId>,
    pub(crate) frame: Utf8Bytes,
    /// The owner of a stream that was lost with its node, who is told to publish again.
    pub(crate) migrate: Option<(PeerId, Utf8Bytes)>,
    pub(crate) change: Option<Change>,
}

/// What has become of a stream.
#[derive(Debug)]
pub(crate) enum Change {
    Ended(Mid),
    Now(Arc<Publication>),
}

impl Notice {
    /// Writes the entry's frames.
    pub(crate) fn new(room: &RoomId, entry: &Entry) -> Self {
        let migrate = match &entry.event {
            Event::StreamRemove { owner, mid, reason: RemoveReason::NodeLost } => {
                Some((owner.clone(), migration(room, mid, RemoveReason::NodeLost.name())))
            }
            _ => None,
        };
        let change = match &entry.event {
            Event::StreamRemove { mid, .. } => Some(Change::Ended(mid.clone())),
            Event::StreamUpdate(stream) | Event::Recording { stream, .. } => Some(Change::Now(Arc::clone(stream))),
            _ => None,
        };
        let frame = notification(room, entry).to_frame().into();
        let read_at = Instant::now();
        Self { position: entry.position, read_at, cause: entry.cause.clone(), frame, migrate, change }
    }

    /// Whether this peer is told.
    pub(crate) fn concerns(&self, peer: &PeerId) -> bool {
        self.cause.as_ref() != Some(peer)
    }
}

fn migration(room: &RoomId, mid: &Mid, reason: &'static str) -> Utf8Bytes {
    Notification::StreamMigrate { rid: room.clone(), mid: mid.clone(), reason }.to_frame().into()
}

fn notification(room: &RoomId, entry: &Entry) -> Notification {
    let (rid, position) = (room.clone(), entry.position);
    match &entry.event {
        Event::PeerJoin(member) => {
            Notification::PeerJoin { rid, uid: member.peer.clone(), edge: member.edge.clone(), position }
        }
        Event::PeerLeave(peer) => Notification::PeerLeave { rid, uid: peer.clone(), position },
        Event::StreamAdd(publication) => Notification::StreamAdd {
            rid,
            uid: publication.owner.clone(),
            mid: publication.mid.clone(),
            sfuid: publication.placement.node.clone(),
            minfo: publication.minfo.clone(),
            recording: publication.recording.clone(),
            position,
        },
        Event::StreamRemove { owner, mid, reason } => {
            Notification::StreamRemove { rid, uid: owner.clone(), mid: mid.clone(), reason: reason.name(), position }
        }
        Event::StreamUpdate(publication) => Notification::StreamUpdate {
            rid,
            uid: publication.owner.clone(),
            mid: publication.mid.clone(),
            minfo: publication.minfo.clone(),
            position,
        },
        Event::Recording { stream, recording } => Notification::Recording {
            rid,
            uid: stream.owner.clone(),
            mid: stream.mid.clone(),
            on: stream.recording.is_some(),
            recording: recording.clone(),
            position,
        },
        Event::Broadcast { peer, data } => {
            Notification::Broadcast { rid, uid: peer.clone(), data: data.clone(), position }
        }
    }
}
