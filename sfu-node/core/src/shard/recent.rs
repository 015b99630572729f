//! What was answered or asked lately, so that it is not done again at once.

use std::time::{Duration, Instant};

/// Times by packet: a direct-mapped table, so that a stream of requests costs no memory.
pub(super) struct Recent {
    entries: [Option<Instant>; Self::ENTRIES],
}

impl Recent {
    /// Also the most that is admitted per interval, whatever is asked for: the queues behind are shared. A receiver has at most
    /// some hundred packets outstanding; who has more asks again.
    const ENTRIES: usize = 128;

    /// Whether this packet's entry was not admitted for `interval`; then it is now.
    pub(super) fn admit(&mut self, now: Instant, index: u64, interval: Duration) -> bool {
        let entry = &mut self.entries[index as usize % Self::ENTRIES];
        if entry.is_some_and(|at| now < at + interval) {
            return false;
        }
        *entry = Some(now);
        true
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { entries: [None; Self::ENTRIES] }
    }
}
