//! One client's connection: the task that feeds its session with frames, completions, what rooms tell, and the time, and
//! carries out what the session asks for. When the socket is gone it stays until everything begun has ended.

mod comeback;
mod parting;
mod record;
mod rests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::Utf8Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use proto::ids::{EdgeId, RoomId};
use proto::signalling::ErrorCode;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use room_store::{Attachment, ConnectionId, EndedBy, LogRead, RoomStore, StoreError};
use telemetry::trace::{About, Kind, Trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout_at;
use tokio_stream::StreamMap;

use self::parting::AtStake;
use self::record::Record;
use self::rests::{Rests, Taken};
use crate::admission::{Admission, NotAdmitted};
use crate::auth::Access;
use crate::departure::{Departures, Turn, Why};
use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::migrate::Returns;
use crate::nodes::{NewStream, Nodes, SfuError};
use crate::notice::Signal;
use crate::pipe::{Incoming, Measures, Pipe};
use crate::presence::Present;
use crate::revoking::Absent;
use crate::rooms::{Following, Lagged, Receiver, Rooms};
use crate::session::{
    CLOSE_GOING_AWAY, CLOSE_RESTART, CLOSE_TOO_BIG, CLOSE_TOO_SLOW, Command, CommandId, Completion, Detached, Identity,
    Note, Output, Proof, Session, SessionConfig, Subject,
};
use crate::sight::Sight;

/// Connections that may keep a read buffer grown by a message over the contract's limit, at most 1.25 MiB each, at a time.
/// A client that means well has none; without a bound, all connections together would be tens of gigabytes.
const MAX_GROWN_BUFFERS: usize = 64;
/// Of how many connections one is looked at for how long notifications take. Less: looking costs more where a room is large.
const TIMED_ONE_IN: u64 = 16;

/// What all connections of an edge share.
pub(crate) struct Shared {
    pub(crate) edge: EdgeId,
    pub(crate) sessions: Arc<SessionConfig>,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) nodes: Nodes,
    pub(crate) rooms: Rooms,
    pub(crate) members: Arc<Members>,
    /// Told of members that come (back).
    pub(crate) returns: Returns,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) admission: Arc<Admission>,
    /// Memberships that clients may come back to.
    pub(crate) absent: Arc<Absent>,
    /// Bytes that may wait for a client.
    pub(crate) queued_bytes: usize,
    pub(crate) measures: Measures,
    /// Whether clients are to go.
    pub(crate) departures: Departures,
    pub(crate) sight: watch::Receiver<Sight>,
    pub(crate) grown_buffers: Arc<Semaphore>,
}

impl Shared {
    /// The bound on [`Self::grown_buffers`].
    pub(crate) fn buffer_bound() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_GROWN_BUFFERS))
    }
}

type Followed = (RoomId, Following, Receiver);

/// A command's end.
struct Done {
    id: CommandId,
    completion: Completion,
    /// The room that a join has begun to follow.
    followed: Option<Followed>,
}

