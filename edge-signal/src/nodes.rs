//! The SFU nodes as this edge sees them: a channel and a task to each node of the directory's map, which of them take new
//! streams, and the calls to them. What nodes tell of their own accord, and their deaths, go out as [`NodeEvent`]s: nothing here
//! writes to the store.

mod calls;
mod closing;
mod connector;
mod judge;
mod link;
mod metadata;
mod node;
mod strays;
mod survey;
mod tls;
mod traced;
mod unheard;
mod watch;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use proto::ids::{BootId, Mid, NodeId, RecordingId, RegionId, RoomId, SessionId, Sid};
use proto::sfu::{
    NegotiateRequest, NegotiateResponse, RecordRequest, RecordingEnd, RestartRequest, RestartResponse,
    SetMetadataRequest,
};
use room_store::{NodeDirectory, NodeMap, NodeRecord, Placement, Publication, Released, RemoveReason};
use telemetry::trace::{About, Trace};
use tokio::sync::{mpsc, watch as tokio_watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

pub use self::calls::SfuError;
pub use self::connector::{BadAddress, Connector, TcpConnector};
pub(crate) use self::metadata::{Metadata, unix_ms};
use self::node::{Health, Node, Taking};
use self::strays::Strays;
pub(crate) use self::survey::Survey;
pub use self::tls::{GrpcSettings, GrpcTlsSettings};
use crate::members::{Carried, Members};
use crate::metrics::{EdgeMetrics, SfuCall};
use crate::placement::{self, Fresh, Wanted};
use crate::sight::Sight;

/// How long a request for a node waits when nodes are known but none of them answers just now.
const FIRST_CONTACT: Duration = Duration::from_secs(2);

/// How long a node without a lease and without rooms may not answer before it is forgotten. What it costs until then is a probe every
/// few seconds.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// How long a node that does not answer is told again what to end; after that the comparison of store and node finds it.
const STOP_TIME: Duration = Duration::from_mins(1);
/// Mean pause between two tries.
const STOP_PAUSE: Duration = Duration::from_secs(1);
/// How long a node has to take a stream's new description.
const DESCRIBE_TIME: Duration = Duration::from_secs(5);

/// What is known through a node.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// A transport ended by itself.
    Ended { room: RoomId, placement: Placement, publications: Vec<Mid>, subscriptions: Vec<Sid>, reason: RemoveReason },
    /// What should be of a room on the node and is not.
    Missing { node: NodeId, room: RoomId, carried: Carried },
    /// A recording has ended, and its stream has not.
    RecordingEnded {
        node: NodeId,
        room: RoomId,
        mid: Mid,
        recording: RecordingId,
        reason: RecordingEnd,
        /// The request that it was begun for.
        trace: Option<Trace>,
    },
    /// Streams of a room of which the node records something else, or nothing, or records what the store says is not: what it does.
    RecordedOtherwise { node: NodeId, room: RoomId, streams: Vec<(Mid, Option<RecordingId>)> },
    /// These starts of the node are dead, and all their streams in these rooms with them.
    Dead { node: NodeId, boots: Vec<BootId>, rooms: Vec<RoomId> },
}

/// A node that is going away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draining {
    pub(crate) node: NodeId,
    /// When this edge heard of it.
    pub(crate) since: Instant,
    /// When it ends what is left.
    pub(crate) until: Instant,
    /// Rooms of this edge whose streams it carries.
    pub(crate) rooms: BTreeSet<RoomId>,
}

/// A stream that a node is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewStream<'a> {
    pub(crate) room: &'a RoomId,
    /// Where its client is. `None`, or one in which nothing is known to be: this edge's.
    pub(crate) region: Option<&'a RegionId>,
    /// Nodes that did not take it.
    pub(crate) avoid: &'a [NodeId],
    /// It is to be recorded from its beginning.
    pub(crate) is_recorded: bool,
}

