//! What a run came to, and whether that is what was to be reached.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Account;
use super::store::Store;
use crate::signalling::goals::{Goal, at_least, at_most, measured};
use crate::signalling::latency::Latency;
use crate::signalling::report::{Machine, goals_table};

/// Back after a cut of all, at most.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// Back after the death of an edge, 99 of 100.
const RESUMED_P99: Duration = Duration::from_secs(2);
/// A store whose answers take longer is overloaded: edges wait for one a few times as long, and then tell their clients error 11.
/// What it waits for a CPU is not counted: here it shares them with all clients, in no deployment.
const PING_P99: Duration = Duration::from_millis(100);
/// A script that takes longer, by the store's own clock, keeps all others waiting.
const SCRIPT_P99: Duration = Duration::from_millis(10);

const PING: &str = "store's PING p99 but for waits for a CPU, ms";

/// What it came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Clients.
    pub clients: usize,
    /// Before anything happened to them.
    pub before: Account,
    /// All of them cut at once.
    pub cut: Account,
    /// The store meanwhile.
    pub store: Store,
    /// The time after.
    pub after_cut: Account,
    /// One of two edges killed.
    pub killed: Account,
    /// The time after.
    pub after_kill: Account,
    /// Numbers that were said aloud, times those who were to hear them.
    pub expected: u64,
    /// What was to be reached.
    pub goals: Vec<Goal>,
}

impl Report {
    fn accounts(&self) -> [&Account; 5] {
        [&self.before, &self.cut, &self.after_cut, &self.killed, &self.after_kill]
    }

    fn sum(&self, of: impl Fn(&Account) -> u64) -> u64 {
        self.accounts().into_iter().map(of).sum()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let cut = format!("{} clients cut at once", self.clients);
        let names = ["before anything", &cut, "after that", "an edge killed", "after that"];
        for (what, account) in names.into_iter().zip(self.accounts()) {
            let Account { back, missing, failures, answers, refusals, resyncs, heard, lost, twice, wrong } = account;
            let _ = writeln!(
                text,
                "{what:28} back: {} (p50 {:.0} ms, p99 {:.0} ms, last {:.0} ms), missing {missing}, resyncs {resyncs}",
                back.count, back.p50_ms, back.p99_ms, back.max_ms
            );
            let _ = writeln!(text, "{:28} answers {answers}, refused {refusals:?}, connections lost {failures:?}", "");
            let _ = writeln!(text, "{:28} notifications {heard}, lost {lost}, twice {twice}, wrong {wrong}", "");
        }
        let stolen = self.machine.stolen_percent;
        let _ = writeln!(text, "{:28} {stolen:.1} % of the CPUs' time was taken by other machines", "machine");
        let Store { ping, ping_own, starved, script, commands, busiest_second } = self.store;
        let ms = |Latency { p50_ms, p99_ms, max_ms, .. }| {
            format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.2} ms")
        };
        let _ =
            writeln!(text, "{:28} {commands} commands, {busiest_second} in the busiest second", "store during the cut");
        let _ = writeln!(text, "{:28} PING from a thread of its own: {}", "", ms(ping));
        let _ = writeln!(text, "{:28} but for waits for a CPU:     {}", "", ms(ping_own));
        let _ = writeln!(text, "{:28} {:.0} % of the time it had work and no CPU", "", starved * 1e2);
        if let Some(script) = script {
            let (p50, p99) = (script.p50_ms, script.p99_ms);
            let _ = writeln!(text, "{:28} a script, by the store's own clock: p50 {p50:.3} ms, p99 {p99:.3} ms", "");
        }
        text + &goals_table(&self.goals)
    }
}

