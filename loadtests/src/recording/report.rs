//! What recording came to: JSON for programs, a table for people, and whether the goals are reached.

use std::fmt::Write as _;

use serde::Serialize;

use super::node::{Counts, Cpu};
use crate::signalling::goals::{Goal, at_most};
use crate::signalling::report::{Machine, goals_table};

/// Of a core, for one recorded stream of audio: percent.
const AUDIO_PERCENT: f64 = 0.05;
/// The same for a video of 1 Mbit/s.
const VIDEO_PERCENT: f64 = 0.5;

/// One kind of stream.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// `audio` or `video`.
    pub name: &'static str,
    /// Streams at once.
    pub streams: usize,
    /// CPUs that the node used while nothing was recorded.
    pub without: Cpu,
    /// The same while each stream was.
    pub with: Cpu,
    /// Of a core, what the threads that record used for each stream: percent.
    pub recorder_percent: f64,
    /// Of a core, what the whole node used more for each stream than without: percent. Shards hand packets on, too; the machine drifts.
    pub node_percent: f64,
    /// What all manifests say of packets.
    pub counts: Counts,
    /// Datagrams that sockets had no room for, on the whole machine.
    pub socket_drops: u64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub parts: Vec<Part>,
    /// What is to be reached.
    pub goals: Vec<Goal>,
}

impl Part {
    /// What two phases came to.
    pub fn new(name: &'static str, streams: usize, without: Cpu, with: Cpu, counts: Counts, socket_drops: u64) -> Self {
        let percent = |cpu: f64| cpu * 100.0 / streams as f64;
        let (recorder_percent, node_percent) = (percent(with.recorders), percent(with.node - without.node));
        Self { name, streams, without, with, recorder_percent, node_percent, counts, socket_drops }
    }

    fn goals(&self) -> [Goal; 2] {
        let missing = self.counts.lost as f64;
        match self.name {
            "audio" => [
                at_most("of a core for a recorded audio stream, %", AUDIO_PERCENT, self.node_percent),
                at_most("packets that audio recordings lack", 0.0, missing),
            ],
            _ => [
                at_most("of a core for a recorded video of 1 Mbit/s, %", VIDEO_PERCENT, self.node_percent),
                at_most("packets that video recordings lack", 0.0, missing),
            ],
        }
    }
}

impl Report {
    /// Judges what was measured.
    pub fn new(machine: Machine, parts: Vec<Part>) -> Self {
        let goals = parts.iter().flat_map(Part::goals).collect();
        Self { machine, parts, goals }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:6} {:>7} {:>12} {:>9} {:>10} {:>12} {:>10} {:>6} {:>6} {:>7} {:>6}",
            "kind",
            "streams",
            "CPU without",
            "CPU with",
            "recorders",
            "% a stream",
            "packets",
            "lost",
            "late",
            "dropped",
            "socket"
        );
        for part in &self.parts {
            let Counts { packets, lost, late, dropped } = part.counts;
            let _ = writeln!(
                text,
                "{:6} {:>7} {:>12.3} {:>9.3} {:>10.3} {:>12.4} {:>10} {:>6} {:>6} {:>7} {:>6}",
                part.name,
                part.streams,
                part.without.node,
                part.with.node,
                part.with.recorders,
                part.node_percent,
                packets,
                lost,
                late,
                dropped,
                part.socket_drops
            );
        }
        text.push_str(&goals_table(&self.goals));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_its_share_of_what_came_on_top() {
        let (without, with) = (Cpu { node: 0.5, recorders: 0.0 }, Cpu { node: 0.7, recorders: 0.15 });
        let counts = Counts { packets: 1_000, ..Counts::default() };
        let part = Part::new("audio", 500, without, with, counts, 0);
        assert!((part.node_percent - 0.04).abs() < 1e-9 && (part.recorder_percent - 0.03).abs() < 1e-9, "{part:?}");
        let report = Report::new(Machine::default(), vec![part.clone()]);
        assert!(report.goals.iter().all(|goal| goal.met) && report.table().contains("audio"), "{report:?}");
        let counts = Counts { lost: 1, ..counts };
        let report = Report::new(Machine::default(), vec![Part { counts, ..part }]);
        assert!(report.goals.iter().any(|goal| !goal.met), "{report:?}");
    }
}
