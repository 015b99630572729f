//! What a scenario comes to at a time: how many rooms, of which kind, whose turn it is to go. Pure: told the time since the
//! beginning, and the same for the same seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::file::Ramp;

/// Rooms that there are to be at this time.
pub fn rooms_at(ramps: &[Ramp], at: Duration) -> usize {
    let mut rooms = 0;
    for ramp in ramps.iter().take_while(|ramp| ramp.at.0 <= at) {
        let (passed, over) = (at.saturating_sub(ramp.at.0), ramp.over.0);
        if passed >= over {
            rooms = ramp.rooms;
        } else {
            let part = passed.as_secs_f64() / over.as_secs_f64();
            let change = (ramp.rooms as f64 - rooms as f64) * part;
            rooms = (rooms as f64 + change).round() as usize;
        }
    }
    rooms
}

/// Deals kinds out, so that any number of rooms has them in their shares as nearly as can be.
#[derive(Debug)]
pub struct Mix {
    shares: Vec<f64>,
    given: Vec<f64>,
}

impl Mix {
    /// Of kinds with these shares.
    pub fn new(shares: &[f64]) -> Self {
        let all: f64 = shares.iter().sum();
        Self { given: vec![0.0; shares.len()], shares: shares.iter().map(|share| share / all).collect() }
    }

    /// The next room's kind.
    pub fn deal(&mut self) -> usize {
        let dealt: f64 = self.given.iter().sum::<f64>() + 1.0;
        let lacks = |kind: &usize| self.shares[*kind] * dealt - self.given[*kind];
        let kind = (0..self.shares.len()).max_by(|one, other| lacks(one).total_cmp(&lacks(other))).unwrap_or_default();
        self.given[kind] += 1.0;
        kind
    }
}

/// Things that happen at a rate, independently of each other.
#[derive(Debug)]
pub struct Poisson {
    random: StdRng,
    rate: f64,
    next: f64,
}

impl Poisson {
    /// So many per second; 0 for never.
    pub fn new(rate: f64, seed: u64) -> Self {
        let mut new = Self { random: StdRng::seed_from_u64(seed), rate, next: 0.0 };
        new.next = new.pause();
        new
    }

    fn pause(&mut self) -> f64 {
        if self.rate <= 0.0 { f64::INFINITY } else { -(1.0 - self.random.random_range(0.0..1.0_f64)).ln() / self.rate }
    }

    /// How often it happened since it was asked last.
    pub fn due(&mut self, at: Duration) -> usize {
        let mut due = 0;
        while self.next <= at.as_secs_f64() {
            self.next += self.pause();
            due += 1;
        }
        due
    }

    /// One of so many.
    pub fn pick(&mut self, of: usize) -> usize {
        self.random.random_range(0..of)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Length;
    use super::*;

    fn ramp(at: u64, rooms: usize, over: u64) -> Ramp {
        Ramp { at: Length(Duration::from_secs(at)), rooms, over: Length(Duration::from_secs(over)) }
    }

    #[test]
    fn rooms_grow_and_shrink_evenly() {
        let ramps = [ramp(10, 100, 20), ramp(50, 20, 10), ramp(70, 30, 0)];
        let at = [0, 10, 20, 30, 49, 55, 60, 69, 70].map(|s| rooms_at(&ramps, Duration::from_secs(s)));
        assert_eq!(at, [0, 0, 50, 100, 100, 60, 20, 20, 30]);
    }

    #[test]
    fn kinds_are_dealt_in_their_shares() {
        let mut mix = Mix::new(&[8.0, 1.0, 1.0]);
        let dealt: Vec<usize> = (0..100).map(|_| mix.deal()).collect();
        let of = |kind: usize, among: &[usize]| among.iter().filter(|dealt| **dealt == kind).count();
        assert_eq!([0, 1, 2].map(|kind| of(kind, &dealt)), [80, 10, 10]);
        assert_eq!(of(0, &dealt[..10]), 8);
    }

    #[test]
    fn churn_has_its_rate_and_is_the_same_for_the_same_seed() {
        let run = |seed| {
            let mut churn = Poisson::new(5.0, seed);
            (0..1_000).map(|second| churn.due(Duration::from_secs(second))).collect::<Vec<_>>()
        };
        let all: usize = run(1).iter().sum();
        assert!((4_700..5_300).contains(&all), "{all}");
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!(Poisson::new(0.0, 1).due(Duration::from_hours(1)), 0);
    }
}
