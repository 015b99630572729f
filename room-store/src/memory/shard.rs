//! Some of the rooms, with those who follow them and the index of what may be due.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use proto::ids::RoomId;
use tokio::time::Instant;

use super::{
    feeds::Feeds,
    room::{Room, Step},
};

#[derive(Default)]
pub(super) struct Shard {
    pub(super) rooms: Rooms,
    pub(super) feeds: Feeds,
}

impl Shard {
    /// What is left to do after a step: tell followers, note what may be due when.
    pub(super) fn finish(&mut self, id: &RoomId, step: Step<'_>) {
        if let Some(due) = step.due {
            self.rooms.note_due(id, due);
        }
        self.feeds.publish(id, step.events);
    }
}

/// Rooms by id. The index names each room at most once, at the earliest time something in it may be due; leases that were
/// refreshed since make that time too early, never too late.
#[derive(Clone, Default)]
pub(super) struct Rooms {
    by_id: HashMap<RoomId, Indexed>,
    due: BTreeSet<(Instant, RoomId)>,
}

#[derive(Clone)]
struct Indexed {
    room: Room,
    due: Option<Instant>,
}

impl Rooms {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, id: &RoomId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn get_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.by_id.get_mut(id).map(|indexed| &mut indexed.room)
    }

    pub(super) fn insert(&mut self, id: RoomId, room: Room) {
        self.by_id.insert(id, Indexed { room, due: None });
    }

    pub(super) fn remove(&mut self, id: &RoomId) {
        if let Some(Indexed { due: Some(due), .. }) = self.by_id.remove(id) {
            self.due.remove(&(due, id.clone()));
        }
    }

    fn note_due(&mut self, id: &RoomId, due: Instant) {
        let Some(indexed) = self.by_id.get_mut(id) else { return };
        if indexed.due.is_some_and(|known| known <= due) {
            return;
        }
        if let Some(later) = indexed.due.replace(due) {
            self.due.remove(&(later, id.clone()));
        }
        self.due.insert((due, id.clone()));
    }

    /// Rooms in which something may be due.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &RoomId> {
        self.due.iter().take_while(move |(due, _)| *due <= now).map(|(_, id)| id)
    }

    /// After expiry: notes when the next thing is due, or forgets a room that has been empty for the ttl. True: forgotten.
    pub(super) fn settle(&mut self, id: &RoomId, now: Instant, ttl: Duration) -> bool {
        let Some(indexed) = self.by_id.get_mut(id) else { return false };
        if let Some(old) = indexed.due.take() {
            self.due.remove(&(old, id.clone()));
        }
        let Some(next) = indexed.room.next_due(ttl) else { return false };
        if indexed.room.is_empty() && next <= now {
            self.by_id.remove(id);
            return true;
        }
        self.note_due(id, next);
        false
    }
}
