//! What a run came to: JSON for programs, a table for people.

use std::fmt::Write;

use serde::Serialize;

use super::broadcast::{Deliveries, Throughput};
use super::crowd::Crowd;
use super::goals::Goal;
use super::idle::Idle;
use super::joins::Joins;
use super::protoo::Protoo;

/// All of a command; what was not measured is absent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Edges that clients were spread over.
    pub edges: usize,
    /// Joins at a steady rate.
    pub joins: Option<Joins>,
    /// Broadcasts to a large room.
    pub broadcast: Option<Deliveries>,
    /// Broadcasts as fast as they go.
    pub throughput: Option<Throughput>,
    /// Memory.
    pub idle: Option<Idle>,
    /// Joins with ever more rooms in the store.
    pub crowd: Vec<Crowd>,
    /// The other server.
    pub protoo: Option<Protoo>,
    /// Parts that came to nothing, and why.
    pub failed: Vec<String>,
    /// What was to be reached.
    pub goals: Vec<Goal>,
}

/// Where it ran.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Machine {
    /// CPUs.
    pub cpus: usize,
    /// The CPU's name.
    pub cpu_model: String,
    /// The kernel.
    pub kernel: String,
    /// Processes that wanted a CPU in the minute before, as `uptime` says it: above 0 somebody else was at work, too.
    pub load_before: f64,
    /// Built with optimisation.
    pub release: bool,
    /// Of all its CPUs' time during the run, the share that other machines on the same hardware took, percent: what was measured
    /// then is as much theirs.
    pub stolen_percent: f64,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            release: !cfg!(debug_assertions),
            stolen_percent: 0.0,
        }
    }
}

/// What CPUs have done so far (`/proc/stat`, proc(5)), in ticks.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime {
    all: u64,
    stolen: u64,
}

impl CpuTime {
    /// Now.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::read(text.lines().next().unwrap_or_default())
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; what guests used is in user already.
    fn read(line: &str) -> Self {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map_while(|ticks| ticks.parse().ok()).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or_default() }
    }

    /// Percent of all time since then that was stolen.
    pub fn stolen_percent_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 * 100.0 / all as f64
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:44} {value}");
        };
        rows("", self.joins.as_ref(), self.broadcast.as_ref(), self.throughput.as_ref(), self.idle.as_ref(), &mut line);
        for crowd in &self.crowd {
            let Crowd { rooms, join, store_us_per_join: store, edge_us_per_join: edge, errors, .. } = crowd;
            line(
                &format!("join with {rooms} rooms in the store"),
                format!(
                    "p50 {:.2} ms, p99 {:.2} ms, CPU: store {store:.0} µs, edges {edge:.0} µs, {errors} errors",
                    join.p50_ms, join.p99_ms
                ),
            );
        }
        if let Some(Protoo { joins, broadcast, throughput, idle }) = &self.protoo {
            rows("protoo-server: ", Some(joins), Some(broadcast), Some(throughput), Some(idle), &mut line);
        }
        for failed in &self.failed {
            line("FAILED", failed.clone());
        }
        line("of the machine's CPUs taken by others", format!("{:.1} %", self.machine.stolen_percent));
        text + &goals_table(&self.goals)
    }
}

fn rows(
    who: &str,
    joins: Option<&Joins>,
    broadcast: Option<&Deliveries>,
    throughput: Option<&Throughput>,
    idle: Option<&Idle>,
    line: &mut impl FnMut(&str, String),
) {
    if let Some(Joins { rate, join, connect, errors, first_errors }) = joins {
        line(
            &format!("{who}join at {rate}/s"),
            format!(
                "p50 {:.2} ms, p99 {:.2} ms (connecting: p50 {:.2} ms, p99 {:.2} ms), {errors} errors {}",
                join.p50_ms,
                join.p99_ms,
                connect.p50_ms,
                connect.p99_ms,
                first_errors.join("; ")
            ),
        );
    }
    if let Some(Deliveries { members, delivery, expected, lost, gone }) = broadcast {
        line(
            &format!("{who}broadcast to a room of {members}"),
            format!("p50 {:.2} ms, p99 {:.2} ms, lost {lost} of {expected} {gone:?}", delivery.p50_ms, delivery.p99_ms),
        );
    }
    if let Some(Throughput { members, per_second, per_edge_core, store_us_per_broadcast }) = throughput {
        line(
            &format!("{who}notifications, room of {members}"),
            format!(
                "{per_second:.0}/s, {per_edge_core:.0}/s per edge core, store {store_us_per_broadcast:.0} µs/broadcast"
            ),
        );
    }
    if let Some(Idle {
        connections,
        edges,
        bytes_per_connection,
        bytes_per_member,
        edge_us_per_member,
        store_us_per_member,
    }) = idle
    {
        line(
            &format!("{who}memory, {connections} idle on {edges}"),
            format!("{bytes_per_connection:.0} bytes connected, {bytes_per_member:.0} bytes in a room of five"),
        );
        line(
            &format!("{who}CPU per second for each"),
            format!("{edge_us_per_member:.1} µs of edges, {store_us_per_member:.1} µs of the store"),
        );
    }
}

/// Goals for people.
pub fn goals_table(goals: &[Goal]) -> String {
    let mut text = String::new();
    for Goal { name, limit, measured, met } in goals {
        let verdict = if *met { "met" } else { "MISSED" };
        let _ = writeln!(text, "goal: {name:44} {measured:>12.2} of {limit:>10.2}  {verdict}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_other_machines_took_is_a_share_of_all_time() {
        let before = CpuTime::read("cpu  100 0 50 800 10 0 40 0 0 0");
        // Guests' time, the last two, is in user time already.
        let after = CpuTime::read("cpu  190 0 50 800 10 0 40 10 90 0");
        assert!((after.stolen_percent_since(before) - 10.0).abs() < f64::EPSILON);
        assert!(before.stolen_percent_since(before).abs() < f64::EPSILON, "no time at all");
        assert!(CpuTime::now().all > 0);
    }
}
