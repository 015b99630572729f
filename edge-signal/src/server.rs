//! An edge as a whole: what is started in which order, and how it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use proto::ids::{BootId, EdgeId, NodeId};
use room_store::{Life, NodeDirectory, RoomSettings, SessionSigner};
use telemetry::events::EventSink;
use telemetry::settings::Contradiction;
use telemetry::{Latch, Metrics, Readiness};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::auth::{Authenticator, SharedSecret};
use crate::connection::Shared;
use crate::departure::{Departure, Why};
use crate::drain_routes;
use crate::events::RoomEvents;
use crate::gate::{Gate, GateLimits};
use crate::https::HttpsClient;
use crate::jwks::{JwksKeys, JwksSource};
use crate::leases::Leases;
use crate::live_routes::{self, Scene};
use crate::members::Members;
use crate::metrics::{Depths, EdgeMetrics};
use crate::migrate::{Migrator, MigratorParts};
use crate::neighbours::{Identity, Neighbours};
use crate::nodes::{Connector, NodeEvent, Nodes, NodesConfig};
use crate::operators::Operators;
use crate::origin;
use crate::overload::Overload;
use crate::pipe::Measures;
use crate::presence::Presence;
use crate::rate::{Rate, SharedBucket};
use crate::reconcile::Reconciler;
use crate::revival::Revival;
use crate::revocation_routes;
use crate::revoking::{Absent, Revoker};
use crate::room_rates::RoomLimits;
use crate::rooms::{Rooms, RoomsConfig};
use crate::rtc_config::{self, RtcConfig};
use crate::session::{BYTES_PER_COST, Pace, SessionConfig};
use crate::settings::EdgeSettings;
use crate::sight::{Lookout, Sight};
use crate::sockets::BoundedAcceptor;
use crate::stores::Stores;
use crate::sweep::Sweeper;
use crate::ws::{self, Door};

/// How long sockets are given to take their last frames when the edge stops.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How long the tasks behind the sockets are given after that.
const STOP_TIME: Duration = Duration::from_millis(500);
/// What of `drain.timeout` is for the process, whose last lines are written.
const PROCESS_TIME: Duration = Duration::from_millis(250);
/// SFU nodes of which it is shown why they have never answered.
const MAX_UNHEARD_SHOWN: usize = 3;
/// How often it is looked whether the last client has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Events of nodes that wait to be written to the store. A node that dies with a thousand rooms is one event; past the bound
/// nodes' watches wait.
const MAX_NODE_EVENTS: usize = 1_024;
/// How long a connection has to send its first request.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(10);
/// And each further one; sockets are under their session's own eyes.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How many times as much may be read as be asked for: requests too many are still refused with an error, and pongs are no
/// requests.
const READS_PER_REQUEST: u32 = 2;
/// TCP connections for each WebSocket there may be, in all and of one address: clients ask for `/rtc-config` and pages on
/// connections of their own, which browsers keep for a while.
const SOCKETS_PER_CONNECTION: usize = 2;
/// And this many more in all, and of one address: a browser that opens a page holds six for half a minute, so that few clients at
/// once need more than their share.
const FURTHER_SOCKETS: usize = 256;
const FURTHER_SOCKETS_PER_ADDRESS: usize = 64;
/// TCP connections on an address of the operator's own.
const ADMIN_SOCKETS: usize = 64;
/// How much smaller a socket's send buffer is than what may wait for its client in the queue. The system keeps twice what it is told:
/// half as much again as the queue, which leaves the other half of "twice as much in all" to the frame that is being written and to
/// TLS. Smaller ones slow down who is far away: 128 KiB let 18 Mbit/s through at 100 ms, of frames of 200 bytes 7 Mbit/s.
const SEND_BUFFER_SHARE: usize = 4;
/// Files open beside clients' sockets: the operator's, logs, listeners, channels to nodes.
const OWN_FILES: usize = 192;

/// What an edge is made of beside its settings.
pub struct EdgeParts {
    /// Its stores.
    pub stores: Stores,
    /// How it reaches SFU nodes.
    pub connector: Arc<dyn Connector>,
    /// Further routes on `listen` (the demo page of `sluice`).
    pub pages: Router,
    /// Takes this edge's say in whether the process wants traffic.
    pub readiness: Readiness,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Takes this edge's events.
    pub events: EventSink,
}

