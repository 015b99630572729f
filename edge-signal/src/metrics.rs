//! What an edge counts. Handles are made once, when the edge starts; labels come from fixed sets, never from rooms or users.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use proto::signalling::{Dropped, methods};

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
}

struct Method {
    ok: Counter,
    failed: Counter,
    seconds: Histogram,
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
    const ALL: [Self; 9] = [
        Self::Full,
        Self::Address,
        Self::Rate,
        Self::EdgeRate,
        Self::Uid,
        Self::Draining,
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
        let refused = |why: Refused| (why, counter!("sluice_edge_connections_refused_total", "reason" => why.name()));
        let limited = |limit: Limit| (limit, counter!("sluice_edge_limited_total", "limit" => limit.name()));
        let dropped = |why: Dropped| (why, counter!("sluice_edge_frames_dropped_total", "reason" => why.name()));
        Self {
            connections: gauge!("sluice_edge_connections"),
            connections_total: counter!("sluice_edge_connections_total"),
            refused: Refused::ALL.into_iter().map(refused).collect(),
            limited: Limit::ALL.into_iter().map(limited).collect(),
            jwks_failures: counter!("sluice_edge_jwks_failures_total"),
            revoked: counter!("sluice_edge_connections_revoked_total"),
            dropped: Arc::new(Dropped::ALL.into_iter().map(dropped).collect()),
            methods: Arc::new(methods().chain([UNKNOWN]).map(|name| (name, Method::register(name))).collect()),
            slow_clients: counter!("sluice_edge_slow_clients_total"),
            silent_clients: counter!("sluice_edge_silent_clients_total"),
            publications_lost: counter!("sluice_edge_publications_lost_total"),
            unrecorded: counter!("sluice_edge_publications_unrecorded_total"),
            closes_abandoned: counter!("sluice_edge_transport_closes_abandoned_total"),
            nodes_up: gauge!("sluice_edge_nodes_up"),
            nodes_cut_off: gauge!("sluice_edge_nodes_cut_off"),
            node_deaths: counter!("sluice_edge_node_deaths_total"),
            node_writes_deferred: counter!("sluice_edge_node_writes_deferred_total"),
            migrations_told: counter!("sluice_edge_migrations_told_total"),
            watches_cut: counter!("sluice_edge_node_watches_cut_total"),
            store_seen: gauge!("sluice_edge_store_seen"),
            store_resets: counter!("sluice_edge_store_resets_total"),
            sessions_put_back: counter!("sluice_edge_sessions_put_back_total"),
            rooms_healed: counter!("sluice_edge_rooms_healed_total"),
            broadcasts_lost: counter!("sluice_edge_broadcasts_lost_total"),
            entries_missed: counter!("sluice_edge_log_entries_missed_total"),
            leases_refreshed: counter!("sluice_edge_leases_refreshed_total"),
            clients_moved: counter!("sluice_edge_clients_moved_total"),
        }
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
    pub(crate) fn answered(&self, method: Option<&'static str>, failed: bool, took: Duration) {
        if let Some(method) = self.methods.get(method.unwrap_or(UNKNOWN)) {
            if failed { &method.failed } else { &method.ok }.increment(1);
            method.seconds.record(took.as_secs_f64());
        }
    }
}

impl Method {
    fn register(name: &'static str) -> Self {
        Self {
            ok: counter!("sluice_edge_requests_total", "method" => name, "outcome" => "ok"),
            failed: counter!("sluice_edge_requests_total", "method" => name, "outcome" => "failed"),
            seconds: histogram!("sluice_edge_request_seconds", "method" => name),
        }
    }
}
