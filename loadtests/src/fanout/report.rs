//! What a run came to, and medians over runs: JSON for programs, a table for people.

use super::{process::Allocations, scenario::Scenario, scrapes::Scraped, traffic::Totals};
use serde::Serialize;
use std::fmt::Write;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// What carried it.
    pub engine: &'static str,
    /// The call.
    pub scenario: Scenario,
    /// Packets per second of each publisher.
    pub publisher_rate: u32,
    /// RTP payload bytes per packet.
    pub payload_bytes: usize,
    /// Length of the measured phase in seconds.
    pub seconds: f64,
    /// Media packets that arrived at subscribers in that phase.
    pub forwarded: u64,
    /// CPU time of the system under test per forwarded packet, microseconds.
    pub cpu_us: f64,
    /// Of it in user mode.
    pub user_us: f64,
    /// Of it in system mode.
    pub system_us: f64,
    /// Allocations per forwarded packet by threads that carry media.
    pub allocations_per_packet: f64,
    /// Allocations in the measured phase.
    pub allocations: Allocations,
    /// From sending to the subscriber's socket, microseconds.
    pub delay_p50_us: f64,
    /// Likewise.
    pub delay_p99_us: f64,
    /// Of the packet that took longest.
    pub delay_most_us: f64,
    /// Scrapes meanwhile.
    pub scraped: Option<Scraped>,
    /// The whole run's packets: expected, lost, repeated.
    pub totals: Totals,
    /// Datagrams dropped by full socket buffers anywhere on the machine (receiving, sending).
    pub socket_drops: (u64, u64),
    /// Resident memory of the process in KiB: before any peer, with all connected and idle, at the end.
    pub rss_kib: [u64; 3],
    /// Resident memory per idle subscriber's transport, KiB.
    pub kib_per_subscriber: f64,
}

/// Medians of the runs of one engine, scenario and rate, scraped or not.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What carried it.
    pub engine: &'static str,
    /// The call.
    pub scenario: &'static str,
    /// Packets forwarded per second.
    pub forwarded_rate: f64,
    /// How many runs.
    pub runs: usize,
    /// Median CPU microseconds per forwarded packet.
    pub cpu_us: f64,
    /// Median of it in user mode.
    pub user_us: f64,
    /// Median of it in system mode.
    pub system_us: f64,
    /// Median allocations per packet.
    pub allocations_per_packet: f64,
    /// Median delay, microseconds.
    pub delay_p50_us: f64,
    /// Median of the 99th percentiles, microseconds.
    pub delay_p99_us: f64,
    /// Median of the longest ones, microseconds.
    pub delay_most_us: f64,
    /// Median of the medians of scrapes meanwhile, milliseconds.
    pub scrape_ms: Option<f64>,
    /// The longest scrape of all runs, milliseconds.
    pub slowest_scrape_ms: Option<f64>,
    /// Lost packets of all runs together.
    pub lost: u64,
    /// Expected packets of all runs together.
    pub expected: u64,
    /// Median KiB per idle subscriber.
    pub kib_per_subscriber: f64,
}

/// All of a command.
#[derive(Debug, Serialize)]
pub struct Report {
    /// CPUs of the machine.
    pub cpus: usize,
    /// Receivers coalesced.
    pub coalesce: bool,
    /// Publishers spread their frames.
    pub paced: bool,
    /// The CPU's name.
    pub cpu_model: String,
    /// The kernel.
    pub kernel: String,
    /// Medians.
    pub summary: Vec<Summary>,
    /// Every run.
    pub runs: Vec<Run>,
}

impl Report {
    /// Puts runs together.
    pub fn new(cpus: usize, coalesce: bool, paced: bool, runs: Vec<Run>) -> Self {
        let mut groups: Vec<Vec<&Run>> = Vec::new();
        for run in &runs {
            let key = |run: &Run| (run.engine, run.scenario.name, run.publisher_rate, run.scraped.is_some());
            match groups.iter_mut().find(|group| key(group[0]) == key(run)) {
                Some(group) => group.push(run),
                None => groups.push(vec![run]),
            }
        }
        let summary = groups.iter().map(|group| summarise(group)).collect();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.strip_prefix("model name")?.to_owned()));
        Self {
            cpus,
            coalesce,
            paced,
            cpu_model: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            summary,
            runs,
        }
    }

    /// The medians for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:10} {:19} {:>9} {:>4} {:>8} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>13} {:>12} {:>8}",
            "engine",
            "scenario",
            "packets/s",
            "runs",
            "CPU µs",
            "user",
            "system",
            "allocs",
            "p50 µs",
            "p99 µs",
            "most µs",
            "scrape ms",
            "lost",
            "KiB/sub"
        );
        for row in &self.summary {
            let _ = writeln!(
                text,
                "{:10} {:19} {:>9.0} {:>4} {:>8.2} {:>6.2} {:>7.2} {:>9.4} {:>9.0} {:>9.0} {:>9.0} {:>13} {:>12} {:>8.1}",
                row.engine,
                row.scenario,
                row.forwarded_rate,
                row.runs,
                row.cpu_us,
                row.user_us,
                row.system_us,
                row.allocations_per_packet,
                row.delay_p50_us,
                row.delay_p99_us,
                row.delay_most_us,
                row.scrape_ms
                    .zip(row.slowest_scrape_ms)
                    .map_or(String::new(), |(ms, most)| format!("{ms:.1}..{most:.1}")),
                format!("{}/{}", row.lost, row.expected),
                row.kib_per_subscriber,
            );
        }
        text
    }
}

fn summarise(group: &[&Run]) -> Summary {
    let median = |of: fn(&Run) -> f64| {
        let mut values: Vec<_> = group.iter().map(|run| of(run)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let scrapes = || group.iter().filter_map(|run| run.scraped.as_ref());
    Summary {
        engine: group[0].engine,
        scenario: group[0].scenario.name,
        forwarded_rate: median(|run| run.forwarded as f64 / run.seconds),
        runs: group.len(),
        cpu_us: median(|run| run.cpu_us),
        user_us: median(|run| run.user_us),
        system_us: median(|run| run.system_us),
        allocations_per_packet: median(|run| run.allocations_per_packet),
        delay_p50_us: median(|run| run.delay_p50_us),
        delay_p99_us: median(|run| run.delay_p99_us),
        delay_most_us: median(|run| run.delay_most_us),
        scrape_ms: scrapes()
            .next()
            .map(|_| median(|run| run.scraped.as_ref().map_or(0.0, |scraped| scraped.median_ms))),
        slowest_scrape_ms: scrapes().map(|scraped| scraped.slowest_ms).max_by(f64::total_cmp),
        lost: group.iter().map(|run| run.totals.lost).sum(),
        expected: group.iter().map(|run| run.totals.expected).sum(),
        kib_per_subscriber: median(|run| run.kib_per_subscriber),
    }
}
