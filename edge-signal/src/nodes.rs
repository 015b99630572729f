//! The SFU nodes as this edge sees them: a channel and a task to each node of the directory's map, which of them take new
//! streams, and the calls to them. What nodes tell of their own accord goes out as [`NodeEvent`]s.

mod calls;
mod closing;
mod link;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{BootId, NodeId, RegionId, RoomId};
use proto::sfu::sfu_node_client::SfuNodeClient;
use proto::sfu::{
    CloseTransportsRequest, DescribeRequest, DescribeResponse, NegotiateRequest, NegotiateResponse, RestartRequest,
    RestartResponse,
};
use room_store::{NodeDirectory, NodeMap, NodeRecord, Placement, Released};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub use self::calls::SfuError;
use self::closing::Closes;
pub(crate) use self::link::NodeEvent;
use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::placement::{self, Fresh};

/// How long making a connection may take: one lost SYN is bridged (1 s), a dead host is not waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an HTTP/2 ping asks whether the node is still there, and how long its answer may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request for a node waits when nodes are known but none of them has been heard of yet.
const FIRST_CONTACT: Duration = Duration::from_secs(2);

/// The address of a node cannot be used.
#[derive(Debug, Error)]
#[error("address of node {node} cannot be used: {reason}")]
pub struct BadAddress {
    node: NodeId,
    reason: String,
}

impl BadAddress {
    /// Says which node's, and what is wrong with it.
    pub fn new(node: NodeId, reason: impl Into<String>) -> Self {
        Self { node, reason: reason.into() }
    }
}

/// Makes channels to SFU nodes: over the network, or inside one process.
pub trait Connector: Send + Sync + 'static {
    /// A channel that connects when it is first used, and again whenever it has to.
    fn channel(&self, node: &NodeRecord) -> Result<Channel, BadAddress>;
}

/// Reaches nodes at their addresses over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn channel(&self, node: &NodeRecord) -> Result<Channel, BadAddress> {
        let endpoint = Endpoint::from_shared(node.address.clone())
            .map_err(|error| BadAddress::new(node.node.clone(), error.to_string()))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy())
    }
}

/// How a node is doing, as far as this edge can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    /// Not heard of yet.
    Unknown,
    Up(BootId),
    Down,
}

/// One node.
struct Node {
    id: NodeId,
    region: RegionId,
    address: String,
    client: SfuNodeClient<Channel>,
    health: Mutex<Health>,
    /// Whether the directory has it: a node whose lease is gone may still carry streams.
    leased: watch::Sender<bool>,
    /// Rooms of this edge whose streams it carries.
    rooms: watch::Sender<BTreeSet<RoomId>>,
    closes: Closes,
    /// Ends the node's task.
    forgotten: CancellationToken,
}

impl Node {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the node who it is.
    async fn describe(&self, deadline: Instant) -> Result<DescribeResponse, Status> {
        let mut client = self.client.clone();
        match timeout_at(deadline, client.describe(DescribeRequest {})).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }

    async fn close_transports(&self, transport_ids: Vec<String>, deadline: Instant) -> Result<(), SfuError> {
        let request = CloseTransportsRequest { transport_ids };
        calls::call(deadline, || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.close_transports(request).await }
        })
        .await
        .map(drop)
    }
}

/// The SFU nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Nodes {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Arc<dyn Connector>,
    directory: Arc<dyn NodeDirectory>,
    region: RegionId,
    known: Mutex<HashMap<NodeId, Arc<Node>>>,
    fresh: Mutex<Fresh>,
    /// Counts up whenever a node's health changes, for those who wait for one to come up.
    changed: watch::Sender<u64>,
    events: mpsc::Sender<NodeEvent>,
    members: Arc<Members>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    metrics: EdgeMetrics,
}

/// What the nodes' tasks need from the edge.
pub(crate) struct NodesConfig {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) directory: Arc<dyn NodeDirectory>,
    pub(crate) region: RegionId,
    pub(crate) members: Arc<Members>,
    /// Where what nodes tell goes.
    pub(crate) events: mpsc::Sender<NodeEvent>,
    /// Owns the tasks; `shutdown` ends them.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: EdgeMetrics,
}

impl Nodes {
    /// Starts following the directory.
    pub(crate) fn start(config: NodesConfig) -> Self {
        let NodesConfig { connector, directory, region, members, events, tasks, shutdown, metrics } = config;
        let inner = Arc::new(Inner {
            connector,
            directory,
            region,
            known: Mutex::default(),
            fresh: Mutex::default(),
            changed: watch::Sender::new(0),
            events,
            members,
            tasks,
            shutdown,
            metrics,
        });
        inner.tasks.spawn(follow_directory(Arc::clone(&inner)));
        Self { inner }
    }

    /// Where a new stream may go, best first. Waits a moment when nodes are known but none has been heard of yet.
    pub(crate) async fn candidates(&self, avoid: &[NodeId], deadline: Instant) -> Vec<Placement> {
        let deadline = deadline.min(Instant::now() + FIRST_CONTACT);
        let mut changed = self.inner.changed.subscribe();
        loop {
            let (candidates, unheard) = self.inner.candidates(avoid);
            if !candidates.is_empty() || !unheard || timeout_at(deadline, changed.changed()).await.is_err() {
                return candidates;
            }
        }
    }

    /// Counts a new stream against its node until the node reports it itself.
    pub(crate) fn chosen(&self, node: &NodeId) {
        if let Some(record) = self.inner.directory.map().nodes.get(node) {
            self.inner.fresh().choose(record, std::time::Instant::now());
        }
    }

