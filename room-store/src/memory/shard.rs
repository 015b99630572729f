//! Some of the rooms, with those who follow them and the index of what may be due.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use proto::ids::RoomId;
use tokio::time::Instant;

use super::room::{Room, Step};
use crate::{feeds::Feeds, witness::Witness};

#[derive(Default)]
pub(super) struct Shard {
    pub(super) rooms: Rooms,
    pub(super) feeds: Feeds,
}

impl Shard {
    /// What is left to do after a step: tell followers, note what may be due when.
    pub(super) fn finish(&mut self, id: &RoomId, step: Step<'_>, witness: Option<&dyn Witness>) {
        if let Some(due) = step.due {
            self.rooms.note_due(id, due);
        }
        self.rooms.note_empty(id);
        self.rooms.note_log(id, step.settings.total_log_bytes / super::SHARDS);
        self.feeds.publish(id, step.events);
        if let Some(witness) = witness.filter(|_| !step.deeds.is_empty()) {
            witness.saw(id, &step.deeds, step.restores);
        }
    }
}

/// Empty rooms kept for those who come back; past it the longest empty is forgotten before its time. So one who joins and leaves
/// room after room fills no memory: all shards' together are some 16,000, at about a kilobyte each. Less would forget rooms
/// that somebody might still come back to within the ttl, where many end at once.
pub(super) const EMPTY_ROOMS: usize = 256;

/// Rooms by id. The index names each room at most once, at the earliest time something in it may be due; leases that were
/// refreshed since make that time too early, never too late.
#[derive(Clone, Default)]
pub(super) struct Rooms {
    by_id: HashMap<RoomId, Indexed>,
    due: BTreeSet<(Instant, RoomId)>,
    /// Those with nobody in them, longest empty first.
    empty: BTreeSet<(Instant, RoomId)>,
    /// Those whose logs hold what clients wrote, by how many bytes of it.
    heavy: BTreeSet<(usize, RoomId)>,
    /// All their bytes.
    log_bytes: usize,
}

#[derive(Clone)]
struct Indexed {
    /// Boxed: the map has places for rooms to come, and keeps them for a while when rooms go.
    room: Box<Room>,
    due: Option<Instant>,
    empty: Option<Instant>,
    log_bytes: usize,
}

impl Rooms {
    /// How many have somebody in them.
    pub(super) fn occupied(&self) -> usize {
        self.by_id.len() - self.empty.len()
    }

    pub(super) fn is_occupied(&self, id: &RoomId) -> bool {
        self.by_id.get(id).is_some_and(|indexed| !indexed.room.is_empty())
    }

    pub(super) fn get_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.by_id.get_mut(id).map(|indexed| &mut *indexed.room)
    }

    pub(super) fn get_or_insert(&mut self, id: &RoomId, fresh: impl FnOnce() -> Room) -> &mut Room {
        let fresh = || Indexed { room: Box::new(fresh()), due: None, empty: None, log_bytes: 0 };
        &mut self.by_id.entry(id.clone()).or_insert_with(fresh).room
    }

    pub(super) fn remove(&mut self, id: &RoomId) {
        let Some(Indexed { due, empty, log_bytes, .. }) = self.by_id.remove(id) else { return };
        self.heavy.remove(&(log_bytes, id.clone()));
        self.log_bytes -= log_bytes;
        if let Some(due) = due {
            self.due.remove(&(due, id.clone()));
        }
        if let Some(since) = empty {
            self.empty.remove(&(since, id.clone()));
        }
        if self.by_id.capacity() > 8 * (self.by_id.len() + 8) {
            self.by_id.shrink_to(2 * self.by_id.len());
        }
    }

    /// Notes whether somebody is in the room; forgets the longest empty one if there are too many.
    fn note_empty(&mut self, id: &RoomId) {
        let Some(indexed) = self.by_id.get_mut(id) else { return };
        let since = indexed.room.empty_since();
        if since == indexed.empty {
            return;
        }
        if let Some(old) = std::mem::replace(&mut indexed.empty, since) {
            self.empty.remove(&(old, id.clone()));
        }
        if let Some(since) = since {
            self.empty.insert((since, id.clone()));
        }
        if self.empty.len() > EMPTY_ROOMS
            && let Some((_, longest)) = self.empty.first().cloned()
        {
            self.remove(&longest);
        }
    }

    /// Notes how much the room's log holds; if all together hold too much, the heaviest give way, so that one who fills rooms takes
    /// nothing from the others. Halved: a room that is just over is not looked for again at once.
    fn note_log(&mut self, id: &RoomId, most: usize) {
        self.note_bytes(id);
        while self.log_bytes > most
            && let Some((bytes, heaviest)) = self.heavy.last().cloned()
            && let Some(room) = self.get_mut(&heaviest)
        {
            room.log.trim(bytes / 2);
            self.note_bytes(&heaviest);
        }
    }

    fn note_bytes(&mut self, id: &RoomId) {
        let Some(indexed) = self.by_id.get_mut(id) else { return };
        let bytes = indexed.room.log.bytes();
        let before = std::mem::replace(&mut indexed.log_bytes, bytes);
        if bytes == before {
            return;
        }
        self.log_bytes = self.log_bytes - before + bytes;
        self.heavy.remove(&(before, id.clone()));
        if bytes > 0 {
            self.heavy.insert((bytes, id.clone()));
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

    /// After expiry: notes when the next thing is due, or forgets a room that has been empty for the ttl.
    pub(super) fn settle(&mut self, id: &RoomId, now: Instant, ttl: Duration) {
        let Some(indexed) = self.by_id.get_mut(id) else { return };
        if let Some(old) = indexed.due.take() {
            self.due.remove(&(old, id.clone()));
        }
        let Some(next) = indexed.room.next_due(ttl) else { return };
        if indexed.room.is_empty() && next <= now {
            self.remove(id);
        } else {
            self.note_due(id, next);
        }
    }
}