/// Why an edge does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings cannot be used, or a file of theirs cannot any more.
    #[error(transparent)]
    Settings(#[from] Contradiction),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// A running edge.
pub struct Edge {
    address: SocketAddr,
    admin_address: SocketAddr,
    ended: JoinHandle<()>,
}

impl Edge {
    /// Starts an edge, within a tokio runtime: when this returns, clients can connect. It stops when `shutdown` is cancelled, by
    /// whom it was given or by an operator (`POST /drain`): within `drain.spread` and `drain.timeout` together, in two seconds unless
    /// told otherwise.
    ///
    /// It becomes ready when the store answers and an SFU node has been heard of.
    pub fn start(settings: &EdgeSettings, parts: EdgeParts, shutdown: CancellationToken) -> Result<Self, StartError> {
        settings.check_auth()?;
        let secret = settings.auth.shared_secret()?;
        let authenticator = authenticator(settings)?;
        let jwks = jwks_source(settings, EdgeMetrics::register())?;
        let listener = listen(settings.listen)?;
        let admin_listener = settings.admin_listen.map(listen).transpose()?;
        let tls = settings.tls.server_config()?.map(RustlsConfig::from_config);
        let address = local_address(&listener, settings.listen)?;
        let admin_address = match (&admin_listener, settings.admin_listen) {
            (Some(listener), Some(asked)) => local_address(listener, asked)?,
            _ => address,
        };
        let latch = parts.readiness.latch("edge");
        let local_only = authenticator.is_open() && !settings.auth.insecure_no_auth;
        let session_secret = settings.session_secret()?;
        let signer = signer(session_secret.as_ref().or(secret.as_ref()));
        let services = Services::start(settings, &parts, signer, (authenticator, jwks));
        let metrics = services.shared.metrics.clone();
        let sockets = clients_sockets(settings, metrics.clone());
        let (mut admin, mut live) = (telemetry::routes(parts.readiness, parts.metrics), Router::new());
        // Where everybody is let in, and operators have no address of their own, nobody's access is for everybody to revoke.
        if local_only || !services.shared.admission.is_open() || admin_listener.is_some() {
            let admission = Arc::clone(&services.shared.admission);
            let operators = Arc::new(Operators::new(admission, settings.trusted_proxies.clone()));
            if parts.stores.own_store {
                let scene = services.scene(Arc::clone(&parts.stores.nodes), Arc::clone(&operators));
                live = live_routes::routes(scene);
            }
            admin = admin
                .merge(drain_routes::routes(shutdown.clone(), Arc::clone(&operators)))
                .merge(revocation_routes::routes(Arc::clone(&parts.stores.revocations), operators));
        }
        // Beside the page that shows it. It tells operators from others itself.
        let mut clients = services.routes(settings, local_only).merge(parts.pages).merge(live);
        let handle = Handle::new();
        let servers = TaskTracker::new();
        match admin_listener {
            Some(listener) => {
                let sockets = BoundedAcceptor::new(
                    ADMIN_SOCKETS,
                    ADMIN_SOCKETS,
                    settings.trusted_proxies.clone(),
                    reading(settings, BYTES_PER_COST as u32),
                    send_buffer(settings),
                    metrics,
                );
                servers.spawn(serve(listener, sockets, admin, None, handle.clone()));
            }
            None => clients = clients.merge(admin),
        }
        if local_only {
            clients = clients.layer(axum::middleware::from_fn(origin::local_only));
        }
        servers.spawn(serve(listener, sockets, clients, tls, handle.clone()));
        tracing::info!(%address, edge = %settings.edge_id(), "edge listens");
        let ended = tokio::spawn(services.until(shutdown, latch, handle, servers));
        Ok(Self { address, admin_address, ended })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Waits until the edge has stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the edge did not stop in order");
        }
    }
}

