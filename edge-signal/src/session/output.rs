//! What comes out of a session.

use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use proto::ids::{Mid, RoomId};
use proto::signalling::{Dropped, ErrorCode};
use room_store::{Actor, JoinKind};
use telemetry::trace::{About, Trace};

use crate::metrics::Limit;

use super::{Command, CommandId, Detached, Rest};
use crate::members::Held;
use crate::rooms::Known;

/// What a request is about, as far as it is known by then, for its lines in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) room: Option<RoomId>,
    pub(crate) mid: Option<Mid>,
}

impl Subject {
    pub(crate) fn about(&self) -> About<'_> {
        About { room: self.room.as_ref().map(RoomId::as_str), mid: self.mid.as_ref().map(Mid::as_str) }
    }
}

/// What the session wants done.
#[derive(Debug)]
pub(crate) enum Output {
    Send(Utf8Bytes),
    /// Send all of these, as the client takes them, then hand in [`Session::handle_rest_sent`]. What is sent later follows them.
    SendRest(Box<Rest>),
    Ping,
    /// Send what was said before, then close. Nothing follows but completions' aftermath.
    Close {
        code: u16,
        reason: &'static str,
    },
    /// Carry out a command and hand in its completion by the deadline.
    Run {
        id: CommandId,
        deadline: Instant,
        /// Of the request that it is part of.
        trace: Trace,
        subject: Subject,
        command: Command,
    },
    /// Carry out something nobody waits for.
    Detach(Detached, Option<Trace>),
    /// Hold back what the room tells, if it is followed.
    Park(RoomId),
    /// This socket is the actor's in the room: hand in what the room tells from where it was held back. `arrival` is what a
    /// new join was answered with.
    Deliver {
        actor: Actor,
        arrival: Option<Box<Arrival>>,
    },
    /// Do not follow the room any more.
    Unfollow(RoomId),
    /// The client was heard of.
    Touch,
    /// For logs and metrics.
    Note(Note),
}

/// What a socket knows that has just joined, and what its session has.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) known: Known,
    pub(crate) held: Held,
}

/// Something worth counting or logging.
#[derive(Debug)]
pub(crate) enum Note {
    Dropped {
        why: Dropped,
        subject: Subject,
    },
    Answered {
        method: Option<&'static str>,
        error: Option<ErrorCode>,
        took: Duration,
        trace: Trace,
        subject: Subject,
    },
    Joined {
        room: RoomId,
        how: JoinKind,
        trace: Trace,
    },
    /// A join was carried out. `resync`: its client was not told what it had missed.
    JoinAnswered {
        how: JoinKind,
        resync: bool,
        took: Duration,
    },
    Internal {
        trace: Trace,
        subject: Subject,
        what: String,
    },
    Silent,
    /// A stream that was to be recorded from its beginning is not.
    NotRecorded {
        room: RoomId,
        mid: Mid,
        error: String,
        trace: Trace,
    },
    /// A request was refused because of this.
    Limited(Limit),
}
