//! Watchers: edges that are told what is live in rooms and what ends there, each over a bounded queue of its own.
//!
//! A watcher that does not keep up is cut off: it opens again and is whole by its new snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::ids::RoomId;
use proto::sfu::{WatchEvent, watch_event};
use tokio::sync::mpsc;

/// Events that may wait for one watcher at least. With more transports on the node it is as many events as transports: all may
/// end at once, before the watcher can read. One that is further behind is not reading, and a snapshot is cheaper by then.
const MIN_QUEUE: usize = 1_024;

/// Rooms that one watcher may name: each is remembered whether anything lives in it or not.
pub(crate) const MAX_ROOMS: usize = 100_000;

/// Watchers at a time: every edge of a deployment has one, and one more while it reconnects.
pub(crate) const MAX_WATCHERS: usize = 4_096;

/// Names a watcher while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WatcherId(u64);

/// Why a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WatchRefusal {
    #[error("more than {MAX_ROOMS} rooms in one watch")]
    TooManyRooms,
    #[error("more than {MAX_WATCHERS} watches on this node")]
    TooManyWatchers,
    #[error("this watch has ended: open another")]
    Ended,
}

/// A watcher's reading end.
#[derive(Debug)]
pub(crate) struct WatchQueue {
    pub(crate) id: WatcherId,
    pub(crate) events: mpsc::Receiver<WatchEvent>,
    lagged: Arc<AtomicBool>,
}

impl WatchQueue {
    /// Whether the queue ended because its reader fell behind.
    pub(crate) fn lagged(&self) -> bool {
        self.lagged.load(Ordering::Acquire)
    }
}

/// All watchers and the rooms they watch.
#[derive(Debug)]
pub(crate) struct Watchers {
    node_id: String,
    boot_id: String,
    /// Events that may wait for each.
    queue: usize,
    next: u64,
    alive: HashMap<WatcherId, Watcher>,
    rooms: HashMap<RoomId, HashSet<WatcherId>>,
}

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<WatchEvent>,
    lagged: Arc<AtomicBool>,
    rooms: HashSet<RoomId>,
}

impl Watchers {
    /// None yet, on a node that may have so many transports; the ids are those that every event carries.
    pub(crate) fn new(node_id: String, boot_id: String, max_transports: usize) -> Self {
        let queue = max_transports.max(MIN_QUEUE);
        Self { node_id, boot_id, queue, next: 0, alive: HashMap::new(), rooms: HashMap::new() }
    }

    /// Watchers alive.
    pub(crate) fn len(&self) -> usize {
        self.alive.len()
    }

    /// A new watcher, of no room.
    pub(crate) fn open(&mut self) -> Result<WatchQueue, WatchRefusal> {
        if self.alive.len() >= MAX_WATCHERS {
            return Err(WatchRefusal::TooManyWatchers);
        }
        let (sender, events) = mpsc::channel(self.queue);
        let lagged = Arc::new(AtomicBool::new(false));
        let id = WatcherId(self.next);
        self.next += 1;
        self.alive.insert(id, Watcher { events: sender, lagged: lagged.clone(), rooms: HashSet::new() });
        Ok(WatchQueue { id, events, lagged })
    }

    /// Adds rooms to a watcher's; what lives there is for the caller to send, under the same lock.
    pub(crate) fn add_rooms(&mut self, id: WatcherId, rooms: &[RoomId]) -> Result<(), WatchRefusal> {
        let watcher = self.alive.get_mut(&id).ok_or(WatchRefusal::Ended)?;
        let new = rooms.iter().filter(|room| !watcher.rooms.contains(*room)).count();
        if watcher.rooms.len() + new > MAX_ROOMS {
            return Err(WatchRefusal::TooManyRooms);
        }
        for room in rooms {
            watcher.rooms.insert(room.clone());
            self.rooms.entry(room.clone()).or_default().insert(id);
        }
        Ok(())
    }

    /// Takes rooms from a watcher's.
    pub(crate) fn remove_rooms(&mut self, id: WatcherId, rooms: &[RoomId]) {
        let Some(watcher) = self.alive.get_mut(&id) else { return };
        for room in rooms {
            if watcher.rooms.remove(room) {
                forget(&mut self.rooms, room, id);
            }
        }
    }

    /// Ends a watcher.
    pub(crate) fn close(&mut self, id: WatcherId) {
        let Some(watcher) = self.alive.remove(&id) else { return };
        for room in &watcher.rooms {
            forget(&mut self.rooms, room, id);
        }
    }

    /// Ends all watchers: the node is going away.
    pub(crate) fn close_all(&mut self) {
        self.alive.clear();
        self.rooms.clear();
    }

