//! What a session asks of the store and the SFU nodes, and what comes back. Each command is one call; who carries it out
//! answers it with exactly one completion, at the latest at its deadline.

use std::sync::Arc;

use proto::ids::{Mid, NodeId, OpId, PeerId, RecordingId, RegionId, RoomId, Sid};
use proto::sfu::{NegotiateRequest, NegotiateResponse, RecordRequest, RestartRequest, RestartResponse};
use proto::signalling::AccessToken;
use room_store::{
    Actor, Broadcast, Hold, Join, Joined, Left, LossReason, Member, Page, Placement, Publication, Refreshed, Released,
    ReservePublication, ReserveSubscription, SetBy, SetRecording, StoreError, Subscription, SubscriptionReserved,
};

use super::output::Subject;
use super::standing::Proof;
use crate::admission::NotAdmitted;
use crate::nodes::SfuError;

/// Names a command within its session.
pub(crate) type CommandId = u64;

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Follow the room, then join it. What the room tells is held back until [`Output::Deliver`](super::Output::Deliver).
    Join(Join),
    Leave {
        actor: Actor,
        op: Option<OpId>,
    },
    Refresh {
        room: RoomId,
        hold: Hold,
    },
    /// Hold a token of this peer against the keys and what was revoked.
    Prove {
        peer: PeerId,
        token: AccessToken,
    },
    /// Nodes for a new stream of the room, of a client in this region (`None`: the edge's), which is to be recorded or not.
    Candidates {
        room: RoomId,
        region: Option<RegionId>,
        avoid: Vec<NodeId>,
        is_recorded: bool,
    },
    ReservePublication(ReservePublication),
    ConfirmPublication {
        actor: Actor,
        mid: Mid,
    },
    RemovePublication {
        actor: Actor,
        mid: Mid,
    },
    Mute {
        actor: Actor,
        mid: Mid,
        audio: Option<bool>,
        video: Option<bool>,
    },
    /// By a member.
    SetRecording(SetRecording),
    ReserveSubscription(ReserveSubscription),
    ConfirmSubscription {
        actor: Actor,
        sid: Sid,
    },
    RemoveSubscription {
        actor: Actor,
        sid: Sid,
    },
    Broadcast(Broadcast),
    Members {
        actor: Actor,
        after: Option<PeerId>,
        limit: usize,
    },
    Publications {
        actor: Actor,
        after: Option<Mid>,
        limit: usize,
    },
    Publication {
        actor: Actor,
        mid: Mid,
    },
    Subscription {
        actor: Actor,
        sid: Sid,
    },
    Negotiate {
        node: NodeId,
        request: NegotiateRequest,
    },
    Restart {
        node: NodeId,
        request: RestartRequest,
    },
    Record {
        node: NodeId,
        request: RecordRequest,
    },
}

impl Command {
    /// Whether it goes to an SFU node, and not to the store.
    pub(super) fn is_for_sfu(&self) -> bool {
        matches!(self, Self::Negotiate { .. } | Self::Restart { .. } | Self::Record { .. } | Self::Candidates { .. })
    }

    /// As a step of its request is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Leave { .. } => "leave",
            Self::Refresh { .. } => "refresh",
            Self::Prove { .. } => "prove",
            Self::Candidates { .. } => "candidates",
            Self::ReservePublication(_) => "reserve publication",
            Self::ConfirmPublication { .. } => "confirm publication",
            Self::RemovePublication { .. } => "remove publication",
            Self::Mute { .. } => "mute",
            Self::SetRecording(_) => "set recording",
            Self::ReserveSubscription(_) => "reserve subscription",
            Self::ConfirmSubscription { .. } => "confirm subscription",
            Self::RemoveSubscription { .. } => "remove subscription",
            Self::Broadcast(_) => "broadcast",
            Self::Members { .. } => "members",
            Self::Publications { .. } => "publications",
            Self::Publication { .. } => "publication",
            Self::Subscription { .. } => "subscription",
            Self::Negotiate { .. } => "negotiate",
            Self::Restart { .. } => "restart",
            Self::Record { .. } => "record",
        }
    }

    /// The stream that it is about, where it names one.
    pub(super) fn mid(&self) -> Option<&Mid> {
        match self {
            Self::ConfirmPublication { mid, .. }
            | Self::RemovePublication { mid, .. }
            | Self::Mute { mid, .. }
            | Self::Publication { mid, .. } => Some(mid),
            Self::ReservePublication(request) => Some(&request.mid),
            Self::ReserveSubscription(request) => Some(&request.mid),
            Self::SetRecording(request) => Some(&request.mid),
            _ => None,
        }
    }

    /// How it ends when the store fails; `None`: it goes to the SFU.
    pub(crate) fn failed(&self, error: StoreError) -> Option<Completion> {
        Some(match self {
            Self::Join(_) => Completion::Joined(Err(error)),
            Self::Leave { .. } => Completion::Left(Err(error)),
            Self::Refresh { .. } => Completion::Refreshed(Err(error)),
            Self::ReservePublication(_)
            | Self::ConfirmPublication { .. }
            | Self::Mute { .. }
            | Self::SetRecording(_)
            | Self::Publication { .. } => Completion::Publication(Err(error)),
            Self::RemovePublication { .. } | Self::RemoveSubscription { .. } => Completion::Released(Err(error)),
            Self::ReserveSubscription(_) => Completion::Reserved(Err(error)),
            Self::ConfirmSubscription { .. } | Self::Subscription { .. } => Completion::Subscription(Err(error)),
            Self::Broadcast(_) => Completion::Said(Err(error)),
            Self::Members { .. } => Completion::Members(Err(error)),
            Self::Publications { .. } => Completion::Publications(Err(error)),
            Self::Candidates { .. }
            | Self::Negotiate { .. }
            | Self::Restart { .. }
            | Self::Record { .. }
            | Self::Prove { .. } => return None,
        })
    }

    /// The member whose call it is; `None`: it needs none.
    pub(crate) fn actor(&self) -> Option<Actor> {
        match self {
            Self::Leave { actor, .. }
            | Self::ConfirmPublication { actor, .. }
            | Self::RemovePublication { actor, .. }
            | Self::Mute { actor, .. }
            | Self::ConfirmSubscription { actor, .. }
            | Self::RemoveSubscription { actor, .. }
            | Self::Members { actor, .. }
            | Self::Publications { actor, .. }
            | Self::Publication { actor, .. }
            | Self::Subscription { actor, .. }
            | Self::SetRecording(SetRecording { by: SetBy::Client(actor), .. }) => Some(actor.clone()),
            Self::ReservePublication(request) => Some(request.actor.clone()),
            Self::ReserveSubscription(request) => Some(request.actor.clone()),
            Self::Broadcast(broadcast) => Some(broadcast.actor.clone()),
            Self::Refresh { room, hold } => {
                Some(Actor { room: room.clone(), peer: hold.peer.clone(), session: hold.session.clone() })
            }
            Self::Join(_)
            | Self::Candidates { .. }
            | Self::Negotiate { .. }
            | Self::Restart { .. }
            | Self::Record { .. }
            | Self::SetRecording(_)
            | Self::Prove { .. } => None,
        }
    }
}

