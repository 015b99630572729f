//! A room's log: every change of its state, in order, each with its [`Position`].

use std::sync::Arc;

use proto::{
    ids::{Mid, PeerId, Position, RecordingId},
    json::RawJson,
};

use crate::{
    change::Head,
    record::{Member, Publication},
};

/// Random identity of an entry. Two entries at one position with different ids are from two lives of the store: one of them
/// was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId(pub u64);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place: the first of an epoch has seq 1, each next one more.
    pub position: Position,
    /// Its identity.
    pub id: EntryId,
    /// Who caused it and is not told. `None`: everyone is told, the owner of what changed included.
    pub cause: Option<PeerId>,
    /// What changed.
    pub event: Event,
}

impl Entry {
    /// Whether this peer is to be told.
    pub fn concerns(&self, peer: &PeerId) -> bool {
        self.cause.as_ref() != Some(peer)
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer became a member.
    PeerJoin(Arc<Member>),
    /// A peer is no member any more; its streams were removed by entries before this one.
    PeerLeave(PeerId),
    /// A stream can be subscribed to.
    StreamAdd(Arc<Publication>),
    /// A stream is gone.
    StreamRemove {
        /// Whose it was.
        owner: PeerId,
        /// Which.
        mid: Mid,
        /// Why.
        reason: RemoveReason,
    },
    /// A stream's `minfo` is another.
    StreamUpdate(Arc<Publication>),
    /// A recording of a stream has begun, if the stream has it now, or ended. One that begins or ends with its stream is not told
    /// apart.
    Recording {
        /// The stream, as it is from then on.
        stream: Arc<Publication>,
        /// Which recording.
        recording: RecordingId,
    },
    /// A member says something to all others.
    Broadcast {
        /// Who.
        peer: PeerId,
        /// What, verbatim.
        data: RawJson,
    },
}

/// Why a stream was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoveReason {
    /// Its owner unpublished it.
    Unpublished,
    /// Its owner left, or joined anew and left its earlier session's streams behind.
    OwnerLeft,
    /// Its owner's session expired.
    OwnerExpired,
    /// Its transport to the SFU ended: never connected, no consent, closed by the client.
    TransportEnded,
    /// Its SFU node died or restarted.
    NodeLost,
}

impl RemoveReason {
    /// Stable name, for clients.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unpublished => "unpublished",
            Self::OwnerLeft => "owner_left",
            Self::OwnerExpired => "owner_expired",
            Self::TransportEnded => "transport_ended",
            Self::NodeLost => "node_lost",
        }
    }
}

/// The answer to a read of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRead {
    /// The entries after the position asked for, in order and without holes. When fewer than asked for, they are all there are.
    Entries(Vec<Arc<Entry>>),
    /// The log doesn't reach back to it, or it is of another epoch, or the entry there is another: only a snapshot helps.
    Lost {
        /// Where the log is now; `None`: there is no such room.
        head: Option<Head>,
        /// True when the epoch is the one asked for, but the entry named is missing or another: the store lost writes, and
        /// whoever sees it starts a new epoch ([`RoomStore::start_epoch`](crate::RoomStore::start_epoch)).
        diverged: bool,
    },
}
