//! Queues between the shards of a node: one per ordered pair, so that each has one writer and one reader and no lock.
//!
//! What finds its queue full is given back and waits in the core, which bounds what waits there. A recorder is a sibling, too, with
//! queues of its own kind (`recording/queue.rs`).

use sfu_core::{ShardIndex, SiblingMessage};

use crate::recording::{ShardEnds, ToRecorder};
use crate::udp::Waker;

/// Messages that may wait for one shard, over the queues of all its siblings. They are references to packets that are in
/// a ring anyway; at 50,000 packets a second this is a third of a second, and a shard that far behind has lost already. A receive
/// call may bring more than one queue takes: the rest waits in the core.
const WAITING_PER_SHARD: usize = 16_384;

/// Bounds of one queue: with many shards a queue still takes a burst, with two it does not take all the memory.
const QUEUE: std::ops::RangeInclusive<usize> = 256..=4_096;

/// Messages taken from one queue in one round, so that one sibling's burst does not hold up the sockets.
const TAKEN_PER_ROUND: usize = 256;

/// One shard's ends of the queues.
pub(crate) struct Siblings {
    inbound: Vec<rtrb::Consumer<SiblingMessage>>,
    /// By shard; none for the shard itself.
    outbound: Vec<Option<Outbound>>,
    /// Its index is the first that no shard has.
    recorder: Option<ToRecorder>,
    overflows: u64,
}

/// The writing end of a queue to a shard.
pub(crate) struct Outbound {
    queue: rtrb::Producer<SiblingMessage>,
    waker: Waker,
    /// Written to since the shard was last woken.
    written: bool,
}

impl Outbound {
    pub(crate) fn new(queue: rtrb::Producer<SiblingMessage>, waker: Waker) -> Self {
        Self { queue, waker, written: false }
    }

    /// Puts a message into the queue, or gives it back.
    pub(crate) fn push(&mut self, message: SiblingMessage) -> Result<(), SiblingMessage> {
        self.queue.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        self.written = true;
        Ok(())
    }

    /// Wakes the shard if it was sent something.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.written) {
            self.waker.wake();
        }
    }
}

/// Connects every shard with every other; `wakers` are theirs, in order.
pub(crate) fn connect(wakers: &[Waker]) -> Vec<Siblings> {
    let shards = wakers.len();
    let capacity = (WAITING_PER_SHARD / shards.max(1)).clamp(*QUEUE.start(), *QUEUE.end());
    let mut all: Vec<Siblings> = (0..shards).map(|_| Siblings::alone()).collect();
    for from in 0..shards {
        for (to, waker) in wakers.iter().enumerate() {
            let outbound = (from != to).then(|| {
                let (queue, consumer) = rtrb::RingBuffer::new(capacity);
                all[to].inbound.push(consumer);
                Outbound::new(queue, waker.clone())
            });
            all[from].outbound.push(outbound);
        }
    }
    all
}

impl Siblings {
    fn alone() -> Self {
        Self { inbound: Vec::new(), outbound: Vec::new(), recorder: None, overflows: 0 }
    }

    /// Takes the shard's ends of the queues between it and the recorder.
    pub(crate) fn add_recorder(&mut self, (recorder, heard): ShardEnds) {
        self.recorder = Some(recorder);
        self.inbound.push(heard);
    }

    /// Calls `handle` with what siblings have said. True when more may be waiting.
    pub(crate) fn receive(&mut self, mut handle: impl FnMut(SiblingMessage)) -> bool {
        let mut more = false;
        for queue in &mut self.inbound {
            let mut taken = 0;
            while taken < TAKEN_PER_ROUND {
                let Ok(message) = queue.pop() else { break };
                handle(message);
                taken += 1;
            }
            more |= taken == TAKEN_PER_ROUND;
        }
        more
    }

    /// Puts a message into the queue to `sibling`, or gives it back; [`Self::wake`] has to follow.
    pub(crate) fn send(&mut self, sibling: ShardIndex, message: SiblingMessage) -> Result<(), SiblingMessage> {
        let index = usize::from(sibling.0);
        if index == self.outbound.len()
            && let Some(recorder) = &mut self.recorder
        {
            recorder.send(message);
            return Ok(());
        }
        // A shard is told of no others than those it was connected with.
        let Some(Some(outbound)) = self.outbound.get_mut(index) else { return Ok(()) };
        outbound.push(message).inspect_err(|_| self.overflows += 1)
    }

    /// Wakes every sibling that was sent something. The recorder is not: it looks by itself.
    pub(crate) fn wake(&mut self) {
        self.outbound.iter_mut().flatten().for_each(Outbound::wake);
        if let Some(recorder) = &mut self.recorder {
            recorder.tell_missed();
        }
    }

    /// How often a queue was found full so far.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// How many messages were lost so far because the recorder was behind.
    pub(crate) fn recorder_overflows(&self) -> u64 {
        self.recorder.as_ref().map_or(0, ToRecorder::overflows)
    }
}

#[cfg(test)]
mod tests {
    use sfu_core::PublicationHandle;

    use super::*;
    use crate::udp::wake_pair;

    fn three() -> Vec<Siblings> {
        let wakers: Vec<Waker> = (0..3).map(|_| wake_pair().expect("an eventfd").0).collect();
        connect(&wakers)
    }

    fn publications(siblings: &mut Siblings) -> Vec<u64> {
        let mut seen = Vec::new();
        siblings.receive(|message| {
            if let SiblingMessage::Closed(PublicationHandle(publication)) = message {
                seen.push(publication);
            }
        });
        seen
    }

    fn closed(publication: u64) -> SiblingMessage {
        SiblingMessage::Closed(PublicationHandle(publication))
    }

    #[test]
    fn a_message_reaches_the_shard_it_is_for_in_order() {
        let mut all = three();
        for (from, to, number) in [(0, 2, 1), (0, 2, 2), (1, 0, 3)] {
            all[from].send(ShardIndex(to), closed(number)).expect("room");
        }
        assert_eq!(publications(&mut all[2]), [1, 2]);
        assert_eq!(publications(&mut all[0]), [3]);
        assert!(publications(&mut all[1]).is_empty());
    }

    #[test]
    fn what_finds_the_queue_full_is_given_back_and_counted() {
        let mut all = three();
        let capacity = *QUEUE.end() as u64;
        for number in 0..capacity + 10 {
            let sent = all[0].send(ShardIndex(1), closed(number));
            match sent {
                Ok(()) => assert!(number < capacity),
                Err(SiblingMessage::Closed(publication)) => assert_eq!(publication.0, number.max(capacity)),
                other => panic!("another message: {other:?}"),
            }
        }
        assert_eq!(all[0].overflows(), 10);
        let mut seen = Vec::new();
        while let batch @ [_, ..] = &publications(&mut all[1])[..] {
            assert!(batch.len() <= TAKEN_PER_ROUND);
            seen.extend_from_slice(batch);
        }
        assert_eq!(seen, (0..capacity).collect::<Vec<_>>());
    }

    #[test]
    fn a_shard_has_no_queue_to_itself_or_to_nobody() {
        let mut all = three();
        for nobody in [1, 9] {
            assert!(all[1].send(ShardIndex(nobody), closed(1)).is_ok(), "nothing waits for nobody");
        }
        assert!(all.iter_mut().all(|siblings| publications(siblings).is_empty()));
    }
}
