//! What an edge counts, all of it there at 0 from the start. Handles are made once, when the edge starts. What can be asked for instead
//! of being counted (queues, rooms) is in `depths`.

mod catalogue;
mod depths;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use proto::ids::{EdgeId, RegionId};
use proto::signalling::{Dropped, ErrorCode, methods};
use room_store::{CallKind, CallResult, JoinKind};
use telemetry::metrics::Metric;

pub use self::catalogue::CATALOGUE;
pub(crate) use self::depths::{Depths, QueuedBytes, waiting};
use crate::gate::Refusal;

/// The label of requests for what is no method.
const UNKNOWN: &str = "unknown";

/// The edge's metrics. Without a recorder installed they count nothing.
#[derive(Clone)]
pub(crate) struct EdgeMetrics {
    /// Open WebSocket connections.
    pub(crate) connections: Gauge,
    /// Connections ever opened.
    pub(crate) connections_total: Counter,
    /// 1 from when the edge begins to send its clients to others.
    pub(crate) draining: Gauge,
    /// 1 while nobody new is let in, because of the load.
    pub(crate) overloaded: Gauge,
    /// How late probes of the runtime wake.
    pub(crate) loop_lag: Histogram,
    refused: Arc<[(Refused, Counter)]>,
    dropped: Arc<HashMap<Dropped, Counter>>,
    methods: Arc<HashMap<&'static str, Method>>,
    limited: Arc<[(Limit, Counter)]>,
    /// Fetches of keys that failed.
    pub(crate) jwks_failures: Counter,
    /// Connections closed because their access was revoked.
    pub(crate) revoked: Counter,
    /// Clients closed because they took their frames too slowly.
    pub(crate) slow_clients: Counter,
    /// Sockets closed because nothing came from them.
    pub(crate) silent_clients: Counter,
    /// Streams that ended on their nodes, not by their owners.
    pub(crate) publications_lost: Counter,
    /// Streams that were to be recorded from their beginning and are not, as their node did not.
    pub(crate) unrecorded: Counter,
    /// Transports whose closing was given up.
    pub(crate) closes_abandoned: Counter,
    /// SFU nodes that answer.
    pub(crate) nodes_up: Gauge,
    /// SFU nodes that live and cannot be reached from here.
    pub(crate) nodes_cut_off: Gauge,
    /// Starts of nodes found dead.
    pub(crate) node_deaths: Counter,
    /// Writes of what nodes told that the store could not take yet.
    pub(crate) node_writes_deferred: Counter,
    /// Times that an owner was told to move a stream off a node that is going away.
    pub(crate) migrations_told: Counter,
    /// Watches of nodes that ended or could not be opened.
    pub(crate) watches_cut: Counter,
    /// 1 while the room store answers.
    pub(crate) store_seen: Gauge,
    /// Times that the room store had lost everything.
    pub(crate) store_resets: Counter,
    /// Sessions put back into a store that had lost them.
    pub(crate) sessions_put_back: Counter,
    /// Rooms whose members were told what differs, as their log could not tell.
    pub(crate) rooms_healed: Counter,
    /// Broadcasts that were accepted and then lost with the store's log.
    pub(crate) broadcasts_lost: Counter,
    /// Entries of rooms' logs that this edge could not read any more when it came to them.
    pub(crate) entries_missed: Counter,
    /// Leases refreshed.
    pub(crate) leases_refreshed: Counter,
    /// Clients sent to another edge because this one does not see the store.
    pub(crate) clients_moved: Counter,
    /// Joins that were given all that is there instead of what they had missed.
    pub(crate) resyncs: Counter,
    /// How long entries of rooms' logs take until they are on a socket.
    pub(crate) notification: Histogram,
    joins: Arc<[(JoinKind, Counter, Histogram)]>,
    store: Arc<[((CallKind, CallResult), Histogram)]>,
    sfu_calls: Arc<[((SfuCall, SfuResult), Histogram)]>,
}

struct Method {
    done: Counter,
    failed: [(ErrorCode, Counter); ErrorCode::ALL.len()],
    seconds: Histogram,
}

/// A call to an SFU node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SfuCall {
    Negotiate,
    Restart,
    Record,
    SetMetadata,
    Close,
    Survey,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SfuResult {
    Ok,
    Refused,
    Unreachable,
}

impl SfuCall {
    const ALL: [Self; 6] = [Self::Negotiate, Self::Restart, Self::Record, Self::SetMetadata, Self::Close, Self::Survey];

    fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "negotiate",
            Self::Restart => "restart",
            Self::Record => "record",
            Self::SetMetadata => "set_metadata",
            Self::Close => "close",
            Self::Survey => "survey",
        }
    }
}

