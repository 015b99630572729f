//! Watchers: edges that are told what is live in rooms and what ends there, each over a bounded queue of its own.
//!
//! A watcher that does not keep up is cut off: it opens again and is whole by its new snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::ids::RoomId;
use proto::sfu::watch_event;
use tokio::sync::mpsc;

/// Events that may wait for one watcher at least. With more transports on the node it is as many events as transports: all may
/// end at once, before the watcher can read. One that is further behind is not reading, and a snapshot is cheaper by then.
const MIN_QUEUE: usize = 1_024;

/// Rooms that one watcher may name: each is remembered whether anything lives in it or not.
pub(crate) const MAX_ROOMS: usize = 100_000;

/// Watchers at a time: every edge of a deployment has one, and one more while it reconnects.
pub(crate) const MAX_WATCHERS: usize = 4_096;

/// What a watcher is told: one event for all who watch.
pub(crate) type Told = Arc<watch_event::Event>;

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
    #[error("the node is going away")]
    Ending,
}

/// A watcher's reading end.
#[derive(Debug)]
pub(crate) struct WatchQueue {
    pub(crate) id: WatcherId,
    pub(crate) events: mpsc::Receiver<Told>,
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
    /// Events that may wait for each.
    queue: usize,
    next: u64,
    /// How many were cut off, because they did not keep up.
    lagged: u64,
    alive: HashMap<WatcherId, Watcher>,
    rooms: HashMap<RoomId, HashSet<WatcherId>>,
}

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<Told>,
    lagged: Arc<AtomicBool>,
    rooms: HashSet<RoomId>,
}

impl Watchers {
    /// None yet, on a node that may have so many transports.
    pub(crate) fn new(max_transports: usize) -> Self {
        // One more, for a drain.
        let queue = max_transports.max(MIN_QUEUE - 1) + 1;
        Self { queue, next: 0, lagged: 0, alive: HashMap::new(), rooms: HashMap::new() }
    }

    /// Watchers alive.
    pub(crate) fn len(&self) -> usize {
        self.alive.len()
    }

    /// Watchers that were cut off so far, because they did not keep up.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged
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

    /// Takes rooms from a watcher's and adds others.
    pub(crate) fn change_rooms(
        &mut self,
        id: WatcherId,
        add: &[RoomId],
        remove: &[RoomId],
    ) -> Result<(), WatchRefusal> {
        let watcher = self.alive.get_mut(&id).ok_or(WatchRefusal::Ended)?;
        for room in remove {
            if watcher.rooms.remove(room) {
                forget(&mut self.rooms, room, id);
            }
        }
        let new = add.iter().filter(|room| !watcher.rooms.contains(*room)).count();
        if watcher.rooms.len() + new > MAX_ROOMS {
            return Err(WatchRefusal::TooManyRooms);
        }
        for room in add {
            watcher.rooms.insert(room.clone());
            self.rooms.entry(room.clone()).or_default().insert(id);
        }
        Ok(())
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
    pub(crate) fn tell(&mut self, id: WatcherId, event: &Told) {
        let Some(watcher) = self.alive.get(&id) else { return };
        if let Err(error) = watcher.events.try_send(event.clone()) {
            let lagged = matches!(error, mpsc::error::TrySendError::Full(_));
            self.lagged += u64::from(lagged);
            watcher.lagged.store(lagged, Ordering::Release);
            self.close(id);
        }
    }

    /// Tells every watcher of a room.
    pub(crate) fn tell_room(&mut self, room: &RoomId, event: &Told) {
        let ids: Vec<WatcherId> = self.rooms.get(room).into_iter().flatten().copied().collect();
        for id in ids {
            self.tell(id, event);
        }
    }

    /// Tells every watcher.
    pub(crate) fn tell_all(&mut self, event: &Told) {
        let ids: Vec<WatcherId> = self.alive.keys().copied().collect();
        for id in ids {
            self.tell(id, event);
        }
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

    fn gone(room: &str) -> Told {
        watch_event::Event::TransportGone(TransportGone { room_id: room.to_owned(), ..TransportGone::default() }).into()
    }

    fn room(name: &str) -> RoomId {
        RoomId::new(name).expect("valid")
    }

    fn watchers() -> Watchers {
        Watchers::new(1)
    }

    #[test]
    fn a_watcher_hears_of_its_rooms_only() {
        let mut all = watchers();
        let mut queue = all.open().expect("room for one");
        all.change_rooms(queue.id, &[room("a"), room("b")], &[]).expect("few");
        all.tell_room(&room("a"), &gone("a"));
        all.tell_room(&room("c"), &gone("c"));
        all.change_rooms(queue.id, &[], &[room("a")]).expect("fewer");
        all.tell_room(&room("a"), &gone("a"));
        assert_eq!(queue.events.try_recv(), Ok(gone("a")));
        assert!(queue.events.try_recv().is_err());
    }

    #[test]
    fn what_concerns_the_node_is_told_to_all_whatever_their_rooms() {
        let mut all = watchers();
        let mut queues = [all.open().expect("room"), all.open().expect("room")];
        all.change_rooms(queues[0].id, &[room("a")], &[]).expect("few");
        all.tell_all(&gone("z"));
        assert!(queues.iter_mut().all(|queue| queue.events.try_recv() == Ok(gone("z"))));
    }

    #[test]
    fn a_watcher_that_lags_is_cut_off_and_knows_why() {
        let mut all = watchers();
        let (mut slow, fast) = (all.open().expect("room"), all.open().expect("room"));
        all.change_rooms(slow.id, &[room("a")], &[]).expect("few");
        for _ in 0..=MIN_QUEUE {
            all.tell_room(&room("a"), &gone("a"));
        }
        assert!(slow.lagged() && !fast.lagged());
        assert_eq!((all.len(), all.lagged()), (1, 1));
        let mut read = 0;
        while slow.events.try_recv().is_ok() {
            read += 1;
        }
        assert_eq!(read, MIN_QUEUE);
        assert_eq!(slow.events.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(all.change_rooms(slow.id, &[room("b")], &[]), Err(WatchRefusal::Ended));
        assert!(all.rooms.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn all_transports_of_a_node_may_end_before_a_watcher_reads() {
        let mut all = Watchers::new(10_000);
        let mut queue = all.open().expect("room");
        all.change_rooms(queue.id, &[room("a")], &[]).expect("few");
        for _ in 0..10_000 {
            all.tell_room(&room("a"), &gone("a"));
        }
        assert_eq!((all.len(), std::iter::from_fn(|| queue.events.try_recv().ok()).count()), (1, 10_000));
    }

    #[test]
    fn a_reader_that_went_away_is_forgotten() {
        let mut all = watchers();
        let queue = all.open().expect("room");
        all.change_rooms(queue.id, &[room("a")], &[]).expect("few");
        drop(queue);
        all.tell_room(&room("a"), &gone("a"));
        assert_eq!((all.len(), all.rooms.len(), all.lagged()), (0, 0, 0));
    }

    #[test]
    fn a_watch_has_a_bounded_number_of_rooms() {
        let mut all = watchers();
        let queue = all.open().expect("room");
        let many: Vec<RoomId> = (0..MAX_ROOMS).map(|number| room(&number.to_string())).collect();
        all.change_rooms(queue.id, &many, &[]).expect("just as many as may be");
        all.change_rooms(queue.id, &many[..1], &[]).expect("it has that one already");
        assert_eq!(all.change_rooms(queue.id, &[room("one more")], &[]), Err(WatchRefusal::TooManyRooms));
    }
}
