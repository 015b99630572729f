//! A node's watch: what the node tells of this edge's rooms, and the comparison of each room with the store.
//!
//! A room is compared when the watch opens, when it is first listened to, and again when something about it could not be written.
//! First the store is asked what should be on the node, then the node what is: whatever the store knew before and the node does not
//! name is gone. The other way round, a stream that came in between would seem to be. A room of which the store cannot be asked
//! waits until it can; meanwhile the others go on.
//!
//! What the node names and the store did not know may have come in between, so the store is asked once more, after the node. What it
//! does not know then either is perhaps nobody's (`orphans`). As nothing else finds these, each room is compared every few minutes.

mod orphans;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use proto::ids::{BootId, Mid, RecordingId, RoomId, Sid};
use proto::sfu::watch_event::Event;
use proto::sfu::{GoneReason, RecordingEnded, Snapshot, TransportGone, WatchEvent, WatchRequest};
use room_store::{Placement, RemoveReason, StoreError};
use telemetry::trace::Trace;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use self::orphans::{Orphans, Round};
use super::calls::jittered;
use super::link::set_draining;
use super::node::Node;
use super::{Inner, NodeEvent, closing};
use crate::members::Carried;

/// How long a node has to open a watch, and to take a change of its rooms.
const WATCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests on their way to a node.
const MAX_REQUESTS: usize = 4;
/// Rooms named in one request: well under what a node reads at once.
const MAX_ROOMS_PER_REQUEST: usize = 4_096;
/// Least time between two looks at which rooms are wanted: each goes over all of them, and thousands may be joined within a second.
const WANT_INTERVAL: Duration = Duration::from_millis(20);
/// Largest message of a watch: a snapshot of a room of thousands of streams, each with its description.
const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;
/// Rooms of which the store is asked at a time: more would only queue there.
const MAX_READS: usize = 16;
/// Pause before the store is asked again after it failed; doubled with each further failure, up to the longest.
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Mean time between two looks at what is to be compared without anybody asking for it.
const TICK: Duration = Duration::from_secs(1);
/// So many of them are a round, in which each room is compared once: how late a transport is found that is nobody's. Each comparison
/// reads the room from the store; rooms' heads are read thirty times as often.
const TICKS_PER_ROUND: usize = 300;

/// Transports that a node has named, by the id of what they carry.
type Named = BTreeMap<String, String>;
type Read<'a> = BoxFuture<'a, (RoomId, Result<Carried, StoreError>)>;
type Look<'a> = BoxFuture<'a, (RoomId, Named, Result<Carried, StoreError>)>;

/// One opened watch.
struct Watch<'a> {
    inner: &'a Inner,
    node: &'a Node,
    boot: &'a BootId,
    /// Rooms this edge listens to the node about.
    wanted: BTreeSet<RoomId>,
    /// Rooms that are to be compared, and are not being yet.
    to_compare: BTreeSet<RoomId>,
    /// What the store is being asked.
    reads: FuturesUnordered<Read<'a>>,
    reading: HashSet<RoomId>,
    /// When the store is asked again after a failure, and the pause after the next.
    read_at: Instant,
    pause: Duration,
    /// Rooms of which the node has named what the store did not know, and those of which the store is being asked again.
    unknown: BTreeMap<RoomId, Named>,
    looks: FuturesUnordered<Look<'a>>,
    orphans: Orphans,
    round: Round,
    /// Rooms the node is to be asked about next, with what the store says should be there.
    ready: VecDeque<(RoomId, Carried)>,
    /// Rooms the node is not to tell of any more.
    left: VecDeque<RoomId>,
    /// Rooms the node has been asked about, and has not answered.
    asked: HashMap<RoomId, Asked>,
}

/// A room the node has been asked about.
#[derive(Default)]
struct Asked {
    /// Answers on their way: only the last belongs to what is expected.
    awaited: usize,
    /// `None`: nobody wants to know any more.
    expected: Option<Carried>,
}