    /// Tells one watcher.
    pub(crate) fn tell(&mut self, id: WatcherId, event: watch_event::Event) {
        let event = self.stamped(event);
        let Some(watcher) = self.alive.get(&id) else { return };
        if let Err(error) = watcher.events.try_send(event) {
            watcher.lagged.store(matches!(error, mpsc::error::TrySendError::Full(_)), Ordering::Release);
            self.close(id);
        }
    }

    /// Tells every watcher of a room.
    pub(crate) fn tell_room(&mut self, room: &RoomId, event: &watch_event::Event) {
        let ids: Vec<WatcherId> = self.rooms.get(room).into_iter().flatten().copied().collect();
        for id in ids {
            self.tell(id, event.clone());
        }
    }

    fn stamped(&self, event: watch_event::Event) -> WatchEvent {
        WatchEvent { node_id: self.node_id.clone(), boot_id: self.boot_id.clone(), event: Some(event) }
    }
}

fn forget(rooms: &mut HashMap<RoomId, HashSet<WatcherId>>, room: &RoomId, id: WatcherId) {
    if let Some(watchers) = rooms.get_mut(room) {
        watchers.remove(&id);
        if watchers.is_empty() {
            rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::sfu::TransportGone;

    use super::*;

    fn gone(room: &str) -> watch_event::Event {
        watch_event::Event::TransportGone(TransportGone { room_id: room.to_owned(), ..TransportGone::default() })
    }

    fn room(name: &str) -> RoomId {
        RoomId::new(name).expect("valid")
    }

    fn watchers() -> Watchers {
        Watchers::new("node".to_owned(), "boot".to_owned(), 1)
    }

    #[test]
    fn a_watcher_hears_of_its_rooms_only() {
        let mut all = watchers();
        let mut queue = all.open().expect("room for one");
        all.add_rooms(queue.id, &[room("a"), room("b")]).expect("few");
        all.tell_room(&room("a"), &gone("a"));
        all.tell_room(&room("c"), &gone("c"));
        all.remove_rooms(queue.id, &[room("a")]);
        all.tell_room(&room("a"), &gone("a"));
        let event = queue.events.try_recv().expect("one event");
        assert_eq!((event.node_id.as_str(), event.boot_id.as_str()), ("node", "boot"));
        assert_eq!(event.event, Some(gone("a")));
        assert!(queue.events.try_recv().is_err());
    }

    #[test]
    fn a_watcher_that_lags_is_cut_off_and_knows_why() {
        let mut all = watchers();
        let (mut slow, fast) = (all.open().expect("room"), all.open().expect("room"));
        all.add_rooms(slow.id, &[room("a")]).expect("few");
        for _ in 0..=MIN_QUEUE {
            all.tell_room(&room("a"), &gone("a"));
        }
        assert!(slow.lagged() && !fast.lagged());
        assert_eq!(all.len(), 1);
        let mut read = 0;
        while slow.events.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, MIN_QUEUE);
        assert_eq!(slow.events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(all.add_rooms(slow.id, &[room("b")]), Err(WatchRefusal::Ended));
        assert!(all.rooms.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn all_transports_of_a_node_may_end_before_a_watcher_reads() {
        let mut all = Watchers::new("node".to_owned(), "boot".to_owned(), 10_000);
        let mut queue = all.open().expect("room");
        all.add_rooms(queue.id, &[room("a")]).expect("few");
        for _ in 0..10_000 {
            all.tell_room(&room("a"), &gone("a"));
        }
        assert_eq!((all.len(), std::iter::from_fn(|| queue.events.try_recv().ok()).count()), (1, 10_000));
    }

    #[test]
    fn a_reader_that_went_away_is_forgotten() {
        let mut all = watchers();
        let queue = all.open().expect("room");
        all.add_rooms(queue.id, &[room("a")]).expect("few");
        drop(queue);
        all.tell_room(&room("a"), &gone("a"));
        assert_eq!((all.len(), all.rooms.len()), (0, 0));
    }

    #[test]
    fn a_watch_has_a_bounded_number_of_rooms() {
        let mut all = watchers();
        let queue = all.open().expect("room");
        let many: Vec<RoomId> = (0..MAX_ROOMS).map(|number| room(&number.to_string())).collect();
        all.add_rooms(queue.id, &many).expect("just as many as may be");
        all.add_rooms(queue.id, &many[..1]).expect("it has that one already");
        assert_eq!(all.add_rooms(queue.id, &[room("one more")]), Err(WatchRefusal::TooManyRooms));
    }
}
