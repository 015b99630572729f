//! Which recording is delivered next: pure, and told the time. Oldest first; one that fails waits longer each time, and lets others
//! pass; when the store itself is away, one at a time finds out when it is back, and each time another: a store may refuse one alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::names::Stem;

/// Deliveries at once. Each holds a part of its file in memory.
pub(super) const AT_ONCE: usize = 4;

/// Mean pause after the first failure; doubled with each.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// Longest mean pause: how late it may be noticed that a store is back.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This recording alone.
    Recording,
    /// The store, and so probably all others as well.
    Store,
}

/// Recordings that wait for delivery or are being delivered. How many it is given is its user's business.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Stem, Retry>,
    under_way: BTreeMap<Stem, Retry>,
    store: Retry,
}

/// How often something failed, and from when on it is tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    failures: u32,
    not_before: Option<Instant>,
}

impl Retry {
    /// `jitter` is uniform in 0 to 1.
    fn handle_failure(&mut self, now: Instant, jitter: f64) {
        let pause = MIN_PAUSE.saturating_mul(1 << self.failures.min(10)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause.mul_f64(0.5 + jitter));
    }

    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }
}

impl Queue {
    /// Takes a recording, if it is not here yet.
    pub(super) fn push(&mut self, stem: Stem) {
        if !self.under_way.contains_key(&stem) {
            self.waiting.entry(stem).or_default();
        }
    }

    /// The one to deliver now: of those that failed least often the oldest. An error does not say whether it is the store's or one name's;
    /// were the oldest alone to find out, one that is never taken would keep all others.
    pub(super) fn poll_next(&mut self, now: Instant) -> Option<Stem> {
        if self.under_way.len() >= self.places() || !self.store.is_due(now) {
            return None;
        }
        let due = self.waiting.iter().filter(|(_, retry)| retry.is_due(now));
        let stem = due.min_by_key(|(_, retry)| retry.failures)?.0.clone();
        let retry = self.waiting.remove(&stem)?;
        self.under_way.insert(stem.clone(), retry);
        Some(stem)
    }

    /// When to ask again, if nothing else happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.under_way.len() >= self.places() {
            return None;
        }
        let soonest = self.waiting.values().map(|retry| retry.not_before).min()?;
        soonest.max(self.store.not_before)
    }

    /// A recording needs nothing more.
    pub(super) fn handle_done(&mut self, stem: &Stem) {
        self.under_way.remove(stem);
        self.store = Retry::default();
    }

    /// A delivery failed; says how often this recording's has.
    pub(super) fn handle_failure(&mut self, stem: &Stem, fault: Fault, now: Instant, jitter: f64) -> u32 {
        let mut retry = self.under_way.remove(stem).unwrap_or_default();
        // Of several that were under way together, one failure counts.
        if fault == Fault::Store && self.store.is_due(now) {
            self.store.handle_failure(now, jitter);
        }
        retry.handle_failure(now, jitter);
        self.waiting.insert(stem.clone(), retry);
        retry.failures
    }

    /// Recordings in it.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Whether nothing is left that could be done now.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let stands = !self.store.is_due(now) || !self.waiting.values().any(|retry| retry.is_due(now));
        self.under_way.is_empty() && stands
    }

    fn places(&self) -> usize {
        if self.store.failures == 0 { AT_ONCE } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem(n: u32) -> Stem {
        Stem::parse(&format!("20261130T145201.{n:03}Z_a_b")).expect("a stem")
    }

    fn queue(count: u32) -> Queue {
        let mut queue = Queue::default();
        (0..count).rev().for_each(|n| queue.push(stem(n)));
        queue
    }

    #[test]
    fn the_oldest_are_delivered_first_and_few_at_once() {
        let (mut queue, now) = (queue(6), Instant::now());
        let first: Vec<_> = std::iter::from_fn(|| queue.poll_next(now)).collect();
        assert_eq!(first, [0, 1, 2, 3].map(stem));
        queue.push(stem(0));
        assert_eq!(queue.len(), 6, "what is under way is not taken twice");
        queue.handle_done(&stem(2));
        assert_eq!(queue.poll_next(now), Some(stem(4)));
        assert_eq!(queue.poll_next(now), None);
    }

    #[test]
    fn a_bad_recording_waits_longer_each_time_and_lets_others_pass() {
        let (mut queue, mut now) = (queue(3), Instant::now());
        let mut pauses = Vec::new();
        for failures in 1..=9 {
            assert_eq!(queue.poll_next(now), Some(stem(0)));
            assert_eq!(queue.handle_failure(&stem(0), Fault::Recording, now, 0.5), failures);
            if failures == 1 {
                assert_eq!((queue.poll_next(now), queue.poll_next(now)), (Some(stem(1)), Some(stem(2))));
                queue.handle_done(&stem(1));
                queue.handle_done(&stem(2));
            }
            let due = queue.poll_timeout().expect("it is tried again");
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_store_that_is_away_is_asked_by_one_at_a_time() {
        let (mut queue, mut now) = (queue(9), Instant::now());
        let under_way: Vec<_> = std::iter::from_fn(|| queue.poll_next(now)).collect();
        for stem in &under_way {
            queue.handle_failure(stem, Fault::Store, now, 0.0);
        }
        let mut attempts = 0;
        let end = now + Duration::from_hours(1);
        while now < end {
            now = queue.poll_timeout().expect("it is tried again");
            if let Some(next) = queue.poll_next(now) {
                assert_eq!(queue.poll_next(now), None, "one at a time");
                queue.handle_failure(&next, Fault::Store, now, 0.0);
                attempts += 1;
            }
        }
        assert!((100..=130).contains(&attempts), "{attempts} attempts in an hour");
        now += MAX_PAUSE;
        let back = queue.poll_next(now).expect("the next attempt");
        queue.handle_done(&back);
        assert!(queue.poll_next(now).is_some() && queue.poll_next(now).is_some(), "all at once again");
    }

    #[test]
    fn one_that_the_store_never_takes_keeps_none_of_the_others() {
        let (mut queue, mut now) = (queue(1), Instant::now());
        for _ in 0..5 {
            now = queue.poll_timeout().unwrap_or(now);
            assert_eq!(queue.poll_next(now), Some(stem(0)));
            queue.handle_failure(&stem(0), Fault::Store, now, 0.5);
        }
        for n in 1..40 {
            queue.push(stem(n));
        }
        let (mut delivered, end) = (Vec::new(), now + Duration::from_mins(2));
        while now < end && queue.len() > 1 {
            now = queue.poll_timeout().unwrap_or(now);
            while let Some(next) = queue.poll_next(now) {
                if next == stem(0) {
                    queue.handle_failure(&next, Fault::Store, now, 0.5);
                } else {
                    queue.handle_done(&next);
                    delivered.push(next);
                }
            }
        }
        assert_eq!(delivered, (1..40).map(stem).collect::<Vec<_>>());
    }

    #[test]
    fn pauses_differ() {
        for (jitter, expected) in [(0.0, 500), (0.5, 1_000), (1.0, 1_500)] {
            let (mut queue, now) = (queue(1), Instant::now());
            queue.poll_next(now);
            queue.handle_failure(&stem(0), Fault::Store, now, jitter);
            assert_eq!(queue.poll_timeout(), Some(now + Duration::from_millis(expected)));
            assert!(queue.is_idle(now) && !queue.is_idle(now + Duration::from_millis(expected)));
        }
    }
}
