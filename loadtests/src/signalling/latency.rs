//! How long something took, many times: percentiles in milliseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time that is told apart; whatever took longer counts as this.
const LONGEST_US: u64 = 60_000_000;

/// Collects.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("invariant: valid bounds"))
    }
}

impl Times {
    /// One more.
    pub fn record(&mut self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(microseconds.clamp(1, LONGEST_US));
    }

    /// What they come to.
    pub fn summary(&self) -> Latency {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: self.0.max() as f64 / 1e3,
        }
    }
}

/// What they come to.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half of them took no longer, milliseconds.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// Ninety-nine of a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut times = Times::default();
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        let Latency { count, p50_ms, p90_ms, p99_ms, max_ms } = times.summary();
        let close = |value: f64, expected: f64| (value - expected).abs() / expected < 0.01;
        assert_eq!(count, 100);
        assert!(close(p50_ms, 50.0) && close(p90_ms, 90.0) && close(p99_ms, 99.0) && close(max_ms, 100.0));
    }

    #[test]
    fn what_took_longer_than_a_minute_counts_as_one() {
        let mut times = Times::default();
        times.record(Duration::from_hours(1));
        assert!((times.summary().max_ms - 60_000.0).abs() / 60_000.0 < 0.01);
    }
}
