//! What logging came to: JSON for programs, a table for people, and whether the goals are reached.

use std::fmt::Write as _;

use serde::Serialize;

use super::child::Cost;
use crate::signalling::goals::{Goal, at_least, at_most};
use crate::signalling::report::{Machine, goals_table};

/// Of the thread that logs, for a line: microseconds.
const LINE_US: f64 = 3.0;
/// Of the pace that is asked for, what must be kept for the rest to be of that pace.
const PACE_KEPT: f64 = 0.99;

/// Where lines went, and what that took.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// Where.
    pub name: &'static str,
    /// What it took.
    #[serde(flatten)]
    pub cost: Cost,
    /// Lines that stdout got.
    pub written: u64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Lines a second that were asked for.
    pub rate: u64,
    /// By where lines went.
    pub cases: Vec<Case>,
    /// What is to be reached.
    pub goals: Vec<Goal>,
}

impl Report {
    /// Judges what was measured.
    pub fn new(machine: Machine, rate: u64, cases: Vec<Case>) -> Self {
        // The worst of the cases is judged.
        let most = |of: fn(&Case) -> f64| cases.iter().map(of).fold(0.0, f64::max);
        let least = cases.iter().map(|case| case.cost.rate).fold(f64::INFINITY, f64::min);
        let goals = vec![
            at_most("µs a line on the thread that logs", LINE_US, most(|case| case.cost.line_us)),
            at_least("lines a second", rate as f64 * PACE_KEPT, least),
            at_most("lines that stdout lacks", 0.0, most(|case| case.cost.lines.saturating_sub(case.written) as f64)),
        ];
        Self { machine, rate, cases, goals }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:32} {:>9} {:>8} {:>9} {:>7} {:>10}",
            "to", "lines/s", "µs/line", "worst", "CPU", "lacking"
        );
        for Case { name, cost, written } in &self.cases {
            let Cost { lines, rate, line_us, worst_us, cpu } = cost;
            let lacking = lines.saturating_sub(*written);
            let _ = writeln!(text, "{name:32} {rate:>9.0} {line_us:>8.2} {worst_us:>9.1} {cpu:>7.2} {lacking:>10}");
        }
        text.push_str(&goals_table(&self.goals));
        text
    }
}
