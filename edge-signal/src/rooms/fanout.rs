//! What a room tells, on its way to its sockets: one queue that all of them read. It holds what somebody has still to read and
//! nothing else, so that the many rooms in which nothing happens cost next to nothing.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use proto::ids::Position;

use crate::notice::Signal;

/// Signals a socket's task may lag behind. As many as the store's own feed holds: what is slower than that has lost.
const MAX_LAG: usize = 1_024;
/// Signals told at once before sockets' tasks get their turn: a share of what they may lag behind, so that a burst (a mass join,
/// a log read after a gap) does not count as their slowness.
pub(super) const BATCH: usize = MAX_LAG / 8;
/// Room for so many is kept when all has been read; a burst's is given back.
const KEPT: usize = 32;

/// The receiver was too slow: some signals are missing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lagged;

/// Where a room's task tells.
#[derive(Clone, Default)]
pub(super) struct Sender {
    queue: Arc<Mutex<Queue>>,
}

/// Where one socket reads, from its subscription on. Each signal comes once and in order. Never ends.
pub(crate) struct Receiver {
    queue: Arc<Mutex<Queue>>,
    id: u64,
    /// Number of the signal it reads next.
    next: u64,
    /// The room goes back to here: what it told of later places before it did comes once more, in order.
    goes_back_to: Option<Position>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Number of the first of them.
    first: u64,
    readers: usize,
    last_id: u64,
    /// Readers that have read everything, and how they are told that there is more.
    waiting: HashMap<u64, Waker>,
}

struct Entry {
    signal: Arc<Signal>,
    /// How many have still to read it.
    unread: usize,
}

impl Sender {
    /// For all who have subscribed.
    pub(super) fn send(&self, signal: Signal) {
        let woken = lock(&self.queue).push(Arc::new(signal));
        woken.into_iter().for_each(Waker::wake);
    }

    /// What is told from now on.
    pub(super) fn subscribe(&self) -> Receiver {
        let mut queue = lock(&self.queue);
        queue.readers += 1;
        queue.last_id += 1;
        Receiver { queue: Arc::clone(&self.queue), id: queue.last_id, next: queue.end(), goes_back_to: None }
    }
}

impl Receiver {
    /// The room will tell again what comes after this place: until then what is told of other places is not in order.
    pub(crate) fn goes_back_to(&mut self, place: Position) {
        self.goes_back_to = Some(place);
    }

    /// Whether a signal comes before its turn.
    fn is_early(&mut self, signal: &Signal) -> bool {
        let Some(place) = self.goes_back_to else { return false };
        match signal {
            Signal::Notice(notice) if notice.position.epoch == place.epoch && notice.position != place.next() => {
                return true;
            }
            Signal::Notice(_) | Signal::Converge { .. } => self.goes_back_to = None,
            _ => {}
        }
        false
    }
}

impl Queue {
    /// Number of the next signal.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Who is to be woken.
    fn push(&mut self, signal: Arc<Signal>) -> Vec<Waker> {
        if self.readers == 0 {
            return Vec::new();
        }
        self.entries.push_back(Entry { signal, unread: self.readers });
        if self.entries.len() > MAX_LAG {
            self.pop();
        }
        self.waiting.drain().map(|(_, waker)| waker).collect()
    }

    fn pop(&mut self) {
        self.first += u64::from(self.entries.pop_front().is_some());
    }

    /// Index of a number, if it has not been dropped for the lag of who would read it.
    fn index(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.first).map(|index| index as usize)
    }

    fn drop_read(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.unread == 0) {
            self.pop();
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries.shrink_to(KEPT);
        }
    }
}

impl Stream for Receiver {
    type Item = Result<Arc<Signal>, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let shared = Arc::clone(&self.queue);
        let mut queue = lock(&shared);
        loop {
            let Some(index) = queue.index(self.next) else {
                self.next = queue.first;
                return Poll::Ready(Some(Err(Lagged)));
            };
            let Some(entry) = queue.entries.get_mut(index) else {
                queue.waiting.insert(self.id, cx.waker().clone());
                return Poll::Pending;
            };
            entry.unread -= 1;
            let signal = Arc::clone(&entry.signal);
            self.next += 1;
            queue.drop_read();
            if !self.is_early(&signal) {
                return Poll::Ready(Some(Ok(signal)));
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        let unread = queue.index(self.next).unwrap_or(0);
        for entry in queue.entries.range_mut(unread..) {
            entry.unread -= 1;
        }
        queue.drop_read();
        queue.waiting.remove(&self.id);
        queue.readers -= 1;
    }
}

/// Nothing that happens under the lock panics half-way.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_util::{FutureExt as _, StreamExt as _};
    use proptest::prelude::*;
    use proto::ids::{Epoch, Seq};
    use room_store::{ConnectionId, Entry, EntryId, Event};

    use super::*;
    use crate::notice::Notice;

    fn signal(number: u64) -> Signal {
        let session = proto::ids::SessionId::of(1);
        Signal::Superseded { connection: ConnectionId(number), session, resumed: true }
    }

