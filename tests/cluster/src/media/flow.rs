//! One viewer's media from one owner, over however many streams one after the other: when packets came, and where they stayed away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A flow whose last packet is not older flows.
const FRESH: Duration = Duration::from_millis(500);

/// What one viewer gets of one owner.
#[derive(Debug, Default)]
pub struct Flow(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Option<Instant>,
    longest: Duration,
    packets: u64,
    foreign: u64,
}

/// What is known of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Packets since the measurement began.
    pub packets: u64,
    /// The longest time without one, that up to now included.
    pub longest: Duration,
    /// Packets that were not the owner's.
    pub foreign: u64,
}

impl Flow {
    /// A packet came.
    pub fn packet(&self, now: Instant) {
        let mut inner = self.lock();
        if let Some(last) = inner.last {
            inner.longest = inner.longest.max(now.saturating_duration_since(last));
        }
        inner.last = Some(now);
        inner.packets += 1;
    }

    /// A packet came that another sent.
    pub fn foreign(&self) {
        self.lock().foreign += 1;
    }

    /// Measures anew from the last packet on.
    pub fn measure(&self) {
        let mut inner = self.lock();
        (inner.longest, inner.packets) = (Duration::ZERO, 0);
    }

    /// What was seen since [`Self::measure`].
    pub fn seen(&self, now: Instant) -> Seen {
        let inner = self.lock();
        let open = inner.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        Seen { packets: inner.packets, longest: inner.longest.max(open), foreign: inner.foreign }
    }

    /// Whether it flows at the moment.
    pub fn fresh(&self, now: Instant) -> bool {
        self.lock().last.is_some_and(|last| now.saturating_duration_since(last) < FRESH)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_that_between_two_packets_or_up_to_now() {
        let (flow, start) = (Flow::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(flow.seen(start).longest, Duration::MAX, "nothing ever came");
        for ms in [0, 20, 40, 340, 360] {
            flow.packet(at(ms));
        }
        let longest = |ms| flow.seen(at(ms)).longest;
        assert_eq!((longest(400), longest(1_360)), (Duration::from_millis(300), Duration::from_secs(1)));
        flow.measure();
        assert_eq!(longest(380), Duration::from_millis(20), "measured anew, from the last packet");
    }
}
