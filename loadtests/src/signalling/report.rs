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
        }
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
    if let Some(Idle { connections, edges, bytes_per_connection, bytes_per_member }) = idle {
        line(
            &format!("{who}memory, {connections} idle on {edges}"),
            format!("{bytes_per_connection:.0} bytes connected, {bytes_per_member:.0} bytes in a room of five"),
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
