//! Requests under way: each waits for its turn, runs one command after the other, and is answered once and in time.

use std::time::{Duration, Instant};

use proto::signalling::answer::refused;
use proto::signalling::{ErrorCode, MAX_OUTBOUND_BYTES, Rejection, RequestId};
use telemetry::trace::Trace;

use super::flow::{Flow, Next, Reply};
use super::order::{Claims, Ticket};
use super::{BACK_OFF, Note, Output, Session, Subject};

/// By when a request is answered. The contract says 10 s at the client; the rest is for the way there and back.
const REQUEST_TIME: Duration = Duration::from_secs(9);
/// From there to the answer, whatever is still under way: what a command that did not complete by its deadline is waited for, and
/// the least that one is given which begins when the time is up.
const LATE: Duration = Duration::from_millis(250);
/// Longest a store may take for one call: it answers in milliseconds or is in trouble.
const STORE_TIME: Duration = Duration::from_secs(3);
/// Longest an SFU node may take for one call, repetitions included.
const SFU_TIME: Duration = Duration::from_secs(5);
/// Requests being carried out at once, each one call to the store or a node: what one client may ask of them.
const MAX_RUNNING: usize = 32;

/// A request that was not answered yet, or whose command is still under way.
pub(super) struct Pending {
    /// `None`: sent as a notification, or answered already.
    pub(super) id: Option<RequestId>,
    method: Option<&'static str>,
    since: Instant,
    pub(super) trace: Trace,
    pub(super) subject: Subject,
    pub(super) flow: Box<dyn Flow>,
    pub(super) state: Waiting,
    /// Nobody waits any more: what comes is taken back.
    pub(super) given_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For its turn.
    Turn,
    Store,
    Sfu,
}

impl Session {
    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        method: Option<&'static str>,
        subject: Subject,
        claims: Claims,
        flow: Box<dyn Flow>,
    ) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.order.push(ticket, claims);
        let (state, trace) = (Waiting::Turn, self.new_trace());
        self.pending.insert(ticket, Pending { id, method, since: now, trace, subject, flow, state, given_up: false });
        self.start_what_may(now);
    }

    pub(super) fn start_what_may(&mut self, now: Instant) {
        // One large snapshot after the other, so that a client that takes none has at most a few waiting for it.
        while let Some(ticket) = self.order.next(MAX_RUNNING, self.rests == 0) {
            let Some(mut pending) = self.pending.remove(&ticket) else {
                self.order.remove(ticket);
                continue;
            };
            let next = if now < pending.since + REQUEST_TIME {
                pending.flow.start(&mut self.context(pending.trace, &pending.subject))
            } else {
                // It waited for others all its time: nothing that is begun now could end in time.
                Next::Finish(Err(Rejection::rate_limited(BACK_OFF)))
            };
            self.go_on(now, ticket, pending, next);
        }
    }

    pub(super) fn go_on(&mut self, now: Instant, ticket: Ticket, mut pending: Pending, next: Next) {
        match next {
            Next::Run(command) => {
                let (state, time) =
                    if command.is_for_sfu() { (Waiting::Sfu, SFU_TIME) } else { (Waiting::Store, STORE_TIME) };
                pending.state = state;
                // A publish has its stream's id only now.
                if pending.subject.mid.is_none() {
                    pending.subject.mid = command.mid().cloned();
                }
                let (id, trace, subject) = (self.next_command, pending.trace, pending.subject.clone());
                self.next_command += 1;
                // The step before may have left no time, and this one may be needed to end in order.
                let deadline = (now + time).min(pending.since + REQUEST_TIME).max(now + LATE);
                self.commands.insert(id, ticket);
                self.pending.insert(ticket, pending);
                self.out.push_back(Output::Run { id, deadline, trace, subject, command });
            }
            Next::Finish(result) => {
                self.order.remove(ticket);
                let began = (pending.since, pending.trace, pending.subject);
                self.answer(now, began, pending.id.as_ref(), pending.method, result);
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        (since, trace, subject): (Instant, Trace, Subject),
        id: Option<&RequestId>,
        method: Option<&'static str>,
        result: Result<Reply, Rejection>,
    ) {
        let error = result.as_ref().err().map(|rejection| rejection.code);
        let took = now.duration_since(since);
        if let Ok(Reply::Joined(answer, _, how)) = &result {
            self.note(Note::JoinAnswered { how: *how, resync: answer.resync, took });
        }
        self.note(Note::Answered { method, error, took, trace, subject: subject.clone() });
        if self.ended {
            return;
        }
        if let Some(id) = id {
            let frame = match &result {
                Ok(reply) => reply.frame(id),
                Err(rejection) => refused(id, rejection),
            };
            let is_short = frame.len() <= MAX_OUTBOUND_BYTES;
            let frame = if is_short { frame } else { self.too_long(id, frame.len(), trace, &subject) };
            self.out.push_back(Output::Send(frame.into()));
        }
        if let Ok(Reply::Joined(_, rest, _)) = result
            && !rest.is_empty()
        {
            self.rests += 1;
            self.out.push_back(Output::SendRest(rest));
        }
    }

    fn too_long(&mut self, id: &RequestId, length: usize, trace: Trace, subject: &Subject) -> String {
        match self.context(trace, subject).internal(format!("an answer of {length} bytes")) {
            Next::Finish(Err(rejection)) => refused(id, &rejection),
            _ => refused(id, &Rejection::new(ErrorCode::Internal, "internal error")),
        }
    }

    /// Answers what has waited too long, whatever it waits for.
    pub(super) fn answer_late_ones(&mut self, now: Instant) {
        let is_late = |pending: &Pending| !pending.given_up && now >= pending.answer_by();
        let late: Vec<(Ticket, Rejection)> = self
            .pending
            .iter()
            .filter(|(_, pending)| is_late(pending))
            .map(|(&ticket, _)| (ticket, self.lateness(ticket)))
            .collect();
        for (ticket, rejection) in late {
            let Some(pending) = self.pending.get_mut(&ticket) else { continue };
            pending.given_up = true;
            let began = (pending.since, pending.trace, pending.subject.clone());
            let (id, method) = (pending.id.take(), pending.method);
            if pending.state == Waiting::Turn {
                self.pending.remove(&ticket);
                self.order.remove(ticket);
            }
            self.answer(now, began, id.as_ref(), method, Err(rejection));
        }
    }

    /// Why a request is late: by what it, or the one it waits for, waits for.
    fn lateness(&self, ticket: Ticket) -> Rejection {
        let mut ticket = ticket;
        while let Some(blocker) = self.order.blocker_of(ticket) {
            ticket = blocker;
        }
        match self.pending.get(&ticket).map(|pending| pending.state) {
            Some(Waiting::Sfu) => Rejection::new(ErrorCode::SfuUnreachable, "the SFU did not answer in time: retry"),
            Some(Waiting::Store) => Rejection::new(ErrorCode::StoreUnavailable, "room state is out of reach: retry"),
            Some(Waiting::Turn) | None => Rejection::rate_limited(BACK_OFF),
        }
    }
}

impl Pending {
    pub(super) fn answer_by(&self) -> Instant {
        self.since + REQUEST_TIME + LATE
    }
}
