//! The in-memory twin of a room store: what the all-in-one program runs on, and the model others are held against.
//!
//! Rooms are spread over shards, each behind one mutex that is held for one room's step and never across an `await`. The
//! steps themselves are pure functions of a room; here is only what finds rooms, tells the time and passes events on.

mod nodes;
mod room;
mod shard;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proto::ids::{EdgeId, Epoch, Mid, NodeId, OpId, PeerId, Position, RoomId, Sid};
use tokio::time::Instant;

pub use self::nodes::{MemoryNodes, StaticNodes};
use self::{
    room::{Room, Step},
    shard::Shard,
};
use crate::{
    change::{
        Broadcast, EndedBy, Expired, Head, Hold, Join, Joined, Left, Page, Reassert, Refreshed, ReservePublication,
        ReserveSubscription, SetBy, SetRecording, Snapshot, SubscriptionReserved,
    },
    error::{Conflict, StoreError},
    feed::RoomFeed,
    log::{EntryId, LogRead},
    record::{Actor, Attachment, Carrier, Member, Publication, Released, Subscription},
    settings::RoomSettings,
    store::{Life, RoomStore},
    witness::Witness,
};

/// Shards. More cost an empty map each; fewer make cores wait for each other.
const SHARDS: usize = 64;

/// Rooms in this process's memory. Clones are the same store.
///
/// Its clock is tokio's, so that tests can pause and advance it, and set it forward.
#[derive(Clone)]
pub struct MemoryRooms(Arc<Inner>, Option<Arc<dyn Witness>>);

struct Inner {
    settings: RoomSettings,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    /// Rooms with somebody in them.
    occupied: AtomicUsize,
    /// See [`Life`].
    life: AtomicU64,
    /// Where its clock began.
    begun: Instant,
    /// How far its clock was set forward, in microseconds.
    ahead: AtomicU64,
    /// Where the next look for due rooms begins: another shard each time, so that none waits for ever.
    sweep_from: AtomicUsize,
}

/// All rooms as they were at a moment: what a store that fails over without its last writes comes back with.
#[derive(Clone)]
pub struct Checkpoint(Vec<shard::Rooms>);

impl MemoryRooms {
    /// An empty store.
    pub fn new(settings: RoomSettings) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (hasher, occupied, sweep_from) = (RandomState::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        let life = AtomicU64::new(rand::random());
        let (begun, ahead) = (Instant::now(), AtomicU64::default());
        Self(Arc::new(Inner { settings, hasher, shards, occupied, life, begun, ahead, sweep_from }), None)
    }

    /// Loses everything, as a store does that restarts empty. Feeds stay open and hear nothing of it.
    pub fn forget_everything(&self) {
        self.restore(Checkpoint(vec![shard::Rooms::default(); SHARDS]));
        self.0.life.store(rand::random(), Ordering::Relaxed);
    }

    /// Sets its clock forward, as somebody does with a server's.
    pub fn set_clock_forward(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.0.ahead.fetch_add(micros, Ordering::Relaxed);
    }