/// Keeps a watch open until it is cut; says why it was.
pub(super) async fn run(inner: &Inner, node: &Node, boot: &BootId) -> Status {
    let now = Instant::now();
    let mut watch = Watch {
        inner,
        node,
        boot,
        wanted: BTreeSet::new(),
        to_compare: BTreeSet::new(),
        reads: FuturesUnordered::new(),
        reading: HashSet::new(),
        read_at: now,
        pause: MIN_PAUSE,
        unknown: BTreeMap::new(),
        looks: FuturesUnordered::new(),
        orphans: Orphans::new(inner.members.unrecorded_for()),
        round: Round::default(),
        ready: VecDeque::new(),
        left: VecDeque::new(),
        asked: HashMap::new(),
    };
    match watch.run().await {
        Ok(()) => Status::unavailable("the node ended the watch"),
        Err(error) => error,
    }
}

impl Watch<'_> {
    async fn run(&mut self) -> Result<(), Status> {
        let (requests, outgoing) = mpsc::channel(MAX_REQUESTS);
        let mut rooms = self.node.rooms.subscribe();
        // Of no room: it says that the node lives, and opens the way for the others.
        let _ = requests.try_send(WatchRequest::default());
        let mut client = self.node.client.clone().max_decoding_message_size(MAX_EVENT_BYTES);
        let opened = timeout(WATCH_TIMEOUT, client.watch(ReceiverStream::new(outgoing))).await;
        let mut events = opened.map_err(|_| Status::deadline_exceeded("the watch did not open"))??.into_inner();
        // Whatever was to be compared again is compared now.
        self.node.stale.take();
        let first = rooms.borrow_and_update().clone();
        self.want(first);
        let mut take_by = Instant::now() + WATCH_TIMEOUT;
        let mut want_at = Instant::now();
        let mut tick_at = Instant::now() + jittered(TICK);
        loop {
            self.read_more();
            self.look_more();
            let (has_request, has_reads, has_looks) =
                (self.has_request(), !self.reads.is_empty(), !self.looks.is_empty());
            let waits = !self.to_compare.is_empty() && self.read_at > Instant::now();
            tokio::select! {
                biased;
                place = requests.reserve(), if has_request => {
                    let place = place.map_err(|_| Status::unavailable("the node takes no more requests"))?;
                    place.send(self.next_request());
                    take_by = Instant::now() + WATCH_TIMEOUT;
                    continue;
                }
                () = sleep_until(take_by), if has_request => {
                    return Err(Status::deadline_exceeded("the node takes no requests"));
                }
                changed = changed_from(want_at, &mut rooms) => {
                    want_at = Instant::now() + WANT_INTERVAL;
                    changed.map_err(|_| Status::cancelled("the node is forgotten"))?;
                    let rooms = rooms.borrow_and_update().clone();
                    self.want(rooms);
                }
                () = self.node.stale.added.notified() => {
                    let stale = self.node.stale.take();
                    self.to_compare.extend(stale.into_iter().filter(|room| self.wanted.contains(room)));
                }
                Some((room, carried)) = self.reads.next(), if has_reads => self.take_read(room, carried),
                Some((room, named, carried)) = self.looks.next(), if has_looks => self.take_look(&room, named, carried),
                event = next(&mut events) => match event? {
                    Some(event) => self.take(event).await?,
                    None => return Ok(()),
                },
                () = sleep_until(self.read_at), if waits => {}
                () = sleep_until(tick_at) => {
                    tick_at = Instant::now() + jittered(TICK);
                    self.to_compare.extend(self.orphans.take_due(Instant::now()));
                    // What nothing asks for waits for what something does.
                    if self.is_idle() {
                        self.to_compare.extend(self.round.tick(&self.wanted, TICKS_PER_ROUND));
                    }
                }
            }
            if !has_request {
                take_by = Instant::now() + WATCH_TIMEOUT;
            }
        }
    }

    /// Changes what the node is listened to about.
    fn want(&mut self, rooms: BTreeSet<RoomId>) {
        self.to_compare.extend(rooms.difference(&self.wanted).cloned());
        for room in self.wanted.difference(&rooms) {
            self.to_compare.remove(room);
            self.unknown.remove(room);
            self.orphans.forget(room);
            self.ready.retain(|(ready, _)| ready != room);
            if let Some(asked) = self.asked.get_mut(room) {
                asked.expected = None;
            }
            self.left.push_back(room.clone());
        }
        self.wanted = rooms;
    }

    /// Asks the store about rooms to be compared. One that is being compared waits until that is done: an answer of the node from before
    /// must not be held against what the store says after.
    fn read_more(&mut self) {
        if self.read_at > Instant::now() {
            return;
        }
        while self.reads.len() + self.ready.len() < MAX_READS + MAX_ROOMS_PER_REQUEST && self.reads.len() < MAX_READS {
            let busy = |room: &RoomId| self.reading.contains(room) || self.asked.contains_key(room);
            let Some(room) = self.to_compare.iter().find(|room| !busy(room)).cloned() else { return };
            self.to_compare.remove(&room);
            self.reading.insert(room.clone());
            let (inner, node) = (self.inner, self.node);
            self.reads.push(Box::pin(async move {
                let carried = inner.members.carried_by(&node.id, &room).await;
                (room, carried)
            }));
        }
    }

    fn take_read(&mut self, room: RoomId, carried: Result<Carried, StoreError>) {
        self.reading.remove(&room);
        if !self.wanted.contains(&room) {
            return;
        }
        match carried {
            Ok(carried) => {
                self.pause = MIN_PAUSE;
                self.ready.push_back((room, carried));
            }
            Err(error) => {
                tracing::debug!(node = %self.node.id, %room, %error, "what a node should carry of the room cannot be listed");
                self.orphans.forget(&room);
                self.to_compare.insert(room);
                self.read_at = Instant::now() + jittered(self.pause);
                self.pause = (self.pause * 2).min(MAX_PAUSE);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.to_compare.is_empty() && self.reading.is_empty() && self.ready.is_empty() && self.asked.is_empty()
    }

    /// Asks the store again about rooms of which the node has named more than it knew.
    fn look_more(&mut self) {
        while self.looks.len() < MAX_READS {
            let Some((room, named)) = self.unknown.pop_first() else { return };
            let (inner, node) = (self.inner, self.node);
            self.looks.push(Box::pin(async move {
                let carried = inner.members.carried_by(&node.id, &room).await;
                (room, named, carried)
            }));
        }
    }

    /// Closes what has been nobody's for long. What cannot be read proves nothing, and is left to the next comparison.
    fn take_look(&mut self, room: &RoomId, mut named: Named, carried: Result<Carried, StoreError>) {
        let Ok(carried) = carried else {
            self.orphans.forget(room);
            return;
        };
        if !self.wanted.contains(room) {
            return;
        }
        remove(&mut named, &carried);
        let now = Instant::now();
        let seen_since = self.inner.sight.borrow().since();
        let orphans = self.orphans.handle_compared(room, named.into_values().collect(), seen_since, now);
        if !orphans.is_empty() {
            tracing::warn!(node = %self.node.id, %room, ?orphans, "transports of streams that have ended are closed");
            let orphans = orphans.into_iter().map(|transport| (self.boot.clone(), transport)).collect();
            closing::push(self.inner, self.node, orphans);
        }
    }

    fn has_request(&self) -> bool {
        !(self.ready.is_empty() && self.left.is_empty())
    }

    /// What has gathered while earlier requests were on their way goes together.
    fn next_request(&mut self) -> WatchRequest {
        let count = self.left.len().min(MAX_ROOMS_PER_REQUEST);
        let left: Vec<RoomId> = self.left.drain(..count).collect();
        let mut request = WatchRequest { add_rooms: Vec::new(), remove_rooms: Vec::new() };
        // One that is wanted again, and not asked about again yet, only tells more than has to be heard.
        let gone = left.iter().filter(|room| !self.wanted.contains(*room));
        request.remove_rooms.extend(gone.map(ToString::to_string));
        let count = self.ready.len().min(MAX_ROOMS_PER_REQUEST);
        for (room, carried) in self.ready.drain(..count) {
            request.add_rooms.push(room.to_string());
            let asked = self.asked.entry(room).or_default();
            asked.awaited += 1;
            asked.expected = Some(carried);
        }
        request
    }

    async fn take(&mut self, event: WatchEvent) -> Result<(), Status> {
        if event.node_id != self.node.id.as_str() || event.boot_id != self.boot.as_str() {
            return Err(Status::failed_precondition("the watch speaks for another node or start"));
        }
        match event.event {
            Some(Event::Snapshot(snapshot)) => self.compare(&snapshot).await,
            Some(Event::TransportGone(gone)) => self.transport_gone(gone).await,
            Some(Event::RecordingEnded(ended)) => self.recording_ended(&ended).await,
            Some(Event::Draining(draining)) => set_draining(self.inner, self.node, draining.deadline_ms),
            None => {}
        }
        Ok(())
    }

    /// Whatever was known before the node was asked, and it does not have, is gone. What it records otherwise may have changed in
    /// between: who puts it right asks the store once more.
    async fn compare(&mut self, snapshot: &Snapshot) {
        let publications = snapshot.publications.iter().map(|live| live.publication_id.as_str());
        let subscriptions = snapshot.subscriptions.iter().map(|live| live.subscription_id.as_str());
        let live: HashSet<&str> = publications.chain(subscriptions).collect();
        let recorded = snapshot.publications.iter().filter(|live| !live.recording_id.is_empty());
        let recorded: HashMap<&str, &str> =
            recorded.map(|live| (live.publication_id.as_str(), live.recording_id.as_str())).collect();
        let mut named = by_room(snapshot);
        for room in &snapshot.room_ids {
            let mut named = named.remove(room.as_str()).unwrap_or_default();
            let Some((room, expected)) = self.answered(room) else { continue };
            remove(&mut named, &expected);
            if named.is_empty() {
                self.orphans.forget(&room);
            } else {
                self.unknown.insert(room.clone(), named);
            }
            tracing::debug!(node = %self.node.id, %room, ?expected, live = live.len(), "room compared with node");
            let streams = recorded_otherwise(&expected, self.boot, &live, &recorded);
            if !streams.is_empty() {
                let (node, room) = (self.node.id.clone(), room.clone());
                self.inner.tell(NodeEvent::RecordedOtherwise { node, room, streams }).await;
            }
            let (carried, elsewhere) = expected.without(&live).partition(|placement| placement.boot == *self.boot);
            self.note_other_starts(&room, &elsewhere);
            if !carried.is_empty() {
                let node = self.node.id.clone();
                self.inner.tell(NodeEvent::Missing { node, room, carried }).await;
            }
        }
    }

    /// Records name other starts of the node than the one that is watched: whether those are dead is judged after the next question.
    fn note_other_starts(&self, room: &RoomId, elsewhere: &Carried) {
        let now = Instant::now();
        let publications = elsewhere.publications.iter().map(|(_, placement)| &placement.boot);
        let boots: BTreeSet<&BootId> =
            publications.chain(elsewhere.subscriptions.iter().map(|(_, placement)| &placement.boot)).collect();
        for boot in &boots {
            if self.node.judge().note(boot, now) {
                self.node.unburied.add([room.clone()]);
            }
        }
        if !boots.is_empty() {
            self.node.probe_now.notify_one();
        }
    }

    /// The node has answered about a room; what was expected, if that is the answer to it.
    fn answered(&mut self, room: &str) -> Option<(RoomId, Carried)> {
        let (room, mut asked) = self.asked.remove_entry(room)?;
        asked.awaited = asked.awaited.saturating_sub(1);
        if asked.awaited > 0 {
            self.asked.insert(room, asked);
            return None;
        }
        asked.expected.map(|expected| (room, expected))
    }

    async fn recording_ended(&mut self, ended: &RecordingEnded) {
        let ids = (RoomId::new(&ended.room_id), Mid::new(&ended.publication_id), RecordingId::new(&ended.recording_id));
        let (Ok(room), Ok(mid), Ok(recording)) = ids else { return };
        let (node, reason) = (self.node.id.clone(), ended.reason());
        let trace = Trace::from_traceparent(&ended.traceparent);
        self.inner.tell(NodeEvent::RecordingEnded { node, room, mid, recording, reason, trace }).await;
    }

    async fn transport_gone(&mut self, gone: TransportGone) {
        let reason = match gone.reason() {
            // What an edge closed is out of the store already.
            GoneReason::Closed => return,
            GoneReason::NodeEnding => RemoveReason::NodeLost,
            _ => RemoveReason::TransportEnded,
        };
        let Ok(room) = RoomId::new(&gone.room_id) else { return };
        let placement =
            Placement { node: self.node.id.clone(), boot: self.boot.clone(), region: self.node.region.clone() };
        let publications = gone.publication_ids.iter().filter_map(|id| Mid::new(id).ok()).collect();
        let subscriptions = gone.subscription_ids.iter().filter_map(|id| Sid::new(id).ok()).collect();
        self.inner.tell(NodeEvent::Ended { room, placement, publications, subscriptions, reason }).await;
    }
}

/// Streams that are there, of this start of the node, and of which it records something else than is expected; and what it does.
fn recorded_otherwise(
    expected: &Carried,
    boot: &BootId,
    live: &HashSet<&str>,
    recorded: &HashMap<&str, &str>,
) -> Vec<(Mid, Option<RecordingId>)> {
    let there = expected.publications.iter().filter(|(mid, at)| at.boot == *boot && live.contains(mid.as_str()));
    let is_other = |mid: &Mid| {
        let wanted = expected.recordings.get(mid).map(RecordingId::as_str);
        wanted != recorded.get(mid.as_str()).copied()
    };
    let has = |mid: &Mid| recorded.get(mid.as_str()).and_then(|id| RecordingId::new(id).ok());
    there.filter(|(mid, _)| is_other(mid)).map(|(mid, _)| (mid.clone(), has(mid))).collect()
}

/// What a snapshot names.
fn by_room(snapshot: &Snapshot) -> HashMap<&str, Named> {
    let mut rooms: HashMap<&str, Named> = HashMap::new();
    let publications = snapshot.publications.iter().map(|it| (&it.room_id, &it.publication_id, &it.transport_id));
    let subscriptions = snapshot.subscriptions.iter().map(|it| (&it.room_id, &it.subscription_id, &it.transport_id));
    for (room, id, transport) in publications.chain(subscriptions) {
        rooms.entry(room).or_default().insert(id.clone(), transport.clone());
    }
    rooms
}

fn remove(named: &mut Named, carried: &Carried) {
    let publications = carried.publications.iter().map(|(mid, _)| mid.as_str());
    for id in publications.chain(carried.subscriptions.iter().map(|(sid, _)| sid.as_str())) {
        named.remove(id);
    }
}

async fn changed_from(
    at: Instant,
    rooms: &mut watch::Receiver<BTreeSet<RoomId>>,
) -> Result<(), watch::error::RecvError> {
    sleep_until(at).await;
    rooms.changed().await
}

async fn next(events: &mut Streaming<WatchEvent>) -> Result<Option<WatchEvent>, Status> {
    events.message().await
}

#[cfg(test)]
mod tests;
