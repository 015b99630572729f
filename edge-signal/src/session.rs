//! One client's session as a machine without I/O: frames, completions of its commands, what its rooms tell, and the time go
//! in; frames, commands and the end of the socket come out. It reads no clock and no randomness of its own, so that all of
//! it can be tested in virtual time. `connection` is the shell around it.
//!
//! ```text
//!         close asked for, socket gone, token expired, superseded …
//! Open ───────────────────────────────────────────────────────────▶ Ended
//! ```
//!
//! In both states every command that is under way ends with its completion; after the end nobody is answered, and what a
//! request had begun is taken back or left to the store's grace.

mod command;
mod flow;
mod join;
mod membership;
mod offer;
mod order;
mod pace;
mod paging;
mod publish;
mod rest;
mod restart;
mod single;
mod subscribe;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use proto::ids::{EdgeId, PeerId, RoomId};
use proto::signalling::answer::refused;
use proto::signalling::{
    ErrorCode, Inbound, MAX_OUTBOUND_BYTES, Notification, Rejection, Request, RequestId, StreamRef, parse,
};
use rand::rngs::StdRng;
use room_store::{Actor, ConnectionId, Head, JoinKind, SessionSigner};

pub(crate) use self::command::{Command, CommandId, Completion, Detached};
use self::flow::{Context, Flow, Next, Reply};
use self::join::JoinFlow;
use self::membership::{Memberships, Verdict};
use self::order::{Claims, Order, Ticket};
pub(crate) use self::pace::Pace;
pub(crate) use self::publish::MAX_MINFO_BYTES;
use self::publish::PublishFlow;
pub(crate) use self::rest::Rest;
use self::restart::RestartFlow;
pub(crate) use self::single::MAX_BROADCAST_BYTES;
use self::single::SingleFlow;
use self::subscribe::SubscribeFlow;
use crate::auth::{Access, Grant};
use crate::notice::Signal;
use crate::rate::{Rate, TokenBucket};

/// Close code for what is final: the client must not reconnect (signalling contract, section 1).
pub(crate) const CLOSE_FINAL: u16 = 4000;
/// The edge goes away (RFC 6455, section 7.4.1).
pub(crate) const CLOSE_GOING_AWAY: u16 = 1001;
/// The client's frames are too big, and so are those of too many others (RFC 6455, section 7.4.1).
pub(crate) const CLOSE_TOO_BIG: u16 = 1009;
/// What the client missed cannot be told on this socket: come back (IANA close code "service restart").
pub(crate) const CLOSE_RESTART: u16 = 1012;
/// The client takes its frames too slowly (IANA close code "try again later").
pub(crate) const CLOSE_TOO_SLOW: u16 = 1013;
/// Nothing came for too long.
const CLOSE_SILENT: u16 = 1001;

/// By when a request is answered. The contract says 10 s at the client; the rest is for the way there and back.
const REQUEST_TIME: Duration = Duration::from_secs(9);
/// A command that did not complete by its deadline is not waited for longer than this.
const LATE: Duration = Duration::from_millis(250);
/// Longest a store may take for one call: it answers in milliseconds or is in trouble.
const STORE_TIME: Duration = Duration::from_secs(3);
/// Longest an SFU node may take for one call, repetitions included.
const SFU_TIME: Duration = Duration::from_secs(5);
/// Requests being carried out at once, each one call to the store or a node: what one client may ask of them.
const MAX_RUNNING: usize = 32;
/// Requests not answered yet, waiting ones included. A client that joins a big room subscribes to all it shows at once.
const MAX_REQUESTS: usize = 512;
/// How long a client that has reached it is told to wait: some of them are answered by then.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long before its end a token is announced to expire.
const EXPIRY_NOTICE: Duration = Duration::from_mins(1);
/// Bytes of a frame that cost as much as another request.
const BYTES_PER_COST: usize = 16 * 1024;

