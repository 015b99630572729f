//! What a room consists of.

use std::fmt;

use proto::{
    ids::{BootId, EdgeId, Mid, NodeId, PeerId, RecordingId, RegionId, RoomId, SessionId, Sid},
    signalling::Minfo,
};

/// Number of a socket within its edge's life. An edge never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The socket a session is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The edge that holds the socket.
    pub edge: EdgeId,
    /// Which of its sockets.
    pub connection: ConnectionId,
}

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Edge of its last socket (`signalid`, `bizid`).
    pub edge: EdgeId,
}

/// Where a stream is: a node, and which start of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The SFU node.
    pub node: NodeId,
    /// Its start: a node with another boot has lost the stream.
    pub boot: BootId,
    /// Its region.
    pub region: RegionId,
}

/// A published stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its id.
    pub mid: Mid,
    /// Who publishes it.
    pub owner: PeerId,
    /// Its description, muting included.
    pub minfo: Minfo,
    /// Where it enters.
    pub placement: Placement,
    /// False between reservation and confirmation: only its owner knows it then.
    pub confirmed: bool,
    /// The recording that is made of it, or is to be.
    pub recording: Option<RecordingId>,
    /// It is recorded by order (of its room, or of its owner's token), and not for a member to end.
    pub always_recorded: bool,
}

/// A subscription to a stream. Only its subscriber knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub sid: Sid,
    /// Whose it is.
    pub subscriber: PeerId,
    /// To which stream.
    pub mid: Mid,
    /// Where it leaves.
    pub placement: Placement,
    /// False between reservation and confirmation.
    pub confirmed: bool,
}

/// A node that carries streams of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// The node.
    pub placement: Placement,
    /// Publications there, reserved ones included.
    pub publications: usize,
    /// Subscriptions there, reserved ones included.
    pub subscriptions: usize,
}

/// Streams whose records are gone: whoever is told closes them on their nodes. If it dies before, the node's own checks
/// and the next comparison of node and store do it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Publications, and where.
    pub publications: Vec<(Mid, Placement)>,
    /// Subscriptions, and where.
    pub subscriptions: Vec<(Sid, Placement)>,
}

impl Released {
    /// Nothing to close.
    pub fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.subscriptions.is_empty()
    }

    /// Takes another's streams in, too.
    pub fn extend(&mut self, other: Self) {
        self.publications.extend(other.publications);
        self.subscriptions.extend(other.subscriptions);
    }
}

/// A session of a peer in a room, as its edge names it in each call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    /// The room.
    pub room: RoomId,
    /// The peer.
    pub peer: PeerId,
    /// Its session there.
    pub session: SessionId,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.peer, self.room)
    }
}
