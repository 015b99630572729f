//! One room's task: it follows the room's log, tells sockets, and keeps what they were told.

use std::sync::Arc;
use std::time::Duration;

use room_store::{Entry, Event, FeedItem, Follow, Follower, Head, Placement, RoomEvent, RoomFeed, StoreError, follow};
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::heal::Healing;
use super::inbox::Item;
use super::model::Known;
use super::muting::MutedOtherwise;
use super::{Room, Rooms, RoomsConfig, fanout};
use crate::notice::{Notice, Signal};
use crate::sight::Sight;

/// Mean pause before a call to the store that failed is made again.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Task {
    pub(super) rooms: Rooms,
    pub(super) room: Arc<Room>,
    /// While what was told and what is differ by more than time.
    pub(super) healing: Option<Healing>,
    /// While what was muted is set again, if that is not done by now.
    muting: Option<DropGuard>,
    ended: CancellationToken,
}

impl Task {
    pub(super) fn new(rooms: Rooms, room: Arc<Room>, ended: CancellationToken) -> Self {
        Self { rooms, room, healing: None, muting: None, ended }
    }

    pub(super) fn config(&self) -> &RoomsConfig {
        &self.rooms.inner.config
    }

    pub(super) async fn run(mut self, mut feed: RoomFeed) {
        // Before the first join there is nothing to follow from; what the feed brings meanwhile waits in it.
        let known = self.room.inbox.first().await;
        let mut start = known.head;
        self.begin_with(known);
        let mut follower = Follower::new(start);
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
                    // Boxed: it is rare, and its place would be kept in the task of every idle room.
                    follow => Box::pin(self.carry_out(&mut follower, follow)).await,
                }
            }
            tokio::select! {
                biased;
                item = self.room.inbox.next() => match item {
                    Item::Entered(known) => {
                        let head = known.head;
                        if head.position.epoch != follower.position().epoch {
                            // Joined in another life of the log: those who are here from this one are told what differs.
                            follower.handle_item(FeedItem::Event(RoomEvent::EpochStarted(head)));
                        } else if is_before(head, start) {
                            start = head;
                            self.begin_with(known);
                            follower = Follower::new(head);
                            follower.handle_item(FeedItem::Lagged);
                        }
                    }
                    Item::Head(head) => follower.handle_head(head),
                },
                item = feed.next() => {
                    let Some(item) = item else { return };
                    follower.handle_item(item);
                }
            }
        }
    }

    /// What sockets know who joined there.
    fn begin_with(&mut self, known: Known) {
        for stream in &known.publications {
            self.watch(&stream.placement);
        }
        self.room.model().adopt(known);
    }

    async fn carry_out(&mut self, follower: &mut Follower, follow: Follow) {
        let (store, id) = (Arc::clone(&self.config().store), &self.room.id);
        let done = match follow {
            Follow::Deliver(entry) => {
                self.deliver(&entry);
                Ok(())
            }
            Follow::ReadLog { after, id: entry } => {
                let _reading = self.rooms.inner.reading.acquire().await;
                store.log_after(id, after, entry, follow::READ_LIMIT).await.map(|read| follower.handle_read(read))
            }
            Follow::StartEpoch { seen } => {
                tracing::info!(room = %id, "the store has lost writes: a new epoch begins");
                let _reading = self.rooms.inner.reading.acquire().await;
                store.start_epoch(id, seen).await.map(|head| follower.handle_epoch(head))
            }
            Follow::Resync => self.heal(follower).await,
            Follow::Superseded { session, attachment, resumed, .. } => {
                if attachment.edge == self.config().edge {
                    self.tell(Signal::Superseded { connection: attachment.connection, session, resumed });
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            self.failed(follower, error).await;
        }
    }

    async fn failed(&self, follower: &mut Follower, error: StoreError) {
        tracing::debug!(room = %self.room.id, %error, "the room's log cannot be read");
        follower.handle_failure();
        // While the store is out of reach there is no use in asking, and there may be many rooms.
        let mut sight = self.config().sight.clone();
        // The sender lives as long as the edge.
        let _ = sight.wait_for(|sight| !matches!(sight, Sight::Lost { .. })).await;
        sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
    }

    pub(super) fn deliver(&mut self, entry: &Entry) {
        if let Event::StreamAdd(publication) = &entry.event {
            self.watch(&publication.placement);
        }
        self.room.model().apply(entry);
        self.config().members.hear(&self.room.id, &entry.event);
        self.room.said.told(entry.id);
        self.tell(Signal::Notice(Notice::new(&self.room.id, entry)));
    }

    /// A record names this place: its node is listened to about the room, and when it is gone, so is what the room has there.
    pub(super) fn watch(&self, placement: &Placement) {
        // A task that was ended may be polled once more. Under the lock under which it is ended, so that it cannot watch what its
        // last socket has just stopped watching.
        let rooms = self.rooms.clone();
        let _open = rooms.lock();
        if !self.ended.is_cancelled() {
            self.config().nodes.watch_room(placement, &self.room.id);
        }
    }

    /// Beside this task, until it ends, or more is known.
    pub(super) fn mute_again(&mut self, muted: Vec<MutedOtherwise>) {
        self.muting = None;
        if !muted.is_empty() {
            let ended = self.ended.child_token();
            self.config().tasks.spawn(ended.clone().run_until_cancelled_owned(self.rooms.clone().mute_again(muted)));
            self.muting = Some(ended.drop_guard());
        }
    }

    pub(super) fn tell(&self, signal: Signal) {
        self.room.signals.send(signal);
    }
}

/// Whether a join happened before the place the room is followed from: two sockets joined at about the same time and the later one
/// was heard of first.
fn is_before(head: Head, start: Head) -> bool {
    head.position.epoch == start.position.epoch && head.position.seq < start.position.seq
}
