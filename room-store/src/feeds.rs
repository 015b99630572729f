//! Who follows which room. A queue per follower, bounded; a follower that is too slow loses events and is told so.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use proto::ids::RoomId;

use crate::feed::{FeedItem, RoomEvent, RoomFeed};

/// Room for so many events is kept when all have been taken; a burst's is given back.
const KEPT: usize = 32;

#[derive(Default)]
pub(crate) struct Feeds {
    followers: HashMap<RoomId, Vec<Follower>>,
    last_id: u64,
}

struct Follower {
    id: u64,
    queue: Arc<Mutex<Queue>>,
}

/// The receiving end, before it becomes a feed.
pub(crate) struct Receiver {
    id: u64,
    queue: Arc<Mutex<Queue>>,
}

/// Takes memory as events wait in it and no earlier: most rooms are idle, and there are many.
#[derive(Default)]
struct Queue {
    events: VecDeque<RoomEvent>,
    capacity: usize,
    /// Nothing is queued yet: what comes now was said before the subscription.
    closed: bool,
    lagged: bool,
    /// The store is gone.
    ended: bool,
    reader: Option<Waker>,
}

impl Feeds {
    pub(crate) fn subscribe(&mut self, room: &RoomId, capacity: usize) -> Receiver {
        self.last_id += 1;
        let (id, queue) = (self.last_id, Arc::new(Mutex::new(Queue { capacity, ..Queue::default() })));
        self.followers.entry(room.clone()).or_default().push(Follower { id, queue: Arc::clone(&queue) });
        Receiver { id, queue }
    }

    /// The same, but nothing is queued before it is opened ([`Receiver::opener`]).
    #[cfg(feature = "redis")]
    pub(crate) fn subscribe_closed(&mut self, room: &RoomId, capacity: usize) -> Receiver {
        let receiver = self.subscribe(room, capacity);
        lock(&receiver.queue).closed = true;
        receiver
    }

    pub(crate) fn unsubscribe(&mut self, room: &RoomId, id: u64) {
        let Some(followers) = self.followers.get_mut(room) else { return };
        followers.retain(|follower| follower.id != id);
        if followers.is_empty() {
            self.followers.remove(room);
        }
    }

    /// Whether anybody follows the room.
    #[cfg(feature = "redis")]
    pub(crate) fn is_followed(&self, room: &RoomId) -> bool {
        self.followers.contains_key(room)
    }

    /// Something of the room's may have been missed.
    #[cfg(feature = "redis")]
    pub(crate) fn lag(&self, room: &RoomId) {
        for follower in self.followers.get(room).into_iter().flatten() {
            let mut queue = lock(&follower.queue);
            queue.lagged = !queue.closed;
            queue.wake();
        }
    }

    pub(crate) fn publish(&self, room: &RoomId, events: Vec<RoomEvent>) {
        let Some(followers) = self.followers.get(room) else { return };
        for event in events {
            for follower in followers {
                lock(&follower.queue).push(event.clone());
            }
        }
    }
}

impl Queue {
    fn push(&mut self, event: RoomEvent) {
        if self.closed {
            return;
        }
        if self.events.len() < self.capacity {
            self.events.push_back(event);
        } else {
            self.lagged = true;
        }
        self.wake();
    }

    fn pop(&mut self) -> Option<FeedItem> {
        if std::mem::take(&mut self.lagged) {
            return Some(FeedItem::Lagged);
        }
        let event = self.events.pop_front()?;
        if self.events.is_empty() && self.events.capacity() > KEPT {
            self.events.shrink_to(KEPT);
        }
        Some(FeedItem::Event(event))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.ended = true;
        queue.wake();
    }
}

impl Receiver {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What comes from now on is queued.
    #[cfg(feature = "redis")]
    pub(crate) fn opener(&self) -> impl FnOnce() + Send + use<> {
        let queue = Arc::clone(&self.queue);
        move || lock(&queue).closed = false
    }

    /// The feed; `unsubscribe` is called when it is dropped.
    pub(crate) fn into_feed(self, unsubscribe: impl FnOnce() + Send + 'static) -> RoomFeed {
        RoomFeed::new(Events { queue: self.queue, _unsubscribe: OnDrop(Some(Box::new(unsubscribe))) })
    }
}

struct Events {
    queue: Arc<Mutex<Queue>>,
    _unsubscribe: OnDrop,
}

impl Stream for Events {
    type Item = FeedItem;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FeedItem>> {
        let mut queue = lock(&self.queue);
        match queue.pop() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}
