//! How much video a shard leaves out so that everything else goes on: decided from how busy the shard is and how long packets
//! wait, and nothing else. What a level means is the core's business (`Shard::set_shedding`).
//!
//! Pure: it is told the time and what was measured.

use std::time::{Duration, Instant};

use sfu_core::Shard;

/// From where on a shard has too much to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Marks {
    /// Share of its time that the shard does not wait, 0 to 1. A mark above 1 is never reached.
    pub(crate) shed: f32,
    /// Mean time that packets wait in the kernel, or in the shard.
    pub(crate) delay: Duration,
}

impl Default for Marks {
    fn default() -> Self {
        Self { shed: 0.95, delay: Duration::from_millis(20) }
    }
}

/// What was measured since the sample before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// The longer of two means: what packets waited for in the kernel's queue, and between their arrival in the shard and their
    /// sending.
    pub(crate) wait: Duration,
    /// Share of the time that the shard did not wait.
    pub(crate) busy: f32,
    /// Packets sent to subscribers.
    pub(crate) sent: u64,
    /// Packets that were not, because their subscriptions are paused.
    pub(crate) paused: u64,
    /// Packets that were not, because they had waited too long.
    pub(crate) late: u64,
}

/// Decides a shard's level of shedding.
#[derive(Debug)]
pub(crate) struct Governor {
    marks: Marks,
    level: u8,
    next_sample: Instant,
    /// Samples in a row that were too much.
    too_much: u8,
    /// When the level last changed.
    changed: Instant,
}

impl Governor {
    /// Between two samples. Less acts on what is only a burst, more lets queues grow longer before anything is done.
    pub(crate) const SAMPLE: Duration = Duration::from_millis(250);
    /// Samples in a row that are too much before the level rises. It then rises with each further one.
    const PATIENCE: u8 = 2;
    /// Where packets wait for so many times the mark, the kernel's queue is about to overflow, and then audio is lost like video: the level
    /// rises by this much at once.
    const FLOODED: u32 = 3;
    const LEAP: u8 = 3;
    /// Between a change of the level and a step down. All of them take 2.7 s: subscribers are back within five, and newcomers let in.
    const RELAX: Duration = Duration::from_millis(300);
    /// What a shard must be below for a step down: a share of the mark, and busy time.
    const CALM_WAIT: u32 = 4;
    const CALM_BUSY: f32 = 0.85;
    /// The level at which all video to subscribers is paused.
    const ALL_PAUSED: u8 = 8;

    /// Of a shard that has just started.
    pub(crate) fn new(marks: Marks, now: Instant) -> Self {
        Self { marks, level: 0, next_sample: now + Self::SAMPLE, too_much: 0, changed: now }
    }

    /// When the next sample is to be taken.
    pub(crate) fn next_sample(&self) -> Instant {
        self.next_sample
    }

    /// The level, 0 to [`Shard::MAX_SHEDDING`].
    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    /// Takes a sample in. Returns the level from now on.
    pub(crate) fn handle_sample(&mut self, now: Instant, sample: &Sample) -> u8 {
        self.too_much = if self.is_too_much(sample) { self.too_much.saturating_add(1) } else { 0 };
        if self.too_much >= Self::PATIENCE {
            let is_flooded = sample.wait > self.marks.delay * Self::FLOODED;
            let step = if is_flooded { Self::LEAP } else { 1 };
            self.change(now, (self.level + step).min(Shard::MAX_SHEDDING));
        } else if self.level > 0 && now >= self.changed + Self::RELAX && self.is_calm(sample) {
            self.change(now, self.level - 1);
        }
        // A step down does not wait for longer than it has to.
        let relaxes = self.changed + Self::RELAX;
        let next = now + Self::SAMPLE;
        self.next_sample = if self.too_much == 0 && self.level > 0 && relaxes > next { relaxes } else { next };
        self.level
    }

    fn change(&mut self, now: Instant, level: u8) {
        if level != self.level {
            self.level = level;
            self.changed = now;
        }
    }

    fn is_too_much(&self, sample: &Sample) -> bool {
        sample.wait > self.marks.delay || sample.busy >= self.marks.shed || sample.late > 0
    }

