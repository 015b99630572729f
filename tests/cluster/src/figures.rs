//! What a scenario measured, for people to read. Bounds are the scenarios' business.

use std::fmt;
use std::time::Duration;

/// Durations of the same kind, one per client.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest that `share` of all do not exceed (nearest rank); zero when there is none.
    pub fn at(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// From the smallest to the largest.
    pub fn width(&self) -> Duration {
        self.max().abs_diff(self.0.first().copied().unwrap_or_default())
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_millis();
        write!(f, "n={} p50={} ms p99={} ms max={} ms", self.len(), ms(self.at(0.5)), ms(self.at(0.99)), ms(self.max()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_what_was_measured() {
        let spread = Spread::of((1..=100).rev().map(Duration::from_millis));
        assert_eq!([spread.at(0.5), spread.at(0.99), spread.max()], [50, 99, 100].map(Duration::from_millis));
        assert_eq!(spread.width(), Duration::from_millis(99));
        assert_eq!((Spread::default().at(0.99), Spread::default().width()), (Duration::ZERO, Duration::ZERO));
    }
}
