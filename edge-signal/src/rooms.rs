//! The rooms this edge has sockets in. One task per room follows its log, writes each notification once for all sockets,
//! refreshes its sessions' leases, and has the nodes that carry its streams watched. It ends with its last socket.

mod entered;
mod fanout;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{EdgeId, RoomId};
use room_store::{
    Entry, Event, FeedItem, Follow, Follower, Head, Placement, Refreshed, RoomFeed, RoomStore, StoreError, follow,
};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::entered::Entered;
use self::fanout::Sender;
pub(crate) use self::fanout::{Lagged, Receiver};
use crate::members::Members;
use crate::nodes::Nodes;
use crate::notice::{Notice, Signal};

/// How often leases are refreshed, as a share of the ttl: three of them may fail before a session is due.
const REFRESHES_PER_TTL: u32 = 4;
/// Most time between two refreshes: they also show where the log is, and which nodes carry the room.
const MAX_REFRESH: Duration = Duration::from_secs(10);
/// Mean pause before a call to the store that failed is made again.
const PAUSE: Duration = Duration::from_millis(500);

/// The rooms. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    edge: EdgeId,
    store: Arc<dyn RoomStore>,
    members: Arc<Members>,
    nodes: Nodes,
    open: Mutex<HashMap<RoomId, Open>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A room with followers.
struct Open {
    signals: Sender,
    entered: Arc<Entered>,
    followers: usize,
    /// Ends the room's task.
    ended: CancellationToken,
}

/// A socket follows a room; dropping it ends that.
pub(crate) struct Following {
    rooms: Rooms,
    room: RoomId,
    entered: Arc<Entered>,
}

impl Following {
    /// The socket has joined, and this is where the log was then.
    pub(crate) fn entered(&self, head: Head) {
        self.entered.push(head);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.rooms.unfollow(&self.room);
    }
}

impl Rooms {
    pub(crate) fn new(
        edge: EdgeId,
        store: Arc<dyn RoomStore>,
        members: Arc<Members>,
        nodes: Nodes,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { inner: Arc::new(Inner { edge, store, members, nodes, open: Mutex::default(), tasks, shutdown }) }
    }

    /// Follows the room: what it tells from now on comes out of the receiver.
    pub(crate) async fn follow(&self, room: &RoomId) -> Result<(Following, Receiver), StoreError> {
        if let Some(following) = self.join_open(room) {
            return Ok(following);
        }
        let feed = self.inner.store.subscribe(room).await?;
        Ok(self.open(room, feed))
    }

    fn join_open(&self, room: &RoomId) -> Option<(Following, Receiver)> {
        let mut all = self.all();
        let open = all.get_mut(room)?;
        open.followers += 1;
        let following = Following { rooms: self.clone(), room: room.clone(), entered: Arc::clone(&open.entered) };
        Some((following, open.signals.subscribe()))
    }

    /// Opens the room, unless somebody else did so meanwhile.
    fn open(&self, room: &RoomId, feed: RoomFeed) -> (Following, Receiver) {
        let mut all = self.all();
        let open = all.entry(room.clone()).or_insert_with(|| {
            let signals = Sender::default();
            let entered = Arc::new(Entered::default());
            let ended = self.inner.shutdown.child_token();
            let task = Task {
                inner: Arc::clone(&self.inner),
                room: room.clone(),
                signals: signals.clone(),
                ended: ended.clone(),
            };
            self.inner.tasks.spawn(ended.clone().run_until_cancelled_owned(task.run(feed, Arc::clone(&entered))));
            Open { signals, entered, followers: 0, ended }
        });
        open.followers += 1;
        let following = Following { rooms: self.clone(), room: room.clone(), entered: Arc::clone(&open.entered) };
        (following, open.signals.subscribe())
    }

    fn unfollow(&self, room: &RoomId) {
        let mut all = self.all();
        if let Some(open) = all.get_mut(room) {
            open.followers -= 1;
            if open.followers == 0 {
                open.ended.cancel();
                all.remove(room);
                self.inner.nodes.unwatch_room(room);
            }
        }
    }

