//! How often something may happen: a token bucket in the form of GCRA (ITU-T I.371), pure and 16 bytes of state.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// One event's share of time, at the sustained rate.
    interval: Duration,
    /// How far the sustained rate may be run ahead of.
    tolerance: Duration,
}

impl Rate {
    /// `per_second` sustained, up to `burst` at once. Both are at least 1.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, tolerance: interval * burst.max(1) }
    }
}

/// One bucket.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    rate: Rate,
    /// When the bucket will be full again.
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes `cost` tokens, or takes none and says how long until they are there. A cost above the burst counts as the
    /// burst, so that everything is possible some time.
    pub(crate) fn take(&mut self, cost: u32, now: Instant) -> Result<(), Duration> {
        let cost = (self.rate.interval * cost).min(self.rate.tolerance);
        let full_at = self.full_at.max(now) + cost;
        let ahead = full_at.saturating_duration_since(now);
        if ahead > self.rate.tolerance {
            return Err(ahead.saturating_sub(self.rate.tolerance));
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Takes `cost` tokens whether they are there or not, at most the burst. The debt is no deeper than the burst, either.
    pub(crate) fn charge(&mut self, cost: u32, now: Instant) {
        let cost = (self.rate.interval * cost).min(self.rate.tolerance);
        self.full_at = (self.full_at.max(now) + cost).min(now + 2 * self.rate.tolerance);
    }

    /// Whether nothing of it is taken: then it is as good as a new one.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// When all tokens taken are paid for; `None`: they are.
    pub(crate) fn in_debt_until(&self, now: Instant) -> Option<Instant> {
        self.full_at.checked_sub(self.rate.tolerance).filter(|paid| *paid > now)
    }
}

/// A bucket that several take from.
#[derive(Debug)]
pub(crate) struct SharedBucket(Mutex<TokenBucket>);

impl SharedBucket {
    /// A full one.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self(Mutex::new(TokenBucket::new(rate, now)))
    }

    /// As [`TokenBucket::take`].
    pub(crate) fn take(&self, cost: u32, now: Instant) -> Result<(), Duration> {
        self.bucket().take(cost, now)
    }

    /// When nothing of it will be taken any more; in the past: nothing is.
    pub(crate) fn full_at(&self) -> Instant {
        self.bucket().full_at
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        // A bucket is one number, whole whatever its holder did.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(10, 5), start);
        for _ in 0..5 {
            assert_eq!(bucket.take(1, start), Ok(()));
        }
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(1, start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(1, start + Duration::from_millis(150)).is_err());
    }

    #[test]
    fn a_cost_above_the_burst_passes_when_the_bucket_is_full() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(10, 5), start);
        assert_eq!(bucket.take(1000, start), Ok(()));
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
    }

    #[test]
    fn what_is_charged_beyond_the_burst_is_a_debt_that_time_pays() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::new(10, 5), start);
        bucket.charge(5, start);
        assert_eq!(bucket.in_debt_until(start), None);
        bucket.charge(2, start);
        let paid = start + Duration::from_millis(200);
        assert_eq!((bucket.in_debt_until(start), bucket.in_debt_until(paid)), (Some(paid), None));
        bucket.charge(u32::MAX, paid);
        bucket.charge(1, paid);
        assert_eq!(bucket.in_debt_until(paid), Some(paid + Duration::from_millis(500)), "no deeper than the burst");
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst_allow(steps in prop::collection::vec(0u64..400, 1..200)) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(Rate::new(20, 10), start);
            let (mut now, mut passed) = (start, 0u32);
            for step in steps {
                now += Duration::from_millis(step);
                passed += u32::from(bucket.take(1, now).is_ok());
                let allowed = 10.0 + (now - start).as_secs_f64() * 20.0;
                prop_assert!(f64::from(passed) <= allowed + 1e-6);
            }
        }

        #[test]
        fn the_wait_it_names_is_enough_and_not_too_long(step in 0u64..60) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(Rate::new(20, 3), start);
            while bucket.take(1, start).is_ok() {}
            let now = start + Duration::from_millis(step);
            if let Err(wait) = bucket.take(1, now) {
                prop_assert!(bucket.clone().take(1, now + wait).is_ok());
                let earlier = now + wait.saturating_sub(Duration::from_micros(1));
                prop_assert!(bucket.clone().take(1, earlier).is_err());
            }
        }
    }
}