    /// Offers a transport to a node.
    pub(crate) async fn negotiate(
        &self,
        node: &NodeId,
        request: NegotiateRequest,
        deadline: Instant,
    ) -> Result<NegotiateResponse, SfuError> {
        let node = self.inner.node(node).ok_or(SfuError::Unreachable)?;
        calls::call(deadline, || {
            let (mut client, request) = (node.client.clone(), request.clone());
            async move { client.negotiate(request).await }
        })
        .await
    }

    /// Restarts a transport's ICE.
    pub(crate) async fn restart(
        &self,
        node: &NodeId,
        request: RestartRequest,
        deadline: Instant,
    ) -> Result<RestartResponse, SfuError> {
        let node = self.inner.node(node).ok_or(SfuError::Unreachable)?;
        calls::call(deadline, || {
            let (mut client, request) = (node.client.clone(), request.clone());
            async move { client.restart(request).await }
        })
        .await
    }

    /// Has transports closed, in the background, for as long as it takes within reason.
    pub(crate) fn close(&self, released: &Released) {
        for (node, transports) in closing::by_node(released) {
            let Some(node) = self.inner.node(node) else { continue };
            let refused = node.closes.push(transports, Instant::now());
            if refused > 0 {
                closing::abandon(&self.inner, &node, refused, &SfuError::Full("too many wait to be closed".into()));
            }
        }
    }

    /// From now on, listens to the node about the room; `false`: the node is not known.
    pub(crate) fn watch_room(&self, node: &NodeId, room: &RoomId) -> bool {
        let node = self.inner.node(node);
        if let Some(node) = &node {
            node.rooms.send_if_modified(|rooms| rooms.insert(room.clone()));
        }
        node.is_some()
    }

    /// The room has nobody on this edge any more.
    pub(crate) fn unwatch_room(&self, room: &RoomId) {
        for node in self.inner.known().values() {
            node.rooms.send_if_modified(|rooms| rooms.remove(room));
        }
    }

    /// Whether the node is listened to about the room.
    #[cfg(test)]
    pub(crate) fn watches(&self, node: &NodeId, room: &RoomId) -> bool {
        self.inner.node(node).is_some_and(|node| node.rooms.borrow().contains(room))
    }

    /// Whether a node is up.
    pub(crate) fn any_up(&self) -> bool {
        self.inner.known().values().any(|node| matches!(*node.health(), Health::Up(_)))
    }

    /// Waits for the next change of any node's health.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Node>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.known().get(id).cloned()
    }

    fn set_health(&self, node: &Node, health: Health) {
        *node.health() = health;
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The candidates by what is known now, and whether there are nodes of which nothing is known yet.
    fn candidates(&self, avoid: &[NodeId]) -> (Vec<Placement>, bool) {
        let map = self.directory.map();
        let known = self.known();
        let boot = |record: &NodeRecord| match &*known.get(&record.node)?.health() {
            Health::Up(boot) => Some(boot.clone()),
            Health::Unknown | Health::Down => None,
        };
        let usable = |record: &NodeRecord| !avoid.contains(&record.node) && boot(record).is_some();
        let now = std::time::Instant::now();
        let placements = placement::candidates(&map, &self.region, &self.fresh(), usable, &mut rand::rng(), now)
            .into_iter()
            .filter_map(|record| {
                Some(Placement { node: record.node.clone(), boot: boot(record)?, region: record.region.clone() })
            })
            .collect();
        let unheard = map.nodes.keys().any(|id| known.get(id).is_none_or(|node| *node.health() == Health::Unknown));
        (placements, unheard)
    }

    /// Brings the nodes known in line with the directory's map.
    fn take_map(self: &Arc<Self>, map: &NodeMap) {
        let mut known = self.known();
        for record in map.nodes.values() {
            let same = |node: &Arc<Node>| node.address == record.address && node.region == record.region;
            if let Some(node) = known.get(&record.node).filter(|node| same(node)) {
                node.leased.send_if_modified(|leased| !std::mem::replace(leased, true));
                continue;
            }
            // At another address it carries the same rooms, until it says otherwise.
            let rooms = known.get(&record.node).map(|earlier| earlier.rooms.borrow().clone()).unwrap_or_default();
            match self.new_node(record, rooms) {
                Ok(node) => {
                    self.tasks.spawn(link::run(Arc::clone(self), Arc::clone(&node)));
                    if let Some(earlier) = known.insert(record.node.clone(), node) {
                        earlier.forgotten.cancel();
                    }
                }
                Err(error) => tracing::error!(%error, "a node of the directory cannot be used"),
            }
        }
        known.retain(|id, node| {
            let leased = map.nodes.contains_key(id);
            node.leased.send_if_modified(|known| std::mem::replace(known, leased) != leased);
            // A node without a lease is kept for the streams it still carries.
            let keep = leased || !node.rooms.borrow().is_empty();
            if !keep {
                node.forgotten.cancel();
            }
            keep
        });
    }

    fn new_node(&self, record: &NodeRecord, rooms: BTreeSet<RoomId>) -> Result<Arc<Node>, BadAddress> {
        Ok(Arc::new(Node {
            id: record.node.clone(),
            region: record.region.clone(),
            address: record.address.clone(),
            client: SfuNodeClient::new(self.connector.channel(record)?),
            health: Mutex::new(Health::Unknown),
            leased: watch::Sender::new(true),
            rooms: watch::Sender::new(rooms),
            closes: Closes::default(),
            forgotten: self.shutdown.child_token(),
        }))
    }
}

async fn follow_directory(inner: Arc<Inner>) {
    let mut maps = inner.directory.watch();
    let shutdown = inner.shutdown.clone();
    loop {
        let map = Arc::clone(&maps.borrow_and_update());
        inner.take_map(&map);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = maps.changed() => if changed.is_err() { return },
        }
    }
}