/// What all sessions of an edge have in common.
#[derive(Debug)]
pub(crate) struct SessionConfig {
    pub(crate) edge: EdgeId,
    pub(crate) sessions: SessionSigner,
    /// How long the store keeps a session whose socket is gone.
    pub(crate) grace: Duration,
    pub(crate) pace: Pace,
    pub(crate) max_rooms: usize,
    pub(crate) rate: Rate,
}

/// Whose session it is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) access: Access,
    /// When its token ends.
    pub(crate) expires_at: Option<Instant>,
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
        command: Command,
    },
    /// Carry out something nobody waits for.
    Detach(Detached),
    /// Hold back what the room tells, if it is followed.
    Park(RoomId),
    /// This socket is the actor's in the room: hand in what the room tells from where it was held back. `head` is where a
    /// new join left the log.
    Deliver {
        actor: Actor,
        head: Option<Head>,
    },
    /// Do not follow the room any more.
    Unfollow(RoomId),
    /// The client was heard of.
    Touch,
    /// For logs and metrics.
    Note(Note),
}

/// Something worth counting or logging.
#[derive(Debug)]
pub(crate) enum Note {
    Dropped { why: &'static str },
    Answered { method: &'static str, error: Option<ErrorCode>, took: Duration },
    Joined { room: RoomId, how: JoinKind },
    Internal { trace: String, what: String },
    Silent,
}

type Outputs = VecDeque<Output>;

/// A request that was not answered yet, or whose command is still under way.
struct Pending {
    /// `None`: sent as a notification, or answered already.
    id: Option<RequestId>,
    method: &'static str,
    since: Instant,
    flow: Box<dyn Flow>,
    state: Waiting,
    /// Nobody waits any more: what comes is taken back.
    given_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For its turn.
    Turn,
    Store,
    Sfu,
}

/// One client's session.
pub(crate) struct Session {
    config: Arc<SessionConfig>,
    identity: Identity,
    rng: StdRng,
    ended: bool,
    rooms: Memberships,
    pending: BTreeMap<Ticket, Pending>,
    order: Order,
    next_ticket: Ticket,
    commands: HashMap<CommandId, Ticket>,
    next_command: CommandId,
    bucket: TokenBucket,
    /// Joins whose answers are still being sent.
    rests: usize,
    last_frame: Instant,
    next_ping: Instant,
    touched: Option<Instant>,
    expiry_told: bool,
    out: Outputs,
}

impl Session {
    /// A session whose socket has just been opened. `rng` is seeded from a cryptographic source.
    pub(crate) fn new(config: Arc<SessionConfig>, identity: Identity, rng: StdRng, now: Instant) -> Self {
        let bucket = TokenBucket::new(config.rate, now);
        let next_ping = now + config.pace.ping;
        Self {
            config,
            identity,
            rng,
            ended: false,
            rooms: Memberships::default(),
            pending: BTreeMap::new(),
            order: Order::default(),
            next_ticket: 0,
            commands: HashMap::new(),
            next_command: 0,
            bucket,
            rests: 0,
            last_frame: now,
            next_ping,
            touched: None,
            expiry_told: false,
            out: Outputs::new(),
        }
    }

    /// A text frame came.
    pub(crate) fn handle_text(&mut self, now: Instant, text: &str) {
        if self.ended {
            return;
        }
        self.handle_sign_of_life(now);
        let inbound = match parse(text) {
            Ok(inbound) => inbound,
            Err(dropped) => return self.note(Note::Dropped { why: dropped.name() }),
        };
        let cost = 1 + u32::try_from(text.len() / BYTES_PER_COST).unwrap_or(u32::MAX);
        let taken = self.bucket.take(cost, now).map_err(Rejection::rate_limited).and_then(|()| self.admit(&inbound));
        let Inbound { id, op, request } = inbound;
        let method = request.as_ref().map_or("", Request::method);
        match taken.and(request) {
            Ok(request) => self.enqueue(now, id, method, claims(&request), flow(request, op)),
            Err(rejection) => self.answer(now, now, id.as_ref(), method, Err(rejection)),
        }
    }

    /// A frame without meaning came.
    pub(crate) fn handle_sign_of_life(&mut self, now: Instant) {
        self.last_frame = now;
        if !self.ended && self.touched.is_none_or(|touched| now.duration_since(touched) >= self.config.pace.touch) {
            self.touched = Some(now);
            self.out.push_back(Output::Touch);
        }
    }

    /// A command has come to this. Unknown ids are ignored.
    pub(crate) fn handle_completion(&mut self, now: Instant, id: CommandId, completion: Completion) {
        let Some(ticket) = self.commands.remove(&id) else { return };
        let Some(mut pending) = self.pending.remove(&ticket) else { return };
        if pending.given_up {
            pending.flow.give_up(&mut self.context(), completion);
            self.order.remove(ticket);
        } else {
            let next = pending.flow.resume(&mut self.context(), completion);
            self.go_on(now, ticket, pending, next);
        }
        self.start_what_may(now);
    }

    /// The client has taken what followed the answer to a join.
    pub(crate) fn handle_rest_sent(&mut self, now: Instant) {
        self.rests -= 1;
        self.start_what_may(now);
    }

    /// A room told something.
    pub(crate) fn handle_signal(&mut self, room: &RoomId, signal: &Signal) {
        if self.ended {
            return;
        }
        let me = (&self.identity.peer, self.identity.connection);
        match self.rooms.hear(room, signal, me, &mut self.out) {
            Verdict::GoOn => {}
            Verdict::Superseded => self.close(CLOSE_FINAL, "superseded by another connection"),
            Verdict::TakenOver => {
                self.end_memberships(true);
                self.close(CLOSE_FINAL, "superseded by another connection");
            }
            Verdict::Reset => self.close(CLOSE_RESTART, "rejoin"),
        }
    }

    /// What a room told was missed: this task was too slow.
    pub(crate) fn handle_lagged(&mut self) {
        self.close(CLOSE_TOO_SLOW, "too slow");
    }

    /// The socket is gone, by the client's doing or the network's.
    pub(crate) fn handle_closed(&mut self) {
        self.end();
    }

    /// The edge wants the socket closed.
    pub(crate) fn close(&mut self, code: u16, reason: &'static str) {
        if !self.ended {
            self.out.push_back(Output::Close { code, reason });
            self.end();
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.answer_late_ones(now);
        self.mind_the_token(now);
        if self.ended {
            return;
        }
        if now >= self.last_frame + self.config.pace.silence {
            self.note(Note::Silent);
            return self.close(CLOSE_SILENT, "nothing came for too long");
        }
        if now >= self.next_ping {
            self.next_ping = now + self.config.pace.ping;
            self.out.push_back(Output::Ping);
        }
        self.start_what_may(now);
    }

    /// When [`Session::handle_timeout`] wants to be called; `None`: nothing will come by time alone.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.pending.values().filter(|pending| !pending.given_up).map(Pending::answer_by).min();
        if self.ended {
            return requests;
        }
        let expiry =
            self.identity.expires_at.map(|end| if self.expiry_told { end } else { notice_at(end, self.last_frame) });
        [Some(self.last_frame + self.config.pace.silence), Some(self.next_ping), expiry, requests]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Whether the socket is to be closed, or is, and nothing is under way any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended && self.commands.is_empty() && self.out.is_empty()
    }

    /// Whether the request may be made by this client at all, and now.
    fn admit(&self, inbound: &Inbound) -> Result<(), Rejection> {
        if let Ok(request) = &inbound.request {
            let access = &self.identity.access;
            if !access.allows_room(request.rid().as_str()) {
                return Err(Rejection::new(ErrorCode::Forbidden, "the token is not for this room"));
            }
            if let Some(grant) = needed(request).filter(|grant| !access.allows(*grant)) {
                return Err(Rejection::new(ErrorCode::Forbidden, format!("the token does not grant {}", grant.name())));
            }
        }
        if self.pending.len() >= MAX_REQUESTS {
            return Err(Rejection::rate_limited(BACK_OFF));
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        method: &'static str,
        claims: Claims,
        flow: Box<dyn Flow>,
    ) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.order.push(ticket, claims);
        let state = Waiting::Turn;
        self.pending.insert(ticket, Pending { id, method, since: now, flow, state, given_up: false });
        self.start_what_may(now);
    }

    fn start_what_may(&mut self, now: Instant) {
        // One large snapshot after the other, so that a client that takes none has at most a few waiting for it.
        while let Some(ticket) = self.order.next(MAX_RUNNING, self.rests == 0) {
            let Some(mut pending) = self.pending.remove(&ticket) else {
                self.order.remove(ticket);
                continue;
            };
            let next = pending.flow.start(&mut self.context());
            self.go_on(now, ticket, pending, next);
        }
    }

    fn go_on(&mut self, now: Instant, ticket: Ticket, mut pending: Pending, next: Next) {
        match next {
            Next::Run(command) => {
                let (state, time) =
                    if command.is_for_sfu() { (Waiting::Sfu, SFU_TIME) } else { (Waiting::Store, STORE_TIME) };
                pending.state = state;
                let id = self.next_command;
                self.next_command += 1;
                let deadline = (now + time).min(pending.since + REQUEST_TIME);
                self.commands.insert(id, ticket);
                self.pending.insert(ticket, pending);
                self.out.push_back(Output::Run { id, deadline, command });
            }
            Next::Finish(result) => {
                self.order.remove(ticket);
                self.answer(now, pending.since, pending.id.as_ref(), pending.method, result);
            }
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        since: Instant,
        id: Option<&RequestId>,
        method: &'static str,
        result: Result<Reply, Rejection>,
    ) {
        let error = result.as_ref().err().map(|rejection| rejection.code);
        self.note(Note::Answered { method, error, took: now.duration_since(since) });
        if self.ended {
            return;
        }
        if let Some(id) = id {
            let frame = match &result {
                Ok(reply) => reply.frame(id),
                Err(rejection) => refused(id, rejection),
            };
            let frame = if frame.len() <= MAX_OUTBOUND_BYTES { frame } else { self.too_long(id, frame.len()) };
            self.out.push_back(Output::Send(frame.into()));
        }
        if let Ok(Reply::Joined(_, rest)) = result
            && !rest.is_empty()
        {
            self.rests += 1;
            self.out.push_back(Output::SendRest(rest));
        }
    }

    fn too_long(&mut self, id: &RequestId, length: usize) -> String {
        match self.context().internal(format!("an answer of {length} bytes")) {
            Next::Finish(Err(rejection)) => refused(id, &rejection),
            _ => refused(id, &Rejection::new(ErrorCode::Internal, "internal error")),
        }
    }

    /// Answers what has waited too long, whatever it waits for.
    fn answer_late_ones(&mut self, now: Instant) {
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
            let (since, id, method) = (pending.since, pending.id.take(), pending.method);
            if pending.state == Waiting::Turn {
                self.pending.remove(&ticket);
                self.order.remove(ticket);
            }
            self.answer(now, since, id.as_ref(), method, Err(rejection));
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

    fn mind_the_token(&mut self, now: Instant) {
        let Some(end) = self.identity.expires_at.filter(|_| !self.ended) else { return };
        if now >= end {
            return self.close(CLOSE_FINAL, "token expired");
        }
        if !self.expiry_told && end.duration_since(now) <= EXPIRY_NOTICE {
            self.expiry_told = true;
            let in_ms = u64::try_from(end.duration_since(now).as_millis()).unwrap_or(u64::MAX);
            self.out.push_back(Output::Send(Notification::TokenExpiring { in_ms }.to_frame().into()));
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.end_memberships(false);
        let order = &mut self.order;
        self.pending.retain(|&ticket, pending| {
            pending.given_up = true;
            pending.id = None;
            let runs = pending.state != Waiting::Turn;
            if !runs {
                order.remove(ticket);
            }
            runs
        });
    }

    fn end_memberships(&mut self, for_good: bool) {
        for actor in self.rooms.take() {
            self.out.push_back(Output::Unfollow(actor.room.clone()));
            self.out.push_back(Output::Detach(Detached::SocketClosed { actor, for_good }));
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            config: &self.config,
            peer: &self.identity.peer,
            connection: self.identity.connection,
            rooms: &mut self.rooms,
            rng: &mut self.rng,
            out: &mut self.out,
        }
    }

    fn note(&mut self, note: Note) {
        self.out.push_back(Output::Note(note));
    }
}

impl Pending {
    fn answer_by(&self) -> Instant {
        self.since + REQUEST_TIME + LATE
    }
}

/// When a token's end is announced; at once (`from`) when that time is past already.
fn notice_at(end: Instant, from: Instant) -> Instant {
    end.checked_sub(EXPIRY_NOTICE).unwrap_or(from)
}

/// The grant a request needs beside the room. Ending what is one's own needs none.
fn needed(request: &Request) -> Option<Grant> {
    match request {
        Request::Publish(_) | Request::Mute { .. } | Request::Restart { stream: StreamRef::Publication(_), .. } => {
            Some(Grant::Publish)
        }
        Request::Subscribe(_) | Request::Restart { stream: StreamRef::Subscription(_), .. } => Some(Grant::Subscribe),
        Request::Broadcast { .. } => Some(Grant::Broadcast),
        Request::Join(_)
        | Request::Leave { .. }
        | Request::KeepAlive { .. }
        | Request::Unpublish { .. }
        | Request::Unsubscribe { .. }
        | Request::GetUsers { .. }
        | Request::GetPubs { .. } => None,
    }
}

/// What a request must not run beside.
fn claims(request: &Request) -> Claims {
    let streams = match request {
        Request::Unpublish { mid, .. }
        | Request::Mute { mid, .. }
        | Request::Restart { stream: StreamRef::Publication(mid), .. } => vec![mid.to_string()],
        Request::Subscribe(subscribe) => vec![subscribe.mid.to_string()],
        Request::Unsubscribe { mid, sid, .. } => vec![mid.to_string(), sid.to_string()],
        Request::Restart { stream: StreamRef::Subscription(sid), .. } => vec![sid.to_string()],
        Request::Join(_)
        | Request::Leave { .. }
        | Request::KeepAlive { .. }
        | Request::Publish(_)
        | Request::GetUsers { .. }
        | Request::GetPubs { .. } => Vec::new(),
        // What one peer says keeps its order, too. No stream has this id.
        Request::Broadcast { .. } => vec!["\0broadcast".to_owned()],
    };
    let exclusive = matches!(request, Request::Join(_) | Request::Leave { .. });
    let snapshot = matches!(request, Request::Join(_));
    Claims { room: Some(request.rid().to_string()), exclusive, snapshot, streams }
}

fn flow(request: Request, op: Option<proto::ids::OpId>) -> Box<dyn Flow> {
    match request {
        Request::Join(join) => Box::new(JoinFlow::new(join, op)),
        Request::Publish(publish) => Box::new(PublishFlow::new(publish, op)),
        Request::Subscribe(subscribe) => Box::new(SubscribeFlow::new(subscribe, op)),
        Request::Restart { rid, stream, offer } => Box::new(RestartFlow::new(rid, stream, offer)),
        single => Box::new(SingleFlow::new(single, op)),
    }
}

#[cfg(test)]
mod tests;
