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
mod dispatch;
mod flow;
mod join;
mod membership;
mod offer;
mod order;
mod output;
mod pace;
mod paging;
mod publish;
mod record;
mod refresh;
mod requests;
mod rest;
mod restart;
mod single;
mod standing;
mod subscribe;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ids::{EdgeId, PeerId, RegionId, RoomId};
use proto::signalling::{ErrorCode, Inbound, Join, Notification, Rejection, Request, parse};
use rand::RngExt as _;
use rand::rngs::StdRng;
use room_store::{ConnectionId, SessionSigner};
use telemetry::trace::Trace;

pub(crate) use self::command::{Command, CommandId, Completion, Detached};
use self::dispatch::{Told, claims, flow, mid, needed, told};
use self::flow::{Context, not_for_this_room};
use self::membership::{Memberships, Verdict};
use self::order::{Order, Ticket};
pub(crate) use self::output::{Arrival, Note, Output, Subject};
pub(crate) use self::pace::{MAX_PING, Pace};
pub(crate) use self::publish::MAX_MINFO_BYTES;
use self::requests::{Pending, Waiting};
pub(crate) use self::rest::Rest;
pub(crate) use self::single::MAX_BROADCAST_BYTES;
pub(crate) use self::standing::Proof;
use self::standing::{Expiry, Standing};
use crate::auth::{Access, Grant};
use crate::metrics::Limit;
use crate::notice::Signal;
use crate::presence;
use crate::rate::{Rate, SharedBucket, TokenBucket};
use crate::room_rates::RoomLimits;
use crate::settings::RecordingSettings;

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

/// Requests not answered yet, waiting ones included. A client that joins a big room subscribes to all it shows at once.
const MAX_REQUESTS: usize = 512;
/// How long a client that has reached it is told to wait: some of them are answered by then.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Bytes of a frame that cost as much as another request.
pub(crate) const BYTES_PER_COST: usize = 16 * 1024;

/// What all sessions of an edge have in common.
#[derive(Debug)]
pub(crate) struct SessionConfig {
    pub(crate) edge: EdgeId,
    pub(crate) sessions: SessionSigner,
    /// How long the store keeps a session whose socket is gone.
    pub(crate) grace: Duration,
    pub(crate) pace: Pace,
    pub(crate) max_rooms: usize,
    /// Requests carried out.
    pub(crate) rate: Rate,
    /// Requests carried out for all clients of the edge together.
    pub(crate) edge_requests: SharedBucket,
    /// What the members of a room are told through this edge.
    pub(crate) room_limits: RoomLimits,
    /// Rooms in which everything is recorded.
    pub(crate) recording: RecordingSettings,
    /// Frames read, of whatever kind, at the same costs: past it they wait in the network.
    pub(crate) reading: Rate,
}

/// Whose session it is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    /// Where it says it is; `None`: where this edge is.
    pub(crate) region: Option<RegionId>,
    pub(crate) proof: Proof,
    /// When its socket was opened, Unix time.
    pub(crate) opened_ms: u64,
    /// What it has in common with other sockets of its uid.
    pub(crate) shared: Arc<presence::Shared>,
}

type Outputs = VecDeque<Output>;

/// One client's session.
pub(crate) struct Session {
    config: Arc<SessionConfig>,
    peer: PeerId,
    connection: ConnectionId,
    region: Option<RegionId>,
    opened_ms: u64,
    standing: Standing,
    shared: Arc<presence::Shared>,
    rng: StdRng,
    ended: bool,
    /// Its access was withdrawn: nothing it was in is kept for it.
    revoked: bool,
    /// It has asked to leave a room.
    has_left: bool,
    rooms: Memberships,
    pending: BTreeMap<Ticket, Pending>,
    order: Order,
    next_ticket: Ticket,
    commands: HashMap<CommandId, Ticket>,
    next_command: CommandId,
    bucket: TokenBucket,
    /// What reading costs, whether it was a request or not.
    reading: TokenBucket,
    /// Joins whose answers are still being sent.
    rests: usize,
    last_frame: Instant,
    next_ping: Instant,
    touched: Option<Instant>,
    out: Outputs,
}

