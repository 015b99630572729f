//! What is to be reached, and whether a report does.

use serde::Serialize;

use super::latency::Latency;
use super::report::Report;

/// Half of all joins take no longer, milliseconds, at 200 a second.
const JOIN_P50_MS: f64 = 5.0;
/// Ninety-nine of a hundred.
const JOIN_P99_MS: f64 = 25.0;
/// A broadcast reaches this share of a room of 500 over two edges in no longer, milliseconds.
const BROADCAST_P99_MS: f64 = 50.0;
/// Notifications per second of CPU time of an edge.
const NOTIFICATIONS_PER_CORE: f64 = 10_000.0;
/// Memory of an edge for an idle connection.
const IDLE_BYTES: f64 = 12.0 * 1_024.0;
/// What a join may cost, with the most rooms in the store, of what it costs with the fewest: edge and store together. The machine
/// drifts by a third between two runs of the same.
const CROWD_FACTOR: f64 = 1.5;

/// One goal, and what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What.
    pub name: &'static str,
    /// What it should be at most, or at least.
    pub limit: f64,
    /// What it is.
    pub measured: f64,
    /// Reached.
    pub met: bool,
}

/// A goal that more would miss.
pub fn at_most(name: &'static str, limit: f64, measured: f64) -> Goal {
    Goal { name, limit, measured, met: measured <= limit }
}

/// A goal that less would miss.
pub fn at_least(name: &'static str, limit: f64, measured: f64) -> Goal {
    Goal { name, limit, measured, met: measured >= limit }
}

/// Nothing that never happened was quick.
pub fn measured(times: Latency, value: f64) -> f64 {
    if times.count == 0 { f64::INFINITY } else { value }
}

/// The goals of what was measured.
pub fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(joins) = &report.joins {
        goals.push(at_most("join p50, ms", JOIN_P50_MS, measured(joins.join, joins.join.p50_ms)));
        goals.push(at_most("join p99, ms", JOIN_P99_MS, measured(joins.join, joins.join.p99_ms)));
        goals.push(at_most("failed joins", 0.0, joins.errors as f64));
    }
    if let Some(broadcast) = &report.broadcast {
        goals.push(at_most(
            "broadcast p99, ms",
            BROADCAST_P99_MS,
            measured(broadcast.delivery, broadcast.delivery.p99_ms),
        ));
        goals.push(at_most("lost notifications", 0.0, broadcast.lost as f64));
    }
    if let Some(throughput) = &report.throughput {
        goals.push(at_least("notifications/s per edge core", NOTIFICATIONS_PER_CORE, throughput.per_edge_core));
    }
    if let Some(idle) = &report.idle {
        goals.push(at_most("bytes per idle connection", IDLE_BYTES, idle.bytes_per_connection));
        goals.push(at_most("bytes per idle member of a small room", IDLE_BYTES, idle.bytes_per_member));
    }
    if let [fewest, .., most] = report.crowd.as_slice() {
        let cost = |crowd: &super::crowd::Crowd| crowd.store_us_per_join + crowd.edge_us_per_join;
        let factor = cost(most) / cost(fewest).max(f64::EPSILON);
        goals.push(at_most("cost of a join, most rooms / fewest", CROWD_FACTOR, factor));
        goals.push(at_most("join p99 with the most rooms, ms", JOIN_P99_MS, measured(most.join, most.join.p99_ms)));
    }
    if !report.crowd.is_empty() {
        let failed: u64 = report.crowd.iter().map(|crowd| crowd.errors).sum();
        goals.push(at_most("failed joins among many rooms", 0.0, failed as f64));
    }
    if !report.failed.is_empty() {
        goals.push(at_most("parts that came to nothing", 0.0, report.failed.len() as f64));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::super::{broadcast::Throughput, crowd::Crowd, idle::Idle, joins::Joins};
    use super::*;

    fn latency(p50_ms: f64, p99_ms: f64) -> Latency {
        Latency { count: 100, p50_ms, p90_ms: p99_ms, p99_ms, max_ms: p99_ms }
    }

    fn crowd(rooms: usize, cost: f64) -> Crowd {
        Crowd {
            rooms,
            join: latency(1.0, 2.0),
            store_us_per_join: cost,
            edge_us_per_join: 100.0,
            errors: 0,
            first_errors: Vec::new(),
        }
    }

    fn missed(report: &Report) -> Vec<&'static str> {
        judge(report).into_iter().filter(|goal| !goal.met).map(|goal| goal.name).collect()
    }

    #[test]
    fn what_was_not_measured_is_no_goal() {
        assert!(judge(&Report::default()).is_empty());
    }

    #[test]
    fn each_goal_is_missed_just_beyond_its_limit() {
        let mut report = Report {
            joins: Some(Joins { join: latency(5.0, 25.0), ..Joins::default() }),
            throughput: Some(Throughput { per_edge_core: 10_000.0, ..Throughput::default() }),
            idle: Some(Idle { bytes_per_connection: 12_288.0, bytes_per_member: 12_288.0, ..Idle::default() }),
            ..Report::default()
        };
        assert_eq!(missed(&report), Vec::<&str>::new());
        report.joins = Some(Joins { join: latency(5.1, 25.1), errors: 1, ..Joins::default() });
        report.throughput = Some(Throughput { per_edge_core: 9_999.0, ..Throughput::default() });
        report.idle = Some(Idle { bytes_per_connection: 12_289.0, bytes_per_member: 12_289.0, ..Idle::default() });
        let expected = [
            "join p50, ms",
            "join p99, ms",
            "failed joins",
            "notifications/s per edge core",
            "bytes per idle connection",
            "bytes per idle member of a small room",
        ];
        assert_eq!(missed(&report), expected);
    }

    #[test]
    fn a_part_that_came_to_nothing_is_no_success() {
        let report = Report { failed: vec!["Crowd: no edge".to_owned()], ..Report::default() };
        assert_eq!(missed(&report), ["parts that came to nothing"]);
    }

    #[test]
    fn what_never_happened_was_not_quick() {
        let report = Report { joins: Some(Joins::default()), ..Report::default() };
        assert_eq!(missed(&report), ["join p50, ms", "join p99, ms"]);
    }

    #[test]
    fn a_join_that_gets_dearer_with_the_store_is_no_flat_one() {
        let report = |cost| Report { crowd: vec![crowd(100, 100.0), crowd(100_000, cost)], ..Report::default() };
        assert!(missed(&report(199.0)).is_empty());
        assert_eq!(missed(&report(201.0)), ["cost of a join, most rooms / fewest"]);
    }

    #[test]
    fn a_join_that_fails_among_many_rooms_is_not_a_cheap_one() {
        let failing = Crowd { errors: 1, ..crowd(100, 100.0) };
        for crowd in [vec![failing.clone()], vec![failing, crowd(10_000, 100.0)]] {
            assert_eq!(missed(&Report { crowd, ..Report::default() }), ["failed joins among many rooms"]);
        }
    }
}