impl SfuResult {
    const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Unreachable];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

const JOIN_KINDS: [JoinKind; 3] = [JoinKind::New, JoinKind::Resumed, JoinKind::TookOver];

fn join_name(how: JoinKind) -> &'static str {
    match how {
        JoinKind::New => "new",
        JoinKind::Resumed => "resumed",
        JoinKind::TookOver => "took_over",
    }
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Address,
    Rate,
    EdgeRate,
    Uid,
    Draining,
    Overloaded,
    Credentials,
    Keys,
    Revocations,
}

/// What a request was too many for: error 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The requests of its connection.
    Connection,
    /// Those of all its uid's connections to this edge.
    Uid,
    /// What its room is told through this edge.
    Room,
    /// The joins of its room.
    RoomJoins,
    /// The requests of all of the edge's clients.
    Edge,
    /// The requests of its connection that have no answer yet.
    Unanswered,
}

impl Limit {
    const ALL: [Self; 6] = [Self::Connection, Self::Uid, Self::Room, Self::RoomJoins, Self::Edge, Self::Unanswered];

    fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Uid => "uid",
            Self::Room => "room",
            Self::RoomJoins => "room_joins",
            Self::Edge => "edge",
            Self::Unanswered => "unanswered",
        }
    }

    /// For the client's people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connection => "too many requests",
            Self::Uid => "too many requests of this uid",
            Self::Room => "too much is said in this room",
            Self::RoomJoins => "too many join this room",
            Self::Edge => "the edge is asked too much",
            Self::Unanswered => "too many requests without an answer yet",
        }
    }
}

impl Refused {
    const ALL: [Self; 10] = [
        Self::Full,
        Self::Address,
        Self::Rate,
        Self::EdgeRate,
        Self::Uid,
        Self::Draining,
        Self::Overloaded,
        Self::Credentials,
        Self::Keys,
        Self::Revocations,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Rate => "rate",
            Self::EdgeRate => "edge_rate",
            Self::Uid => "uid",
            Self::Keys => "keys",
            Self::Revocations => "revocations",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::Credentials => "credentials",
        }
    }
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::Full,
            Refusal::AddressFull => Self::Address,
            Refusal::TooFast { .. } => Self::Rate,
            Refusal::EdgeTooFast { .. } => Self::EdgeRate,
        }
    }
}

impl EdgeMetrics {
    /// Registers all of them.
    pub(crate) fn register() -> Self {
        let refused = |why: Refused| (why, catalogue::REFUSED.counter(&[("reason", why.name())]));
        let limited = |limit: Limit| (limit, catalogue::LIMITED.counter(&[("limit", limit.name())]));
        let dropped = |why: Dropped| (why, catalogue::FRAMES_DROPPED.counter(&[("reason", why.name())]));
        let joined = |how: JoinKind| {
            let labels = [("how", join_name(how))];
            (how, catalogue::JOINS.counter(&labels), catalogue::JOIN_SECONDS.histogram(&labels))
        };
        let called_store = |call: (CallKind, CallResult)| {
            (call, timed(&catalogue::STORE_SECONDS, [("kind", call.0.name()), ("result", call.1.name())]))
        };
        let called_sfu = |call: (SfuCall, SfuResult)| {
            (call, timed(&catalogue::SFU_CALL_SECONDS, [("call", call.0.name()), ("result", call.1.name())]))
        };
        Self {
            connections: catalogue::CONNECTIONS.gauge(&[]),
            connections_total: catalogue::CONNECTIONS_TOTAL.counter(&[]),
            draining: catalogue::DRAINING.gauge(&[]),
            overloaded: catalogue::OVERLOADED.gauge(&[]),
            loop_lag: catalogue::LOOP_LAG.histogram(&[]),
            refused: Refused::ALL.into_iter().map(refused).collect(),
            limited: Limit::ALL.into_iter().map(limited).collect(),
            jwks_failures: catalogue::JWKS_FAILURES.counter(&[]),
            revoked: catalogue::REVOKED.counter(&[]),
            dropped: Arc::new(Dropped::ALL.into_iter().map(dropped).collect()),
            methods: Arc::new(methods().chain([UNKNOWN]).map(|name| (name, Method::register(name))).collect()),
            slow_clients: catalogue::SLOW_CLIENTS.counter(&[]),
            silent_clients: catalogue::SILENT_CLIENTS.counter(&[]),
            publications_lost: catalogue::PUBLICATIONS_LOST.counter(&[]),
            unrecorded: catalogue::UNRECORDED.counter(&[]),
            closes_abandoned: catalogue::CLOSES_ABANDONED.counter(&[]),
            nodes_up: catalogue::NODES_UP.gauge(&[]),
            nodes_cut_off: catalogue::NODES_CUT_OFF.gauge(&[]),
            node_deaths: catalogue::NODE_DEATHS.counter(&[]),
            node_writes_deferred: catalogue::NODE_WRITES_DEFERRED.counter(&[]),
            migrations_told: catalogue::MIGRATIONS_TOLD.counter(&[]),
            watches_cut: catalogue::WATCHES_CUT.counter(&[]),
            store_seen: catalogue::STORE_SEEN.gauge(&[]),
            store_resets: catalogue::STORE_RESETS.counter(&[]),
            sessions_put_back: catalogue::SESSIONS_PUT_BACK.counter(&[]),
            rooms_healed: catalogue::ROOMS_HEALED.counter(&[]),
            broadcasts_lost: catalogue::BROADCASTS_LOST.counter(&[]),
            entries_missed: catalogue::ENTRIES_MISSED.counter(&[]),
            leases_refreshed: catalogue::LEASES_REFRESHED.counter(&[]),
            resyncs: catalogue::RESYNCS.counter(&[]),
            notification: catalogue::NOTIFICATION_SECONDS.histogram(&[]),
            joins: JOIN_KINDS.into_iter().map(joined).collect(),
            store: pairs(CallKind::ALL, CallResult::ALL).map(called_store).collect(),
            sfu_calls: pairs(SfuCall::ALL, SfuResult::ALL).map(called_sfu).collect(),
            clients_moved: catalogue::CLIENTS_MOVED.counter(&[]),
        }
    }

