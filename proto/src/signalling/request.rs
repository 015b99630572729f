//! What a client can ask for.

use crate::{
    ids::{Mid, PeerId, Position, RoomId, SessionToken, Sid},
    json::RawJson,
    signalling::Minfo,
};

/// A request of a known method with valid fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Become a member.
    Join(Join),
    /// End the membership.
    Leave {
        /// Of which room.
        rid: RoomId,
    },
    /// Still there.
    KeepAlive {
        /// In which room.
        rid: RoomId,
    },
    /// Publish a stream.
    Publish(Publish),
    /// End a stream.
    Unpublish {
        /// In which room.
        rid: RoomId,
        /// Which.
        mid: Mid,
    },
    /// Subscribe to a stream.
    Subscribe(Subscribe),
    /// End a subscription.
    Unsubscribe {
        /// In which room.
        rid: RoomId,
        /// To which stream; may have ended.
        mid: Mid,
        /// Which.
        sid: Sid,
    },
    /// Say something to all other members.
    Broadcast {
        /// In which room.
        rid: RoomId,
        /// What, verbatim.
        data: RawJson,
    },
    /// List the members.
    GetUsers {
        /// Of which room.
        rid: RoomId,
        /// After which one.
        cursor: Option<Cursor>,
    },
    /// List the streams.
    GetPubs {
        /// Of which room.
        rid: RoomId,
        /// After which one.
        cursor: Option<Cursor>,
    },
    /// ICE restart of a stream.
    Restart {
        /// In which room.
        rid: RoomId,
        /// Which stream.
        stream: StreamRef,
        /// The new offer.
        offer: Offer,
    },
    /// A new access token for this connection.
    Refresh {
        /// Which; not looked at yet.
        access_token: AccessToken,
    },
    /// Tell others what is muted.
    Mute {
        /// In which room.
        rid: RoomId,
        /// Which stream.
        mid: Mid,
        /// Its audio; absent: as it was.
        audio: Option<bool>,
        /// Its video; absent: as it was.
        video: Option<bool>,
    },
    /// Record a stream, or no longer.
    Record {
        /// In which room.
        rid: RoomId,
        /// Which stream, whosever.
        mid: Mid,
        /// Whether it is to be recorded.
        on: bool,
    },
}

impl Request {
    /// The room it is about; `None`: it is about the connection.
    pub fn rid(&self) -> Option<&RoomId> {
        match self {
            Self::Refresh { .. } => None,
            Self::Join(Join { rid, .. })
            | Self::Publish(Publish { rid, .. })
            | Self::Subscribe(Subscribe { rid, .. })
            | Self::Leave { rid }
            | Self::KeepAlive { rid }
            | Self::Unpublish { rid, .. }
            | Self::Unsubscribe { rid, .. }
            | Self::Broadcast { rid, .. }
            | Self::GetUsers { rid, .. }
            | Self::GetPubs { rid, .. }
            | Self::Restart { rid, .. }
            | Self::Mute { rid, .. }
            | Self::Record { rid, .. } => Some(rid),
        }
    }
}

/// `join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which room.
    pub rid: RoomId,
    /// The session to go on with. One that is malformed counts as none: the join then decides by the uid.
    pub session: Option<SessionToken>,
    /// The last notification seen. One that can't be read becomes [`Position::NONE`], answered with `resync`.
    pub since: Option<Position>,
    /// Whether a large snapshot may come in pages.
    pub paging: bool,
}

/// `publish`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// In which room.
    pub rid: RoomId,
    /// The client's offer.
    pub offer: Offer,
    /// What the stream is.
    pub minfo: Minfo,
}

/// `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// In which room.
    pub rid: RoomId,
    /// To which stream. Its node is known by it: `sfuid` is not read.
    pub mid: Mid,
    /// The client's offer.
    pub offer: Offer,
}

/// A `jsep` of type `offer`: the SDP, not looked at yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer(pub String);

impl std::fmt::Debug for Offer {
    /// Without the SDP, which carries addresses and passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offer({} bytes)", self.0.len())
    }
}

/// An access token as a client shows it: not looked at yet.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(pub String);

impl std::fmt::Debug for AccessToken {
    /// Without the token: whoever has it is let in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessToken({} bytes)", self.0.len())
    }
}

/// A stream in one direction or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRef {
    /// A published one.
    Publication(Mid),
    /// A subscribed one.
    Subscription(Sid),
}

/// Where a list goes on. To clients it is opaque text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Members after this one; `None`: from the first.
    pub users_after: Option<PeerId>,
    /// Streams after this one; `None`: from the first.
    pub pubs_after: Option<Mid>,
}

impl Cursor {
    /// The text for `more`.
    pub fn encode(&self) -> String {
        serde_json::to_string(&(&self.users_after, &self.pubs_after)).expect("invariant: two texts are JSON")
    }

    /// Reads [`encode`](Self::encode)'s text.
    pub fn decode(text: &str) -> Option<Self> {
        let (users_after, pubs_after) = serde_json::from_str(text).ok()?;
        Some(Self { users_after, pubs_after })
    }
}
