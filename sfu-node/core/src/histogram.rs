//! How often something took how long: counts in buckets that double, cheap enough for every packet.

use std::time::Duration;

/// Times in buckets, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Self::BUCKETS],
    microseconds: u64,
}

impl Histogram {
    /// Buckets: one up to each of [`Self::BOUNDS`], and one beyond.
    pub const BUCKETS: usize = 15;
    /// Upper bounds in seconds, inclusive: 0.25 ms, and each twice the one before.
    pub const BOUNDS: [f64; Self::BUCKETS - 1] =
        [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048];
    const FIRST_NANOS: u128 = 250_000;

    /// Counts `times` things that each took `time`.
    #[inline]
    pub fn record(&mut self, time: Duration, times: u64) {
        if cfg!(feature = "uncounted") {
            return;
        }
        self.counts[Self::bucket(time)] += times;
        self.microseconds += time.as_micros() as u64 * times;
    }

    #[inline]
    fn bucket(time: Duration) -> usize {
        let units = time.as_nanos().div_ceil(Self::FIRST_NANOS) as u64;
        match units {
            0 | 1 => 0,
            _ => ((units - 1).ilog2() as usize + 1).min(Self::BUCKETS - 1),
        }
    }

    /// Counts by bucket, each without those before it.
    pub const fn counts(&self) -> &[u64; Self::BUCKETS] {
        &self.counts
    }

    /// All times together.
    pub const fn sum(&self) -> Duration {
        Duration::from_micros(self.microseconds)
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean of what was counted since `before`, an earlier state of this histogram; zero when nothing was.
    #[must_use]
    pub fn mean_since(&self, before: &Self) -> Duration {
        let counted = self.count().saturating_sub(before.count());
        let passed = self.microseconds.saturating_sub(before.microseconds);
        Duration::from_micros(passed.checked_div(counted).unwrap_or(0))
    }
}

#[cfg(all(test, not(feature = "uncounted")))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for (bucket, bound) in Histogram::BOUNDS.into_iter().enumerate() {
            let bound = Duration::from_secs_f64(bound);
            assert_eq!(Histogram::bucket(bound), bucket);
            assert_eq!(Histogram::bucket(bound + Duration::from_nanos(1)), bucket + 1);
        }
        assert_eq!(Histogram::bucket(Duration::ZERO), 0);
        assert_eq!(Histogram::bucket(Duration::from_secs(1_000)), Histogram::BUCKETS - 1);
    }

    #[test]
    fn a_mean_is_of_what_was_counted_since() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(1), 7);
        let before = histogram;
        assert_eq!(histogram.mean_since(&before), Duration::ZERO);
        histogram.record(Duration::from_millis(10), 3);
        histogram.record(Duration::from_millis(50), 1);
        assert_eq!(histogram.mean_since(&before), Duration::from_millis(20));
        assert_eq!((histogram.count(), histogram.sum()), (11, Duration::from_millis(7_080)));
    }

    proptest! {
        #[test]
        fn every_time_is_in_the_bucket_of_the_lowest_bound_that_holds_it(nanos in 0_u64..5_000_000_000) {
            let time = Duration::from_nanos(nanos);
            let holds = |bound: &f64| time <= Duration::from_secs_f64(*bound);
            let expected = Histogram::BOUNDS.iter().position(holds).unwrap_or(Histogram::BUCKETS - 1);
            prop_assert_eq!(Histogram::bucket(time), expected);
        }
    }
}
