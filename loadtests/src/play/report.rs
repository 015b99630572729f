//! What a scenario came to: JSON for programs, a table for people. `html` draws the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::media::Media;
use super::stage::Used;
use super::tally::Signalling;
use crate::signalling::goals::Goal;
use crate::signalling::report::{Machine, goals_table};

/// How things stood at one time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Seconds since the beginning.
    pub at: f64,
    /// Rooms that there were to be.
    pub rooms: usize,
    /// Members that were in them.
    pub members: usize,
    /// Requests that had come to nothing.
    pub failed: u64,
    /// Requests that had been refused for the time being.
    pub refused: u64,
    /// Streams received.
    pub streams: usize,
    /// Packets that arrived, per second since the sample before.
    pub packets_per_second: f64,
    /// The longest silence of a flow since the sample before, milliseconds.
    pub gap_ms: f64,
    /// Bytes that the store said it used.
    pub store_bytes: Option<u64>,
    /// What each process used.
    pub used: BTreeMap<String, Used>,
}

/// What a process used in the course of time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Course {
    /// Median resident memory of each minute, MiB.
    pub rss_mib: Vec<f64>,
    /// Median descriptors of each minute.
    pub descriptors: Vec<f64>,
    /// Of a CPU, on average.
    pub cpus: f64,
    /// By which share memory grew: the last five minutes' median on that of the five after `settle`. `None` if it was restarted, or the
    /// scenario was too short.
    pub growth: Option<f64>,
    /// Descriptors before anybody came, and when all had left.
    pub before_and_after: Option<(u64, u64)>,
}

/// A fault, as it was carried out.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// Seconds since the beginning.
    pub at: f64,
    /// What was done to whom.
    pub what: String,
    /// Why it was not.
    pub error: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What the scenario says of itself.
    pub about: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Signalling.
    pub signalling: Signalling,
    /// Media.
    pub media: Media,
    /// What was done to the services.
    pub faults: Vec<Done>,
    /// Of each process.
    pub services: BTreeMap<String, Course>,
    /// Median of what the store said it used, of each minute, MiB, and by which share that grew.
    pub store_mib: (Vec<f64>, Option<f64>),
    /// Members that the store had when all had left; `None` if it could not be asked.
    pub ghosts: Option<u64>,
    /// What must hold.
    pub goals: Vec<Goal>,
    /// How things stood from second to second.
    pub samples: Vec<Sample>,
}

const MIB: f64 = 1_048_576.0;

/// Of how long a median is taken at both ends of a growth. What is in a store, or waits for a busy machine, is up and down by more from minute to minute than
/// a slow leak adds.
const WINDOW: Duration = Duration::from_mins(5);

/// The middle one.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Medians of each minute of (seconds, value).
fn minutes(values: &[(f64, f64)]) -> Vec<f64> {
    let mut of: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (at, value) in values {
        of.entry((at / 60.0) as u64).or_default().push(*value);
    }
    of.into_values().filter_map(median).collect()
}

/// By which share it grew from just after `settle` to the end: medians of [`WINDOW`], or of half of the time if that is shorter.
fn growth(values: &[(f64, f64)], settle: Duration) -> Option<f64> {
    let (settle, end) = (settle.as_secs_f64(), values.last()?.0);
    let window = WINDOW.as_secs_f64().min((end - settle) / 2.0);
    let of = |from: f64, to: f64| {
        let within = values.iter().filter(|(at, _)| (from..=to).contains(at));
        median(within.map(|(_, value)| *value).collect())
    };
    let (first, last) = (of(settle, settle + window)?, of(end - window, end)?);
    (window >= 1.0 && first > 0.0).then_some(last / first - 1.0)
}

