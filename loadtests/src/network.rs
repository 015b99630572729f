//! A bad network, seeded: loss, loss in bursts, reordering and duplication. It holds datagrams in virtual or real time alike and
//! moves no bytes itself; [`crate::lossy_proxy`] does that between sockets.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How bad a link is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Share of datagrams lost one by one, 0–1.
    pub loss: f64,
    /// Share of datagrams at which a burst begins that swallows [`Self::burst_len`] in a row, 0–1.
    pub burst: f64,
    /// Datagrams per burst.
    pub burst_len: u32,
    /// Share of datagrams that arrive twice, 0–1.
    pub duplication: f64,
    /// Time that every datagram takes.
    pub delay: Duration,
    /// Time that a datagram may take on top, evenly distributed: more than the distance of two datagrams reorders them.
    pub jitter: Duration,
}

impl Quality {
    /// Nothing is lost, nothing takes time.
    pub const PERFECT: Self =
        Self { loss: 0.0, burst: 0.0, burst_len: 0, duplication: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO };

    /// A link that loses this share of datagrams and delays them by some milliseconds.
    pub const fn lossy(loss: f64) -> Self {
        Self { loss, delay: Duration::from_millis(5), jitter: Duration::from_millis(5), ..Self::PERFECT }
    }
}

/// What a link did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams put in.
    pub sent: u64,
    /// Datagrams lost.
    pub lost: u64,
    /// Datagrams that arrive twice.
    pub duplicated: u64,
    /// Arrivals behind a datagram that was sent later.
    pub overtaken: u64,
}

/// One direction of a path.
pub struct Link<T> {
    quality: Quality,
    random: StdRng,
    burst_left: u32,
    serial: u64,
    /// With the number that each was sent as.
    flying: BTreeMap<(Instant, u64), (u64, T)>,
    /// The highest such number that has arrived.
    newest: u64,
    stats: LinkStats,
}

impl<T: Clone> Link<T> {
    /// A link that makes the same choices whenever it is given the same `seed` and the same datagrams.
    pub fn new(quality: Quality, seed: u64) -> Self {
        Self {
            quality,
            random: StdRng::seed_from_u64(seed),
            burst_left: 0,
            serial: 0,
            flying: BTreeMap::new(),
            newest: 0,
            stats: LinkStats::default(),
        }
    }

    /// Changes the quality for what is sent from now on.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
        self.burst_left = 0;
    }

    /// Makes the choices from now on follow from `seed` alone, whatever was sent before.
    pub fn reseed(&mut self, seed: u64) {
        self.random = StdRng::seed_from_u64(seed);
        self.burst_left = 0;
    }

    /// What it did so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Puts a datagram in.
    pub fn send(&mut self, now: Instant, datagram: T) {
        self.stats.sent += 1;
        if self.loses() {
            self.stats.lost += 1;
            return;
        }
        if self.random.random_bool(self.quality.duplication) {
            self.stats.duplicated += 1;
            self.fly(now, datagram.clone());
        }
        self.fly(now, datagram);
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// The next datagram that has arrived by now.
    pub fn receive(&mut self, now: Instant) -> Option<T> {
        let first = self.flying.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (number, datagram) = first.remove();
        self.stats.overtaken += u64::from(number < self.newest);
        self.newest = self.newest.max(number);
        Some(datagram)
    }

    fn loses(&mut self) -> bool {
        if self.burst_left == 0 && self.random.random_bool(self.quality.burst) {
            self.burst_left = self.quality.burst_len;
        }
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return true;
        }
        self.random.random_bool(self.quality.loss)
    }

    fn fly(&mut self, now: Instant, datagram: T) {
        let late = self.quality.jitter.mul_f64(self.random.random_range(0.0..1.0));
        self.serial += 1;
        self.flying.insert((now + self.quality.delay + late, self.serial), (self.stats.sent, datagram));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(quality: Quality, seed: u64) -> (Vec<u32>, LinkStats) {
        let start = Instant::now();
        let mut link = Link::new(quality, seed);
        for number in 0..10_000 {
            link.send(start + Duration::from_millis(number.into()), number);
        }
        let end = start + Duration::from_mins(1);
        let arrived = std::iter::from_fn(|| link.receive(end)).collect();
        (arrived, link.stats())
    }

    #[test]
    fn a_perfect_link_keeps_everything_in_order() {
        let (arrived, stats) = through(Quality::PERFECT, 1);
        assert_eq!(arrived, (0..10_000).collect::<Vec<_>>());
        assert_eq!(stats, LinkStats { sent: 10_000, ..LinkStats::default() });
    }

    #[test]
    fn a_bad_link_is_as_bad_as_it_should_be_and_equally_bad_each_time() {
        let quality = Quality {
            loss: 0.05,
            burst: 0.002,
            burst_len: 3,
            duplication: 0.02,
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
        };
        let (arrived, stats) = through(quality, 1);
        assert_eq!((&arrived, stats), (&through(quality, 1).0, through(quality, 1).1));
        assert_ne!(arrived, through(quality, 2).0);
        assert!((450..650).contains(&stats.lost), "{stats:?}");
        assert!((130..270).contains(&stats.duplicated), "{stats:?}");
        let mut newest = 0;
        let overtaken = arrived.iter().filter(|number| {
            newest = newest.max(**number);
            **number < newest
        });
        assert_eq!(stats.overtaken, overtaken.count() as u64);
        assert!(stats.overtaken > 1_000, "{stats:?}");
    }
}
