//! What a node refuses when what it has keeps it too busy: decided from its measured load, before the quality of what it has
//! suffers. What a shard leaves away when that is not enough is the shard's own business.
//!
//! ```text
//!           pressure ≥ 1, twice            ≥ the middle of both marks, twice
//!  Normal ───────────────────▶ NoPublications ───────────────────▶ NothingNew
//!     ▲                           │        ▲                           │
//!     └── < 0.9 of it, for 1 s ───┘        └── < 0.9 of it, for 1 s ───┘
//! ```

use std::time::{Duration, Instant};

use proto::refusal::NoTransport;
use room_store::Load;

use crate::governor;

/// Measurements in a row that are needed to refuse: one alone may be a moment's.
const MEASUREMENTS: u8 = 2;

/// What is below a mark by this much for [`CALM`] is below it. Less would have a node that is refused work at its mark refuse and
/// take by turns.
const WELL_BELOW: f32 = 0.9;

/// See [`WELL_BELOW`].
const CALM: Duration = Duration::from_secs(1);

/// From which load on something is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Marks {
    /// Share of its time that the busiest shard works, and share of the node's egress: new publications are refused.
    pub(crate) refuse: f32,
    /// Above this, shards shed video; half way to it nothing new is taken.
    pub(crate) shed: f32,
    /// Time that packets spend on the node.
    pub(crate) delay: Duration,
    /// Share of the memory.
    pub(crate) memory: f32,
    /// All of the node's egress, bit/s.
    pub(crate) egress_bps: u64,
}

impl Marks {
    /// The greatest part of the load over its mark; 1 and more: too much. A node that sheds is above all marks, however calm it
    /// has become by that.
    pub(crate) fn pressure(&self, load: &Load, sheds: bool) -> f32 {
        let delay = Duration::from_micros(load.delay_us.into()).as_secs_f32() / self.delay.as_secs_f32();
        let egress = load.egress_bps as f32 / self.egress_bps as f32 / self.refuse;
        let shed = if sheds { self.middle() } else { 0.0 };
        (load.busy / self.refuse).max(delay).max(load.memory / self.memory).max(egress).max(shed)
    }

    /// From which load on a shard sheds.
    pub(crate) fn of_shards(&self) -> governor::Marks {
        governor::Marks { shed: self.shed, delay: self.delay }
    }

    /// The pressure half way from refusing to shedding.
    fn middle(&self) -> f32 {
        f32::midpoint(self.refuse, self.shed) / self.refuse
    }
}

/// What is refused. Restarts, further offers of live transports and repeated requests never are: they keep up what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    Normal,
    /// Transports that bring a publication. Subscribers have nowhere else to go: a room's streams are on the nodes they are on.
    NoPublications,
    /// Transports.
    NothingNew,
}

impl Level {
    /// The pressure as others are told it: of a node that refuses, no less than 1, so that nobody is sent here meanwhile.
    pub(crate) fn shown(self, pressure: f32) -> f32 {
        if self == Self::Normal { pressure } else { pressure.max(1.0) }
    }

    /// Why a new transport is refused. `publishes`: it brings a publication.
    pub(crate) fn refuses(self, publishes: bool) -> Option<NoTransport> {
        match self {
            Self::Normal => None,
            Self::NoPublications => publishes.then_some(NoTransport::Overloaded),
            Self::NothingNew => Some(NoTransport::Overloaded),
        }
    }
}

/// Follows the pressure.
#[derive(Debug)]
pub(crate) struct Overload {
    publications: Gate,
    anything: Gate,
}

impl Overload {
    /// Of a node with these marks that has just started.
    pub(crate) fn new(marks: &Marks) -> Self {
        Self { publications: Gate::at(1.0), anything: Gate::at(marks.middle()) }
    }

    /// What is refused, given one more measurement.
    pub(crate) fn measured(&mut self, now: Instant, pressure: f32) -> Level {
        let publications = self.publications.measured(now, pressure);
        match (publications, self.anything.measured(now, pressure)) {
            (_, true) => Level::NothingNew,
            (true, false) => Level::NoPublications,
            (false, false) => Level::Normal,
        }
    }
}

/// Closed from a mark on, and not open again before it is calm.
#[derive(Debug)]
struct Gate {
    mark: f32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many measurements in a row were above the mark.
    Open { above: u8 },
    /// Well below the mark since then, if at all.
    Closed { calm: Option<Instant> },
}

impl Gate {
    fn at(mark: f32) -> Self {
        Self { mark, state: State::Open { above: 0 } }
    }