    /// Tells the room's sockets on this edge something that is not in its log.
    pub(crate) fn tell(&self, room: &RoomId, signal: Signal) {
        if let Some(open) = self.all().get(room) {
            open.signals.send(signal);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<RoomId, Open>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One room's task.
struct Task {
    inner: Arc<Inner>,
    room: RoomId,
    signals: Sender,
    ended: CancellationToken,
}

impl Task {
    async fn run(mut self, mut feed: RoomFeed, entered: Arc<Entered>) {
        // Before the first join there is nothing to follow from; what the feed brings meanwhile waits in it.
        let mut start = entered.next().await;
        let mut follower = Follower::new(start);
        let interval = (self.inner.store.settings().ttl / REFRESHES_PER_TTL).min(MAX_REFRESH);
        let mut refresh_at = Instant::now();
        let mut told: usize = 0;
        loop {
            while let Some(follow) = follower.poll() {
                match follow {
                    Follow::Deliver(entry) => {
                        self.deliver(&entry);
                        told = told.wrapping_add(1);
                        if told.is_multiple_of(fanout::BATCH) {
                            yield_now().await;
                        }
                    }
                    // Boxed, like the refresh: it is rare, and its place would be kept in the task of every idle room.
                    follow => Box::pin(self.carry_out(&mut follower, follow)).await,
                }
            }
            tokio::select! {
                biased;
                head = entered.next() => {
                    if begins_before(head, start, &follower) {
                        start = head;
                        follower = Follower::new(head);
                        follower.handle_item(FeedItem::Lagged);
                    }
                }
                item = feed.next() => {
                    let Some(item) = item else { return };
                    follower.handle_item(item);
                }
                () = sleep_until(refresh_at) => {
                    refresh_at = Instant::now() + interval.mul_f64(rand::random_range(0.75..1.0));
                    Box::pin(self.refresh(&mut follower)).await;
                }
            }
        }
    }

    async fn carry_out(&mut self, follower: &mut Follower, follow: Follow) {
        let (store, room) = (Arc::clone(&self.inner.store), &self.room);
        let done = match follow {
            Follow::Deliver(entry) => {
                self.deliver(&entry);
                Ok(())
            }
            Follow::ReadLog { after, id } => {
                store.log_after(room, after, id, follow::READ_LIMIT).await.map(|read| follower.handle_read(read))
            }
            Follow::StartEpoch { seen } => store.start_epoch(room, seen).await.map(|head| follower.handle_epoch(head)),
            Follow::Resync => match store.head(room).await {
                Ok(Some(head)) => {
                    self.tell(Signal::Reset);
                    follower.restart(head);
                    Ok(())
                }
                // Nobody is a member of a room that is not there.
                Ok(None) => {
                    self.tell(Signal::Reset);
                    Err(StoreError::NotMember)
                }
                Err(error) => Err(error),
            },
            Follow::Superseded { session, attachment, resumed, .. } => {
                if attachment.edge == self.inner.edge {
                    self.tell(Signal::Superseded { connection: attachment.connection, session, resumed });
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::debug!(room = %self.room, %error, "the room's log cannot be read");
            follower.handle_failure();
            sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    fn deliver(&self, entry: &Entry) {
        if let Event::StreamAdd(publication) = &entry.event {
            self.watch(&publication.placement);
        }
        self.tell(Signal::Notice(Notice::new(&self.room, entry)));
    }

    /// Refreshes leases, and sees where the log is and who carries the room.
    async fn refresh(&mut self, follower: &mut Follower) {
        let holds = self.inner.members.take_touched(&self.room);
        match self.inner.store.refresh(&self.room, &self.inner.edge, holds).await {
            Ok(Refreshed { head, lost }) => {
                for (hold, reason) in lost {
                    let (connection, session) = (hold.connection, hold.session);
                    self.tell(Signal::Lost { connection, session, reason });
                }
                if let Some(head) = head {
                    follower.handle_head(head);
                }
            }
            Err(error) => tracing::debug!(room = %self.room, %error, "leases cannot be refreshed"),
        }
        if let Ok(carriers) = self.inner.store.carriers(&self.room).await {
            for carrier in carriers {
                self.watch(&carrier.placement);
            }
        }
    }

    /// A record names this place: its node is listened to about the room, and when it is gone, so is what the room has there.
    fn watch(&self, placement: &Placement) {
        // A task that was ended may be polled once more. Under the lock under which it is ended, so that it cannot watch what its
        // last socket has just stopped watching.
        let _open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.ended.is_cancelled() {
            self.inner.nodes.watch_room(placement, &self.room);
        }
    }

    fn tell(&self, signal: Signal) {
        self.signals.send(signal);
    }
}

/// Whether a join happened before the place the room is followed from, or in another life of the log: two sockets joined at
/// about the same time and the later one was heard of first, or the room was forgotten in between.
fn begins_before(head: Head, start: Head, follower: &Follower) -> bool {
    let (at, start) = (head.position, start.position);
    at.epoch != follower.position().epoch || (at.epoch == start.epoch && at.seq < start.seq)
}

#[cfg(test)]
mod tests;