impl Session {
    /// A session whose socket has just been opened. `rng` is seeded from a cryptographic source.
    pub(crate) fn new(config: Arc<SessionConfig>, identity: Identity, rng: StdRng, now: Instant) -> Self {
        let (bucket, reading) = (TokenBucket::new(config.rate, now), TokenBucket::new(config.reading, now));
        let next_ping = now + config.pace.ping;
        let Identity { peer, connection, region, proof, opened_ms, shared } = identity;
        Self {
            config,
            peer,
            connection,
            region,
            opened_ms,
            standing: Standing::new(proof),
            shared,
            rng,
            ended: false,
            revoked: false,
            has_left: false,
            rooms: Memberships::default(),
            pending: BTreeMap::new(),
            order: Order::default(),
            next_ticket: 0,
            commands: HashMap::new(),
            next_command: 0,
            bucket,
            reading,
            rests: 0,
            last_frame: now,
            next_ping,
            touched: None,
            out: Outputs::new(),
        }
    }

    /// A frame of this size was read. Refusing and dropping costs work, too, on cores that may carry media.
    pub(crate) fn handle_read(&mut self, now: Instant, bytes: usize) {
        self.reading.charge(cost(bytes), now);
    }

    /// Until when nothing is to be read: the client has sent too much.
    pub(crate) fn reads_not_before(&self, now: Instant) -> Option<Instant> {
        self.reading.in_debt_until(now)
    }

    /// A text frame came.
    pub(crate) fn handle_text(&mut self, now: Instant, text: &str) {
        if self.ended {
            return;
        }
        self.handle_sign_of_life(now);
        let inbound = match parse(text) {
            Ok(inbound) => inbound,
            Err(dropped) => {
                let subject = self.subject(None);
                return self.note(Note::Dropped { why: dropped, subject });
            }
        };
        let taken = self.admit(now, cost(text.len()), &inbound);
        let subject = self.subject(inbound.request.as_ref().ok());
        let Inbound { id, op, method, request } = inbound;
        match taken.and(request) {
            Ok(request) => self.enqueue(now, id, method, subject, claims(&request), flow(request, op)),
            Err(rejection) => {
                let began = (now, self.new_trace(), subject);
                self.answer(now, began, id.as_ref(), method, Err(rejection));
            }
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
            pending.flow.give_up(&mut self.context(pending.trace, &pending.subject), completion);
            self.order.remove(ticket);
        } else {
            let next = pending.flow.resume(&mut self.context(pending.trace, &pending.subject), completion);
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
        let me = (&self.peer, self.connection);
        match self.rooms.hear(room, signal, me, &mut self.out) {
            Verdict::GoOn => {}
            Verdict::Superseded => self.close(CLOSE_FINAL, "superseded by another connection"),
            Verdict::TakenOver => {
                self.end_memberships(|_, _| true);
                self.close(CLOSE_FINAL, "superseded by another connection");
            }
            Verdict::Reset => self.close(CLOSE_RESTART, "rejoin"),
        }
    }

    /// What a room told was missed: this task was too slow.
    pub(crate) fn handle_lagged(&mut self) {
        self.close(CLOSE_TOO_SLOW, "too slow");
    }

    /// The client's access was withdrawn.
    pub(crate) fn handle_revoked(&mut self) {
        if !self.ended {
            self.revoked = true;
            self.end_memberships(|_, _| true);
            self.close(CLOSE_FINAL, "access revoked");
        }
    }

    /// Who the client is, and what it may do.
    pub(crate) fn access(&self) -> (&PeerId, &Arc<Access>) {
        (&self.peer, self.standing.access())
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
        let expiry = self.standing.poll_timeout(self.last_frame);
        [Some(self.last_frame + self.config.pace.silence), Some(self.next_ping), expiry, requests]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Whether every request was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.rests == 0
    }

    /// Whether the socket is to be closed, or is, and nothing is under way any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended && self.commands.is_empty() && self.out.is_empty()
    }

    /// Whether the request may be made by this client at all, and now.
    fn admit(&mut self, now: Instant, cost: u32, inbound: &Inbound) -> Result<(), Rejection> {
        let (edge, uid) = (&self.config.edge_requests, &self.shared.requests);
        let all = self.bucket.take(cost, now).map_err(|wait| (Limit::Connection, wait));
        let all = all.and_then(|()| uid.take(cost, now).map_err(|wait| (Limit::Uid, wait)));
        let all = all.and_then(|()| edge.take(cost, now).map_err(|wait| (Limit::Edge, wait)));
        all.map_err(|(limit, wait)| self.limited(limit, wait))?;
        if let Ok(request) = &inbound.request {
            self.authorize(request)?;
            self.spare_the_room(now, cost, request)?;
        }
        if self.pending.len() >= MAX_REQUESTS {
            return Err(self.limited(Limit::Unanswered, BACK_OFF));
        }
        Ok(())
    }

