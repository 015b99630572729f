//! The task of one node: it asks who the node is, keeps a watch open, tells what came out of it, and closes transports
//! (`closing`).
//!
//! ```text
//!          describe answered            watch cut
//! Unknown ────────────────▶ Up(boot) ────────────▶ Down ──▶ describe, after a pause …
//! ```
//!
//! A node is dead, and its streams with it, when it refuses connections twice 200 ms apart, or when its lease is gone *and* it
//! did not answer for 3 s. A node that answers anew shows with the watch's snapshot what it still has: whatever the store
//! knew before the watch was opened and the snapshot does not name is gone.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{BootId, Mid, NodeId, RoomId, Sid};
use proto::sfu::watch_event::Event;
use proto::sfu::{GoneReason, Snapshot, TransportGone, WatchEvent, WatchRequest};
use room_store::{Placement, RemoveReason};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::calls::jittered;
use super::{Health, Inner, Node, closing};
use crate::members::Carried;

/// How long a node has to say who it is.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node has to open a watch, and to take a change of its rooms.
const WATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the first failure; doubled with each further one.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// Longest mean pause: how late a node that came back is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// Two refusals this far apart are not a node in the middle of a restart of its listener.
const REFUSED_FOR: Duration = Duration::from_millis(200);
/// How long a node without a lease must not answer before it counts as dead.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// Requests on their way to a node.
const MAX_WATCH_REQUESTS: usize = 4;
/// Rooms named in one request: well under what a node reads at once.
const MAX_ROOMS_PER_REQUEST: usize = 4_096;
/// Largest message of a watch: a snapshot of a room of thousands of streams, each with its description.
const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// What is known through a node.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// A transport ended by itself.
    Ended { room: RoomId, placement: Placement, publications: Vec<Mid>, subscriptions: Vec<Sid> },
    /// What should be of a room on the node and is not.
    Missing { room: RoomId, carried: Carried, reason: RemoveReason },
    /// The node is dead, and all its streams in these rooms with it.
    Dead { node: NodeId, rooms: Vec<RoomId> },
}

/// Follows the node until it is forgotten.
pub(super) async fn run(inner: Arc<Inner>, node: Arc<Node>) {
    let forgotten = node.forgotten.clone();
    tokio::select! {
        () = forgotten.cancelled() => {}
        () = follow(&inner, &node) => {}
        () = closing::run(&inner, &node) => {}
    }
}

/// How long, and how, a node has not answered.
#[derive(Default)]
struct Silence {
    since: Option<Instant>,
    refused_since: Option<Instant>,
    /// Rooms for which its death was told.
    buried: BTreeSet<RoomId>,
}

impl Silence {
    fn note(&mut self, error: &Status, now: Instant) {
        self.since.get_or_insert(now);
        self.refused_since = is_refusal(error).then(|| self.refused_since.unwrap_or(now));
    }

    /// Whether the node is to be taken for dead.
    fn is_death(&self, leased: bool, now: Instant) -> bool {
        let longer = |since: Option<Instant>, than| since.is_some_and(|since| now.duration_since(since) >= than);
        longer(self.refused_since, REFUSED_FOR) || (!leased && longer(self.since, SILENT_FOR))
    }

    /// The rooms that are still to be told of its death.
    fn bury(&mut self, rooms: &BTreeSet<RoomId>) -> Vec<RoomId> {
        let untold = rooms.difference(&self.buried).cloned().collect();
        self.buried.clone_from(rooms);
        untold
    }
}

