//! Requests to a [`RoomStore`](crate::RoomStore) and their results.

use std::sync::Arc;

use proto::{
    ids::{EdgeId, Mid, OpId, PeerId, Position, RecordingId, RoomId, SessionId, Sid},
    json::RawJson,
    signalling::Minfo,
};

use crate::{
    log::{Entry, EntryId, RemoveReason},
    record::{Actor, Attachment, ConnectionId, Member, Placement, Publication, Released, Subscription},
};

/// A socket wants to be a member.
#[derive(Debug, Clone)]
pub struct Join {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub peer: PeerId,
    /// The socket.
    pub attachment: Attachment,
    /// The session it proved to hold (the token was verified by the caller).
    pub resume: Option<SessionId>,
    /// The last entry it has seen.
    pub since: Option<Position>,
    /// Id of the session, should a new one begin. The same when the call is repeated.
    pub fresh: SessionId,
    /// The client's name for this intent.
    pub op: Option<OpId>,
}

/// A socket has become a member's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The session, new or resumed.
    pub session: SessionId,
    /// How.
    pub how: JoinKind,
    /// Where the log is with this join done: what comes after it is for this member, too.
    pub position: Position,
    /// Identity of the entry there; `None` at the start of an epoch.
    pub head: Option<EntryId>,
    /// All other members, by uid.
    pub members: Vec<Arc<Member>>,
    /// All other members' confirmed streams, by mid.
    pub publications: Vec<Arc<Publication>>,
    /// What survived of its own: confirmed streams.
    pub own_publications: Vec<Arc<Publication>>,
    /// What survived of its own: confirmed subscriptions.
    pub own_subscriptions: Vec<Arc<Subscription>>,
    /// What it missed.
    pub missed: Missed,
    /// The socket this session (or the one it took over from) was attached to until now. It was told by a
    /// [`RoomEvent::Superseded`](crate::RoomEvent::Superseded).
    pub superseded: Option<Attachment>,
    /// Streams of the session taken over from: close them.
    pub released: Released,
}

/// How a socket became a member's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// The peer was no member. Others got `peer-join`.
    New,
    /// The peer's session goes on, on this socket. Nobody was told.
    Resumed,
    /// The peer was a member on a live socket and did not prove to be the same session: a new session took its place. Its
    /// streams were removed (others got `stream-remove`); it stayed a member all the while.
    TookOver,
}

/// What a joining member missed since the position it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// It named none.
    NotAsked,
    /// These, in order, without its own: they follow the answer.
    Entries(Vec<Arc<Entry>>),
    /// Too much, of another epoch, or from before its session began: the snapshot is the truth (`resync`).
    Resync,
}

/// A member leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Streams to close. Empty when the call is a repeated one.
    pub released: Released,
    /// Whether the session named is no member's any more. False only when its `op` was used before the session began: it was
    /// another one that left.
    pub ended: bool,
}

/// A member is about to publish.
#[derive(Debug, Clone)]
pub struct ReservePublication {
    /// Who.
    pub actor: Actor,
    /// The new stream's id.
    pub mid: Mid,
    /// Its description.
    pub minfo: Minfo,
    /// Nodes that may carry it, best first, at most 16 are looked at. The first of them that carries the room already
    /// is taken, else the first: so streams published at once still meet.
    pub candidates: Vec<Placement>,
    /// It is to be recorded from its beginning.
    pub recording: Option<RecordingId>,
    /// By order.
    pub always_recorded: bool,
    /// The client's name for this intent.
    pub op: Option<OpId>,
}

/// A member is about to subscribe.
#[derive(Debug, Clone)]
pub struct ReserveSubscription {
    /// Who.
    pub actor: Actor,
    /// The new subscription's id.
    pub sid: Sid,
    /// To which stream.
    pub mid: Mid,
    /// The node to subscribe on; `None`: the publication's.
    pub placement: Option<Placement>,
    /// The client's name for this intent.
    pub op: Option<OpId>,
}

/// A subscription's place is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionReserved {
    /// The subscription. With a repeated `op` it is the earlier one, perhaps confirmed already.
    pub subscription: Arc<Subscription>,
    /// The stream it is to.
    pub publication: Arc<Publication>,
}