    /// Keeps all rooms as they are now.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.0.shards.iter().map(|shard| lock(shard).rooms.clone()).collect())
    }

    /// Goes back to a checkpoint: writes made since are lost. Feeds stay open and hear nothing of it.
    pub fn restore(&self, checkpoint: Checkpoint) {
        for (shard, rooms) in self.0.shards.iter().zip(checkpoint.0) {
            let mut shard = lock(shard);
            self.0.occupied.fetch_sub(shard.rooms.occupied(), Ordering::Relaxed);
            self.0.occupied.fetch_add(rooms.occupied(), Ordering::Relaxed);
            shard.rooms = rooms;
        }
    }

    fn shard(&self, room: &RoomId) -> MutexGuard<'_, Shard> {
        lock(&self.0.shards[self.0.shard_of(room)])
    }

    /// One step of a room that exists. `None`: it doesn't.
    fn step<T>(&self, id: &RoomId, change: impl FnOnce(&mut Room, &mut Step<'_>) -> T) -> Option<T> {
        let mut shard = self.shard(id);
        let shard = &mut *shard;
        let mut step = Step::new(self.0.now(), &self.0.settings, rand::random());
        let occupied = shard.rooms.occupied();
        let result = change(shard.rooms.get_mut(id)?, &mut step);
        shard.finish(id, step, self.1.as_deref());
        self.0.occupied.fetch_sub(occupied - shard.rooms.occupied(), Ordering::Relaxed);
        Some(result)
    }

    /// One step by a member.
    fn act<T>(
        &self,
        id: &RoomId,
        change: impl FnOnce(&mut Room, &mut Step<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.step(id, change).unwrap_or(Err(StoreError::NotMember))
    }

    /// One step of a room that is made if there is none; a step that fails makes none.
    fn enter<T>(
        &self,
        id: &RoomId,
        bounded: bool,
        change: impl FnOnce(&mut Room, &mut Step<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut shard = self.shard(id);
        let shard = &mut *shard;
        let mut step = Step::new(self.0.now(), &self.0.settings, rand::random());
        let was_occupied = shard.rooms.is_occupied(id);
        if !was_occupied {
            let limit = if bounded { self.0.settings.limits.rooms } else { usize::MAX };
            let one_more = |occupied| (occupied < limit).then_some(occupied + 1);
            let counted = self.0.occupied.try_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
            counted.map_err(|_| Conflict::TooManyRooms)?;
        }
        let room = shard.rooms.get_or_insert(id, || Room::new(Epoch::of(rand::random())));
        let result = change(room, &mut step);
        if room.is_unused() {
            shard.rooms.remove(id);
        }
        shard.finish(id, step, self.1.as_deref());
        if !was_occupied && !shard.rooms.is_occupied(id) {
            self.0.occupied.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }
}

impl Inner {
    fn now(&self) -> Instant {
        Instant::now() + Duration::from_micros(self.ahead.load(Ordering::Relaxed))
    }

    fn shard_of(&self, room: &RoomId) -> usize {
        self.hasher.hash_one(room) as usize % SHARDS
    }
}

/// A step that panicked left at worst one room half changed: the others go on.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl RoomStore for MemoryRooms {
    fn settings(&self) -> &RoomSettings {
        &self.0.settings
    }

    fn witnessed(&self, witness: Arc<dyn Witness>) -> Arc<dyn RoomStore> {
        Arc::new(Self(Arc::clone(&self.0), Some(witness)))
    }

    async fn ping(&self) -> Result<Life, StoreError> {
        Ok(Life(self.0.life.load(Ordering::Relaxed)))
    }

    async fn clocks(&self) -> Result<Vec<Option<Duration>>, StoreError> {
        Ok(vec![Some(self.0.now().duration_since(self.0.begun))])
    }

    async fn join(&self, join: Join) -> Result<Joined, StoreError> {
        self.enter(&join.room, true, |room, step| room.join(step, &join))
    }

    async fn leave(&self, actor: Actor, op: Option<OpId>) -> Result<Left, StoreError> {
        self.act(&actor.room, |room, step| room.leave(step, &actor, op.as_ref()))
    }

    async fn refresh(&self, room: &RoomId, edge: &EdgeId, holds: Vec<Hold>) -> Result<Refreshed, StoreError> {
        let refreshed = self.step(room, |room, step| room.refresh(step, edge, &holds));
        Ok(refreshed.unwrap_or_else(|| Refreshed::without_room(holds)))
    }

    async fn socket_closed(
        &self,
        actor: Actor,
        attachment: Attachment,
        for_good: bool,
    ) -> Result<Released, StoreError> {
        let released = self.step(&actor.room, |room, step| room.socket_closed(step, &actor, &attachment, for_good));
        Ok(released.unwrap_or_default())
    }

    async fn reserve_publication(&self, request: ReservePublication) -> Result<Arc<Publication>, StoreError> {
        self.act(&request.actor.room, |room, step| room.reserve_publication(step, &request))
    }

    async fn confirm_publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        self.act(&actor.room, |room, step| room.confirm_publication(step, &actor, mid))
    }

    async fn remove_publication(&self, mid: &Mid, by: EndedBy) -> Result<Released, StoreError> {
        match &by {
            EndedBy::Client(actor) => self.act(&actor.room, |room, step| room.unpublish(step, actor, mid)),
            EndedBy::Node { room, placement, reason } => {
                let released = self.step(room, |room, step| room.publication_lost(step, mid, placement, *reason));
                Ok(released.unwrap_or_default())
            }
        }
    }

    async fn mute(
        &self,
        actor: Actor,
        attachment: Attachment,
        mid: &Mid,
        audio: Option<bool>,
        video: Option<bool>,
    ) -> Result<Arc<Publication>, StoreError> {
        self.act(&actor.room, |room, step| room.mute(step, &actor, &attachment, mid, audio, video))
    }

    async fn set_recording(&self, request: SetRecording) -> Result<Arc<Publication>, StoreError> {
        let nowhere = match &request.by {
            SetBy::Client(_) => StoreError::NotMember,
            SetBy::Edge(_) => StoreError::UnknownPublication,
        };
        self.step(request.by.room(), |room, step| room.set_recording(step, &request)).unwrap_or(Err(nowhere))
    }

    async fn reserve_subscription(&self, request: ReserveSubscription) -> Result<SubscriptionReserved, StoreError> {
        self.act(&request.actor.room, |room, step| room.reserve_subscription(step, &request))
    }

    async fn confirm_subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        self.act(&actor.room, |room, step| room.confirm_subscription(step, &actor, sid))
    }

    async fn remove_subscription(&self, sid: &Sid, by: EndedBy) -> Result<Released, StoreError> {
        match &by {
            EndedBy::Client(actor) => self.act(&actor.room, |room, step| room.unsubscribe(step, actor, sid)),
            EndedBy::Node { room, placement, reason } => {
                let released = self.step(room, |room, step| room.subscription_lost(step, sid, placement, *reason));
                Ok(released.unwrap_or_default())
            }
        }
    }

    async fn broadcast(&self, broadcast: Broadcast) -> Result<(), StoreError> {
        self.act(&broadcast.actor.room, |room, step| room.broadcast(step, &broadcast))
    }

    async fn members(
        &self,
        actor: Actor,
        after: Option<PeerId>,
        limit: usize,
    ) -> Result<Page<Arc<Member>>, StoreError> {
        self.act(&actor.room, |room, step| room.members_page(step, &actor, after.as_ref(), limit))
    }

    async fn publications(
        &self,
        actor: Actor,
        after: Option<Mid>,
        limit: usize,
    ) -> Result<Page<Arc<Publication>>, StoreError> {
        self.act(&actor.room, |room, step| room.publications_page(step, &actor, after.as_ref(), limit))
    }

    async fn publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        self.act(&actor.room, |room, step| room.publication(step, &actor, mid))
    }

    async fn subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        self.act(&actor.room, |room, step| room.subscription(step, &actor, sid))
    }

    async fn subscriptions_on(
        &self,
        room: &RoomId,
        node: &NodeId,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Page<Arc<Subscription>>, StoreError> {
        let none = Page { items: Vec::new(), more: false };
        Ok(self.step(room, |room, _| room.subscriptions_on(node, after.as_ref(), limit)).unwrap_or(none))
    }

    async fn carriers(&self, room: &RoomId) -> Result<Vec<Carrier>, StoreError> {
        Ok(self.step(room, |room, _| room.carriers()).unwrap_or_default())
    }

    async fn subscribe(&self, room: &RoomId) -> Result<RoomFeed, StoreError> {
        let receiver = self.shard(room).feeds.subscribe(room, self.0.settings.feed_entries);
        let (store, room, id) = (Arc::downgrade(&self.0), room.clone(), receiver.id());
        let unsubscribe = move || {
            if let Some(store) = store.upgrade() {
                lock(&store.shards[store.shard_of(&room)]).feeds.unsubscribe(&room, id);
            }
        };
        Ok(receiver.into_feed(unsubscribe))
    }

    async fn log_after(
        &self,
        room: &RoomId,
        after: Position,
        id: Option<EntryId>,
        limit: usize,
    ) -> Result<LogRead, StoreError> {
        let lost = LogRead::Lost { head: None, diverged: false };
        Ok(self.step(room, |room, _| room.log.read(after, id, limit)).unwrap_or(lost))
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.step(room, |room, _| room.snapshot()))
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, StoreError> {
        Ok(self.step(room, |room, _| room.log.head()))
    }

    async fn start_epoch(&self, room: &RoomId, seen: Epoch) -> Result<Option<Head>, StoreError> {
        Ok(self.step(room, |room, step| room.start_epoch(step, seen, Epoch::of(rand::random()))))
    }

    async fn reassert(&self, reassert: Reassert) -> Result<Refreshed, StoreError> {
        if reassert.sessions.is_empty() {
            return self.refresh(&reassert.room, &reassert.edge, Vec::new()).await;
        }
        self.enter(&reassert.room, false, |room, step| Ok(room.reassert(step, &reassert)))
    }

    async fn due_rooms(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        let now = self.0.now();
        let first = self.0.sweep_from.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut due = Vec::new();
        for shard in self.0.shards.iter().cycle().skip(first).take(SHARDS) {
            let left = limit - due.len();
            due.extend(lock(shard).rooms.due(now).take(left).cloned());
        }
        Ok(due)
    }

    async fn expire_due(&self, room: &RoomId, limit: usize) -> Result<Expired, StoreError> {
        let expired = self.step(room, |room, step| room.expire_due(step, limit));
        self.shard(room).rooms.settle(room, self.0.now(), self.0.settings.ttl);
        Ok(expired.unwrap_or_default())
    }
}