/// The goals of a run. Neither fault takes anything from the store, so that all is told and nobody is told how things stand instead.
pub fn judge(report: &Report) -> Vec<Goal> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let none = |name, measured: u64| at_most(name, 0.0, measured as f64);
    let some = |name, limit: u64, measured: u64| at_least(name, limit.max(1) as f64, measured as f64);
    let errors = |account: &Account| account.refusals.values().sum::<u64>() + account.failures.values().sum::<u64>();
    let Report { clients, cut, store, after_cut, killed, after_kill, expected, .. } = report;
    vec![
        some("back after a cut", *clients as u64, cut.back.count),
        at_most("all back after a cut, ms", ms(BACK_WITHIN), measured(cut.back, cut.back.max_ms)),
        none("not back after a cut", cut.missing),
        at_most(PING, ms(PING_P99), measured(store.ping_own, store.ping_own.p99_ms)),
        at_most(
            "store's own time for a script p99, ms",
            ms(SCRIPT_P99),
            store.script.map_or(f64::INFINITY, |script| script.p99_ms),
        ),
        none("requests refused during it", cut.refusals.values().sum()),
        none("errors after it", errors(after_cut)),
        some("resumed after an edge's death", 1, killed.back.count),
        at_most("resumed after an edge's death p99, ms", ms(RESUMED_P99), measured(killed.back, killed.back.p99_ms)),
        none("not back after it", killed.missing),
        none("errors after it", errors(after_kill)),
        none("joins that were not told what was missed", report.sum(|account| account.resyncs)),
        some("notifications heard", *expected, report.sum(|account| account.heard)),
        none("notifications lost or twice", report.sum(|account| account.lost + account.twice + account.wrong)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::store::Script;
    use super::*;

    fn back(count: u64, ms: f64) -> Account {
        let back = Latency { count, p50_ms: ms, p90_ms: ms, p99_ms: ms, max_ms: ms };
        Account { back, heard: 10, ..Account::default() }
    }

    fn good() -> Report {
        let ping = Latency { count: 50, p99_ms: 100.0, ..Latency::default() };
        let script = Some(Script { p50_ms: 0.05, p99_ms: 10.0 });
        Report {
            clients: 20,
            before: Account { heard: 10, ..Account::default() },
            cut: back(20, 15_000.0),
            store: Store { ping_own: ping, script, ..Store::default() },
            killed: back(1, 2_000.0),
            expected: 30,
            ..Report::default()
        }
    }

    fn missed(report: &Report) -> Vec<&'static str> {
        judge(report).into_iter().filter(|goal| !goal.met).map(|goal| goal.name).collect()
    }

    #[test]
    fn a_run_in_which_all_went_well_reaches_all_goals() {
        assert_eq!(missed(&good()), Vec::<&str>::new());
    }

    #[test]
    fn a_run_in_which_nothing_happened_does_not() {
        let expected = [
            "back after a cut",
            "all back after a cut, ms",
            PING,
            "store's own time for a script p99, ms",
            "resumed after an edge's death",
            "resumed after an edge's death p99, ms",
            "notifications heard",
        ];
        assert_eq!(missed(&Report::default()), expected);
    }

    #[test]
    fn what_went_wrong_misses_its_goal() {
        let misses = |wrong: fn(&mut Report), expected: &[&str]| {
            let mut report = good();
            wrong(&mut report);
            assert_eq!(missed(&report), expected);
        };
        misses(|report| report.cut.back.max_ms += 1.0, &["all back after a cut, ms"]);
        misses(|report| report.cut.back.count -= 1, &["back after a cut"]);
        misses(|report| report.cut.missing = 1, &["not back after a cut"]);
        misses(|report| report.cut.resyncs = 1, &["joins that were not told what was missed"]);
        misses(|report| report.store.ping_own.p99_ms += 1.0, &[PING]);
        misses(|report| report.store.script = None, &["store's own time for a script p99, ms"]);
        misses(|report| report.killed.back.p99_ms += 1.0, &["resumed after an edge's death p99, ms"]);
        misses(|report| report.after_kill.lost = 1, &["notifications lost or twice"]);
        misses(|report| report.killed.twice = 1, &["notifications lost or twice"]);
        misses(|report| report.before.wrong = 1, &["notifications lost or twice"]);
        misses(|report| report.before.heard -= 1, &["notifications heard"]);
        misses(|report| report.after_cut.refusals = [(11, 1)].into(), &["errors after it"]);
    }
}