/// The tasks of an edge and what they share.
struct Services {
    shared: Arc<Shared>,
    presence: Presence,
    /// One task per socket.
    connections: TaskTracker,
    /// Everything else.
    tasks: TaskTracker,
    /// Ends the tasks; cancelled after the sockets are gone.
    stop: CancellationToken,
    /// Sends clients away.
    departures: Arc<watch::Sender<Option<Departure>>>,
    sight: watch::Receiver<Sight>,
    /// Over how long, when the edge ends.
    spread: Duration,
    /// How long one whose turn to go has come is given for its requests under way: what `drain.timeout` leaves.
    finish: Duration,
    overload: Overload,
    /// Shown for as long as the edge is there.
    _depths: Arc<Depths>,
}

fn revoker(shared: &Shared, presence: Presence) -> Revoker {
    Revoker {
        edge: shared.edge.clone(),
        revoked: shared.admission.revoked(),
        presence,
        absent: Arc::clone(&shared.absent),
        members: Arc::clone(&shared.members),
        store: Arc::clone(&shared.store),
        nodes: shared.nodes.clone(),
    }
}

/// `whole`: where it says of which life of the store nothing is missing any more.
fn leases(shared: &Shared, whole: watch::Sender<Option<Life>>) -> Leases {
    let Shared { edge, store, members, nodes, rooms, sight, metrics, .. } = shared;
    Leases {
        edge: edge.clone(),
        store: Arc::clone(store),
        members: Arc::clone(members),
        rooms: rooms.clone(),
        sight: sight.clone(),
        metrics: metrics.clone(),
        whole,
        revival: Revival::new(store, members, nodes, rooms),
    }
}

/// Shows how deep the edge's queues are, for as long as somebody keeps it.
fn depths(shared: &Shared, node_events: mpsc::WeakSender<NodeEvent>) -> Arc<Depths> {
    let depths = Arc::new(Depths {
        node_events,
        returns: shared.returns.clone(),
        nodes: shared.nodes.clone(),
        rooms: shared.rooms.clone(),
        members: Arc::clone(&shared.members),
        queued: Arc::clone(&shared.measures.queued),
    });
    telemetry::metrics::expose(&depths);
    depths
}

/// What all sessions of the edge have in common.
fn session_config(
    settings: &EdgeSettings,
    edge: EdgeId,
    sessions: SessionSigner,
    store: &RoomSettings,
) -> SessionConfig {
    let limits = &settings.limits;
    let edge_requests = Rate::new(limits.edge_message_rate, limits.edge_message_burst);
    SessionConfig {
        edge,
        sessions,
        grace: store.grace,
        pace: Pace::of(store.ttl),
        max_rooms: limits.rooms_per_connection,
        rate: Rate::new(limits.message_rate, limits.message_burst),
        edge_requests: SharedBucket::new(edge_requests, Instant::now().into_std()),
        room_limits: RoomLimits::new(limits),
        recording: settings.recording.clone(),
        reading: reading(settings, 1),
    }
}

