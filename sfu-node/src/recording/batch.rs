//! What the recorder gives to a writer: the packets of some 20 ms, copied out of the rings' memory, which goes back at once.
//!
//! How much may wait for all writers is bounded in bytes. Packets beyond the bound are refused; what begins and ends is not, for it is
//! bounded by the number of recordings. Counts and clocks are left with the recorder, which adds them up, while a writer is behind.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use ::recording::{Kind, SenderClock};
use sfu_core::Packet;

use super::EndReason;
use super::open::Begin;

/// Names a recording on these threads; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordingKey(pub(super) u64);

/// Bytes that may wait for a disk: eight seconds of fifty videos of 1 Mbit/s, three of five hundred audios and more.
pub(super) const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Batches that may wait for one writer: five seconds. While there are as many, the next one grows.
const BATCHES: usize = 256;

/// Emptied batches that are kept for use again, and how large one of them may be.
const EMPTIES: usize = 8;
const KEPT_BYTES: usize = 1024 * 1024;

/// How often a writer is told the time when there is nothing else for it: so that its recordings write what waits, and when it has none, so
/// that it tells what found no room before.
const TIME: Duration = Duration::from_millis(100);
const IDLE_TIME: Duration = Duration::from_secs(1);

/// In the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Everything that had come by then is in this batch or in one before it.
    pub(super) at: Option<Instant>,
    pub(super) entries: Vec<Entry>,
    bytes: Vec<u8>,
    cost: usize,
}

/// Something that a writer has to know.
#[derive(Debug)]
pub(super) enum Entry {
    Begin(RecordingKey, Box<Begin>),
    Packet(RecordingKey, Kind, Copied),
    Clock(RecordingKey, Kind, Instant, SenderClock),
    /// So many packets were lost on their way here.
    Dropped(RecordingKey, Kind, u64),
    End(RecordingKey, Instant, EndReason),
    /// Of all recordings: something on the recorder's thread went wrong.
    EndAll(EndReason),
}

/// A packet whose payload is in the batch.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    pub(super) arrived: Instant,
    index: u64,
    timestamp: u32,
    source: u32,
    marker: bool,
    keyframe: bool,
    payload: Range<u32>,
}

/// What a writer says back about a recording.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Its publisher is to be asked for a keyframe.
    pub(super) wants_keyframe: AtomicBool,
    /// It has ended, by itself or as it was told.
    pub(super) ended: AtomicBool,
}

/// Bytes that wait for writers, all together.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// The recorder's end of the way to a writer.
pub(super) struct WriterLink {
    full: SyncSender<Batch>,
    empties: Receiver<Batch>,
    filling: Batch,
    waiting: Waiting,
    flushed: Option<Instant>,
    behind: bool,
    /// Recordings that it has.
    pub(super) recordings: usize,
}

/// The writer's end.
pub(super) struct BatchSource {
    full: Receiver<Batch>,
    empties: SyncSender<Batch>,
    waiting: Waiting,
}

/// Both ends.
pub(super) fn link(waiting: &Waiting) -> (WriterLink, BatchSource) {
    let (full, taken) = sync_channel(BATCHES);
    let (emptied, empties) = sync_channel(EMPTIES);
    let link = WriterLink {
        full,
        empties,
        filling: Batch::default(),
        waiting: waiting.clone(),
        flushed: None,
        behind: false,
        recordings: 0,
    };
    (link, BatchSource { full: taken, empties: emptied, waiting: waiting.clone() })
}

impl Batch {
    /// A packet of this batch, as it is recorded.
    pub(super) fn packet(&self, copied: &Copied) -> ::recording::Packet<'_> {
        let Copied { index, timestamp, source, marker, keyframe, .. } = *copied;
        let payload = &self.bytes[copied.payload.start as usize..copied.payload.end as usize];
        ::recording::Packet { index, timestamp, source, marker, keyframe, payload }
    }

    fn push(&mut self, packet: &Packet, now: Instant) -> Copied {
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(packet.payload());
        Copied {
            arrived: packet.arrived.unwrap_or(now),
            index: packet.index,
            timestamp: packet.timestamp,
            source: packet.source,
            marker: packet.marker,
            keyframe: packet.keyframe,
            payload: begin..self.bytes.len() as u32,
        }
    }

    fn clear(&mut self) {
        self.at = None;
        self.entries.clear();
        self.bytes.clear();
        self.cost = 0;
    }

    fn is_worth_keeping(&self) -> bool {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>() <= KEPT_BYTES
    }
}

impl Waiting {
    fn take(&self, bytes: usize) -> bool {
        let free = self.0.load(Ordering::Relaxed) + bytes <= WAITING_BYTES;
        if free {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
        free
    }
}

impl WriterLink {
    /// Copies a packet. False when so much waits already that there is no room for it.
    pub(super) fn packet(&mut self, key: RecordingKey, kind: Kind, packet: &Packet, now: Instant) -> bool {
        let cost = size_of::<Entry>() + packet.payload().len();
        if !self.waiting.take(cost) {
            return false;
        }
        self.filling.cost += cost;
        let copied = self.filling.push(packet, now);
        self.filling.entries.push(Entry::Packet(key, kind, copied));
        true
    }

    /// Adds what is no packet. While it [is behind](Self::is_behind) only what begins and ends.
    pub(super) fn push(&mut self, entry: Entry) {
        self.filling.entries.push(entry);
    }

    /// Gives the writer what it has not had; now and then only the time. False when there is no room for it: then it stays.
    pub(super) fn flush(&mut self, now: Instant) -> bool {
        let interval = if self.recordings > 0 { TIME } else { IDLE_TIME };
        if !self.is_filling() && self.flushed.is_some_and(|last| now < last + interval) {
            return true;
        }
        self.flushed = Some(now);
        self.filling.at = Some(now);
        let next = self.empties.try_recv().unwrap_or_default();
        let sent = self.full.try_send(std::mem::replace(&mut self.filling, next));
        self.behind = matches!(sent, Err(TrySendError::Full(_)));
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                self.filling = batch;
                false
            }
            // The writer's thread is gone, which is a mistake in it: there is nobody to keep anything for.
            Err(TrySendError::Disconnected(batch)) => {
                self.waiting.0.fetch_sub(batch.cost, Ordering::Relaxed);
                true
            }
        }
    }

    /// There was no room for what it was to get last: what is pushed stays here until there is.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// There is something that the writer has not had.
    pub(super) fn is_filling(&self) -> bool {
        !self.filling.entries.is_empty()
    }
}

impl BatchSource {
    /// The next batch, waited for; `None` when there will be none any more.
    pub(super) fn next(&self) -> Option<Batch> {
        self.full.recv().ok()
    }

    /// The next one, if it is there.
    #[cfg(test)]
    pub(super) fn try_next(&self) -> Option<Batch> {
        self.full.try_recv().ok()
    }

    /// Gives back a batch that has been written.
    pub(super) fn done(&self, mut batch: Batch) {
        self.waiting.0.fetch_sub(batch.cost, Ordering::Relaxed);
        batch.clear();
        if batch.is_worth_keeping() {
            // One too many is one that is made anew.
            let _ = self.empties.try_send(batch);
        }
    }
}
