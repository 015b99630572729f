//! Whether the edge has more to do than it can carry: then nobody new is let in, so that those inside are served. Decided here from
//! samples of this process; what the system tells is read by [`machine`]. Established sockets are not touched, and the edge stays
//! ready: were all edges to say that they are not, a balancer would send everybody everywhere.

mod machine;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use telemetry::settings::{Contradiction, Period};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::machine::Machine;
use crate::metrics::EdgeMetrics;

/// How often a sample is taken.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Samples that the processor's use is averaged over: a second. A shorter one would take a burst for load.
const CPU_SAMPLES: usize = 4;
/// Samples above a mark, one after the other, that make an overload. One alone may be a hiccup of the machine.
const UP_AFTER: u32 = 2;
/// Samples well below all marks that end it: a second.
const DOWN_AFTER: u32 = 4;
/// What is well below a mark, as a share of it.
const WELL_BELOW: f64 = 0.9;
/// How long a probe of the runtime sleeps.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// Probes at a time: which worker thread runs which is the runtime's business, so that one alone could miss a stuck one.
const PROBES: usize = 4;
/// Longest mark for the lag: the socket of a client that waits longer is given up.
const MAX_LAG: Duration = Duration::from_secs(10);

/// `overload.*`: from when on nobody new is let in.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverloadSettings {
    /// Share of the processors that the process may use; 1: that is no reason.
    pub cpu: f64,
    /// How late the runtime may be.
    pub lag: Period,
    /// Share of the memory that the process may use; 1: that is no reason.
    pub memory: f64,
}

impl Default for OverloadSettings {
    fn default() -> Self {
        Self { cpu: 0.9, lag: Period::milliseconds(100), memory: 0.9 }
    }
}

impl OverloadSettings {
    pub(crate) fn check(&self) -> Result<(), Contradiction> {
        for (key, share) in [("overload.cpu", self.cpu), ("overload.memory", self.memory)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(Contradiction::new(key, "above 0, at most 1"));
            }
        }
        if !(Duration::from_millis(1)..=MAX_LAG).contains(&Duration::from(self.lag)) {
            return Err(Contradiction::new("overload.lag", "1ms to 10s"));
        }
        Ok(())
    }
}

/// What the process did since the sample before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    /// Share of the processors, 0 to 1.
    cpu: f64,
    /// The latest that a probe of the runtime was.
    lag: Duration,
    /// Share of the memory, 0 to 1.
    memory: f64,
}

/// Is told samples, and says whether they are too much.
///
/// ```text
/// bearable ── a measure above its mark in UP_AFTER samples ──▶ overloaded
///     ▲                                                            │
///     └────── all of them well below in DOWN_AFTER samples ────────┘
/// ```
#[derive(Debug)]
struct Judge {
    marks: OverloadSettings,
    cpu: VecDeque<f64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// With the samples above a mark that came last.
    Bearable { above: u32 },
    /// With the samples well below all marks that came last.
    Overloaded { below: u32 },
}

impl Judge {
    fn new(marks: OverloadSettings) -> Self {
        Self { marks, cpu: VecDeque::with_capacity(CPU_SAMPLES), state: State::Bearable { above: 0 } }
    }

    fn is_overloaded(&self) -> bool {
        matches!(self.state, State::Overloaded { .. })
    }

    /// Takes the next sample; what counts of it is given back, with the processor's use of the last second.
    fn handle_sample(&mut self, sample: Sample) -> Sample {
        if self.cpu.len() == CPU_SAMPLES {
            self.cpu.pop_front();
        }
        self.cpu.push_back(sample.cpu);
        // Before the first second is over, what has not been measured yet counts as idle.
        let sample = Sample { cpu: self.cpu.iter().sum::<f64>() / CPU_SAMPLES as f64, ..sample };
        let strain = self.strain(sample);
        self.state = match self.state {
            State::Bearable { above } if strain > 1.0 && above + 1 >= UP_AFTER => State::Overloaded { below: 0 },
            State::Bearable { above } if strain > 1.0 => State::Bearable { above: above + 1 },
            State::Bearable { .. } => State::Bearable { above: 0 },
            State::Overloaded { below } if strain < WELL_BELOW && below + 1 >= DOWN_AFTER => {
                State::Bearable { above: 0 }
            }
            State::Overloaded { below } if strain < WELL_BELOW => State::Overloaded { below: below + 1 },
            State::Overloaded { .. } => State::Overloaded { below: 0 },
        };
        sample
    }

    /// The greatest of the measures, each over its mark.
    fn strain(&self, sample: Sample) -> f64 {
        // A mark of 1 is none, and measures of a whole may come out a little above it.
        let share = |share: f64, mark: f64| if mark < 1.0 { share / mark } else { 0.0 };
        let lag = sample.lag.as_secs_f64() / Duration::from(self.marks.lag).as_secs_f64();
        share(sample.cpu, self.marks.cpu).max(lag).max(share(sample.memory, self.marks.memory))
    }
}

/// Whether the edge is overloaded now; clones know the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overload(Arc<AtomicBool>);