    /// The number of the next signal, if one is there.
    fn next(receiver: &mut Receiver) -> Option<Result<u64, Lagged>> {
        let item = receiver.next().now_or_never()?.expect("never ends");
        Some(item.map(|signal| match &*signal {
            Signal::Superseded { connection, .. } => connection.0,
            other => panic!("{other:?}"),
        }))
    }

    #[test]
    fn everybody_reads_everything_from_its_subscription_on() {
        let sender = Sender::default();
        let mut first = sender.subscribe();
        sender.send(signal(1));
        let mut second = sender.subscribe();
        sender.send(signal(2));
        assert_eq!([next(&mut first), next(&mut first), next(&mut first)], [Some(Ok(1)), Some(Ok(2)), None]);
        assert_eq!([next(&mut second), next(&mut second)], [Some(Ok(2)), None]);
    }

    fn place(seq: u64) -> Position {
        Position { epoch: Epoch::of(1), seq: Seq::new(seq).expect("small") }
    }

    fn notice(seq: u64) -> Signal {
        let event = Event::PeerLeave("p".parse().expect("valid"));
        let entry = Entry { position: place(seq), id: EntryId(seq), cause: None, event };
        Signal::Notice(Notice::new(&"room".parse().expect("valid"), &entry))
    }

    #[test]
    fn who_the_room_goes_back_for_hears_what_comes_after_its_place_in_order() {
        let sender = Sender::default();
        let mut receiver = sender.subscribe();
        // Told before it was known that somebody had joined at 1.
        sender.send(notice(4));
        receiver.goes_back_to(place(1));
        sender.send(signal(9));
        for seq in [5, 2, 3, 4, 5] {
            sender.send(notice(seq));
        }
        let heard =
            std::iter::from_fn(|| receiver.next().now_or_never().flatten()).map(|item| match &*item.expect("no lag") {
                Signal::Notice(notice) => notice.position.seq.get(),
                _ => 9,
            });
        assert_eq!(heard.collect::<Vec<_>>(), [9, 2, 3, 4, 5]);
    }

    #[test]
    fn who_lags_too_far_is_told_and_goes_on_with_what_is_left() {
        let sender = Sender::default();
        let (mut slow, mut quick) = (sender.subscribe(), sender.subscribe());
        for number in 0..=MAX_LAG as u64 {
            sender.send(signal(number));
            assert_eq!(next(&mut quick), Some(Ok(number)));
        }
        assert_eq!(next(&mut slow), Some(Err(Lagged)));
        for number in 1..=MAX_LAG as u64 {
            assert_eq!(next(&mut slow), Some(Ok(number)));
        }
        assert_eq!(next(&mut slow), None);
    }

    #[test]
    fn what_nobody_has_to_read_is_not_kept() {
        let sender = Sender::default();
        sender.send(signal(0));
        let (mut reader, deaf) = (sender.subscribe(), sender.subscribe());
        for number in 0..MAX_LAG as u64 {
            sender.send(signal(number));
            assert_eq!(next(&mut reader), Some(Ok(number)));
        }
        assert_eq!(lock(&sender.queue).entries.len(), MAX_LAG, "one has read nothing yet");
        drop(deaf);
        let queue = lock(&sender.queue);
        assert!(queue.entries.is_empty() && queue.entries.capacity() <= KEPT);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once() {
        let sender = Sender::default();
        let (mut one, mut gone) = (sender.subscribe(), sender.subscribe());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(one.poll_next_unpin(&mut cx).is_pending() && one.poll_next_unpin(&mut cx).is_pending());
        assert!(gone.poll_next_unpin(&mut cx).is_pending());
        drop(gone);
        sender.send(signal(1));
        sender.send(signal(2));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(one.poll_next_unpin(&mut cx).is_ready());
    }

    proptest! {
        /// Whoever comes, reads and goes when: each reads what was told since it came, once and in order.
        #[test]
        fn each_reads_all_since_it_came(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..300)) {
            let sender = Sender::default();
            let mut readers: Vec<(Receiver, u64)> = Vec::new();
            let mut told = 0;
            for (step, which) in steps {
                match step {
                    0 => readers.push((sender.subscribe(), told)),
                    1 => {
                        sender.send(signal(told));
                        told += 1;
                    }
                    2 if !readers.is_empty() => drop(readers.swap_remove(which.index(readers.len()))),
                    _ if !readers.is_empty() => {
                        let index = which.index(readers.len());
                        let (reader, read) = &mut readers[index];
                        let expected = (*read < told).then_some(Ok(*read));
                        prop_assert_eq!(next(reader), expected);
                        *read += u64::from(expected.is_some());
                    }
                    _ => {}
                }
                let unread = readers.iter().map(|(_, read)| told - read).max().unwrap_or(0);
                prop_assert_eq!(lock(&sender.queue).entries.len() as u64, unread);
            }
        }
    }
}