/// How many calls to nodes there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    /// For their turn.
    pub(crate) waiting: usize,
    /// For an answer.
    pub(crate) running: usize,
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
    /// Addresses of the map that cannot be used: said once, and not tried again.
    refused: Mutex<HashMap<NodeId, String>>,
    strays: Strays,
    fresh: Mutex<Fresh>,
    /// Counts up whenever a node's health, or whether it takes streams, changes.
    changed: tokio_watch::Sender<u64>,
    events: mpsc::Sender<NodeEvent>,
    members: Arc<Members>,
    sight: tokio_watch::Receiver<Sight>,
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
    /// Of the store that the members' records are in.
    pub(crate) sight: tokio_watch::Receiver<Sight>,
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
        let NodesConfig { connector, directory, region, members, sight, events, tasks, shutdown, metrics } = config;
        let inner = Arc::new(Inner {
            connector,
            directory,
            region,
            known: Mutex::default(),
            refused: Mutex::default(),
            strays: Strays::default(),
            fresh: Mutex::default(),
            changed: tokio_watch::Sender::new(0),
            events,
            members,
            sight,
            tasks,
            shutdown,
            metrics,
        });
        inner.tasks.spawn(follow_directory(Arc::clone(&inner)));
        inner.tasks.spawn(strays::run(Arc::clone(&inner)));
        Self { inner }
    }

    /// Where a new stream may go, best first. Waits a moment when nodes are known but none that may take it, or may record it if that is
    /// wanted, answers just now.
    pub(crate) async fn candidates(&self, new: &NewStream<'_>, deadline: Instant) -> Vec<Placement> {
        let deadline = deadline.min(Instant::now() + FIRST_CONTACT);
        let mut changed = self.inner.changed.subscribe();
        loop {
            let (candidates, better_may_come) = self.inner.candidates(new);
            if !better_may_come || timeout_at(deadline, changed.changed()).await.is_err() {
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

    /// Offers a transport to a node. A publication, which another node might take, is not insisted on when the node stops answering
    /// and there is another.
    pub(crate) async fn negotiate(
        &self,
        id: &NodeId,
        request: NegotiateRequest,
        deadline: Instant,
    ) -> Result<NegotiateResponse, SfuError> {
        let node = self.inner.node(id).ok_or(SfuError::Unreachable)?;
        let movable = !request.publications.is_empty();
        let calling = node.call(SfuCall::Negotiate, deadline, || {
            let (mut client, request) = (node.client.clone(), request.clone());
            async move { client.negotiate(request).await }
        });
        let negotiated = tokio::select! {
            negotiated = calling => negotiated,
            () = self.inner.others_are_better(&node), if movable => Err(SfuError::Unreachable),
        };
        if matches!(negotiated, Err(SfuError::Full(_) | SfuError::Restarted)) {
            // It may be draining, or another start, since it was last asked.
            node.probe_now.notify_one();
        }
        negotiated
    }

    /// Restarts a transport's ICE.
    pub(crate) async fn restart(
        &self,
        node: &NodeId,
        request: RestartRequest,
        deadline: Instant,
    ) -> Result<RestartResponse, SfuError> {
        let node = self.inner.node(node).ok_or(SfuError::Unreachable)?;
        node.call(SfuCall::Restart, deadline, || {
            let (mut client, request) = (node.client.clone(), request.clone());
            async move { client.restart(request).await }
        })
        .await
    }

    /// Has a stream's node begin or end a recording.
    pub(crate) async fn record(
        &self,
        node: &NodeId,
        request: RecordRequest,
        deadline: Instant,
    ) -> Result<(), SfuError> {
        let node = self.inner.node(node).ok_or(SfuError::Unreachable)?;
        node.record(deadline, request).await
    }

    /// Has a recording ended in the background, for as long as it takes within reason. There is one for each that a client began or
    /// ended, of which it may make so many a second.
    pub(crate) fn stop_recording(&self, room: &RoomId, mid: &Mid, placement: &Placement, recording: &RecordingId) {
        let request = record_request(mid, placement, recording, false);
        let (nodes, node) = (self.clone(), placement.node.clone());
        let stopping = async move {
            let until = Instant::now() + STOP_TIME;
            while Instant::now() < until {
                match nodes.record(&node, request.clone(), until).await {
                    Err(SfuError::Unreachable) => sleep(STOP_PAUSE.mul_f64(rand::random_range(0.5..1.5))).await,
                    _ => return,
                }
            }
            tracing::warn!(%node, recording = request.recording_id, "a node cannot be told that a recording is over");
        };
        let about = About { room: Some(room.as_str()), mid: Some(mid.as_str()) };
        let stopping = Trace::carry_about(Trace::current(), "stop-recording", about, stopping);
        self.inner.tasks.spawn(self.inner.shutdown.clone().run_until_cancelled_owned(stopping));
    }

    /// A stream's description has changed: its node is told, in the background, what to give back in a survey. When that fails, a survey
    /// brings the stream back with the description it had.
    pub(crate) fn describe_anew(&self, stream: &Publication, session: SessionId) {
        let Some(node) = self.inner.node(&stream.placement.node) else { return };
        let metadata = Metadata::of(stream, session, unix_ms(SystemTime::now())).to_bytes();
        let (publication_id, boot_id) = (stream.mid.to_string(), stream.placement.boot.to_string());
        let request = SetMetadataRequest { publication_id, metadata, boot_id };
        let telling = async move {
            let told = node.call(SfuCall::SetMetadata, Instant::now() + DESCRIBE_TIME, || {
                let (mut client, request) = (node.client.clone(), request.clone());
                async move { client.set_metadata(request).await }
            });
            if let Err(error) = told.await {
                tracing::debug!(node = %node.id, mid = request.publication_id, %error, "description not told to node");
            }
        };
        let about = About { room: None, mid: Some(stream.mid.as_str()) };
        let telling = Trace::carry_about(Trace::current(), "describe", about, telling);
        self.inner.tasks.spawn(self.inner.shutdown.clone().run_until_cancelled_owned(telling));
    }

    /// Has transports closed, in the background, for as long as it takes within reason.
    pub(crate) fn close(&self, released: &Released) {
        for (node, transports) in closing::by_node(released) {
            let Some(node) = self.inner.node(node) else { continue };
            closing::push(&self.inner, &node, transports);
        }
    }

    /// A record says that the room has streams at this place: from now on its node is listened to about the room, and when that
    /// start of it is gone, they end. Cheap, and to be said again whenever records are looked at.
    pub(crate) fn watch_room(&self, placement: &Placement, room: &RoomId) {
        let Some(node) = self.inner.find(&placement.node) else {
            return self.inner.strays.note(placement, room);
        };
        node.rooms.send_if_modified(|rooms| rooms.insert(room.clone()));
        if node.judge().note(&placement.boot, Instant::now()) {
            node.unburied.add([room.clone()]);
            node.probe_now.notify_one();
        } else if node.up().is_some_and(|boot| boot != placement.boot) {
            node.probe_now.notify_one();
        }
    }

    /// The room has nobody on this edge any more.
    pub(crate) fn unwatch_room(&self, room: &RoomId) {
        self.inner.strays.forget(room);
        for node in self.inner.known().values() {
            node.rooms.send_if_modified(|rooms| rooms.remove(room));
            node.stale.remove(room);
            node.unburied.remove(room);
        }
    }

    /// Something about the room could not be written to the store: it is compared with the node again.
    pub(crate) fn compare_later(&self, node: &NodeId, room: &RoomId) {
        if let Some(node) = self.inner.node(node) {
            node.stale.add([room.clone()]);
        }
    }

    /// Compares all rooms of this edge with their nodes again: the store was out of reach, or is another than it was.
    pub(crate) fn compare_all(&self) {
        for node in self.inner.known().values() {
            node.stale.add(node.rooms.borrow().iter().cloned());
        }
    }

    /// Records of dead starts in these rooms could not be removed: it is tried again.
    pub(crate) fn bury_later(&self, node: &NodeId, rooms: impl IntoIterator<Item = RoomId>) {
        if let Some(node) = self.inner.node(node) {
            node.unburied.add(rooms);
        }
    }

    /// Nothing of the room is on the node any more, as the store has it: unless it is up, and more may come, it is nothing to the room.
    pub(crate) fn buried(&self, node: &NodeId, room: &RoomId) {
        let Some(node) = self.inner.node(node) else { return };
        if *node.health() == Health::Down {
            node.rooms.send_if_modified(|rooms| rooms.remove(room));
        }
        if node.rooms.borrow().is_empty() {
            let map = self.inner.directory.map();
            self.inner.forget_useless(&map);
        }
    }

    /// Nodes that are going away.
    pub(crate) fn draining(&self) -> Vec<Draining> {
        let draining = |node: &Arc<Node>| match *node.taking() {
            Taking::Draining { since, until } => {
                Some(Draining { node: node.id.clone(), since, until, rooms: node.rooms.borrow().clone() })
            }
            Taking::Yes | Taking::No => None,
        };
        self.inner.known().values().filter_map(draining).collect()
    }

    /// Whether a node is going away.
    pub(crate) fn any_draining(&self) -> bool {
        self.inner.known().values().any(|node| matches!(*node.taking(), Taking::Draining { .. }))
    }

    /// What lives on all nodes, as far as they answer by the deadline. `wanted` says which rooms are asked for.
    pub(crate) async fn survey(&self, wanted: impl Fn(&RoomId) -> bool, deadline: Instant) -> Survey {
        survey::of(&self.inner, &wanted, deadline).await
    }

    /// Whether the node is listened to about the room.
    #[cfg(test)]
    pub(crate) fn watches(&self, node: &NodeId, room: &RoomId) -> bool {
        self.inner.node(node).is_some_and(|node| node.rooms.borrow().contains(room))
    }

    /// Transports that wait to be closed on the node.
    #[cfg(test)]
    pub(crate) fn to_be_closed(&self, node: &NodeId) -> Vec<String> {
        self.inner.node(node).map(|node| node.closes.names()).unwrap_or_default()
    }

    /// Whether a node is up.
    pub(crate) fn any_up(&self) -> bool {
        self.inner.known().values().any(|node| node.up().is_some())
    }

    /// Nodes that have never answered, and why.
    pub(crate) fn unheard(&self) -> BTreeMap<NodeId, String> {
        let causes = |node: &Arc<Node>| (node.id.clone(), node.unheard().causes().join(", "));
        self.inner.known().values().map(causes).filter(|(_, causes)| !causes.is_empty()).collect()
    }

    /// The calls to all of them.
    pub(crate) fn calls(&self) -> Calls {
        let nodes: Vec<_> = self.inner.known().values().cloned().collect();
        let calls = nodes.iter().flat_map(|node| [&node.calls, &node.recording_calls]);
        calls.fold(Calls::default(), |all, calls| Calls {
            waiting: all.waiting + calls.waiting(),
            running: all.running + calls.running(),
        })
    }

    /// How long ago the load of that node was heard of of which that is the longest; zero when none reports any.
    pub(crate) fn load_age(&self) -> Duration {
        let now = Instant::now();
        self.inner.known().values().filter_map(|node| node.load_age(now)).max().unwrap_or_default()
    }

    /// Waits for the next change of any node's health, of whether it takes streams, or of why it has never answered.
    pub(crate) fn changes(&self) -> tokio_watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Node>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<NodeId, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.known().get(id).cloned()
    }

    fn set_health(&self, node: &Node, health: &Health) {
        let before = node.set_health(health.clone());
        if before != *health {
            self.count_nodes();
            self.tell_of_change();
        }
    }

    fn set_taking(&self, node: &Node, taking: Taking) {
        let before = std::mem::replace(&mut *node.taking(), taking);
        if before != taking {
            self.tell_of_change();
        }
    }

    fn tell_of_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn count_nodes(&self) {
        let known = self.known();
        let cut_off = |node: &&Arc<Node>| node.cut_off.load(Ordering::Relaxed);
        self.metrics.nodes_up.set(known.values().filter(|node| node.up().is_some()).count() as f64);
        self.metrics.nodes_cut_off.set(known.values().filter(cut_off).count() as f64);
    }

    async fn tell(&self, event: NodeEvent) {
        // The receiver lives as long as the edge; after it nobody needs to know.
        let _ = self.events.send(event).await;
    }

    /// The candidates by what is known now, and whether one that is to be preferred may come at any moment.
    fn candidates(&self, new: &NewStream<'_>) -> (Vec<Placement>, bool) {
        let NewStream { room, region, avoid, is_recorded } = *new;
        let map = self.directory.map();
        let (known, refused) = (self.known(), self.refused());
        let boot = |record: &NodeRecord| {
            let node = known.get(&record.node).filter(|node| *node.taking() == Taking::Yes)?;
            node.up()
        };
        let carries =
            |record: &NodeRecord| known.get(&record.node).is_some_and(|node| node.rooms.borrow().contains(room));
        let records =
            |record: &NodeRecord| known.get(&record.node).is_some_and(|node| node.records.load(Ordering::Relaxed));
        let usable = |record: &NodeRecord| !avoid.contains(&record.node) && boot(record).is_some();
        let usable_and_records = |record: &NodeRecord| usable(record) && records(record);
        let region = region.filter(|region| placement::is_somewhere(&map, region)).unwrap_or(&self.region);
        let now = std::time::Instant::now();
        let choose = |usable: &dyn Fn(&NodeRecord) -> bool| {
            let wanted = Wanted { region, usable, carries: &carries };
            placement::candidates(&map, &wanted, &self.fresh(), &mut rand::rng(), now)
        };
        // A call is worth more than its recording: where nobody records, it is placed all the same.
        let recording = if is_recorded { choose(&usable_and_records) } else { Vec::new() };
        let lacks_recorder = is_recorded && recording.is_empty();
        let chosen = if recording.is_empty() { choose(&usable) } else { recording };
        let placements = chosen
            .into_iter()
            .filter_map(|record| {
                Some(Placement { node: record.node.clone(), boot: boot(record)?, region: record.region.clone() })
            })
            .collect::<Vec<_>>();
        let may_come = |id: &NodeId| {
            let node = known.get(id);
            let unheard = || match node.map(|node| node.health().clone()) {
                None | Some(Health::Unknown) => true,
                Some(Health::Doubtful(_)) => {
                    placements.is_empty() || node.is_some_and(|node| node.records.load(Ordering::Relaxed))
                }
                Some(Health::Up(_) | Health::Down) => false,
            };
            !avoid.contains(id) && !refused.contains_key(id) && unheard()
        };
        let better_may_come = (placements.is_empty() || lacks_recorder) && map.nodes.keys().any(may_come);
        (placements, better_may_come)
    }

    /// Waits until the node does not answer any more, and another could take what is asked of it.
    async fn others_are_better(&self, node: &Node) {
        let mut changed = self.changed.subscribe();
        loop {
            let other =
                |other: &Arc<Node>| other.id != node.id && other.up().is_some() && *other.taking() == Taking::Yes;
            if node.up().is_none() && self.known().values().any(other) {
                return;
            }
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn new_node(&self, record: &NodeRecord, channel: Channel, rooms: BTreeSet<RoomId>) -> Node {
        Node::new(record, channel, rooms, self.shutdown.child_token(), self.metrics.clone())
    }

    /// Brings the nodes known in line with the directory's map.
    fn take_map(self: &Arc<Self>, map: &NodeMap) {
        self.refused().retain(|id, address| map.nodes.get(id).is_some_and(|record| record.address == *address));
        for record in map.nodes.values() {
            let known = self.node(&record.node);
            let same = |node: &Arc<Node>| node.address == record.address && node.region == record.region;
            if let Some(node) = known.as_ref().filter(|node| same(node)) {
                node.handle_entry(record);
                continue;
            }
            if self.refused().contains_key(&record.node) {
                continue;
            }
            // At another address it carries the same rooms, until it says otherwise.
            let rooms = known.map(|earlier| earlier.rooms.borrow().clone()).unwrap_or_default();
            match self.connector.channel(record) {
                Ok(channel) => self.add(Arc::new(self.new_node(record, channel, rooms))),
                Err(error) => {
                    tracing::error!(%error, "a node of the directory cannot be used");
                    self.refused().insert(record.node.clone(), record.address.clone());
                }
            }
        }
        for (_, node) in self.known().iter().filter(|(id, _)| !map.nodes.contains_key(*id)) {
            node.handle_no_entry();
        }
        self.forget_useless(map);
        self.count_nodes();
        self.tell_of_change();
    }

    fn add(self: &Arc<Self>, node: Arc<Node>) {
        self.tasks.spawn(link::run(Arc::clone(self), Arc::clone(&node)));
        if let Some(earlier) = self.known().insert(node.id.clone(), node) {
            earlier.forgotten.cancel();
        }
    }

    /// A node that is known, or of which the directory knows where it once was: one that was started while the node was cut off from
    /// the directory alone learns so that it lives. It is judged as any other that has no lease.
    fn find(self: &Arc<Self>, id: &NodeId) -> Option<Arc<Node>> {
        let map = self.directory.map();
        match self.known().entry(id.clone()) {
            Entry::Occupied(known) => Some(Arc::clone(known.get())),
            Entry::Vacant(place) => {
                // One with a lease is taken in with its map.
                let record = map.once.get(id).filter(|_| !map.nodes.contains_key(id))?;
                let channel = self.connector.channel(record).ok()?;
                let node = Arc::new(self.new_node(record, channel, BTreeSet::new()));
                node.handle_no_entry();
                self.tasks.spawn(link::run(Arc::clone(self), Arc::clone(&node)));
                tracing::info!(node = %node.id, address = node.address, "a node without a lease is asked where it once was");
                Some(Arc::clone(place.insert(node)))
            }
        }
    }

    /// A node without a lease is kept for the streams it still carries, and as long as it answers: somebody may join a room whose
    /// streams are there, and nobody else could be asked where it is.
    fn forget_useless(&self, map: &NodeMap) {
        let now = Instant::now();
        self.known().retain(|id, node| {
            let answers = !node.is_down_for(FORGET_AFTER, now);
            let keep = map.nodes.contains_key(id) || !node.rooms.borrow().is_empty() || answers;
            if !keep {
                node.forgotten.cancel();
            }
            keep
        });
    }
}

/// Has a recording of the stream begin or end, on the start of its node that has it.
pub(crate) fn record_request(mid: &Mid, placement: &Placement, recording: &RecordingId, on: bool) -> RecordRequest {
    RecordRequest {
        publication_id: mid.to_string(),
        recording_id: recording.to_string(),
        on,
        boot_id: placement.boot.to_string(),
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

#[cfg(test)]
mod tests;