async fn follow(inner: &Inner, node: &Node) {
    let mut pause = MIN_PAUSE;
    let mut silence = Silence::default();
    loop {
        match node.describe(Instant::now() + DESCRIBE_TIMEOUT).await.and_then(|said| identity(&said, node)) {
            Ok(boot) => {
                silence = Silence::default();
                pause = MIN_PAUSE;
                inner.set_health(node, Health::Up(boot.clone()));
                tracing::info!(node = %node.id, %boot, "node is up");
                let error = watch(inner, node, &boot).await;
                inner.metrics.watches_cut.increment(1);
                tracing::info!(node = %node.id, %error, "watch of node was cut");
            }
            Err(error) => {
                silence.note(&error, Instant::now());
                tracing::debug!(node = %node.id, %error, "node does not answer");
            }
        }
        inner.set_health(node, Health::Down);
        let leased = *node.leased.borrow();
        if silence.is_death(leased, Instant::now()) {
            let rooms = silence.bury(&node.rooms.borrow());
            if !rooms.is_empty() {
                tracing::warn!(node = %node.id, rooms = rooms.len(), "node is dead: its streams end");
                tell(inner, NodeEvent::Dead { node: node.id.clone(), rooms }).await;
            }
        }
        // A watch that was cut asks anew at once: often only the connection is gone.
        if silence.since.is_some() {
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        } else {
            sleep(jittered(MIN_PAUSE / 4)).await;
        }
    }
}

fn identity(said: &proto::sfu::DescribeResponse, node: &Node) -> Result<BootId, Status> {
    if said.node_id != node.id.as_str() {
        return Err(Status::failed_precondition(format!("this address is node {:?}", said.node_id)));
    }
    if said.region != node.region.as_str() {
        let (set, says) = (&node.region, &said.region);
        tracing::warn!(node = %node.id, %set, says, "node says another region than `nodes` does: clients go by `nodes`");
    }
    BootId::new(&said.boot_id).map_err(|error| Status::failed_precondition(error.to_string()))
}

fn is_refusal(error: &Status) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

async fn tell(inner: &Inner, event: NodeEvent) {
    // The receiver lives as long as the edge; after it nobody needs to know.
    let _ = inner.events.send(event).await;
}

/// One opened watch.
struct Watch<'a> {
    inner: &'a Inner,
    node: &'a Node,
    boot: &'a BootId,
    requests: mpsc::Sender<WatchRequest>,
    /// What the node was asked about.
    rooms: BTreeSet<RoomId>,
    /// What the store knew to be on the node before it was asked about the room.
    expected: HashMap<RoomId, Carried>,
    /// Requests for which there is no room on the way yet.
    waiting: VecDeque<WatchRequest>,
    /// When the node has to have taken the next of them.
    take_by: Instant,
}

/// Keeps a watch open until it is cut; says why it was.
async fn watch(inner: &Inner, node: &Node, boot: &BootId) -> Status {
    let (requests, outgoing) = mpsc::channel(MAX_WATCH_REQUESTS);
    let (rooms, expected) = (BTreeSet::new(), HashMap::new());
    let (waiting, take_by) = (VecDeque::new(), Instant::now());
    let mut watch = Watch { inner, node, boot, requests, rooms, expected, waiting, take_by };
    match watch.run(ReceiverStream::new(outgoing)).await {
        Ok(()) => Status::unavailable("the node ended the watch"),
        Err(error) => error,
    }
}

