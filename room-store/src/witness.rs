//! What steps did to their rooms, for whoever makes them: one step, one process that made it, so that what happened in a room is
//! known once, whichever of many processes caused it.
//!
//! This is not the room's log: that one is for its members, says nothing of subscriptions, nor why somebody left, and all who follow
//! the room read it. Nor is it part of a call's answer: what a call is asked for and what it did are two things (one ends a session
//! that was due, and with it ten streams).
//!
//! **At most once.** A step whose answer was lost on its way has been seen by nobody: repeated, it finds that there is nothing left to
//! do.

use std::time::Duration;

use proto::ids::{Mid, NodeId, PeerId, Position, RoomId, Sid};

use crate::{
    error::StoreError,
    log::RemoveReason,
    record::{Publication, Subscription},
};

/// Sees what the steps of a [`RoomStore::witnessed`](crate::RoomStore::witnessed) did.
pub trait Witness: Send + Sync + 'static {
    /// One step did this, in this order. Called by the task that made the step; in-memory steps are told in the order they are made
    /// in, with their room locked: it does not wait, and calls no store.
    ///
    /// `restored`: nothing happened but that a store learnt again what it had lost.
    fn saw(&self, room: &RoomId, deeds: &[Deed], restored: bool);

    /// A call of a store elsewhere took so long, from the first try to its end. Calls whose future was dropped are not told of. It does
    /// not wait either. Stores of this process, whose calls take no time, tell of none.
    fn took(&self, _kind: CallKind, _result: CallResult, _time: Duration) {}
}

/// A call of a store, as it is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// One that may write: a change of a room, or a member's question, which counts as a frame of its session.
    Step,
    /// A question about a room.
    Read,
    /// [`RoomStore::ping`](crate::RoomStore::ping).
    Ping,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallResult {
    /// It was done.
    Ok,
    /// The room's rules say no.
    Refused,
    /// [`StoreError::Unavailable`].
    Unavailable,
    /// [`StoreError::Timeout`].
    Timeout,
}

impl CallKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Step, Self::Read, Self::Ping];

    /// For people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Read => "read",
            Self::Ping => "ping",
        }
    }
}

impl CallResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Unavailable, Self::Timeout];

    /// What a call came to.
    pub fn of<T>(result: &Result<T, StoreError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(StoreError::Unavailable) => Self::Unavailable,
            Err(StoreError::Timeout) => Self::Timeout,
            Err(_) => Self::Refused,
        }
    }

    /// For people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }
}

/// One thing that a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Where the room's log was with it done.
    pub position: Position,
    /// What.
    pub fact: Fact,
}

/// What happened in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Somebody is in the room now, where nobody was.
    RoomOpened,
    /// Nobody is in the room any more.
    RoomClosed,
    /// A session began.
    PeerJoined {
        /// Whose.
        peer: PeerId,
    },
    /// A session ended; its streams and subscriptions did before.
    PeerLeft {
        /// Whose.
        peer: PeerId,
        /// Why.
        why: LeaveReason,
    },
    /// A stream was confirmed.
    StreamPublished {
        /// Whose it is.
        owner: PeerId,
        /// Which.
        mid: Mid,
        /// Where it enters.
        node: NodeId,
    },
    /// A confirmed stream ended; subscriptions to it did before.
    StreamUnpublished {
        /// Whose it was.
        owner: PeerId,
        /// Which.
        mid: Mid,
        /// Why.
        why: RemoveReason,
    },
    /// A subscription was confirmed.
    StreamSubscribed {
        /// Whose it is.
        subscriber: PeerId,
        /// Which.
        sid: Sid,
        /// To which stream.
        mid: Mid,
        /// Where it leaves.
        node: NodeId,
    },
    /// A confirmed subscription ended.
    StreamUnsubscribed {
        /// Whose it was.
        subscriber: PeerId,
        /// Which.
        sid: Sid,
        /// To which stream.
        mid: Mid,
        /// Why.
        why: UnsubscribeReason,
    },
}

impl Fact {
    pub(crate) fn published(record: &Publication) -> Self {
        let (owner, mid, node) = (record.owner.clone(), record.mid.clone(), record.placement.node.clone());
        Self::StreamPublished { owner, mid, node }
    }

    pub(crate) fn subscribed(record: &Subscription) -> Self {
        let Subscription { sid, subscriber, mid, placement, .. } = record.clone();
        Self::StreamSubscribed { subscriber, sid, mid, node: placement.node }
    }

    pub(crate) fn unsubscribed(record: &Subscription, why: UnsubscribeReason) -> Self {
        let Subscription { sid, subscriber, mid, .. } = record.clone();
        Self::StreamUnsubscribed { subscriber, sid, mid, why }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// It left.
    Left,
    /// It was due.
    TimedOut,
    /// Its socket was closed for good: its access ended, or it was sent away.
    Closed,
    /// The same peer came anew by another socket. To others in the room it stayed.
    Superseded,
}

impl LeaveReason {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Left, Self::TimedOut, Self::Closed, Self::Superseded];

    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::Superseded => "superseded",
        }
    }
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnsubscribeReason {
    /// Its subscriber ended it.
    Unsubscribed,
    /// Its subscriber's session ended.
    SubscriberGone,
    /// The stream ended.
    StreamEnded,
    /// Its transport ended: never connected, no consent, closed by the client.
    TransportEnded,
    /// Its SFU node died or restarted.
    NodeLost,
}

impl UnsubscribeReason {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Unsubscribed, Self::SubscriberGone, Self::StreamEnded, Self::TransportEnded, Self::NodeLost];

    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsubscribed => "unsubscribed",
            Self::SubscriberGone => "subscriber_gone",
            Self::StreamEnded => "stream_ended",
            Self::TransportEnded => "transport_ended",
            Self::NodeLost => "node_lost",
        }
    }
}

impl From<RemoveReason> for UnsubscribeReason {
    /// Why its node, or what became of it, ended it.
    fn from(reason: RemoveReason) -> Self {
        match reason {
            RemoveReason::NodeLost => Self::NodeLost,
            RemoveReason::TransportEnded => Self::TransportEnded,
            RemoveReason::Unpublished => Self::StreamEnded,
            RemoveReason::OwnerLeft | RemoveReason::OwnerExpired => Self::SubscriberGone,
        }
    }
}
