//! Queues between the shards of a node: one per ordered pair, so that each has one writer and one reader and no lock.
//!
//! What finds its queue full is lost and counted: the core repairs what matters, as it does on a network.

use sfu_core::{ShardIndex, SiblingMessage};

use crate::udp::Waker;

/// Messages that may wait for one shard, over the queues of all its siblings. They are references to packets that are in
/// a ring anyway; at 50,000 packets a second this is a third of a second, and a shard that far behind has lost already.
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
    dropped: u64,
}

struct Outbound {
    queue: rtrb::Producer<SiblingMessage>,
    waker: Waker,
    /// Written to since the sibling was last woken.
    written: bool,
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
                Outbound { queue, waker: waker.clone(), written: false }
            });
            all[from].outbound.push(outbound);
        }
    }
    all
}

impl Siblings {
    fn alone() -> Self {
        Self { inbound: Vec::new(), outbound: Vec::new(), dropped: 0 }
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

    /// Puts a message into the queue to `sibling`; [`Self::wake`] has to follow.
    pub(crate) fn send(&mut self, sibling: ShardIndex, message: SiblingMessage) {
        let outbound = self.outbound.get_mut(usize::from(sibling.0)).and_then(Option::as_mut);
        // No such sibling: nobody can be told, as if the queue were full.
        let Some(outbound) = outbound else {
            self.dropped += 1;
            return;
        };
        match outbound.queue.push(message) {
            Ok(()) => outbound.written = true,
            Err(_) => self.dropped += 1,
        }
    }

    /// Wakes every sibling that was sent something.
    pub(crate) fn wake(&mut self) {
        for outbound in self.outbound.iter_mut().flatten() {
            if std::mem::take(&mut outbound.written) {
                outbound.waker.wake();
            }
        }
    }

    /// Messages lost so far because a queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
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
        all[0].send(ShardIndex(2), closed(1));
        all[0].send(ShardIndex(2), closed(2));
        all[1].send(ShardIndex(0), closed(3));
        assert_eq!(publications(&mut all[2]), [1, 2]);
        assert_eq!(publications(&mut all[0]), [3]);
        assert!(publications(&mut all[1]).is_empty());
    }

    #[test]
    fn what_finds_the_queue_full_is_dropped_and_counted() {
        let mut all = three();
        let capacity = *QUEUE.end() as u64;
        for number in 0..capacity + 10 {
            all[0].send(ShardIndex(1), closed(number));
        }
        assert_eq!(all[0].dropped(), 10);
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
        all[1].send(ShardIndex(1), closed(1));
        all[1].send(ShardIndex(9), closed(1));
        assert_eq!(all[1].dropped(), 2);
    }
}