/// What came of a [`Command`], by its kind.
#[derive(Debug, Clone)]
pub(crate) enum Completion {
    Joined(Result<Box<Joined>, StoreError>),
    Left(Result<Left, StoreError>),
    Refreshed(Result<Refreshed, StoreError>),
    Candidates(Vec<Placement>),
    Publication(Result<Arc<Publication>, StoreError>),
    Released(Result<Released, StoreError>),
    Reserved(Result<SubscriptionReserved, StoreError>),
    Subscription(Result<Arc<Subscription>, StoreError>),
    Said(Result<(), StoreError>),
    Members(Result<Page<Arc<Member>>, StoreError>),
    Publications(Result<Page<Arc<Publication>>, StoreError>),
    Negotiated(Result<NegotiateResponse, SfuError>),
    Restarted(Result<RestartResponse, SfuError>),
    Recorded(Result<(), SfuError>),
    Proven(Result<Proof, NotAdmitted>),
}

impl Completion {
    /// What it is of, without what is in it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Joined(_) => "joined",
            Self::Left(_) => "left",
            Self::Refreshed(_) => "refreshed",
            Self::Candidates(_) => "candidates",
            Self::Publication(_) => "publication",
            Self::Released(_) => "released",
            Self::Reserved(_) => "reserved",
            Self::Subscription(_) => "subscription",
            Self::Said(_) => "said",
            Self::Members(_) => "members",
            Self::Publications(_) => "publications",
            Self::Negotiated(_) => "negotiated",
            Self::Restarted(_) => "restarted",
            Self::Recorded(_) => "recorded",
            Self::Proven(_) => "proven",
        }
    }

    /// Whether the store does not know, or no longer, the session that made the call.
    pub(crate) fn is_of_no_member(&self) -> bool {
        let gone = |(_, reason): &(Hold, LossReason)| *reason == LossReason::Gone;
        match self {
            Self::Left(Err(error))
            | Self::Publication(Err(error))
            | Self::Released(Err(error))
            | Self::Reserved(Err(error))
            | Self::Subscription(Err(error))
            | Self::Said(Err(error))
            | Self::Members(Err(error))
            | Self::Publications(Err(error)) => *error == StoreError::NotMember,
            Self::Refreshed(Ok(refreshed)) => refreshed.lost.iter().any(gone),
            _ => false,
        }
    }
}

/// A call nobody waits for: repeated for a while if need be.
#[derive(Debug, Clone)]
pub(crate) enum Detached {
    SocketClosed {
        actor: Actor,
        /// Its client was told not to come back.
        for_good: bool,
    },
    RemovePublication {
        actor: Actor,
        mid: Mid,
    },
    RemoveSubscription {
        actor: Actor,
        sid: Sid,
    },
    /// In the store, if it is this one, and on its node, if that is known.
    EndRecording {
        room: RoomId,
        mid: Mid,
        recording: RecordingId,
        placement: Option<Placement>,
    },
    /// Transports the store has forgotten already.
    Close(Released),
}

impl Detached {
    /// What it is about, if it is one thing.
    pub(crate) fn subject(&self) -> Subject {
        let (room, mid) = match self {
            Self::SocketClosed { actor, .. } | Self::RemoveSubscription { actor, .. } => (&actor.room, None),
            Self::RemovePublication { actor, mid } => (&actor.room, Some(mid)),
            Self::EndRecording { room, mid, .. } => (room, Some(mid)),
            Self::Close(_) => return Subject::default(),
        };
        Subject { room: Some(room.clone()), mid: mid.cloned() }
    }
}