/// Who ends a stream.
#[derive(Debug, Clone)]
pub enum EndedBy {
    /// The client whose it is, through its edge. Anyone else's is an error.
    Client(Actor),
    /// Its node, or an edge that knows the node to be dead. Has no effect when the stream is elsewhere by now.
    Node {
        /// The room.
        room: RoomId,
        /// The node and its start.
        placement: Placement,
        /// Why. The owner is told, too.
        reason: RemoveReason,
    },
}

impl EndedBy {
    /// The room it is about.
    pub fn room(&self) -> &RoomId {
        match self {
            Self::Client(actor) => &actor.room,
            Self::Node { room, .. } => room,
        }
    }
}

/// A stream is to be recorded, or no longer.
#[derive(Debug, Clone)]
pub struct SetRecording {
    /// Whose doing it is.
    pub by: SetBy,
    /// Which stream.
    pub mid: Mid,
    /// What it has now. Has it another, or none, nothing changes: somebody was first.
    pub expected: Option<RecordingId>,
    /// What it has from then on.
    pub recording: Option<RecordingId>,
}

impl SetRecording {
    /// This recording of it is over; everyone is told.
    pub fn ended(room: RoomId, mid: Mid, recording: RecordingId) -> Self {
        Self { by: SetBy::Edge(room), mid, expected: Some(recording), recording: None }
    }
}

/// Who changes what is recorded.
#[derive(Debug, Clone)]
pub enum SetBy {
    /// A member, of its own or another's stream. It is not told.
    Client(Actor),
    /// The stream's node, or an edge that has compared; everyone is told.
    Edge(RoomId),
}

impl SetBy {
    /// The room it is about.
    pub fn room(&self) -> &RoomId {
        match self {
            Self::Client(actor) => &actor.room,
            Self::Edge(room) => room,
        }
    }
}

/// A member says something to all others.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// Who.
    pub actor: Actor,
    /// What.
    pub data: RawJson,
    /// Identity of the entry it becomes, drawn by the caller: a repeated call says it once.
    pub entry: EntryId,
    /// The client's name for this intent.
    pub op: Option<OpId>,
}

/// A part of a list too long for one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In order of their ids.
    pub items: Vec<T>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// A session an edge says is alive on one of its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Who.
    pub peer: PeerId,
    /// Its session.
    pub session: SessionId,
    /// The socket.
    pub connection: ConnectionId,
}

/// The answer to an edge's refresh of a room's leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// Where the log is: an edge whose feed is behind it reads the log. `None`: there is no such room.
    pub head: Option<Head>,
    /// Those that were not refreshed.
    pub lost: Vec<(Hold, LossReason)>,
}

/// The end of a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the last entry, or the start of the epoch.
    pub position: Position,
    /// Identity of the last entry; `None` at the start of an epoch.
    pub id: Option<EntryId>,
}

/// A room at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its log was.
    pub head: Head,
    /// All members, by uid.
    pub members: Vec<Arc<Member>>,
    /// All confirmed streams, by mid.
    pub publications: Vec<Arc<Publication>>,
}

/// Why a session can't be refreshed from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// It ended, or the store lost it.
    Gone,
    /// It goes on, or another of the same peer does, on another socket.
    Superseded,
}

/// What expiry removed from a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expired {
    /// Whose sessions ended.
    pub peers: Vec<PeerId>,
    /// Streams to close, theirs and reservations nobody confirmed.
    pub released: Released,
    /// Whether more is due than the limit allowed.
    pub more: bool,
}

/// A live session an edge puts back into a store that may have lost it.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// The session and its socket; the room is the call's.
    pub hold: Hold,
    /// Its confirmed streams.
    pub publications: Vec<Arc<Publication>>,
    /// Its confirmed subscriptions.
    pub subscriptions: Vec<Arc<Subscription>>,
}

/// An edge puts back what it holds of a room.
#[derive(Debug, Clone)]
pub struct Reassert {
    /// The room.
    pub room: RoomId,
    /// The edge's id, the holder of every session asserted.
    pub edge: EdgeId,
    /// Its live sessions there.
    pub sessions: Vec<Assertion>,
}
