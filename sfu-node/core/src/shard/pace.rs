//! How often something may happen.

use std::time::{Duration, Instant};

/// One `interval` apart in the long run, and up to `burst` at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) interval: Duration,
    pub(super) burst: u32,
}

/// What of a rate is used up: each time takes an interval, and may be paid for in advance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    paid_until: Option<Instant>,
}

impl Pace {
    /// It may happen now.
    #[inline]
    pub(super) fn admits(&self, now: Instant, rate: &Rate) -> bool {
        self.paid_until.is_none_or(|paid| paid <= now + rate.interval * (rate.burst - 1))
    }

    /// It happens now.
    #[inline]
    pub(super) fn pay(&mut self, now: Instant, rate: &Rate) {
        self.paid_until = Some(self.paid_until.map_or(now, |paid| paid.max(now)) + rate.interval);
    }

    /// Whether it may happen now; then it does.
    #[inline]
    pub(super) fn take(&mut self, now: Instant, rate: &Rate) -> bool {
        let admitted = self.admits(now, rate);
        if admitted {
            self.pay(now, rate);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_one_an_interval_and_comes_again_after_a_pause() {
        let rate = Rate { interval: Duration::from_millis(10), burst: 3 };
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut taken = |millis: std::ops::Range<u64>| -> Vec<u64> {
            let take = |at: &u64| pace.take(start + Duration::from_millis(*at / 10), &rate);
            millis
                .flat_map(|millis| (0..10).map(move |tenth| 10 * millis + tenth))
                .filter(take)
                .map(|at| at / 10)
                .collect()
        };
        assert_eq!(taken(0..35), [0, 0, 0, 10, 20, 30]);
        assert_eq!(taken(1_000..1_025), [1_000, 1_000, 1_000, 1_010, 1_020]);
    }
}