impl Report {
    /// Says what the samples come to, but for those who `restarted`: theirs are of several processes.
    pub fn sum_up(&mut self, settle: Duration, restarted: &[String]) {
        let names: Vec<String> = self.samples.iter().flat_map(|sample| sample.used.keys().cloned()).collect();
        for name in names {
            if self.services.contains_key(&name) {
                continue;
            }
            let series = |of: fn(&Used) -> f64| -> Vec<(f64, f64)> {
                self.samples.iter().filter_map(|sample| Some((sample.at, of(sample.used.get(&name)?)))).collect()
            };
            let (rss, cpu) = (series(|used| used.rss_kib as f64 / 1_024.0), series(|used| used.cpu));
            let whole = !restarted.contains(&name);
            let cpus = match (cpu.first(), cpu.last()) {
                (Some(first), Some(last)) if last.0 > first.0 => (last.1 - first.1).max(0.0) / (last.0 - first.0),
                _ => 0.0,
            };
            let course = Course {
                rss_mib: minutes(&rss),
                descriptors: minutes(&series(|used| used.descriptors as f64)),
                cpus,
                growth: growth(&rss, settle).filter(|_| whole),
                before_and_after: None,
            };
            self.services.insert(name, course);
        }
        let store: Vec<_> =
            self.samples.iter().filter_map(|sample| Some((sample.at, sample.store_bytes? as f64 / MIB))).collect();
        self.store_mib = (minutes(&store), growth(&store, settle));
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!("{} ({:.0} s)\n", self.about, self.seconds);
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:34} {value}");
        };
        for (what, times) in &self.signalling.times {
            let what = match *what {
                "publish" | "subscribe" => &format!("{what}, from wanted to media"),
                what => what,
            };
            let (p50, p99, max) = (times.p50_ms, times.p99_ms, times.max_ms);
            line(what, format!("{} times: p50 {p50:.1} ms, p99 {p99:.1} ms, longest {max:.0} ms", times.count));
        }
        let Signalling { resumed, resynced, retried, failed, lost, .. } = &self.signalling;
        line("resumed, of these not told all", format!("{resumed}, {resynced}"));
        for (what, counts) in [("tried again", retried), ("failed", failed), ("connections lost", lost)] {
            line(what, format!("{counts:?}"));
        }
        let media = &self.media;
        line("packets sent, received, lost", format!("{}, {}, {}", media.sent, media.received, media.lost));
        line("of audio: received, lost", format!("{}, {}", media.audio_received, media.audio_lost));
        line("delay", format!("p50 {:.2} ms, p99 {:.2} ms", media.delay.p50_ms, media.delay.p99_ms));
        let late = format!("generator late by {:.0} ms", media.late_ms);
        line("longest silence, of audio", format!("{:.0} ms, {:.0} ms ({late})", media.gap_ms, media.audio_gap_ms));
        for done in &self.faults {
            line(
                &format!("at {:.0} s", done.at),
                format!("{} {}", done.what, done.error.as_deref().unwrap_or_default()),
            );
        }
        for (name, course) in &self.services {
            line(&format!("{name}: CPUs"), format!("{:.2}", course.cpus));
            line("  MiB, median of each minute", rounded(&course.rss_mib, course.growth));
            line("  descriptors, likewise", rounded(&course.descriptors, None));
            if let Some((before, after)) = course.before_and_after {
                line("  before anybody came, after", format!("{before}, {after}"));
            }
        }
        line("store's own figure, MiB", rounded(&self.store_mib.0, self.store_mib.1));
        line("ghosts", self.ghosts.map_or("not known".to_owned(), |ghosts| ghosts.to_string()));
        text + &goals_table(&self.goals)
    }
}

fn rounded(values: &[f64], growth: Option<f64>) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
    let growth = growth.map_or(String::new(), |growth| format!("  ({:+.1} %)", growth * 100.0));
    values.join(" ") + &growth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..600).map(|second| (f64::from(second), value(f64::from(second)))).collect()
    }

    #[test]
    fn growth_is_that_of_medians_after_settling() {
        let grown = |values: &[(f64, f64)]| growth(values, Duration::from_mins(5)).expect("long enough");
        let warm = seconds(|at| if at < 300.0 { at } else { 300.0 });
        assert!(grown(&warm).abs() < 1e-9, "what is used before is none");
        assert!((grown(&seconds(|at| if at < 500.0 { 100.0 } else { 103.0 })) - 0.03).abs() < 1e-9);
        let outlier = seconds(|at| if at > 598.0 { 900.0 } else { 100.0 });
        assert!(grown(&outlier).abs() < 1e-9, "one sample is no growth");
    }

    #[test]
    fn nothing_is_said_of_growth_where_nothing_was_seen_of_it() {
        assert_eq!(growth(&seconds(|_| 1.0), Duration::from_mins(10)), None);
        assert_eq!(growth(&[], Duration::ZERO), None);
    }

    #[test]
    fn each_minute_has_its_median() {
        assert_eq!(minutes(&seconds(|at| (at / 60.0).floor())), (0..10).map(f64::from).collect::<Vec<_>>());
    }
}
