//! A writer: the thread that makes, writes and closes the files of some recordings. It may wait for a disk as long as that takes; time
//! goes on for its recordings only with the batches that it gets, so that what waited is written as if it had not.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::batch::{Batch, BatchSource, Entry, RecordingKey};
use super::open::{Begin, Open, Writing, is_panic};
use super::stats::RecorderMetrics;
use super::{Change, Destination, EndReason, RecordingEvent};

/// How often recordings write what has waited: with a round of the writer less than the 150 ms that they ask for. More often nearly doubles
/// what a recording costs.
const TIMEOUT_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is asked whether the disk has room.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// What a writer's thread has.
pub(super) struct Writer<D: Destination> {
    destination: Arc<D>,
    writing: Writing,
    open: HashMap<RecordingKey, Open<D>>,
    events: mpsc::Sender<RecordingEvent>,
    /// Those that found no room: two of each recording at most.
    unsent: VecDeque<RecordingEvent>,
    /// Recordings that the node has: their place is free once their end is told.
    active: Arc<AtomicUsize>,
    /// Whether the disk had none when a writer looked last: new recordings are refused as long as it has not.
    no_room: Arc<AtomicBool>,
    metrics: RecorderMetrics,
    /// Which of the recorder's threads this is.
    thread: usize,
    next_timeout: Option<Instant>,
    next_look: Option<Instant>,
}

impl<D: Destination> Writer<D> {
    pub(super) fn new(
        destination: Arc<D>,
        writing: Writing,
        events: mpsc::Sender<RecordingEvent>,
        (active, no_room): (Arc<AtomicUsize>, Arc<AtomicBool>),
        (metrics, thread): (RecorderMetrics, usize),
    ) -> Self {
        Self {
            destination,
            writing,
            open: HashMap::new(),
            events,
            unsent: VecDeque::new(),
            active,
            no_room,
            metrics,
            thread,
            next_timeout: None,
            next_look: None,
        }
    }

    /// Writes until there are no batches any more.
    pub(super) fn run(mut self, batches: &BatchSource) {
        while let Some(batch) = batches.next() {
            self.take(&batch);
            batches.done(batch);
        }
        // The recorder ends its recordings before it ends; if it did not, it has failed.
        self.end_all(None, &EndReason::Failed("the recorder has ended".to_owned()));
        self.send();
    }

    /// Takes in a batch. A panic, which is a mistake in this file, ends all recordings of this writer, and it goes on.
    pub(super) fn take(&mut self, batch: &Batch) {
        let begins = Instant::now();
        let taken = catch_unwind(AssertUnwindSafe(|| {
            self.handle_batch(batch);
        }));
        if taken.is_err() {
            self.end_all(None, &EndReason::Failed("its writer has failed".to_owned()));
        }
        if !batch.entries.is_empty() {
            self.metrics.write.record(begins.elapsed());
        }
        self.send();
    }

    fn handle_batch(&mut self, batch: &Batch) {
        let mut packets = 0;
        for entry in &batch.entries {
            packets += u64::from(matches!(entry, Entry::Packet(..)));
            self.handle_entry(batch, entry);
        }
        self.metrics.packets.increment(packets);
        let Some(at) = batch.at else { return };
        if self.next_timeout.is_none_or(|next| at >= next) {
            self.next_timeout = Some(at + TIMEOUT_INTERVAL);
            self.handle_timeout(at);
        }
    }

    fn handle_entry(&mut self, batch: &Batch, entry: &Entry) {
        match entry {
            Entry::Begin(key, begin) => self.begin(*key, begin),
            Entry::Packet(key, kind, copied) => {
                self.with(*key, |open| open.handle_packet(copied.arrived, *kind, batch.packet(copied)));
            }
            Entry::Clock(key, kind, at, clock) => self.with(*key, |open| open.handle_clock(*at, *kind, *clock)),
            Entry::Dropped(key, kind, packets) => self.with(*key, |open| open.handle_dropped(*kind, *packets)),
            Entry::End(key, at, reason) => {
                if let Some(open) = self.open.remove(key) {
                    let event = open.end(Some(*at), reason.clone(), &*self.destination);
                    self.ended(event);
                }
            }
            Entry::EndAll(reason) => self.end_all(batch.at, reason),
        }
    }

    fn begin(&mut self, key: RecordingKey, begin: &Begin) {
        self.metrics.recordings.increment(1.0);
        match Open::begin(begin.clone(), &*self.destination, &self.writing) {
            Ok(open) => {
                self.unsent.push_back(open.started());
                self.open.insert(key, open);
            }
            Err(reason) => {
                begin.flags.ended.store(true, Ordering::Release);
                let event = begin.event(Change::Ended { reason, summary: None });
                self.ended(event);
            }
        }
    }

    /// Does something with a recording, which may end it. One that is not there has ended already.
    fn with(&mut self, key: RecordingKey, does: impl FnOnce(&mut Open<D>) -> Result<(), EndReason>) {
        let Some(open) = self.open.get_mut(&key) else { return };
        if let Err(reason) = does(open) {
            self.fail(key, reason);
        }
    }

    fn fail(&mut self, key: RecordingKey, reason: EndReason) {
        let Some(open) = self.open.remove(&key) else { return };
        let event = if is_panic(&reason) {
            open.abandon(reason, &*self.destination)
        } else {
            open.end(None, reason, &*self.destination)
        };
        self.ended(event);
    }

    fn handle_timeout(&mut self, at: Instant) {
        let failed = self.open.iter_mut().filter_map(|(key, open)| Some((*key, open.handle_timeout(at).err()?)));
        let failed: Vec<_> = failed.collect();
        for (key, reason) in failed {
            self.fail(key, reason);
        }
        if self.next_look.is_some_and(|next| at < next) {
            return;
        }
        self.next_look = Some(at + ROOM_INTERVAL);
        self.metrics.note_cpu(self.thread);
        let has_room = self.destination.has_room();
        self.no_room.store(!has_room, Ordering::Relaxed);
        if !has_room {
            self.end_all(Some(at), &EndReason::DiskFull);
        }
    }

    fn end_all(&mut self, at: Option<Instant>, reason: &EndReason) {
        let open = std::mem::take(&mut self.open);
        for (_, open) in open {
            let event = open.end(at, reason.clone(), &*self.destination);
            self.ended(event);
        }
    }

    fn ended(&mut self, event: RecordingEvent) {
        if let Change::Ended { reason, .. } = &event.change {
            self.metrics.ended(reason);
        }
        self.unsent.push_back(event);
    }

    /// Tells what there is to tell, as far as there is room: the rest goes with the next batch.
    fn send(&mut self) {
        while !self.unsent.is_empty() {
            let room = match self.events.try_reserve() {
                Ok(room) => Some(room),
                Err(mpsc::error::TrySendError::Full(())) => return,
                // Nobody listens: the node is ending.
                Err(mpsc::error::TrySendError::Closed(())) => None,
            };
            let Some(event) = self.unsent.pop_front() else { return };
            if matches!(event.change, Change::Ended { .. }) {
                // Before it is told: whoever hears of it may begin another.
                self.active.fetch_sub(1, Ordering::AcqRel);
            }
            if let Some(room) = room {
                room.send(event);
            }
        }
    }
}
