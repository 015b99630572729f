//! Who follows which room. A queue per follower, bounded; a follower that is too slow loses events and is told so.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::stream;
use proto::ids::RoomId;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::feed::{FeedItem, RoomEvent, RoomFeed};

#[derive(Default)]
pub(super) struct Feeds {
    followers: HashMap<RoomId, Vec<Follower>>,
    last_id: u64,
}

struct Follower {
    id: u64,
    queue: mpsc::Sender<RoomEvent>,
    lagged: Arc<AtomicBool>,
}

/// The receiving end, before it becomes a feed.
pub(super) struct Receiver {
    id: u64,
    queue: mpsc::Receiver<RoomEvent>,
    lagged: Arc<AtomicBool>,
}

impl Feeds {
    pub(super) fn subscribe(&mut self, room: &RoomId, capacity: usize) -> Receiver {
        self.last_id += 1;
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let (id, lagged) = (self.last_id, Arc::new(AtomicBool::new(false)));
        let follower = Follower { id, queue: sender, lagged: Arc::clone(&lagged) };
        self.followers.entry(room.clone()).or_default().push(follower);
        Receiver { id, queue, lagged }
    }

    pub(super) fn unsubscribe(&mut self, room: &RoomId, id: u64) {
        let Some(followers) = self.followers.get_mut(room) else { return };
        followers.retain(|follower| follower.id != id);
        if followers.is_empty() {
            self.followers.remove(room);
        }
    }

    pub(super) fn publish(&self, room: &RoomId, events: Vec<RoomEvent>) {
        let Some(followers) = self.followers.get(room) else { return };
        for event in events {
            for follower in followers {
                follower.push(event.clone());
            }
        }
    }
}

impl Follower {
    /// The flag is raised while the queue is full, or the event goes in after all: either way the receiver wakes after it
    /// is raised. A closed queue is about to be unsubscribed.
    fn push(&self, event: RoomEvent) {
        if let Err(TrySendError::Full(event)) = self.queue.try_send(event) {
            self.lagged.store(true, Ordering::Release);
            drop(self.queue.try_send(event));
        }
    }
}

impl Receiver {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The feed; `unsubscribe` is called when it is dropped.
    pub(super) fn into_feed(self, unsubscribe: impl FnOnce() + Send + 'static) -> RoomFeed {
        let guard = OnDrop(Some(Box::new(unsubscribe)));
        RoomFeed::new(stream::unfold((self, guard), |(mut receiver, guard)| async move {
            if receiver.lagged.swap(false, Ordering::Acquire) {
                return Some((FeedItem::Lagged, (receiver, guard)));
            }
            let event = receiver.queue.recv().await?;
            Some((FeedItem::Event(event), (receiver, guard)))
        }))
    }
}

struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}
