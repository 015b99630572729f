//! Whether what a scenario came to is within the limits of its file. What could not be measured is not within them.

use std::time::Duration;

use super::file::{Length, Limits};
use super::report::Report;
use crate::signalling::goals::{Goal, at_least, at_most, measured};
use crate::signalling::latency::Latency;

/// In a room that is as it should be nobody is silent for longer.
const SILENT_MS: f64 = 1_000.0;

/// A goal for each limit that there is.
pub fn judge(limits: &Limits, last_ramp_ends: Duration, report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut add = |name, limit: Option<f64>, value: f64| goals.extend(limit.map(|limit| at_most(name, limit, value)));
    let ms = |limit: Option<Length>| limit.map(|limit| limit.0.as_secs_f64() * 1e3);
    let p99 = |times: Option<&Latency>| times.map_or(f64::INFINITY, |times| measured(*times, times.p99_ms));
    let (times, media) = (&report.signalling.times, &report.media);
    add("join p99, ms", ms(limits.join_p99), p99(times.get("join")));
    add("broadcast p99, ms", ms(limits.broadcast_p99), p99(times.get("broadcast")));
    add("media delay p99, ms", ms(limits.delay_p99), p99(Some(&media.delay)));
    let flowed = |value: f64| if media.received == 0 { f64::INFINITY } else { value };
    add("longest silence of a flow, ms", ms(limits.media_gap), flowed(media.gap_ms));
    add("share of packets lost", limits.loss, flowed(media.loss()));
    let heard = |value: f64| if media.audio_received == 0 { f64::INFINITY } else { value };
    add("longest silence of audio, ms", ms(limits.audio_gap), heard(media.audio_gap_ms));
    add("share of audio lost", limits.audio_loss, heard(media.audio_loss()));
    add("failed requests", limits.failed.map(|most| most as f64), report.signalling.failures() as f64);
    add("growth of memory, share", limits.memory_growth, growth(report));
    add("descriptors leaked", limits.descriptors.map(|most| most as f64), leaked(report));
    let ghosts = report.ghosts.map_or(f64::INFINITY, |ghosts| ghosts as f64);
    add("members in the store after all left", limits.ghosts.map(|most| most as f64), ghosts);
    let calm = limits.normal_after.map(|after| last_ramp_ends + after.0);
    add("refusals and silences after that", calm.map(|_| 0.0), calm.map_or(0.0, |from| troubles(report, from)));
    if report.faults.iter().any(|fault| fault.error.is_some()) {
        add("faults that could not be carried out", Some(0.0), 1.0);
    }
    if let Some(least) = limits.refused {
        goals.push(at_least("requests refused for the time being", least as f64, report.signalling.refusals() as f64));
    }
    goals
}

/// Requests refused from then on, and seconds in which somebody was silent for as long. Infinite if nobody looked.
fn troubles(report: &Report, from: Duration) -> f64 {
    let (before, after): (Vec<_>, Vec<_>) = report.samples.iter().partition(|sample| sample.at < from.as_secs_f64());
    let (Some(first), Some(last)) = (before.last(), after.last()) else { return f64::INFINITY };
    // What the first of them says of silence is of the second before it, which may have begun too early.
    let silent = after.iter().skip(1).filter(|sample| sample.gap_ms > SILENT_MS).count();
    (last.refused - first.refused) as f64 + silent as f64
}

/// The worst of edges and nodes, and of what the store says of itself. Stores' resident memory is only reported.
fn growth(report: &Report) -> f64 {
    let services = ours(report).map(|(_, course)| course.growth);
    let all = services.chain([report.store_mib.1]);
    all.map(|growth| growth.unwrap_or(f64::INFINITY)).fold(f64::NEG_INFINITY, f64::max)
}

fn leaked(report: &Report) -> f64 {
    let more = |(before, after): (u64, u64)| after.saturating_sub(before) as f64;
    ours(report).map(|(_, course)| course.before_and_after.map_or(f64::INFINITY, more)).fold(0.0, f64::max)
}

fn ours(report: &Report) -> impl Iterator<Item = (&String, &super::report::Course)> {
    report.services.iter().filter(|(name, _)| name.starts_with("edge-") || name.starts_with("node-"))
}

#[cfg(test)]
mod tests {
    use super::super::report::{Course, Sample};
    use super::*;

    const RAMPED: Duration = Duration::from_secs(10);

    fn all() -> Limits {
        let length = |ms| Some(Length(Duration::from_millis(ms)));
        Limits {
            join_p99: length(50),
            broadcast_p99: length(50),
            delay_p99: length(50),
            media_gap: length(1_000),
            loss: Some(0.01),
            audio_gap: length(500),
            audio_loss: Some(0.001),
            refused: Some(5),
            normal_after: length(2_000),
            failed: Some(0),
            memory_growth: Some(0.02),
            descriptors: Some(0),
            ghosts: Some(0),
            settle: Length::default(),
        }
    }

    fn good() -> Report {
        let latency = Latency { count: 9, p50_ms: 1.0, p90_ms: 50.0, p99_ms: 50.0, max_ms: 50.0 };
        let mut report = Report { ghosts: Some(0), store_mib: (Vec::new(), Some(-0.1)), ..Report::default() };
        report.signalling.times = ["join", "broadcast"].map(|what| (what, latency)).into();
        (report.media.received, report.media.lost) = (990, 10);
        (report.media.gap_ms, report.media.delay) = (1_000.0, latency);
        (report.media.audio_received, report.media.audio_lost, report.media.audio_gap_ms) = (999, 1, 500.0);
        report.signalling.retried = [("publish: 10".to_owned(), 5)].into();
        let sample =
            |at: f64| Sample { at, refused: if at < 11.0 { 4 } else { 5 }, gap_ms: 1_000.0 - at, ..Sample::default() };
        report.samples = (0..20).map(|second| sample(f64::from(second))).collect();
        let course = Course { growth: Some(0.02), before_and_after: Some((9, 9)), ..Course::default() };
        report.services.insert("edge-1".to_owned(), course);
        report
    }

    fn missed(report: &Report) -> usize {
        judge(&all(), RAMPED, report).iter().filter(|goal| !goal.met).count()
    }

    #[test]
    fn each_limit_is_a_goal_and_is_missed_just_beyond_it() {
        assert_eq!((judge(&all(), RAMPED, &good()).len(), missed(&good())), (13, 0));
        assert!(judge(&Limits::default(), RAMPED, &good()).is_empty());
        let cases: [fn(&mut Report); 12] = [
            |report| report.media.gap_ms = 1_001.0,
            |report| report.media.lost = 11,
            |report| report.signalling.failed = [("join".to_owned(), 1)].into(),
            |report| report.services.get_mut("edge-1").expect("it is there").growth = Some(0.021),
            |report| report.services.get_mut("edge-1").expect("it is there").before_and_after = Some((9, 10)),
            |report| report.store_mib.1 = Some(0.03),
            |report| report.ghosts = Some(1),
            |report| report.media.audio_gap_ms = 501.0,
            |report| report.media.audio_lost = 2,
            |report| report.signalling.retried = [("publish: 10".to_owned(), 4)].into(),
            |report| report.samples[19].refused = 6,
            |report| report.samples[15].gap_ms = 1_001.0,
        ];
        for (number, spoil) in cases.into_iter().enumerate() {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(missed(&report), 1, "case {number}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_within_its_limit() {
        // Only what is counted from nothing is: requests that failed, descriptors of no service.
        assert_eq!(missed(&Report::default()), 11);
    }
}
