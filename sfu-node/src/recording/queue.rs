//! Queues between the shards and the recorder, who is a sibling of all of them: one in each direction per shard.
//!
//! The one to the recorder gives nothing back: what finds it full is lost for recordings at once, and counted by track. Were it
//! to wait in the core, it would take the place of what waits there for other shards' subscribers.

use sfu_core::{PublicationHandle, ShardIndex, SiblingMessage};

use crate::siblings::Outbound;
use crate::udp::Waker;

/// Messages that may wait for the recorder, over the queues of all shards. It looks into them fifty times a second: at 50,000
/// packets a second this is more than a second, so that a recorder which the kernel lets wait loses nothing.
const WAITING: usize = 65_536;

/// Bounds of one queue; an entry takes 56 bytes, and refers to a packet of 1.5 KB.
const QUEUE: std::ops::RangeInclusive<usize> = 1_024..=16_384;

/// Orders of the recorder that may wait for one shard: a renewal for each recording, and as many keyframe requests.
const ORDERS: usize = 4_096;

/// Tracks whose losses are counted apart while the queue is full. Room for them is made at the start; the losses of others are known
/// in sum only.
const TRACKS: usize = 1_024;

/// What a shard tells the recorder.
#[derive(Debug)]
pub(super) enum Told {
    /// As to any sibling.
    Message(SiblingMessage),
    /// The queue had no room for so many packets of this track.
    Missed(PublicationHandle, u8, u64),
}

/// A shard's end of the queue to the recorder.
pub(crate) struct ToRecorder {
    queue: rtrb::Producer<Told>,
    missed: Vec<(PublicationHandle, u8, u64)>,
    overflows: u64,
}

/// The recorder's ends of all queues, by shard.
pub(crate) struct RecorderQueues {
    /// How shards know the recorder.
    pub(super) index: ShardIndex,
    pub(super) inbound: Vec<rtrb::Consumer<Told>>,
    outbound: Vec<Outbound>,
}

/// What one shard gets: the end that it writes to the recorder, and the one where it hears it.
pub(crate) type ShardEnds = (ToRecorder, rtrb::Consumer<SiblingMessage>);

/// Connects the recorder with every shard; `wakers` are theirs, in order.
pub(crate) fn connect(wakers: &[Waker]) -> (RecorderQueues, Vec<ShardEnds>) {
    let capacity = (WAITING / wakers.len().max(1)).clamp(*QUEUE.start(), *QUEUE.end());
    let index = ShardIndex(wakers.len() as u8);
    let mut queues = RecorderQueues { index, inbound: Vec::new(), outbound: Vec::new() };
    let ends = wakers.iter().map(|waker| {
        let (queue, inbound) = rtrb::RingBuffer::new(capacity);
        let (orders, heard) = rtrb::RingBuffer::new(ORDERS);
        queues.inbound.push(inbound);
        queues.outbound.push(Outbound::new(orders, waker.clone()));
        (ToRecorder { queue, missed: Vec::with_capacity(TRACKS), overflows: 0 }, heard)
    });
    let ends = ends.collect();
    (queues, ends)
}

impl ToRecorder {
    /// Puts a message into the queue, or counts it as lost.
    pub(crate) fn send(&mut self, message: SiblingMessage) {
        // First what was lost before it: the recorder hears of a loss where it happened.
        if !self.tell_missed() {
            self.miss(&message);
        } else if let Err(rtrb::PushError::Full(Told::Message(message))) = self.queue.push(Told::Message(message)) {
            self.miss(&message);
        }
    }

    /// Tells what was lost, if there is room again. False when there is none.
    pub(crate) fn tell_missed(&mut self) -> bool {
        while let Some((publication, track, packets)) = self.missed.last().copied() {
            if self.queue.push(Told::Missed(publication, track, packets)).is_err() {
                return false;
            }
            self.missed.pop();
        }
        true
    }

    /// Messages that were lost so far.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Packets alone are counted by track: all else is said again.
    #[cold]
    fn miss(&mut self, message: &SiblingMessage) {
        self.overflows += 1;
        let SiblingMessage::Media(publication, track, _) = message else { return };
        let known = self.missed.iter_mut().find(|missed| (missed.0, missed.1) == (*publication, *track));
        if let Some((_, _, packets)) = known {
            *packets += 1;
        } else if self.missed.len() < TRACKS {
            self.missed.push((*publication, *track, 1));
        }
    }
}

impl RecorderQueues {
    /// Tells a shard something. What finds its queue full is lost: all that the recorder says, it says again.
    pub(super) fn tell(&mut self, shard: ShardIndex, message: SiblingMessage) {
        if let Some(outbound) = self.outbound.get_mut(usize::from(shard.0)) {
            let _ = outbound.push(message);
        }
    }

    /// Wakes every shard that was told something.
    pub(super) fn wake(&mut self) {
        self.outbound.iter_mut().for_each(Outbound::wake);
    }
}
