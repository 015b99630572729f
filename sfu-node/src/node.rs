//! A node as a library: the program `sfu-node` gives it a gRPC port, `sluice` and tests reach it inside their process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ids::{BootId, NodeId, RegionId};
use rand::Rng;
use room_store::{Capacity, Load, NodeRecord, NodeRegistry, NodeState};
use sfu_core::dtls::{Identity, IdentityError};
use sfu_core::{Event, ShardIndex};
use telemetry::Latch;
use telemetry::events::{Event as LifeEvent, EventSink};
use telemetry::settings::Contradiction;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::addresses::{MediaAddresses, MediaError};
use crate::config::{GrpcConfig, NodeConfig};
use crate::control::{Control, Drained, Local, Watchers};
use crate::grpc::SfuService;
use crate::load::{self, Meter};
use crate::metrics::NodeMetrics;
use crate::metrics::catalogue::DRAIN_TRANSPORTS_CUT;
use crate::overload::{Level, Marks, Overload};
use crate::presence::Presence;
use crate::recording::{Recordings, RunningRecordings};
use crate::registration::Registrar;
use crate::serve::{self, Certificates, InProcess};
use crate::shard::{self, ShardThreads};

/// Events of shards that wait for the control side. It handles one in microseconds; what does not fit waits in the shard.
const EVENTS: usize = 4_096;

/// How long calls under way may take to end once the node is going away; deliveries of recordings go on for a second.
const GRACE: Duration = Duration::from_secs(2);

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// Its name.
    pub node: NodeId,
    /// This start of it.
    pub boot: BootId,
    /// Where it stands.
    pub region: RegionId,
}

/// What the node directory is told besides who the node is and how it fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where edges reach its gRPC service: `http://host:port` or, with TLS, `https://host:port`.
    pub address: String,
    /// Its share of new rooms among equals.
    pub weight: u32,
    /// What it can carry.
    pub capacity: Capacity,
}