    /// Says which edge this is.
    pub(crate) fn identify(edge: &EdgeId, region: &RegionId) {
        let labels = [("edge", edge.as_str()), ("region", region.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        catalogue::INFO.gauge(&labels).set(1.0);
    }

    /// A connection was not let in.
    pub(crate) fn refused(&self, why: Refused) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == why) {
            counter.increment(1);
        }
    }

    /// A request was refused because of this limit.
    pub(crate) fn limited(&self, limit: Limit) {
        if let Some((_, counter)) = self.limited.iter().find(|(known, _)| *known == limit) {
            counter.increment(1);
        }
    }

    /// A frame was dropped without an answer.
    pub(crate) fn frame_dropped(&self, why: Dropped) {
        if let Some(counter) = self.dropped.get(&why) {
            counter.increment(1);
        }
    }

    /// A request was answered, or carried out without an answer.
    pub(crate) fn answered(&self, method: Option<&'static str>, error: Option<ErrorCode>, took: Duration) {
        if let Some(method) = self.methods.get(method.unwrap_or(UNKNOWN)) {
            method.count(error).increment(1);
            method.seconds.record(took.as_secs_f64());
        }
    }

    /// A join was carried out.
    pub(crate) fn joined(&self, how: JoinKind, took: Duration) {
        if let Some((_, count, seconds)) = self.joins.iter().find(|(known, ..)| *known == how) {
            count.increment(1);
            seconds.record(took.as_secs_f64());
        }
    }

    /// The store was called.
    pub(crate) fn called_store(&self, kind: CallKind, result: CallResult, took: Duration) {
        if let Some((_, seconds)) = self.store.iter().find(|(known, _)| *known == (kind, result)) {
            seconds.record(took.as_secs_f64());
        }
    }

    /// A node was called.
    pub(crate) fn called_sfu(&self, call: SfuCall, result: SfuResult, took: Duration) {
        if let Some((_, seconds)) = self.sfu_calls.iter().find(|(known, _)| *known == (call, result)) {
            seconds.record(took.as_secs_f64());
        }
    }
}

impl Method {
    fn register(name: &'static str) -> Self {
        let count = |error| catalogue::REQUESTS.counter(&[("method", name), ("error", error)]);
        Self {
            done: count("none"),
            failed: ErrorCode::ALL.map(|error| (error, count(error.name()))),
            seconds: catalogue::REQUEST_SECONDS.histogram(&[("method", name)]),
        }
    }

    fn count(&self, error: Option<ErrorCode>) -> &Counter {
        let failed = self.failed.iter().find(|(code, _)| Some(*code) == error);
        failed.map_or(&self.done, |(_, counter)| counter)
    }
}

fn pairs<A: Copy, B: Copy, const M: usize, const N: usize>(a: [A; M], b: [B; N]) -> impl Iterator<Item = (A, B)> {
    a.into_iter().flat_map(move |a| b.into_iter().map(move |b| (a, b)))
}

fn timed(metric: &'static Metric, labels: [(&'static str, &str); 2]) -> Histogram {
    metric.histogram(&labels)
}