    /// Whether it is closed.
    fn measured(&mut self, now: Instant, pressure: f32) -> bool {
        self.state = match self.state {
            State::Open { above } if pressure >= self.mark && above + 1 >= MEASUREMENTS => State::Closed { calm: None },
            State::Open { above } if pressure >= self.mark => State::Open { above: above + 1 },
            State::Open { .. } => State::Open { above: 0 },
            State::Closed { .. } if pressure >= WELL_BELOW * self.mark => State::Closed { calm: None },
            State::Closed { calm } => {
                let since = calm.unwrap_or(now);
                let over = now.saturating_duration_since(since) >= CALM;
                if over { State::Open { above: 0 } } else { State::Closed { calm: Some(since) } }
            }
        };
        matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::INTERVAL;

    const MARKS: Marks =
        Marks { refuse: 0.8, shed: 1.0, delay: Duration::from_millis(20), memory: 0.9, egress_bps: 1_000_000 };

    /// The levels that a node goes through whose pressure is this, measurement by measurement.
    fn levels(pressures: &[f32]) -> Vec<Level> {
        let (mut overload, mut now) = (Overload::new(&MARKS), Instant::now());
        let measure = |pressure: &f32| {
            now += INTERVAL;
            overload.measured(now, *pressure)
        };
        pressures.iter().map(measure).collect()
    }

    #[test]
    fn whatever_is_nearest_to_its_mark_is_the_pressure() {
        let none = Load::default();
        for (load, pressure) in [
            (none, 0.0),
            (Load { busy: 0.4, ..none }, 0.5),
            (Load { busy: 1.0, ..none }, 1.25),
            (Load { delay_us: 30_000, busy: 0.4, ..none }, 1.5),
            (Load { memory: 0.9, busy: 0.4, ..none }, 1.0),
            (Load { egress_bps: 400_000, memory: 0.1, ..none }, 0.5),
            // Of all threads, which may have stood still most of the time.
            (Load { cpu: 1.0, ..none }, 0.0),
        ] {
            let found = MARKS.pressure(&load, false);
            assert!((found - pressure).abs() < 1e-6, "{load:?}: {found}");
        }
        assert!((MARKS.pressure(&none, true) - 1.125).abs() < 1e-6, "it sheds, and takes nothing new");
    }

    #[test]
    fn one_measurement_alone_refuses_nothing() {
        assert_eq!(levels(&[2.0, 0.0, 2.0, 0.0]), [Level::Normal; 4]);
        assert_eq!(levels(&[2.0, 2.0]), [Level::Normal, Level::NothingNew]);
    }

    #[test]
    fn publications_are_refused_before_everything_is() {
        // The middle of 0.8 and 1 is 1.125 times 0.8.
        let levels = levels(&[1.0, 1.0, 1.12, 1.12, 1.13, 1.13]);
        assert_eq!(levels[1..5], [Level::NoPublications; 4]);
        assert_eq!(levels[5], Level::NothingNew);
    }

    #[test]
    fn it_is_over_after_a_second_well_below_the_mark() {
        let mut pressures = vec![1.0, 1.0, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95];
        assert_eq!(levels(&pressures).last(), Some(&Level::NoPublications), "just below is not well below");
        pressures.extend([0.8; 4]);
        assert_eq!(levels(&pressures).last(), Some(&Level::NoPublications));
        pressures.push(0.8);
        assert_eq!(levels(&pressures).last(), Some(&Level::Normal));
    }

    #[test]
    fn what_each_level_refuses() {
        let refused = |level: Level| [true, false].map(|publishes| level.refuses(publishes).is_some());
        assert_eq!(refused(Level::Normal), [false, false]);
        assert_eq!(refused(Level::NoPublications), [true, false]);
        assert_eq!(refused(Level::NothingNew), [true, true]);
        let shown = [Level::Normal, Level::NoPublications].map(|level| level.shown(0.95));
        assert!((shown[0] - 0.95).abs() < 1e-6 && (shown[1] - 1.0).abs() < 1e-6, "{shown:?}");
    }

    proptest! {
        #[test]
        fn it_never_refuses_for_less_than_a_second(pressures in prop::collection::vec(0f32..2.0, 0..200)) {
            let mut refusing = 0;
            for level in levels(&pressures) {
                if level == Level::Normal {
                    prop_assert!(refusing == 0 || refusing * INTERVAL >= CALM, "{refusing} measurements");
                    refusing = 0;
                } else {
                    refusing += 1;
                }
            }
        }

        #[test]
        fn below_the_mark_nothing_is_ever_refused(pressures in prop::collection::vec(0f32..1.0, 0..200)) {
            prop_assert!(levels(&pressures).into_iter().all(|level| level == Level::Normal));
        }
    }
}
