//! What all requests have in common: a request is a flow, which asks for one command after the other and ends with a reply or
//! a rejection. Flows own what they have begun: one that cannot go on takes it back.

use std::borrow::Cow;

use proto::ids::{PeerId, RegionId, RoomId};
use proto::signalling::answer::{
    Done, JoinAnswer, PublishAnswer, PubsAnswer, RecordAnswer, RestartAnswer, SubscribeAnswer, UsersAnswer, accepted,
};
use proto::signalling::{ErrorCode, Rejection, RequestId};
use rand::rngs::StdRng;
use room_store::{Actor, Conflict, ConnectionId, JoinKind, StoreError};
use telemetry::trace::Trace;

use super::command::{Command, Completion, Detached};
use super::membership::Memberships;
use super::rest::Rest;
use super::standing::Standing;
use super::{BACK_OFF, Note, Output, Outputs, SessionConfig, Subject};

/// A request being carried out.
pub(super) trait Flow: Send {
    /// Begins. Called once, when the order of requests allows it.
    fn start(&mut self, cx: &mut Context<'_>) -> Next;

    /// Goes on with what the last command came to.
    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next;

    /// Nobody waits for the answer any more, and the last command came to this: takes back what was begun.
    fn give_up(&mut self, _cx: &mut Context<'_>, _completion: Completion) {}
}

/// How a flow goes on.
pub(super) enum Next {
    /// With this command; its completion resumes the flow.
    Run(Command),
    /// Not at all: this is the answer.
    Finish(Result<Reply, Rejection>),
}

impl Next {
    pub(super) fn reject(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Finish(Err(Rejection::new(code, reason)))
    }
}

impl From<Rejection> for Next {
    fn from(rejection: Rejection) -> Self {
        Self::Finish(Err(rejection))
    }
}

/// What a request that was carried out is answered with.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    /// The answer, what follows it, and how the client joined.
    Joined(Box<JoinAnswer>, Box<Rest>, JoinKind),
    Published(PublishAnswer),
    Subscribed(SubscribeAnswer),
    Restarted(RestartAnswer),
    Recorded(RecordAnswer),
    Users(UsersAnswer),
    Pubs(PubsAnswer),
}

impl Reply {
    /// The answer's frame.
    pub(super) fn frame(&self, id: &RequestId) -> String {
        match self {
            Self::Done => accepted(id, &Done {}),
            Self::Joined(answer, ..) => accepted(id, answer),
            Self::Published(answer) => accepted(id, answer),
            Self::Subscribed(answer) => accepted(id, answer),
            Self::Restarted(answer) => accepted(id, answer),
            Self::Recorded(answer) => accepted(id, answer),
            Self::Users(answer) => accepted(id, answer),
            Self::Pubs(answer) => accepted(id, answer),
        }
    }
}

/// What a flow sees of its session.
pub(super) struct Context<'a> {
    /// Of the request.
    pub(super) trace: Trace,
    pub(super) subject: &'a Subject,
    pub(super) config: &'a SessionConfig,
    pub(super) peer: &'a PeerId,
    pub(super) connection: ConnectionId,
    /// Where the client says it is.
    pub(super) region: Option<&'a RegionId>,
    /// When the socket was opened, Unix time.
    pub(super) opened_ms: u64,
    pub(super) standing: &'a mut Standing,
    /// The client is not to come back to what it was in.
    pub(super) for_good: bool,
    pub(super) rooms: &'a mut Memberships,
    pub(super) rng: &'a mut StdRng,
    pub(super) out: &'a mut Outputs,
}

impl Context<'_> {
    /// This peer as a member of the room.
    pub(super) fn actor(&self, rid: &RoomId) -> Result<Actor, Rejection> {
        self.rooms.actor(rid).ok_or_else(not_in_room)
    }

    /// Has something done that nobody waits for.
    pub(super) fn detach(&mut self, detached: Detached) {
        self.out.push_back(Output::Detach(detached, Some(self.trace)));
    }

    /// Something that must not happen did: it is logged with the request's id, which the client is told.
    pub(super) fn internal(&mut self, what: impl Into<String>) -> Next {
        let (trace, subject) = (self.trace, self.subject.clone());
        let rejection = Rejection::new(ErrorCode::Internal, format!("internal error, trace {}", trace.id()));
        self.out.push_back(Output::Note(Note::Internal { trace, subject, what: what.into() }));
        rejection.into()
    }

    /// A completion of another kind than the command asked for.
    pub(super) fn mismatch(&mut self, completion: &Completion) -> Next {
        debug_assert!(false, "a completion of another kind than its command");
        // Its kind and no more: it has what is nobody's business, such as the credentials in an answer.
        self.internal(format!("unexpected completion: {}", completion.kind()))
    }

    /// What a failure of the store means to a client. [`StoreError::NotMember`] ends the membership here, too.
    pub(super) fn store_failed(&mut self, rid: &RoomId, error: StoreError) -> Next {
        if error == StoreError::NotMember {
            self.rooms.lose(rid, self.out);
        }
        rejection(error).into()
    }
}

pub(super) fn not_for_this_room() -> Rejection {
    Rejection::new(ErrorCode::Forbidden, "the token is not for this room")
}

pub(super) fn not_in_room() -> Rejection {
    Rejection::new(ErrorCode::NotInRoom, "not a member of this room: join again")
}

fn rejection(error: StoreError) -> Rejection {
    let code = match error {
        StoreError::Unavailable | StoreError::Timeout => ErrorCode::StoreUnavailable,
        StoreError::NotMember => return not_in_room(),
        StoreError::UnknownPublication | StoreError::NotOwner => ErrorCode::BadMid,
        StoreError::UnknownSubscription => ErrorCode::BadSid,
        StoreError::Conflict(Conflict::TooManyOps) => return Rejection::rate_limited(BACK_OFF),
        StoreError::Conflict(Conflict::NoNode) => ErrorCode::NoSfu,
        StoreError::Conflict(_) => ErrorCode::Conflict,
    };
    Rejection::new(code, error.to_string())
}