/// Serves a client from the opening of its socket on. All that a connection keeps is in one box: a future would have a place for it
/// wherever it is handed on.
pub(crate) fn serve(
    pipe: Pipe,
    identity: Identity,
    present: Present,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + use<> {
    // A source that cannot be guessed: ids of streams and sessions come from it.
    let rng = StdRng::from_rng(&mut rand::rng());
    let connection = Box::new(Connection {
        id: identity.connection,
        session: Session::new(Arc::clone(&shared.sessions), identity, rng, Instant::now()),
        pipe: Some(pipe),
        rests: Rests::default(),
        present,
        grown_buffer: None,
        running: FuturesUnordered::new(),
        detached: FuturesUnordered::new(),
        following: HashMap::new(),
        parked: HashMap::new(),
        live: StreamMap::new(),
        departures: shared.departures.clone(),
        turn: None,
        telling: None,
        shared,
    });
    connection.run()
}

struct Connection {
    id: ConnectionId,
    shared: Arc<Shared>,
    session: Session,
    /// `None`: closed, or being closed.
    pipe: Option<Pipe>,
    rests: Rests,
    /// Its place among the sockets of its uid.
    present: Present,
    /// This connection's right to a grown read buffer.
    grown_buffer: Option<OwnedSemaphorePermit>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    detached: FuturesUnordered<BoxFuture<'static, ()>>,
    following: HashMap<RoomId, Following>,
    /// What rooms tell, held back until the session can take it.
    parked: HashMap<RoomId, Receiver>,
    live: StreamMap<RoomId, Receiver>,
    departures: Departures,
    /// When it is this client's turn to go.
    turn: Option<Turn>,
    /// While it is told an entry of a room's log, and is one of those that are timed: when that was read.
    telling: Option<Instant>,
}

/// What happened next.
enum Happening {
    Incoming(Incoming),
    Done(Box<Done>),
    Signal(RoomId, Result<Arc<Signal>, Lagged>),
    /// More of what the client missed was read.
    Missed(Result<LogRead, StoreError>),
    DetachedEnded,
    ReadsAgain,
    Time,
    /// Something was revoked that may be this client's access.
    Revocation,
    Departure,
    Turn,
}

impl Connection {
    async fn run(mut self: Box<Self>) {
        // It was let in a moment ago; what is revoked from now on, it is told.
        self.mind_revocation();
        // One that comes while others are sent away goes with them.
        self.departures.mark_changed();
        loop {
            self.go_in_turn();
            while let Some(output) = self.session.poll_output() {
                self.carry_out(output);
            }
            self.telling = None;
            if self.session.is_finished() && self.detached.is_empty() {
                return;
            }
            match self.next().await {
                Happening::Incoming(Incoming::Text(text)) => {
                    let now = Instant::now();
                    self.session.handle_read(now, text.len());
                    self.session.handle_text(now, &text);
                    self.mind_grown_buffer();
                }
                Happening::Incoming(Incoming::SignOfLife(bytes)) => {
                    let now = Instant::now();
                    self.session.handle_read(now, bytes);
                    self.session.handle_sign_of_life(now);
                    self.mind_grown_buffer();
                }
                Happening::Incoming(Incoming::RestSent) => self.rest_sent(),
                Happening::Missed(read) => self.send_missed(read),
                Happening::Incoming(Incoming::TooBig) => self.session.close(CLOSE_TOO_BIG, "message too big"),
                Happening::Incoming(Incoming::Closed) => {
                    if let Some(pipe) = self.pipe.take() {
                        self.rests = Rests::default();
                        self.detached.push(pipe.finish().boxed());
                    }
                    self.session.handle_closed();
                }
                Happening::Done(done) => self.finish(*done),
                Happening::Signal(room, Ok(signal)) => {
                    self.telling = signal.read_at().filter(|_| self.id.0.is_multiple_of(TIMED_ONE_IN));
                    self.rests.hear(&room, &signal);
                    self.session.handle_signal(&room, &signal);
                }
                Happening::Signal(_, Err(Lagged)) => self.session.handle_lagged(),
                Happening::DetachedEnded | Happening::ReadsAgain | Happening::Turn => {}
                Happening::Time => self.session.handle_timeout(Instant::now()),
                Happening::Revocation => self.mind_revocation(),
                Happening::Departure => {
                    let departure = *self.departures.borrow_and_update();
                    self.turn = departure.map(|departure| departure.turn(rand::random()));
                }
            }
        }
    }

    /// Whether this client's turn has come: then it begins nothing new, and goes when nothing is under way.
    fn is_leaving(&self) -> bool {
        self.turn.is_some_and(|turn| turn.at <= Deadline::now())
    }

    fn go_in_turn(&mut self) {
        if let Some(turn) = self.turn.filter(|_| self.is_leaving())
            && (self.session.is_idle() || turn.by <= Deadline::now())
        {
            self.turn = None;
            if turn.why == Why::Blind {
                self.shared.metrics.clients_moved.increment(1);
            }
            self.session.close(CLOSE_GOING_AWAY, turn.why.reason());
        }
    }

    async fn next(&mut self) -> Happening {
        let timeout = self.session.poll_timeout();
        let now = Instant::now();
        let at = timeout.unwrap_or(now).into();
        let reads_at = self.session.reads_not_before(now);
        let leaves = self.is_leaving();
        let turn = self.turn.map(|turn| if leaves { turn.by } else { turn.at });
        tokio::select! {
            Some(done) = self.running.next() => Happening::Done(Box::new(done)),
            Some(()) = self.detached.next() => Happening::DetachedEnded,
            incoming = next_incoming(&mut self.pipe, reads_at.is_none() && !leaves), if self.pipe.is_some() => Happening::Incoming(incoming),
            Some((room, signal)) = self.live.next() => Happening::Signal(room, signal),
            read = self.rests.read(), if self.pipe.is_some() => Happening::Missed(read),
            () = tokio::time::sleep_until(reads_at.unwrap_or(now).into()), if reads_at.is_some() => Happening::ReadsAgain,
            () = tokio::time::sleep_until(at), if timeout.is_some() => Happening::Time,
            () = self.present.told() => Happening::Revocation,
            () = tokio::time::sleep_until(turn.unwrap_or(at)), if turn.is_some() => Happening::Turn,
            // The sender lives as long as the edge.
            Ok(()) = self.departures.changed() => Happening::Departure,
        }
    }

    fn mind_revocation(&mut self) {
        let (peer, access) = self.session.access();
        if self.shared.admission.is_revoked(peer, access) {
            self.shared.metrics.revoked.increment(1);
            self.session.handle_revoked();
        }
    }

    fn mind_grown_buffer(&mut self) {
        if self.grown_buffer.is_some() || !self.pipe.as_ref().is_some_and(Pipe::has_grown) {
            return;
        }
        match Arc::clone(&self.shared.grown_buffers).try_acquire_owned() {
            Ok(permit) => self.grown_buffer = Some(permit),
            Err(_) => self.session.close(CLOSE_TOO_BIG, "message too big"),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(frame) => self.send(frame),
            Output::SendRest(mut rest) => {
                if let Some(pipe) = &mut self.pipe {
                    if let Some(following) = self.following.get(rest.room()) {
                        following.share(&mut rest);
                    }
                    pipe.push_rest(self.rests.push(*rest));
                }
            }
            Output::Ping => {
                if let Some(pipe) = &mut self.pipe {
                    pipe.push_ping();
                }
            }
            Output::Close { code, reason } => {
                if let Some(mut pipe) = self.pipe.take() {
                    if !self.rests.are_whole() {
                        pipe.drop_what_follows_rest();
                    }
                    // Nobody would wait for what is being read, in the place of other calls of the store.
                    self.rests = Rests::default();
                    self.detached.push(pipe.close(code, reason).boxed());
                }
            }
            Output::Run { id, deadline, trace, subject, command } => {
                self.start(id, deadline, (trace, &subject), command);
            }
            Output::Detach(detached, trace) => self.detach(detached, trace),
            Output::Park(room) => {
                if let Some(signals) = self.live.remove(&room) {
                    self.parked.insert(room, signals);
                }
            }
            Output::Deliver { actor, arrival } => {
                let (room, peer) = (actor.room.clone(), actor.peer.clone());
                let mut goes_back_to = None;
                if let Some((following, arrival)) = self.following.get(&room).zip(arrival) {
                    goes_back_to = following.enter(actor, self.id, *arrival);
                    self.shared.returns.note(&room, &peer);
                }
                if let Some(mut signals) = self.parked.remove(&room) {
                    if let Some(place) = goes_back_to {
                        signals.goes_back_to(place);
                    }
                    self.live.insert(room, signals);
                }
            }
            Output::Unfollow(room) => {
                self.shared.members.leave(&room, self.id);
                self.live.remove(&room);
                self.parked.remove(&room);
                self.following.remove(&room);
            }
            Output::Touch => {
                for room in self.following.keys() {
                    self.shared.members.touch(room, self.id);
                }
            }
            Output::Note(note) => self.note(&note),
        }
    }

    /// The client has taken what was there of the first rest that waits.
    fn rest_sent(&mut self) {
        match (self.rests.taken(&self.shared.store), &mut self.pipe) {
            (Taken::Part, Some(pipe)) => pipe.hold(),
            _ => self.session.handle_rest_sent(Instant::now()),
        }
    }

    fn send_missed(&mut self, read: Result<LogRead, StoreError>) {
        match (self.rests.go_on(read), &mut self.pipe) {
            (Some(frames), Some(pipe)) => pipe.go_on(frames),
            // Its next join is told so.
            _ => self.session.close(CLOSE_RESTART, "rejoin"),
        }
    }

    fn send(&mut self, frame: Utf8Bytes) {
        let Some(pipe) = &mut self.pipe else { return };
        let pushed = match self.telling {
            Some(read_at) => pipe.push_timed(frame, read_at),
            None => pipe.push(frame),
        };
        if pushed.is_err() {
            self.shared.metrics.slow_clients.increment(1);
            self.session.close(CLOSE_TOO_SLOW, "too slow");
        }
    }

    fn start(&mut self, id: CommandId, deadline: Instant, (trace, subject): (Trace, &Subject), command: Command) {
        let (shared, connection) = (Arc::clone(&self.shared), self.id);
        let follows = matches!(&command, Command::Join(join) if self.following.contains_key(&join.room));
        let name = command.name();
        let step = trace.step(rand::random());
        let work = async move {
            let (completion, followed) = execute(&shared, connection, command, follows, deadline.into()).await;
            Done { id, completion, followed }
        };
        self.running.push(step.follow_about(name, Kind::Internal, trace, subject.about(), work).boxed());
    }

    fn finish(&mut self, done: Done) {
        if let Some((room, following, signals)) = done.followed {
            self.following.insert(room.clone(), following);
            self.parked.insert(room, signals);
        }
        self.session.handle_completion(Instant::now(), done.id, done.completion);
    }

    /// A membership that a client could come back to is remembered with what it was let in by, and ends now when that was revoked:
    /// remembered first, so that what is revoked in between finds it.
    fn or_for_good(&self, detached: Detached) -> Detached {
        match detached {
            Detached::SocketClosed { actor, for_good: false } => {
                let access = self.session.access().1;
                self.shared.absent.push(actor.clone(), self.id, Arc::clone(access));
                let for_good = self.shared.admission.is_revoked(&actor.peer, access);
                Detached::SocketClosed { actor, for_good }
            }
            other => other,
        }
    }

    fn detach(&mut self, detached: Detached, trace: Option<Trace>) {
        let detached = self.or_for_good(detached);
        let at_stake = AtStake::by_detached(&self.shared.members, &detached, self.id);
        if let Detached::SocketClosed { actor, for_good: false } = &detached {
            let place = self.following.get(&actor.room).and_then(Following::place);
            self.shared.members.depart(actor, self.id, place);
        }
        let subject = detached.subject();
        let shared = Arc::clone(&self.shared);
        let attachment = Attachment { edge: self.shared.edge.clone(), connection: self.id };
        let work = async move {
            if let Err(error) = parting::carry_out(&shared, attachment, detached, at_stake).await {
                // Mostly what was to be ended has ended already; else the store's own leases end it.
                tracing::debug!(%error, "cleaning up after a request");
            }
        };
        self.detached.push(Trace::carry_about(trace, "clean-up", subject.about(), work).boxed());
    }

    fn note(&self, note: &Note) {
        let metrics = &self.shared.metrics;
        match note {
            Note::Dropped { why, subject } => {
                metrics.frame_dropped(*why);
                tracing::debug!(room = subject.about().room, %why, "frame dropped");
            }
            Note::Answered { method, error, took, trace, subject } => {
                metrics.answered(*method, *error, *took);
                trace.export_whole(method.unwrap_or("unknown"), *took);
                let (took_ms, error) = (took.as_millis() as u64, error.map(ErrorCode::name));
                let About { room, mid } = subject.about();
                tracing::debug!(trace.id = %trace.id(), room, mid, method, error, took_ms, "answered");
            }
            Note::Joined { room, how, trace } => tracing::info!(trace.id = %trace.id(), %room, ?how, "joined"),
            Note::JoinAnswered { how, resync, took } => {
                metrics.joined(*how, *took);
                metrics.resyncs.increment(u64::from(*resync));
            }
            Note::NotRecorded { room, mid, error, trace } => {
                metrics.unrecorded.increment(1);
                tracing::warn!(trace.id = %trace.id(), %room, %mid, error, "a stream that was to be recorded is not");
            }
            Note::Internal { trace, subject, what } => {
                let About { room, mid } = subject.about();
                tracing::error!(trace.id = %trace.id(), room, mid, what, "internal error");
            }
            Note::Limited(limit) => metrics.limited(*limit),
            Note::Silent => metrics.silent_clients.increment(1),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for room in self.following.keys() {
            self.shared.members.leave(room, self.id);
        }
    }
}

async fn next_incoming(pipe: &mut Option<Pipe>, reads: bool) -> Incoming {
    match pipe {
        Some(pipe) if reads => pipe.next().await,
        Some(pipe) => pipe.next_unread().await,
        None => Incoming::Closed,
    }
}

type Deadline = tokio::time::Instant;

/// Follows the room first, so that nothing falls between the join and what the room tells after it.
async fn follow_and_join(
    shared: &Shared,
    join: room_store::Join,
    follows: bool,
    deadline: Deadline,
) -> (Result<room_store::Joined, StoreError>, Option<Followed>) {
    let mut followed = None;
    if !follows {
        match in_time(deadline, shared.rooms.follow(&join.room)).await {
            Ok((following, signals)) => {
                followed = Some((join.room.clone(), following, signals));
            }
            Err(error) => return (Err(error), None),
        }
    }
    (comeback::join(shared, join, deadline).await, followed)
}

/// Carries out a command, by its deadline. `follows`: the room of a join is followed already.
///
/// A store that does not know the session any more is given back what this edge holds of the room, and asked once more: a client
/// whose session ended with the store's memory notices nothing.
async fn execute(
    shared: &Shared,
    connection: ConnectionId,
    command: Command,
    follows: bool,
    deadline: Deadline,
) -> (Completion, Option<Followed>) {
    let Some(actor) = command.actor() else { return call(shared, connection, command, follows, deadline).await };
    let _muting = match &command {
        Command::Mute { mid, .. } => match timeout_at(deadline, shared.rooms.owner_mutes(mid)).await {
            Ok(muting) => Some(muting),
            Err(_) => return (Completion::Publication(Err(StoreError::Unavailable)), None),
        },
        _ => None,
    };
    let record = Record::of(shared, &actor, connection);
    let at_stake = AtStake::by_command(&shared.members, &command, connection);
    record.begin(&command);
    let (mut completion, mut followed) = call(shared, connection, command.clone(), follows, deadline).await;
    if completion.is_of_no_member() && timeout_at(deadline, record.put_back(&command)).await.unwrap_or(false) {
        (completion, followed) = call(shared, connection, command.clone(), follows, deadline).await;
    }
    record.end(&command, &completion);
    if let Some(at_stake) = at_stake {
        at_stake.settle_by(&shared.nodes, &completion);
    }
    (completion, followed)
}

/// The one call that a command is.
async fn call(
    shared: &Shared,
    connection: ConnectionId,
    command: Command,
    follows: bool,
    deadline: Deadline,
) -> (Completion, Option<Followed>) {
    // Whoever waits for a store that is known to be away waits for nothing, and so does the store when it comes back.
    if let Sight::Lost { .. } = *shared.sight.borrow()
        && let Some(failed) = command.failed(StoreError::Unavailable)
    {
        return (failed, None);
    }
    let store = &shared.store;
    let completion = match command {
        Command::Join(join) => {
            let (joined, followed) = follow_and_join(shared, join, follows, deadline).await;
            return (Completion::Joined(joined.map(Box::new)), followed);
        }
        Command::Leave { actor, op } => Completion::Left(in_time(deadline, store.leave(actor, op)).await),
        Command::Refresh { room, hold } => {
            Completion::Refreshed(in_time(deadline, store.refresh(&room, &shared.edge, vec![hold])).await)
        }
        Command::Prove { peer, token } => {
            let proof = in_time(deadline, shared.admission.prove(Some(&token.0), Some(&peer))).await;
            Completion::Proven(proof.map(proven))
        }
        Command::Candidates { room, region, avoid, is_recorded } => {
            let new = NewStream { room: &room, region: region.as_ref(), avoid: &avoid, is_recorded };
            Completion::Candidates(shared.nodes.candidates(&new, deadline).await)
        }
        Command::ReservePublication(request) => {
            let reserved = in_time(deadline, store.reserve_publication(request)).await;
            if let Ok(publication) = &reserved {
                shared.nodes.chosen(&publication.placement.node);
            }
            Completion::Publication(reserved)
        }
        Command::ConfirmPublication { actor, mid } => {
            Completion::Publication(in_time(deadline, store.confirm_publication(actor, &mid)).await)
        }
        Command::RemovePublication { actor, mid } => {
            Completion::Released(in_time(deadline, store.remove_publication(&mid, EndedBy::Client(actor))).await)
        }
        Command::Mute { actor, mid, audio, video } => {
            let session = actor.session.clone();
            let attachment = Attachment { edge: shared.edge.clone(), connection };
            let muted = in_time(deadline, store.mute(actor, attachment, &mid, audio, video)).await;
            if let Ok(stream) = &muted {
                shared.nodes.describe_anew(stream, session);
            }
            Completion::Publication(muted)
        }
        Command::SetRecording(request) => {
            Completion::Publication(in_time(deadline, store.set_recording(request)).await)
        }
        Command::ReserveSubscription(request) => {
            Completion::Reserved(in_time(deadline, store.reserve_subscription(request)).await)
        }
        Command::ConfirmSubscription { actor, sid } => {
            Completion::Subscription(in_time(deadline, store.confirm_subscription(actor, &sid)).await)
        }
        Command::RemoveSubscription { actor, sid } => {
            Completion::Released(in_time(deadline, store.remove_subscription(&sid, EndedBy::Client(actor))).await)
        }
        Command::Broadcast(broadcast) => Completion::Said(in_time(deadline, store.broadcast(broadcast)).await),
        Command::Members { actor, after, limit } => {
            Completion::Members(in_time(deadline, store.members(actor, after, limit)).await)
        }
        Command::Publications { actor, after, limit } => {
            Completion::Publications(in_time(deadline, store.publications(actor, after, limit)).await)
        }
        Command::Publication { actor, mid } => {
            Completion::Publication(in_time(deadline, store.publication(actor, &mid)).await)
        }
        Command::Subscription { actor, sid } => {
            Completion::Subscription(in_time(deadline, store.subscription(actor, &sid)).await)
        }
        Command::Negotiate { node, request } => {
            Completion::Negotiated(in_time(deadline, shared.nodes.negotiate(&node, request, deadline)).await)
        }
        Command::Record { node, request } => {
            Completion::Recorded(in_time(deadline, shared.nodes.record(&node, request, deadline)).await)
        }
        Command::Restart { node, request } => {
            Completion::Restarted(in_time(deadline, shared.nodes.restart(&node, request, deadline)).await)
        }
    };
    (completion, None)
}

/// A failure that means "not in time".
trait Late {
    const LATE: Self;
}

impl Late for StoreError {
    const LATE: Self = Self::Timeout;
}

impl Late for SfuError {
    const LATE: Self = Self::Unreachable;
}

impl Late for NotAdmitted {
    const LATE: Self = Self::KeysAway { retry_after: Duration::from_secs(1) };
}

/// With the end of the token on the monotonic clock.
pub(crate) fn proven(access: Access) -> Proof {
    let end = access.expires_at().map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    let expires_at = end.and_then(|left| Instant::now().checked_add(left));
    Proof { access: Arc::new(access), expires_at }
}

async fn in_time<T, E: Late>(deadline: Deadline, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout_at(deadline, call).await.unwrap_or(Err(E::LATE))
}
