//! The rooms this edge has sockets in. One task per room (`task`) follows its log and writes each notification once for all sockets;
//! it ends with its last socket. What a room was told to be is kept (`model`), so that a store that lost some of it, or all, can be
//! given back what is held here (`put_back`) and members be told exactly what differs.

mod fanout;
mod heal;
mod inbox;
mod model;
mod muting;
mod put_back;
mod said;
mod shown;
mod task;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{EdgeId, NodeId, Position, RoomId};
use room_store::{
    Actor, Assertion, ConnectionId, EntryId, Head, LossReason, Refreshed, RoomFeed, RoomStore, StoreError,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::fanout::Sender;
pub(crate) use self::fanout::{Lagged, Receiver};
use self::inbox::Inbox;
pub(crate) use self::model::Known;
use self::model::Model;
use self::muting::Muting;
use self::put_back::PutBack;
pub(crate) use self::put_back::has_lost;
use self::said::Said;
pub(crate) use self::shown::RoomShown;
use self::task::Task;
use crate::leases::MAX_REFRESH;
use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::nodes::Nodes;
use crate::notice::Signal;
use crate::session::{Arrival, MAX_PING, Rest};
use crate::sight::Sight;

/// Rooms that read their logs, or are compared with the store, at a time. After an outage that is all of them, and the store has just
/// come back. Less: the last of them waits longer.
const MAX_READING: usize = 64;
/// For how long after a break of the store's a session that is held elsewhere may be so by mistake: it was put back for its client too
/// early, or the store has lost that its client came back, which no entry of the log shows. By then a client that is silent but for
/// what it answers to pings has been heard of, and its lease refreshed; more closes a socket that is really superseded as if its client
/// had to come back.
const CONTESTED: Duration = MAX_PING.saturating_add(MAX_REFRESH).saturating_add(Duration::from_secs(5));

/// The rooms. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    inner: Arc<Inner>,
}

/// What rooms need of their edge.
pub(crate) struct RoomsConfig {
    pub(crate) edge: EdgeId,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) sight: watch::Receiver<Sight>,
    pub(crate) metrics: EdgeMetrics,
    /// Owns the rooms' tasks; `shutdown` ends them.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

struct Inner {
    config: RoomsConfig,
    open: Mutex<HashMap<RoomId, Open>>,
    /// Rooms whose logs are being read: see [`MAX_READING`].
    reading: Semaphore,
    muting: Muting,
}

/// A room with followers.
struct Open {
    room: Arc<Room>,
    followers: usize,
    /// Ends the room's task.
    ended: CancellationToken,
}

/// What a room's task and its sockets share.
struct Room {
    id: RoomId,
    signals: Sender,
    inbox: Inbox,
    model: Mutex<Model>,
    put_back: PutBack,
    said: Said,
}

impl Room {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) open: usize,
    pub(crate) inbox: usize,
}

/// A socket follows a room; dropping it ends that.
pub(crate) struct Following {
    rooms: Rooms,
    room: Arc<Room>,
}

impl Following {
    /// The socket has joined. The place that the room goes back to for it, if it had gone on from a later one by then.
    pub(crate) fn enter(&self, actor: Actor, connection: ConnectionId, arrival: Arrival) -> Option<Position> {
        let Arrival { known, mut held } = arrival;
        // The room's task applies an entry to the model before it has members hear of it: what it applied before this is taken
        // out here, what it applies later finds the session entered.
        let model = self.room.model();
        let (at, told) = (known.head.position, model.head().map(|head| head.position));
        if told.is_some_and(|told| told.epoch == at.epoch && told.seq > at.seq) {
            held.retain_publications(|mid| model.stream(mid).is_some());
        }
        self.rooms.inner.config.members.enter(actor, connection, held);
        drop(model);
        self.room.inbox.entered(known).then_some(at)
    }
}

impl Following {
    /// Where the room's log is, as far as it was told here.
    pub(crate) fn place(&self) -> Option<Head> {
        self.room.model().head()
    }