    /// Whether one level less would not be too much at once: without this, a shard that has half as much again as it can carry
    /// would go up and down for as long as it has.
    fn is_calm(&self, sample: &Sample) -> bool {
        // An eighth of the video more. What goes out now costs what the shard is busy with, but not all that it is busy with is that:
        // with seven eighths paused the next one cannot cost more than all there is, whatever the audio beside it is. Where none of it goes
        // out nothing is known of its cost.
        let going = f32::from(Self::ALL_PAUSED.saturating_sub(self.level));
        let resumed = sample.paused as f32 / f32::from(self.level) / sample.sent.max(1) as f32;
        let more = if going > 0.0 { resumed.min(going.recip()) } else { 0.0 };
        let is_bearable = sample.busy * (1.0 + more) < self.marks.shed;
        sample.wait < self.marks.delay / Self::CALM_WAIT && sample.busy < Self::CALM_BUSY && is_bearable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALM: Sample = Sample { wait: Duration::ZERO, busy: 0.2, sent: 1_000, paused: 0, late: 0 };
    const FULL: Sample = Sample { wait: Duration::ZERO, busy: 1.0, sent: 1_000, paused: 0, late: 0 };

    /// The levels after each of so many like samples, taken when they are asked for, and the time of the last.
    fn levels(governor: &mut Governor, sample: &Sample, times: usize) -> (Vec<u8>, Instant) {
        let mut now = governor.next_sample();
        let levels = (0..times).map(|_| {
            now = governor.next_sample();
            governor.handle_sample(now, sample)
        });
        (levels.collect(), now)
    }

    #[test]
    fn one_sample_too_many_changes_nothing_and_two_do() {
        let full = [FULL, Sample { wait: Duration::from_millis(21), ..CALM }, Sample { late: 1, ..CALM }];
        for full in full {
            let mut governor = Governor::new(Marks::default(), Instant::now());
            assert_eq!(levels(&mut governor, &full, 1).0, [0]);
            assert_eq!(levels(&mut governor, &CALM, 1).0, [0]);
            assert_eq!(levels(&mut governor, &full, 4).0, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_flood_is_answered_within_a_second() {
        let mut governor = Governor::new(Marks::default(), Instant::now());
        let flood = Sample { wait: Duration::from_millis(61), ..FULL };
        assert_eq!(levels(&mut governor, &flood, 4).0, [0, 3, 6, 9]);
    }

    #[test]
    fn a_shard_is_back_to_normal_within_five_seconds() {
        let mut governor = Governor::new(Marks::default(), Instant::now());
        let (up, ends) = levels(&mut governor, &FULL, 20);
        assert_eq!(up.last(), Some(&Shard::MAX_SHEDDING));
        let (down, normal) = levels(&mut governor, &CALM, 9);
        assert_eq!(down, [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert!(normal - ends < Duration::from_secs(4), "{:?}", normal - ends);
    }

    #[test]
    fn what_is_between_the_marks_changes_nothing() {
        let mut governor = Governor::new(Marks::default(), Instant::now());
        levels(&mut governor, &FULL, 4);
        let waiting = Sample { wait: Duration::from_millis(10), ..CALM };
        for between in [Sample { busy: 0.9, ..CALM }, waiting] {
            assert_eq!(levels(&mut governor, &between, 20).0, [3; 20]);
        }
    }

    #[test]
    fn a_level_that_would_be_too_much_at_once_is_not_tried() {
        let mut governor = Governor::new(Marks::default(), Instant::now());
        // Three times as much as it can carry, all of it video: two eighths of it are three quarters of what it can.
        let at = |level: u8| Sample {
            busy: (3.0 * f32::from(8 - level.min(8)) / 8.0).min(1.0),
            sent: 1_000 * u64::from(8 - level.min(8)),
            paused: 1_000 * u64::from(level.min(8)),
            ..CALM
        };
        let mut now = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..40 {
            now = governor.next_sample().max(now);
            let sample = at(governor.level());
            seen.push(governor.handle_sample(now, &sample));
        }
        assert_eq!(seen[10..], [6; 30], "{seen:?}");
    }

    #[test]
    fn little_audio_beside_much_paused_video_does_not_keep_it_paused() {
        let mut governor = Governor::new(Marks::default(), Instant::now());
        levels(&mut governor, &FULL, 20);
        let mut seen = Vec::new();
        for _ in 0..12 {
            let paused = 750 * u64::from(governor.level().min(8));
            let sample = Sample { busy: 0.2, sent: 50 + 6_000 - paused, paused, ..CALM };
            seen.push(governor.handle_sample(governor.next_sample(), &sample));
        }
        assert_eq!(seen[..9], [8, 7, 6, 5, 4, 3, 2, 1, 0], "{seen:?}");
    }

    proptest! {
        /// By one level a time, or three of a flood; up no sooner than after two samples, and down no sooner than 300 ms after whatever came before.
        #[test]
        fn the_level_never_changes_faster_than_its_times(
            samples in prop::collection::vec((0_u64..80, 0.0_f32..1.1, 0_u64..100, 0_u64..100, 0_u64..20), 1..300),
        ) {
            let start = Instant::now();
            let mut governor = Governor::new(Marks::default(), start);
            let (mut now, mut before, mut changed, mut high) = (start, 0, start, 0_u32);
            for (wait, busy, sent, paused, delayed) in samples {
                // A shard may be late with its samples, never early.
                now = governor.next_sample() + Duration::from_millis(delayed);
                prop_assert!(governor.next_sample() >= start + Governor::SAMPLE);
                let sample = Sample { wait: Duration::from_millis(wait), busy, sent, paused, late: 0 };
                let is_high = wait > 20 || busy >= 0.95;
                high = if is_high { high + 1 } else { 0 };
                let level = governor.handle_sample(now, &sample);
                let most = if wait > 60 { before + 3 } else { before + 1 };
                prop_assert!(level <= Shard::MAX_SHEDDING && level <= most && level + 1 >= before);
                if level > before {
                    prop_assert!(high >= 2);
                    prop_assert!(now >= changed + Governor::SAMPLE);
                }
                if level < before {
                    prop_assert!(!is_high && now >= changed + Duration::from_millis(300));
                }
                if level != before {
                    changed = now;
                }
                before = level;
            }
            prop_assert!(governor.next_sample() > now);
        }
    }
}
