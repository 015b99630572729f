//! A hashed timing wheel: deadlines of many transports at a coarse tick, O(1) to set.
//!
//! It only hints. A key may come up early or more than once; whoever owns it checks its own deadline and sets it again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Keys by the tick at which they are due.
pub(super) struct Wheel<K> {
    slots: Vec<Vec<K>>,
    /// Bit per slot that holds anything.
    occupied: [u64; SLOTS / 64],
    origin: Instant,
    /// The first tick that has not come up yet.
    tick: u64,
}

/// Resolution. Finer wakes the shard more often; coarser delays feedback to publishers.
const TICK: Duration = Duration::from_millis(5);
/// Slots; deadlines further away than `SLOTS * TICK` come up early, at the horizon.
const SLOTS: usize = 512;

/// Room of a slot from the start, so that a shard in its first minutes does not allocate between packets.
const SLOT_KEYS: usize = 16;

impl<K: Copy> Wheel<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::with_capacity(SLOT_KEYS)).collect(),
            occupied: [0; SLOTS / 64],
            origin: now,
            tick: 0,
        }
    }

    fn tick_of(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.origin).as_nanos().div_ceil(TICK.as_nanos())) as u64
    }

    fn time_of(&self, tick: u64) -> Instant {
        self.origin + Duration::from_millis(TICK.as_millis() as u64 * tick)
    }

    fn tick_for(&self, at: Instant) -> u64 {
        self.tick_of(at).clamp(self.tick, self.tick + SLOTS as u64 - 1)
    }

    /// When a key that is set for `at` comes up: shortly after it, or at the horizon if that is earlier.
    pub(super) fn comes_up(&self, at: Instant) -> Instant {
        self.time_of(self.tick_for(at))
    }

    /// Lets `key` come up. Returns when that is.
    pub(super) fn set(&mut self, key: K, at: Instant) -> Instant {
        let tick = self.tick_for(at);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(key);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.time_of(tick)
    }

    /// How many keys wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// When the next key comes up.
    pub(super) fn next(&self) -> Option<Instant> {
        let start = self.tick as usize % SLOTS;
        let distance = (0..=SLOTS / 64).find_map(|step| {
            let word = (start / 64 + step) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            (bits != 0).then(|| (word * 64 + bits.trailing_zeros() as usize + SLOTS - start) % SLOTS)
        })?;
        Some(self.time_of(self.tick + distance as u64))
    }

    /// Moves every key that is due at `now` to the end of `due`.
    pub(super) fn advance(&mut self, now: Instant, due: &mut VecDeque<K>) {
        let elapsed = (now.saturating_duration_since(self.origin).as_nanos() / TICK.as_nanos()) as u64;
        let last = elapsed.min(self.tick + SLOTS as u64 - 1);
        while self.tick <= last {
            let slot = self.tick as usize % SLOTS;
            due.extend(self.slots[slot].drain(..));
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.tick += 1;
        }
        self.tick = self.tick.max(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        assert_eq!(Wheel::<u8>::new(Instant::now()).next(), None);
    }

    proptest! {
        #[test]
        fn every_key_comes_up_once_not_before_its_time_and_at_the_time_announced(
            delays in proptest::collection::vec(0_u64..2_000, 1..50),
            late in 0_u64..10_000,
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            wheel.advance(start + Duration::from_millis(late), &mut VecDeque::new());
            let start = start + Duration::from_millis(late);
            for (key, delay) in delays.iter().enumerate() {
                wheel.set(key, start + Duration::from_millis(*delay));
            }
            let mut seen = Vec::new();
            while let Some(next) = wheel.next() {
                let mut due = VecDeque::new();
                wheel.advance(next, &mut due);
                prop_assert!(!due.is_empty());
                for key in due {
                    let asked = start + Duration::from_millis(delays[key]);
                    prop_assert!(next >= asked && next <= asked + 2 * TICK);
                    seen.push(key);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..delays.len()).collect::<Vec<_>>());
        }
    }
}