impl Services {
    fn start(
        settings: &EdgeSettings,
        parts: &EdgeParts,
        signer: SessionSigner,
        (authenticator, jwks): (Authenticator, Option<JwksSource>),
    ) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (metrics, edge, limits) = (EdgeMetrics::register(), settings.edge_id(), &settings.limits);
        EdgeMetrics::identify(&edge, &settings.region);
        let Stores { rooms, nodes: directory, edges, revocations: _, own_store } = parts.stores.clone();
        let store = rooms.witnessed(Arc::new(RoomEvents { events: parts.events.clone(), metrics: metrics.clone() }));
        let admission = admission(parts, authenticator, jwks, &tasks, &stop);
        let presence = Presence::new(limits.connections_per_uid, limits.uid_requests());
        let absent = Arc::new(Absent::new(store.settings().grace));
        let lookout = Lookout::new(Arc::clone(&store), metrics.clone());
        let sight = lookout.watch();
        let members = Arc::new(Members::new(Arc::clone(&store)));
        let (events, told) = mpsc::channel(MAX_NODE_EVENTS);
        let node_events = events.downgrade();
        let nodes = Nodes::start(NodesConfig {
            connector: Arc::clone(&parts.connector),
            directory,
            region: settings.region.clone(),
            members: Arc::clone(&members),
            sight: sight.clone(),
            events,
            tasks: tasks.clone(),
            shutdown: stop.clone(),
            metrics: metrics.clone(),
        });
        let reconciler = Reconciler::new(&store, &members, &nodes, &metrics);
        tasks.spawn(reconciler.run(told, stop.clone()));
        let rooms = Rooms::new(RoomsConfig {
            edge: edge.clone(),
            store: Arc::clone(&store),
            members: Arc::clone(&members),
            nodes: nodes.clone(),
            sight: sight.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            shutdown: stop.clone(),
        });
        let whole = watch::Sender::new(None);
        let sweeper = Sweeper {
            store: Arc::clone(&store),
            nodes: nodes.clone(),
            lookout: lookout.clone(),
            whole: whole.subscribe(),
            own_store,
        };
        tasks.spawn(sweeper.run(stop.clone()));
        let (migrator, returns) = Migrator::new(MigratorParts {
            members: Arc::clone(&members),
            nodes: nodes.clone(),
            rooms: rooms.clone(),
            metrics: metrics.clone(),
            events: parts.events.clone(),
        });
        tasks.spawn(migrator.run(stop.clone()));
        tasks.spawn(lookout.run(stop.clone()));
        let departures = Arc::new(watch::Sender::new(None));
        if let Some(directory) = edges {
            let me = Identity { edge: edge.clone(), boot: BootId::of(rand::random()), region: settings.region.clone() };
            let (sight, store, departures) = (sight.clone(), Arc::clone(&store), Arc::clone(&departures));
            tasks.spawn(Neighbours { me, directory, sight, store, departures }.run(stop.clone()));
        }
        let sessions = Arc::new(session_config(settings, edge.clone(), signer, store.settings()));
        let shared = Arc::new(Shared {
            edge,
            sessions,
            store,
            nodes,
            rooms,
            members,
            returns,
            measures: Measures::new(&metrics),
            metrics,
            admission,
            absent,
            queued_bytes: limits.queued_bytes,
            departures: departures.subscribe(),
            sight: sight.clone(),
            grown_buffers: Shared::buffer_bound(),
        });
        tasks.spawn(revoker(&shared, presence.clone()).run(stop.clone()));
        tasks.spawn(leases(&shared, whole).run(stop.clone()));
        let depths = depths(&shared, node_events);
        let overload = Overload::watch(settings.overload, shared.metrics.clone(), &tasks, &stop);
        let (connections, spread) = (TaskTracker::new(), settings.drain_spread());
        let finish = settings.drain_timeout().saturating_sub(DRAIN_TIME + STOP_TIME + PROCESS_TIME);
        Self {
            shared,
            presence,
            connections,
            tasks,
            stop,
            departures,
            sight,
            spread,
            finish,
            overload,
            _depths: depths,
        }
    }

    /// What clients reach.
    fn routes(&self, settings: &EdgeSettings, local_only: bool) -> Router {
        let limits = &settings.limits;
        let gate = || {
            Gate::new(GateLimits {
                connections: limits.connections,
                per_address: limits.connections_per_address,
                rate: Some(Rate::new(limits.connection_rate, limits.connection_burst)),
                total_rate: Some(Rate::new(limits.edge_connection_rate, limits.edge_connection_burst)),
            })
        };
        let door = Arc::new(Door {
            shared: Arc::clone(&self.shared),
            overload: self.overload.clone(),
            gate: gate(),
            presence: self.presence.clone(),
            trusted_proxies: settings.trusted_proxies.clone(),
            local_only,
            next_connection: AtomicU64::new(rand::random()),
            connections: self.connections.clone(),
        });
        let (admission, metrics) = (Arc::clone(&self.shared.admission), self.shared.metrics.clone());
        // Clients ask about once for each connection.
        let config = Arc::new(RtcConfig::new(settings, admission, gate(), metrics));
        Router::new()
            .route("/ws", any(ws::upgrade).with_state(door))
            .route("/rtc-config", get(rtc_config::answer).options(rtc_config::preflight).with_state(config))
    }

    /// What operators may see of it.
    fn scene(&self, directory: Arc<dyn NodeDirectory>, operators: Arc<Operators>) -> Scene {
        let Shared { edge, rooms, .. } = &*self.shared;
        Scene { edge: edge.clone(), rooms: rooms.clone(), directory, connections: self.connections.clone(), operators }
    }

    /// Runs until shutdown, then ends in order: no new connections, sockets, tasks.
    async fn until(self, shutdown: CancellationToken, latch: Latch, handle: Handle<SocketAddr>, servers: TaskTracker) {
        shutdown.run_until_cancelled(self.mind_readiness(&latch)).await;
        latch.wait("draining");
        self.shared.metrics.draining.set(1.0);
        self.send_clients_away().await;
        let deadline = Instant::now() + DRAIN_TIME;
        // Until here whoever came was told to come back elsewhere, and operators were answered.
        handle.graceful_shutdown(Some(DRAIN_TIME));
        self.connections.close();
        if timeout_at(deadline, self.connections.wait()).await.is_err() {
            tracing::info!(left = self.connections.len(), "clients did not close in time");
        }
        self.stop.cancel();
        let deadline = Instant::now() + STOP_TIME;
        for tasks in [&self.tasks, &servers] {
            tasks.close();
            if timeout_at(deadline, tasks.wait()).await.is_err() {
                tracing::warn!(left = tasks.len(), "tasks did not end in time");
            }
        }
        tracing::info!("edge has stopped");
    }

    /// Each client in its turn, and until the last of them has gone or its time is up.
    async fn send_clients_away(&self) {
        let departure = Departure { begun: Instant::now(), spread: self.spread, finish: self.finish, why: Why::Ending };
        self.departures.send_replace(Some(departure));
        tracing::info!(clients = self.connections.len(), spread = ?self.spread, "clients are sent away");
        let all_gone = async {
            while !self.connections.is_empty() {
                sleep(LOOK_INTERVAL).await;
            }
        };
        // Those that are left are cut.
        let _ = timeout_at(departure.end(), all_gone).await;
    }

    /// Ready when the store answers, once an SFU node has been up: an edge alone with its clients could do nothing for them, but
    /// nodes that go down later are no reason to send the clients elsewhere.
    async fn mind_readiness(&self, latch: &Latch) {
        let mut changes = self.shared.nodes.changes();
        while !self.shared.nodes.any_up() {
            latch.wait(no_node(self.shared.nodes.unheard()));
            if changes.changed().await.is_err() {
                return;
            }
        }
        let (mut sight, mut departures) = (self.sight.clone(), self.departures.subscribe());
        loop {
            let seen = sight.borrow_and_update().life().is_some();
            let leaving = departures.borrow_and_update().is_some();
            match (seen, leaving) {
                (true, false) => latch.ready(),
                (false, false) => latch.wait("degraded: the room store is out of reach; media flows"),
                (_, true) => latch.wait("clients are sent to an edge that sees the room store"),
            }
            tokio::select! {
                changed = sight.changed() => if changed.is_err() { return },
                changed = departures.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Why an edge that has not heard of a node is not ready.
fn no_node(unheard: BTreeMap<NodeId, String>) -> String {
    let causes: Vec<String> =
        unheard.into_iter().take(MAX_UNHEARD_SHOWN).map(|(node, cause)| format!("{node}: {cause}")).collect();
    let text = "no SFU node has been heard of yet";
    if causes.is_empty() { text.to_owned() } else { format!("{text} ({})", causes.join("; ")) }
}

async fn serve(
    listener: TcpListener,
    acceptor: BoundedAcceptor,
    routes: Router,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
) {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    let served = match (axum_server::from_tcp(listener), tls) {
        (Ok(server), Some(tls)) => {
            let acceptor = RustlsAcceptor::new(tls).acceptor(acceptor);
            bounded(server.acceptor(acceptor), handle).serve(service).await
        }
        (Ok(server), None) => bounded(server.acceptor(acceptor), handle).serve(service).await,
        (Err(error), _) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "listener ended");
    }
}

/// A server whose connections cannot be held open without using them. HTTP/1.1 only: an idle connection of HTTP/2 could.
fn bounded<A>(server: Server<SocketAddr, A>, handle: Handle<SocketAddr>) -> Server<SocketAddr, A> {
    let mut server = server.handle(handle).first_request_timeout(FIRST_REQUEST_TIME).accept_error_handler(
        |peer: Option<&SocketAddr>, error| {
            if let Some(peer) = peer {
                tracing::debug!(%peer, %error, "connection refused");
            } else {
                tracing::warn!(%error, "connections cannot be accepted");
            }
        },
    );
    let http = server.http_builder();
    // The server's own `http1_only` would not let connections be upgraded.
    *http = http.clone().http1_only();
    http.http1().header_read_timeout(IDLE_TIME);
    server
}

/// How fast a connection is read, in `units` of a request's cost.
fn reading(settings: &EdgeSettings, units: u32) -> Rate {
    let of = |limit: u32| limit.saturating_mul(READS_PER_REQUEST).saturating_mul(units);
    Rate::new(of(settings.limits.message_rate), of(settings.limits.message_burst))
}

/// What waits for a client in the system, beside what waits in its queue.
fn send_buffer(settings: &EdgeSettings) -> usize {
    settings.limits.queued_bytes / SEND_BUFFER_SHARE
}

/// Who may connect. No more than there may be open files: past that nobody could.
fn clients_sockets(settings: &EdgeSettings, metrics: EdgeMetrics) -> BoundedAcceptor {
    let limits = &settings.limits;
    let wanted = limits.connections * SOCKETS_PER_CONNECTION + FURTHER_SOCKETS;
    let sockets = wanted.min(open_files(limits.connections, wanted).saturating_sub(OWN_FILES)).max(1);
    let per_address = limits.connections_per_address * SOCKETS_PER_CONNECTION + FURTHER_SOCKETS_PER_ADDRESS;
    BoundedAcceptor::new(
        sockets,
        per_address,
        settings.trusted_proxies.clone(),
        reading(settings, BYTES_PER_COST as u32),
        send_buffer(settings),
        metrics,
    )
}

/// How many files may be open. Each socket is one, and shells give their programs few. What may be had is taken; what that is
/// not enough for is said, before clients find out.
fn open_files(connections: usize, sockets: usize) -> usize {
    let needed = sockets + OWN_FILES;
    match rlimit::increase_nofile_limit(u64::try_from(needed).unwrap_or(u64::MAX)) {
        Ok(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if limit < connections + OWN_FILES {
                tracing::warn!(
                    limit,
                    connections,
                    "fewer open files are allowed than limits.connections: raise the limit (ulimit -n)"
                );
            }
            limit
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            needed
        }
    }
}

fn authenticator(settings: &EdgeSettings) -> Result<Authenticator, Contradiction> {
    let auth = &settings.auth;
    let keys = auth.keyring()?;
    Ok(keys
        .map_or_else(Authenticator::open, |keys| Authenticator::new(keys, auth.issuer.clone(), auth.audience.clone())))
}

/// Where further keys come from, if they do.
fn jwks_source(settings: &EdgeSettings, metrics: EdgeMetrics) -> Result<Option<JwksSource>, Contradiction> {
    let auth = &settings.auth;
    let Some(address) = auth.jwks_address()? else { return Ok(None) };
    let client = HttpsClient::new(auth.jwks_ca.as_deref());
    let client = client.map_err(|error| Contradiction::new("auth.jwks_ca", error.to_string()))?;
    Ok(Some(JwksSource { client, address, interval: auth.jwks_interval.into(), metrics }))
}

/// Who lets clients in, and what it waits for before it can.
fn admission(
    parts: &EdgeParts,
    authenticator: Authenticator,
    jwks: Option<JwksSource>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Arc<Admission> {
    let jwks = jwks.map(|source| fetch_keys(source, parts.readiness.latch("keys"), tasks, stop));
    let admission = Arc::new(Admission::new(authenticator, jwks, &*parts.stores.revocations));
    if !admission.is_open() {
        let latch = parts.readiness.latch("revocations");
        tasks.spawn(Arc::clone(&admission).mind_revocations(latch, stop.clone()));
    }
    admission
}

fn fetch_keys(source: JwksSource, latch: Latch, tasks: &TaskTracker, stop: &CancellationToken) -> JwksKeys {
    let (keys, fetching) = source.fetching();
    tasks.spawn(fetching.run(latch, stop.clone()));
    keys
}

/// Edges that share a secret know each other's sessions. An edge without one proves sessions only to itself.
fn signer(secret: Option<&SharedSecret>) -> SessionSigner {
    secret.and_then(|secret| SessionSigner::new(secret.as_bytes()).ok()).unwrap_or_else(SessionSigner::random)
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| StartError::Listen { address, error })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::Listen { address, error })
}