/// A running node. It ends when its shutdown token is cancelled; [`Node::ended`] waits for that.
pub struct Node {
    identification: Identification,
    control: Arc<Control>,
    service: SfuService,
    in_process: InProcess,
    candidates: Vec<Vec<SocketAddr>>,
    threads: ShardThreads,
    recordings: Option<RunningRecordings>,
    tasks: JoinSet<()>,
    load: watch::Receiver<Load>,
    /// Asked by scrapes for as long as it is here.
    _metrics: Arc<NodeMetrics>,
    health: HealthServer<HealthService>,
    /// Takes the events of its life and of its recordings.
    events: EventSink,
    shutdown: CancellationToken,
    /// Cancelled when the last of its work is done.
    done: CancellationToken,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A media socket.
    #[error("media")]
    Media(#[from] MediaError),
    /// The DTLS certificate.
    #[error("DTLS certificate: {0}")]
    Identity(#[from] IdentityError),
    /// A shard's thread, or the recorder's.
    #[error("media threads: {0}")]
    Threads(io::Error),
    /// Where recordings are to be.
    #[error("{0}")]
    Recording(String),
    /// The gRPC port.
    #[error("gRPC on {address}: {error}{}", if error.kind() == io::ErrorKind::AddrInUse {
        " (another program has this port: end it, or set another grpc.listen)"
    } else { "" })]
    Listen {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file of the TLS settings cannot be used (any more).
    #[error(transparent)]
    Settings(#[from] Contradiction),
}

impl Node {
    /// Opens sockets and starts the shards' threads; `latch` becomes ready when clients can connect. What becomes of the node's recordings
    /// is told to `events` from now on, its own life from [`Self::announce`] on. Within a tokio runtime.
    pub fn start(
        config: &NodeConfig,
        events: EventSink,
        latch: Latch,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let identification = Identification {
            node: config.id.clone(),
            boot: BootId::of(rand::rng().next_u64()),
            region: config.region.clone(),
        };
        let spool = Recordings::open_spool(&config.recording, &config.id);
        let spool = spool.map_err(|error| StartError::Recording(error.to_string()))?;
        let addresses = MediaAddresses::of(&config.media);
        let sockets = addresses.sockets(&config.media)?;
        let identity = Arc::new(Identity::generate()?);
        let (sender, of_shards) = mpsc::channel(EVENTS);
        let marks = config.marks();
        let (shards, threads, queues) =
            shard::start(sockets, &config.media.affinity, &identity, &sender, spool.is_some(), marks.of_shards())
                .map_err(StartError::Threads)?;
        let recordings = spool.zip(queues).map(|(spool, queues)| Recordings::start(&config.recording, spool, queues));
        let recordings = recordings.transpose().map_err(StartError::Threads)?;
        let candidates: Vec<_> = shards.iter().map(|shard| addresses.candidates(shard.bound.port())).collect();
        for (shard, candidates) in shards.iter().zip(&candidates) {
            tracing::info!(shard = shard.index.0, bound = %shard.bound, ?candidates, "receiving media");
        }
        let local = Local {
            fingerprint: identity.fingerprint(),
            candidates: candidates.clone(),
            max_transports: config.capacity.transports as usize,
        };
        let watchers = Watchers::new(local.max_transports);
        let mut control = Control::new(shards, local, watchers);
        if let Some(recordings) = &recordings {
            control = control.recording_by(recordings.records());
        }
        let control = Arc::new(control);
        let (measured, load) = watch::channel(Load::default());
        let service = SfuService::new(control.clone(), identification.clone(), load.clone(), shutdown.clone());
        let metrics = NodeMetrics::exposed(&identification, config.capacity, &control, load.clone());
        latch.ready();
        let presence = Presence::new(control.phase(), latch);
        let health = presence.health();
        let done = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let recordings = recordings.map(|recordings| recordings.run(control.clone(), &events, &mut tasks));
        tasks.spawn(handle_events(control.clone(), of_shards, done.clone()));
        tasks.spawn(mind_late_closings(control.clone(), done.clone()));
        tasks.spawn(measure_load(control.clone(), marks, measured, done.clone()));
        tasks.spawn(presence.run());
        let (in_process, connections) = serve::in_process();
        tasks.spawn(serve::connections(service.clone(), health.clone(), connections, shutdown.clone()));
        tracing::info!(node = %identification.node, boot = %identification.boot, "node started");
        Ok(Self {
            identification,
            control,
            service,
            in_process,
            candidates,
            threads,
            recordings,
            tasks,
            load,
            _metrics: metrics,
            health,
            events,
            shutdown,
            done,
        })
    }

    /// Who this node is.
    pub fn identification(&self) -> &Identification {
        &self.identification
    }

    /// What clients are told to send media to, by shard.
    pub fn candidates(&self) -> &[Vec<SocketAddr>] {
        &self.candidates
    }

    /// A gRPC channel to this node that uses no port. It connects when it is first used.
    pub fn channel(&self) -> Channel {
        self.in_process.channel()
    }

    /// Tells that the node is up.
    pub fn announce(&self) {
        let Identification { boot, region, .. } = &self.identification;
        self.events.emit(LifeEvent::node_up(region, boot, env!("CARGO_PKG_VERSION")));
    }

    /// Serves gRPC on a port, too; returns where (for port 0).
    pub async fn listen(&mut self, config: &GrpcConfig) -> Result<SocketAddr, StartError> {
        let certificates = config.tls.as_ref().map(Certificates::read).transpose()?;
        let refused = |error| StartError::Listen { address: config.listen, error };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let served = (self.service.clone(), self.health.clone());
        self.tasks.spawn(serve::port(served, listener, certificates, self.shutdown.clone()));
        tracing::info!(%address, tls = config.tls.is_some(), "edges are listened to, by gRPC");
        Ok(address)
    }

    /// Keeps the node registered, until it ends, as one that edges reach at `address`. The directory may be out of reach.
    pub fn register(&mut self, registry: Arc<dyn NodeRegistry>, entry: Entry) {
        let Identification { node, boot, region } = self.identification.clone();
        let record = NodeRecord {
            node,
            boot: Some(boot),
            region,
            address: entry.address,
            weight: entry.weight,
            capacity: entry.capacity,
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.tasks.spawn(Registrar::new(registry, record, self.control.clone(), self.load.clone()).run());
    }

    /// Stops taking new streams, tells edges so, and waits until the last has moved away, but not longer than `within`, nor when
    /// the node is told to end.
    pub async fn drain(&self, within: Duration) {
        tracing::info!(?within, transports = self.control.transports(), "draining");
        let Identification { boot, region, .. } = &self.identification;
        self.events.emit(LifeEvent::node_draining(region, boot, within));
        match self.shutdown.run_until_cancelled(self.control.drain(within)).await {
            Some(Drained::Empty) => tracing::info!("drained"),
            Some(Drained::Late(transports)) => {
                DRAIN_TRANSPORTS_CUT.counter(&[]).increment(transports as u64);
                tracing::warn!(transports, "not everything has moved away in time: it ends now");
            }
            None => tracing::warn!("the drain is cut short"),
        }
    }

    /// Waits until the node is told to end, and ends it: clients are told, recordings are closed, calls under way get a moment.
    pub async fn ended(mut self) {
        self.shutdown.cancelled().await;
        if let Some(recordings) = &self.recordings {
            recordings.end();
        }
        self.control.end();
        // Joining threads blocks, if only for milliseconds; files may take longer.
        let (threads, recordings) = (self.threads, self.recordings);
        let joined = tokio::task::spawn_blocking(move || {
            threads.stop();
            if let Some(recordings) = recordings {
                recordings.join();
            }
        });
        if joined.await.is_err() {
            tracing::error!("media threads did not end in order");
        }
        self.done.cancel();
        let ended = tokio::time::timeout(GRACE, async { while self.tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("calls still under way are cut off");
        }
        let Identification { boot, region, .. } = &self.identification;
        self.events.emit(LifeEvent::node_down(region, boot));
        tracing::info!(node = %self.identification.node, "node ended");
    }
}

async fn handle_events(
    control: Arc<Control>,
    mut events: mpsc::Receiver<(ShardIndex, Event)>,
    done: CancellationToken,
) {
    while let Some(Some((shard, event))) = done.run_until_cancelled(events.recv()).await {
        tracing::debug!(shard = shard.0, ?event, "a shard has told of a transport");
        control.handle_event(event);
    }
}

async fn mind_late_closings(control: Arc<Control>, done: CancellationToken) {
    done.run_until_cancelled(control.mind_late_closings()).await;
}

/// Measures the load, refuses what is too much by it, and says so.
async fn measure_load(control: Arc<Control>, marks: Marks, measured: watch::Sender<Load>, done: CancellationToken) {
    let mut meter = Meter::new(control.shards().len(), telemetry::memory_limit(), Instant::now());
    let mut overload = Overload::new(&marks);
    let mut level = Level::Normal;
    let mut tick = interval_at(tokio::time::Instant::now() + load::INTERVAL, load::INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while done.run_until_cancelled(tick.tick()).await.is_some() {
        let now = Instant::now();
        let load = meter.measure(now, &control);
        let sheds = control.shards().iter().any(|shard| shard.stats.shedding() > 0);
        let pressure = marks.pressure(&load, sheds);
        let before = std::mem::replace(&mut level, overload.measured(now, pressure));
        if level != before {
            if level > before {
                tracing::warn!(
                    ?level,
                    pressure,
                    ?load,
                    "too much to do: another part of what is new is refused from now on"
                );
            } else {
                tracing::info!(?level, pressure, "less of what is new is refused from now on");
            }
            control.set_level(level);
        }
        measured.send_replace(Load { pressure: level.shown(pressure), ..load });
    }
}