    /// What everybody in a room is told by one of them costs each of them. A leave is paid for by its join, and never refused.
    fn spare_the_room(&mut self, now: Instant, cost: u32, request: &Request) -> Result<(), Rejection> {
        let limits = &self.config.room_limits;
        let taken = match request {
            // Of a cut, a whole room comes back at once: that is held up by nobody who comes and goes.
            Request::Join(join) if self.comes_back(join) => {
                limits.joins.charge(&join.rid, 1, now);
                Ok(())
            }
            Request::Join(join) => limits.joins.take(&join.rid, 1, now).map_err(|wait| (Limit::RoomJoins, wait)),
            Request::Leave { .. } => {
                self.has_left = true;
                Ok(())
            }
            request => match told(request, cost).filter(|told| self.is_in_or_joins(told.room)) {
                Some(Told { room, times, bytes }) => {
                    let taken = limits.broadcast_bytes.take(room, bytes, now);
                    let taken = taken.and_then(|()| limits.messages.take(room, times, now));
                    taken.map_err(|wait| (Limit::Room, wait))
                }
                None => Ok(()),
            },
        };
        taken.map_err(|(limit, wait)| self.limited(limit, wait))
    }

    /// It proves a session, and has not ended one on this socket: who does may come and go with it.
    fn comes_back(&self, join: &Join) -> bool {
        let proves = |token| self.config.sessions.verify(&join.rid, &self.peer, token).is_some();
        !self.has_left && join.session.as_ref().is_some_and(proves)
    }

    /// Whoever is not, and does not ask to be, takes nothing from a room.
    fn is_in_or_joins(&self, room: &RoomId) -> bool {
        self.rooms.actor(room).is_some() || self.order.will_join(room.as_str())
    }

    fn authorize(&self, request: &Request) -> Result<(), Rejection> {
        let access = self.standing.access();
        // Nobody is kept in a room by a token that is not for it.
        let leaves = matches!(request, Request::Leave { .. });
        if !leaves && request.rid().is_some_and(|rid| !access.allows_room(rid.as_str())) {
            return Err(not_for_this_room());
        }
        let wants_record = matches!(request, Request::Publish(publish) if publish.minfo.record() == Some(true));
        let recorded = wants_record.then_some(Grant::Record);
        match needed(request).into_iter().chain(recorded).find(|grant| !access.allows(*grant)) {
            Some(grant) => {
                Err(Rejection::new(ErrorCode::Forbidden, format!("the token does not grant {}", grant.name())))
            }
            None => Ok(()),
        }
    }

    fn limited(&mut self, limit: Limit, retry_after: Duration) -> Rejection {
        self.note(Note::Limited(limit));
        Rejection { reason: limit.reason().into(), ..Rejection::rate_limited(retry_after) }
    }

    fn mind_the_token(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        match self.standing.handle_timeout(now) {
            Some(Expiry::Over) => self.close(CLOSE_FINAL, "token expired"),
            Some(Expiry::Near(left)) => {
                let in_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                self.out.push_back(Output::Send(Notification::TokenExpiring { in_ms }.to_frame().into()));
            }
            None => {}
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Whoever says goodbye and closes at once is not waited for, though its goodbye may still wait for something.
        self.end_memberships(Order::will_leave);
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

    fn end_memberships(&mut self, for_good: impl Fn(&Order, &str) -> bool) {
        for actor in self.rooms.take() {
            let for_good = for_good(&self.order, actor.room.as_str());
            let room = actor.room.clone();
            self.out.push_back(Output::Detach(Detached::SocketClosed { actor, for_good }, None));
            self.out.push_back(Output::Unfollow(room));
        }
    }

    fn new_trace(&mut self) -> Trace {
        Trace::new(self.rng.random(), self.rng.random())
    }

    /// What is asked: of the room that it names, else of the one that the client is in, if that is one.
    fn subject(&self, request: Option<&Request>) -> Subject {
        let room = request.and_then(Request::rid).or_else(|| self.rooms.only());
        Subject { room: room.cloned(), mid: request.and_then(mid).cloned() }
    }

    fn context<'a>(&'a mut self, trace: Trace, subject: &'a Subject) -> Context<'a> {
        Context {
            trace,
            subject,
            config: &self.config,
            peer: &self.peer,
            connection: self.connection,
            region: self.region.as_ref(),
            opened_ms: self.opened_ms,
            standing: &mut self.standing,
            for_good: self.revoked,
            rooms: &mut self.rooms,
            rng: &mut self.rng,
            out: &mut self.out,
        }
    }

    fn note(&mut self, note: Note) {
        self.out.push_back(Output::Note(note));
    }
}

/// What a frame costs, in requests.
fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes / BYTES_PER_COST).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests;