impl Watch<'_> {
    async fn run(&mut self, outgoing: ReceiverStream<WatchRequest>) -> Result<(), Status> {
        let mut wanted = self.node.rooms.subscribe();
        let rooms = wanted.borrow_and_update().clone();
        self.ask_for(rooms).await;
        let requests = self.requests.clone();
        // The others go while the watch is read: a node takes no further ones when nobody takes its answers.
        if let Some(first) = self.waiting.pop_front() {
            // The channel is new, and has room.
            let _ = requests.try_send(first);
        }
        let mut client = self.node.client.clone().max_decoding_message_size(MAX_EVENT_BYTES);
        let opened = timeout(WATCH_TIMEOUT, client.watch(outgoing)).await;
        let mut events = opened.map_err(|_| Status::deadline_exceeded("the watch did not open"))??.into_inner();
        self.take_by = Instant::now() + WATCH_TIMEOUT;
        loop {
            let asking = !self.waiting.is_empty();
            tokio::select! {
                biased;
                room = requests.reserve(), if asking => {
                    let room = room.map_err(|_| Status::unavailable("the node takes no more requests"))?;
                    if let Some(request) = self.waiting.pop_front() {
                        room.send(request);
                    }
                    self.take_by = Instant::now() + WATCH_TIMEOUT;
                }
                () = sleep_until(self.take_by), if asking => {
                    return Err(Status::deadline_exceeded("the node takes no requests"));
                }
                // What changes while earlier changes are being sent is merged.
                changed = wanted.changed(), if !asking => {
                    changed.map_err(|_| Status::cancelled("the node is forgotten"))?;
                    let rooms = wanted.borrow_and_update().clone();
                    self.ask_for(rooms).await;
                }
                event = next(&mut events) => match event? {
                    Some(event) => self.take(event).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Changes what the node is to be asked about.
    async fn ask_for(&mut self, rooms: BTreeSet<RoomId>) {
        for room in rooms.difference(&self.rooms) {
            let carried = self.inner.members.carried_by(&self.node.id, room).await;
            self.expected.insert(room.clone(), carried);
        }
        let add: Vec<String> = rooms.difference(&self.rooms).map(ToString::to_string).collect();
        let remove: Vec<String> = self.rooms.difference(&rooms).map(ToString::to_string).collect();
        // At least one request, that may be empty: a watch of no rooms still says that the node lives.
        for part in 0..add.len().max(remove.len()).div_ceil(MAX_ROOMS_PER_REQUEST).max(1) {
            let few = |all: &[String]| all.chunks(MAX_ROOMS_PER_REQUEST).nth(part).unwrap_or_default().to_vec();
            self.waiting.push_back(WatchRequest { add_rooms: few(&add), remove_rooms: few(&remove) });
        }
        self.take_by = Instant::now() + WATCH_TIMEOUT;
        self.rooms = rooms;
    }

    async fn take(&mut self, event: WatchEvent) -> Result<(), Status> {
        if event.node_id != self.node.id.as_str() || event.boot_id != self.boot.as_str() {
            return Err(Status::failed_precondition("the watch speaks for another node or start"));
        }
        match event.event {
            Some(Event::Snapshot(snapshot)) => self.compare(&snapshot).await,
            Some(Event::TransportGone(gone)) => self.transport_gone(gone).await,
            Some(Event::Draining(_)) | None => {}
        }
        Ok(())
    }

    /// Whatever was known before the node was asked, and it does not have, is gone.
    async fn compare(&mut self, snapshot: &Snapshot) {
        let publications = snapshot.publications.iter().map(|live| live.publication_id.as_str());
        let subscriptions = snapshot.subscriptions.iter().map(|live| live.subscription_id.as_str());
        let live: HashSet<&str> = publications.chain(subscriptions).collect();
        for room in &snapshot.room_ids {
            let Some((room, expected)) = self.expected.remove_entry(room.as_str()) else { continue };
            tracing::debug!(node = %self.node.id, %room, ?expected, live = live.len(), "room compared with node");
            let missing = Carried {
                publications: expected.publications.into_iter().filter(|(id, _)| !live.contains(id.as_str())).collect(),
                subscriptions: expected
                    .subscriptions
                    .into_iter()
                    .filter(|(id, _)| !live.contains(id.as_str()))
                    .collect(),
            };
            let of_this_boot = |placement: &Placement| placement.boot == *self.boot;
            let (ended, lost) = missing.partition(of_this_boot);
            for (carried, reason) in [(ended, RemoveReason::TransportEnded), (lost, RemoveReason::NodeLost)] {
                if !carried.is_empty() {
                    tell(self.inner, NodeEvent::Missing { room: room.clone(), carried, reason }).await;
                }
            }
        }
    }

    async fn transport_gone(&mut self, gone: TransportGone) {
        // What an edge closed is out of the store already.
        if gone.reason() == GoneReason::Closed {
            return;
        }
        let Ok(room) = RoomId::new(&gone.room_id) else { return };
        let placement =
            Placement { node: self.node.id.clone(), boot: self.boot.clone(), region: self.node.region.clone() };
        let publications = gone.publication_ids.iter().filter_map(|id| Mid::new(id).ok()).collect();
        let subscriptions = gone.subscription_ids.iter().filter_map(|id| Sid::new(id).ok()).collect();
        tell(self.inner, NodeEvent::Ended { room, placement, publications, subscriptions }).await;
    }
}

async fn next(events: &mut Streaming<WatchEvent>) -> Result<Option<WatchEvent>, Status> {
    events.message().await
}

#[cfg(test)]
mod tests;