impl Overload {
    /// Watches this process with tasks among `tasks`, until `stop`.
    pub(crate) fn watch(
        marks: OverloadSettings,
        metrics: EdgeMetrics,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (overload, lag) = (Self::default(), Arc::new(AtomicU64::new(0)));
        for _ in 0..PROBES {
            tasks.spawn(probe(Arc::clone(&lag), metrics.clone(), stop.clone()));
        }
        let sampler = Sampler { judge: Judge::new(marks), machine: Machine::new(), lag, metrics };
        tasks.spawn(sampler.run(overload.clone(), stop.clone()));
        overload
    }

    /// Whether it is.
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether that is news.
    fn set(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::Relaxed) != on
    }
}

/// Sleeps and looks how late it wakes. `latest`: microseconds since somebody took it.
async fn probe(latest: Arc<AtomicU64>, metrics: EdgeMetrics, stop: CancellationToken) {
    loop {
        let due = Instant::now() + PROBE_INTERVAL;
        if stop.run_until_cancelled(sleep(PROBE_INTERVAL)).await.is_none() {
            return;
        }
        let lag = due.elapsed();
        metrics.loop_lag.record(lag.as_secs_f64());
        latest.fetch_max(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

struct Sampler {
    judge: Judge,
    machine: Machine,
    lag: Arc<AtomicU64>,
    metrics: EdgeMetrics,
}

impl Sampler {
    async fn run(mut self, overload: Overload, stop: CancellationToken) {
        let mut tick = interval(SAMPLE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.sample(&overload);
        }
    }

    fn sample(&mut self, overload: &Overload) {
        let lag = Duration::from_micros(self.lag.swap(0, Ordering::Relaxed));
        let sample = Sample { cpu: self.machine.cpu(), lag, memory: self.machine.memory() };
        let Sample { cpu, lag, memory } = self.judge.handle_sample(sample);
        let is_overloaded = self.judge.is_overloaded();
        if !overload.set(is_overloaded) {
            return;
        }
        self.metrics.overloaded.set(f64::from(u8::from(is_overloaded)));
        let lag_ms = lag.as_millis();
        if is_overloaded {
            tracing::warn!(cpu, lag_ms, memory, "overloaded: nobody new is let in");
        } else {
            tracing::info!(cpu, lag_ms, memory, "not overloaded any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Sample = Sample { cpu: 0.1, lag: Duration::ZERO, memory: 0.1 };

    fn judge() -> Judge {
        Judge::new(OverloadSettings::default())
    }

    /// Samples until it says otherwise, at most ten.
    fn turns_after(judge: &mut Judge, sample: Sample) -> Option<usize> {
        let before = judge.is_overloaded();
        (1..=10).find(|_| {
            judge.handle_sample(sample);
            judge.is_overloaded() != before
        })
    }

    #[test]
    fn each_measure_above_its_mark_makes_an_overload_and_all_below_end_it() {
        let too_late = Sample { lag: Duration::from_millis(101), ..IDLE };
        let too_large = Sample { memory: 0.91, ..IDLE };
        for much in [too_late, too_large] {
            let mut judge = judge();
            assert_eq!(turns_after(&mut judge, much), Some(2), "{much:?}");
            assert_eq!(turns_after(&mut judge, IDLE), Some(4), "a second");
        }
        let mut judge = judge();
        let busy = Sample { cpu: 1.0, ..IDLE };
        assert_eq!(turns_after(&mut judge, busy), Some(5), "the second that counts is full after four");
        // What is averaged is 0.775 with the first idle sample, and below from then on.
        assert_eq!(turns_after(&mut judge, IDLE), Some(4));
    }

    #[test]
    fn a_hiccup_is_no_overload() {
        let (mut judge, late) = (judge(), Sample { lag: Duration::from_secs(3), ..IDLE });
        for sample in [late, IDLE].into_iter().cycle().take(100) {
            judge.handle_sample(sample);
            assert!(!judge.is_overloaded());
        }
    }

    #[test]
    fn what_is_just_below_a_mark_neither_makes_an_overload_nor_ends_one() {
        let edge = Sample { memory: 0.85, ..IDLE };
        let mut judge = judge();
        assert_eq!(turns_after(&mut judge, edge), None);
        turns_after(&mut judge, Sample { memory: 0.95, ..IDLE }).expect("overloaded");
        assert_eq!(turns_after(&mut judge, edge), None);
    }

    #[test]
    fn a_mark_of_one_is_none() {
        let mut judge = Judge::new(OverloadSettings { cpu: 1.0, memory: 1.0, ..OverloadSettings::default() });
        assert_eq!(turns_after(&mut judge, Sample { cpu: 1.01, memory: 1.01, ..IDLE }), None);
    }

    proptest! {
        /// However samples come, nobody is turned away for less than a second, nor let in for less than two samples.
        #[test]
        fn it_never_changes_faster_than_its_times(samples in prop::collection::vec((0.0..1.2, 0_u64..200, 0.0..1.2), 1..200)) {
            let (mut judge, mut since) = (judge(), 0);
            for (cpu, lag, memory) in samples {
                let before = judge.is_overloaded();
                judge.handle_sample(Sample { cpu, lag: Duration::from_millis(lag), memory });
                since += 1;
                if judge.is_overloaded() != before {
                    let least = if before { DOWN_AFTER } else { UP_AFTER };
                    prop_assert!(since >= least);
                    since = 0;
                }
            }
        }
    }
}
