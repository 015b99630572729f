//! What a room store can answer instead of a result.

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is out of reach; nothing was done.
    #[error("the room store is out of reach")]
    Unavailable,
    /// No answer in time; whether the change was made is unknown. Every call may be repeated as it is.
    #[error("the room store did not answer in time")]
    Timeout,
    /// The actor's session is not, or no longer, a member's of the room.
    #[error("not a member of the room")]
    NotMember,
    /// No such publication in the room, or not one this peer may see.
    #[error("no such stream in the room")]
    UnknownPublication,
    /// No such subscription of this peer.
    #[error("no such subscription of this peer")]
    UnknownSubscription,
    /// The stream is another peer's.
    #[error("the stream belongs to another peer")]
    NotOwner,
    /// The room's rules or limits forbid it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl StoreError {
    /// Whether the store itself failed, so that the same call may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }
}

/// A rule or limit that forbids a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// [`Limits::members`](crate::Limits::members) is reached.
    #[error("the room is full")]
    RoomFull,
    /// [`Limits::rooms`](crate::Limits::rooms) is reached.
    #[error("there are too many rooms")]
    TooManyRooms,
    /// [`Limits::publications`](crate::Limits::publications) is reached.
    #[error("this peer publishes too many streams")]
    TooManyPublications,
    /// [`Limits::subscriptions`](crate::Limits::subscriptions) is reached.
    #[error("this peer subscribes to too many streams")]
    TooManySubscriptions,
    /// The new stream's random id is taken: draw another.
    #[error("the stream's id is taken")]
    IdTaken,
    /// The `op` was used for another kind of request.
    #[error("this op was used for another request")]
    OpReused,
    /// The `op` is known, but what it made has ended since.
    #[error("what this op made has ended since")]
    OpSpent,
    /// [`RoomSettings::ops`](crate::RoomSettings::ops) is reached: later there is room again.
    #[error("this peer has used too many ops lately")]
    TooManyOps,
    /// A publication was given no node to be placed on.
    #[error("no SFU node that is in reach has room")]
    NoNode,
}