    /// Has what follows the answer to the join refer to the room's own records: a store's answer can bring others, which would be
    /// kept for as long as the client does not take them.
    pub(crate) fn share(&self, rest: &mut Rest) {
        let model = self.room.model();
        if model.head().is_some() {
            return rest.share(|peer| model.member(peer), |mid| model.stream(mid));
        }
        // The room's task has not begun; it begins with this.
        self.room.inbox.look(rest.place().epoch, |known| {
            let members: HashMap<_, _> = known.members.iter().map(|member| (&member.peer, member)).collect();
            let streams: HashMap<_, _> = known.publications.iter().map(|stream| (&stream.mid, stream)).collect();
            rest.share(|peer| members.get(peer).copied(), |mid| streams.get(mid).copied());
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.rooms.unfollow(&self.room.id);
    }
}

impl Rooms {
    pub(crate) fn new(config: RoomsConfig) -> Self {
        let reading = Semaphore::new(MAX_READING);
        Self { inner: Arc::new(Inner { config, open: Mutex::default(), reading, muting: Muting::default() }) }
    }

    /// Follows the room: what it tells from now on comes out of the receiver.
    pub(crate) async fn follow(&self, room: &RoomId) -> Result<(Following, Receiver), StoreError> {
        if let Some(following) = self.join_open(room) {
            return Ok(following);
        }
        let feed = self.inner.config.store.subscribe(room).await?;
        Ok(self.open(room, feed))
    }

    /// How many are open, and what their tasks are still to look at.
    pub(crate) fn counted(&self) -> Counted {
        // Not under the lock, where joins would wait for it.
        let open: Vec<Arc<Room>> = self.lock().values().map(|open| Arc::clone(&open.room)).collect();
        Counted { open: open.len(), inbox: open.iter().map(|room| room.inbox.len()).sum() }
    }

    /// The rooms that are open now.
    pub(crate) fn all(&self) -> Vec<RoomId> {
        self.lock().keys().cloned().collect()
    }

    /// The store has answered a refresh of the room's leases, or to what was put back.
    pub(crate) fn refreshed(&self, room: &RoomId, Refreshed { head, lost }: Refreshed) {
        let Some(room) = self.room(room) else { return };
        let is_contested = self.is_contested();
        for (hold, reason) in lost {
            let (connection, session) = (hold.connection, hold.session);
            room.signals.send(match reason {
                LossReason::Superseded if is_contested => Signal::Contested { connection, session },
                reason => Signal::Lost { connection, session, reason },
            });
        }
        if let Some(head) = head {
            room.inbox.head(head);
        }
    }

    fn is_contested(&self) -> bool {
        self.inner.config.sight.borrow().seen_for(Instant::now()) < CONTESTED
    }

    /// The store is about to be asked to say something in the room.
    pub(crate) fn saying(&self, room: &RoomId, entry: EntryId) {
        if let Some(room) = self.room(room) {
            room.said.begin(entry);
        }
    }

    /// The store has answered to that.
    pub(crate) fn said(&self, room: &RoomId, entry: EntryId, accepted: bool) {
        if let Some(room) = self.room(room) {
            room.said.answered(entry, accepted);
        }
    }

    /// Has the nodes listened to about the room that carry its streams, and looks whether they still do: nodes that were not known
    /// when the streams were told of may be by now, or may have been started anew.
    pub(crate) fn mind_nodes(&self, id: &RoomId) {
        let Some(room) = self.room(id) else { return };
        let places: HashSet<_> = room.model().streams().map(|stream| stream.placement.clone()).collect();
        // Under the lock under which a room is ended, so that nothing is watched for one that has just ended.
        let open = self.lock();
        if open.contains_key(id) {
            for place in &places {
                self.inner.config.nodes.watch_room(place, id);
            }
        }
    }

    /// Compares what the store says of the rooms' streams with what their nodes have.
    pub(crate) fn compare_with_nodes(&self) {
        self.inner.config.nodes.compare_all();
    }

    /// The same for one room, also for what is only held here so far: what the store was given back may have ended on its node.
    pub(crate) fn compare_later(&self, id: &RoomId) {
        let Some(room) = self.room(id) else { return };
        let config = &self.inner.config;
        let mut nodes: HashSet<NodeId> = room.model().streams().map(|stream| stream.placement.node.clone()).collect();
        for Assertion { publications, subscriptions, .. } in config.members.assertions(id) {
            nodes.extend(publications.iter().map(|stream| stream.placement.node.clone()));
            nodes.extend(subscriptions.iter().map(|subscription| subscription.placement.node.clone()));
        }
        for node in &nodes {
            config.nodes.compare_later(node, id);
        }
    }

    fn room(&self, room: &RoomId) -> Option<Arc<Room>> {
        self.lock().get(room).map(|open| Arc::clone(&open.room))
    }

    fn join_open(&self, room: &RoomId) -> Option<(Following, Receiver)> {
        let mut all = self.lock();
        let open = all.get_mut(room)?;
        open.followers += 1;
        let following = Following { rooms: self.clone(), room: Arc::clone(&open.room) };
        Some((following, open.room.signals.subscribe()))
    }

    /// Opens the room, unless somebody else did so meanwhile.
    fn open(&self, id: &RoomId, feed: RoomFeed) -> (Following, Receiver) {
        let mut all = self.lock();
        let open = all.entry(id.clone()).or_insert_with(|| {
            let room = Arc::new(Room {
                id: id.clone(),
                signals: Sender::default(),
                inbox: Inbox::default(),
                model: Mutex::default(),
                put_back: PutBack::default(),
                said: Said::default(),
            });
            let config = &self.inner.config;
            let ended = config.shutdown.child_token();
            let task = Task::new(self.clone(), Arc::clone(&room), ended.clone());
            config.tasks.spawn(ended.clone().run_until_cancelled_owned(task.run(feed)));
            Open { room, followers: 0, ended }
        });
        open.followers += 1;
        let following = Following { rooms: self.clone(), room: Arc::clone(&open.room) };
        (following, open.room.signals.subscribe())
    }

    fn unfollow(&self, room: &RoomId) {
        let mut all = self.lock();
        if let Some(open) = all.get_mut(room) {
            open.followers -= 1;
            if open.followers == 0 {
                open.ended.cancel();
                all.remove(room);
                self.inner.config.nodes.unwatch_room(room);
            }
        }
    }

    /// Tells the room's sockets on this edge something that is not in its log.
    pub(crate) fn tell(&self, room: &RoomId, signal: Signal) {
        if let Some(room) = self.room(room) {
            room.signals.send(signal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Open>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
