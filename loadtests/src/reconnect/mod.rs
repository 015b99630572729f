//! `loadtests reconnect`: everybody is cut off at once, and then an edge dies. On real Redis and etcd, with clients that come back
//! as the SDK does. What is asked: how soon they are back, whether the store bears it, whether anything goes wrong afterwards,
//! and whether each notification came once.

pub mod backoff;
pub mod ledger;
pub mod member;
pub mod store;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::signalling::client::{Client, InRoom, Target};
use crate::signalling::deployment::Deployment;
use crate::signalling::goals::Goal;
use crate::signalling::hold;
use crate::signalling::report::{Machine, goals_table};

use ledger::{Account, Ledger};
use member::{Count, Member, Shared};
use store::{Store, Watch};

/// Members that come in per second, at the beginning.
const ARRIVALS: u32 = 200;
/// Between two numbers that are said aloud in each room.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// After this nobody is waited for any more.
const GIVE_UP: Duration = Duration::from_mins(2);
/// Back after a cut of all, at most.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// Back after the death of an edge, 99 of 100.
const RESUMED_P99: Duration = Duration::from_secs(2);
/// A store whose answers take longer is overloaded: edges wait for one a few times as long, and then tell their clients error 11.
const PING_P99: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Clients.
    #[arg(long, default_value_t = 2_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    clients: usize,
    /// Members of a room.
    #[arg(long, default_value_t = 20, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    room: usize,
    /// Seconds in which nothing may go wrong, after each cut.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    calm: u64,
}

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Clients.
    pub clients: usize,
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
    /// What was to be reached.
    pub goals: Vec<Goal>,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (what, account) in [
            (format!("{} clients cut at once", self.clients), &self.cut),
            ("after that".to_owned(), &self.after_cut),
            ("an edge killed".to_owned(), &self.killed),
            ("after that".to_owned(), &self.after_kill),
        ] {
            let Account { back, missing, failures, answers, refusals, resyncs, heard, lost, twice, wrong } = account;
            let _ = writeln!(
                text,
                "{what:28} back: {} (p50 {:.0} ms, p99 {:.0} ms, last {:.0} ms), missing {missing}, resyncs {resyncs}",
                back.count, back.p50_ms, back.p99_ms, back.max_ms
            );
            let _ = writeln!(text, "{:28} answers {answers}, refused {refusals:?}, connections lost {failures:?}", "");
            let _ = writeln!(text, "{:28} notifications {heard}, lost {lost}, twice {twice}, wrong {wrong}", "");
        }
        let Store { ping, commands, busiest_second } = self.store;
        let _ = writeln!(
            text,
            "{:28} PING p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; {commands} commands, {busiest_second} in the busiest second",
            "store during the cut", ping.p50_ms, ping.p99_ms, ping.max_ms
        );
        text + &goals_table(&self.goals)
    }
}

/// Runs it and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    hold::most_per_process();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(play(options))
}

async fn play(options: &Options) -> anyhow::Result<Report> {
    let machine = Machine::this();
    eprintln!("starting Redis, etcd, a node and two edges");
    // With the limits that every edge has unless told otherwise: coming back is what they are to let everybody do.
    let mut deployment = Deployment::start(2, serde_json::json!({})).await?;
    let edges: Vec<_> = deployment.edges.iter().map(|edge| edge.clients).collect();
    let (cut, _) = watch::channel(0);
    let shared =
        Arc::new(Shared { edges: edges.clone(), cut, ledger: Ledger::default(), over: AtomicBool::new(false) });
    let ledger = &shared.ledger;

    eprintln!("{} clients come in", options.clients);
    let everybody: Vec<_> = (0..options.clients).map(|number| format!("member-{number}")).collect();
    let (mut members, mut ports) = (JoinSet::new(), Vec::new());
    ledger.expect(everybody.iter().cloned());
    for (number, uid) in everybody.iter().enumerate() {
        let member = Member::new(uid.clone(), room_of(number, options.room), Arc::clone(&shared));
        ports.push((uid.clone(), Arc::clone(&member.port)));
        members.spawn(member.run());
        sleep(Duration::from_secs(1) / ARRIVALS).await;
    }
    all_there(ledger).await?;
    // On the edge that stays: what they say goes on whatever becomes of the other.
    let survivor = Target { edge: edges[1], token: None };
    let mut counting = JoinSet::new();
    for room in 0..options.clients.div_ceil(options.room) {
        counting.spawn(count(survivor.clone(), room_of(room * options.room, options.room), room));
    }
    let calm = Duration::from_secs(options.calm);
    sleep(calm).await;
    ledger.close();

    eprintln!("all of them are cut off");
    let watch = Watch::start(deployment.redis.port());
    ledger.expect(everybody);
    shared.cut.send_modify(|cut| *cut += 1);
    all_there(ledger).await?;
    let (cut, store) = (ledger.close(), watch.finish().await?);
    sleep(calm).await;
    let after_cut = ledger.close();

    eprintln!("an edge is killed");
    let dead = deployment.edges.remove(0);
    let there = u64::from(dead.clients.port());
    let on_it = ports.iter().filter(|(_, port)| port.load(Ordering::Relaxed) == there);
    ledger.expect(on_it.map(|(uid, _)| uid.clone()));
    dead.program.kill();
    all_there(ledger).await?;
    let killed = ledger.close();
    sleep(calm).await;
    let after_kill = ledger.close();

    shared.over.store(true, Ordering::Relaxed);
    if let Some(ended) = counting.try_join_next() {
        ended.context("invariant: nobody aborts them")?.context("somebody who counts aloud")?;
    }
    let mut report =
        Report { machine, clients: options.clients, cut, store, after_cut, killed, after_kill, goals: Vec::new() };
    report.goals = judge(&report);
    Ok(report)
}

fn room_of(number: usize, size: usize) -> String {
    format!("room-{}", number / size)
}

async fn all_there(ledger: &Ledger) -> anyhow::Result<()> {
    let deadline = Instant::now() + GIVE_UP;
    while ledger.missing() > 0 {
        if Instant::now() >= deadline {
            bail!("{} clients are not back: {:?}", ledger.missing(), ledger.close());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[derive(Serialize)]
struct Broadcast<'a> {
    rid: &'a str,
    data: Count,
}

/// Says one number after the other, for as long as it is let.
async fn count(target: Target, rid: String, room: usize) -> anyhow::Result<()> {
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    let mut client = Client::connect(&target, &format!("counter-{room}"), &rid, None).await?;
    client.request("join", &InRoom { rid: &rid }, |_| ()).await?;
    // Not all rooms in one instant.
    sleep(COUNT_EVERY.mul_f64((BEGUN.fetch_add(1, Ordering::Relaxed) % 100) as f64 / 100.0)).await;
    for n in 1.. {
        client.request("broadcast", &Broadcast { rid: &rid, data: Count { n } }, |_| ()).await?;
        let until = Instant::now() + COUNT_EVERY;
        while let Ok(received) = tokio::time::timeout_at(until, client.receive()).await {
            received?;
        }
    }
    Ok(())
}

fn judge(report: &Report) -> Vec<Goal> {
    let at_most = |name, limit, measured| Goal { name, limit, measured, met: measured <= limit };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let none = |name, measured: u64| at_most(name, 0.0, measured as f64);
    let wrong = |account: &Account| account.lost + account.twice + account.wrong;
    let errors = |account: &Account| account.refusals.values().sum::<u64>() + account.failures.values().sum::<u64>();
    let Report { cut, store, after_cut, killed, after_kill, .. } = report;
    vec![
        at_most("all back after a cut, ms", ms(BACK_WITHIN), cut.back.max_ms),
        none("not back after a cut", cut.missing),
        at_most("store's PING p99 during it, ms", ms(PING_P99), store.ping.p99_ms),
        none("requests refused during it", cut.refusals.values().sum()),
        none("errors after it", errors(after_cut)),
        at_most("resumed after an edge's death p99, ms", ms(RESUMED_P99), killed.back.p99_ms),
        none("not back after it", killed.missing),
        none("errors after it", errors(after_kill)),
        none("notifications lost or twice", [cut, after_cut, killed, after_kill].into_iter().map(wrong).sum()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signalling::latency::Latency;

    fn report() -> Report {
        let account = Account::default;
        Report {
            machine: Machine::default(),
            clients: 0,
            cut: account(),
            store: Store::default(),
            after_cut: account(),
            killed: account(),
            after_kill: account(),
            goals: Vec::new(),
        }
    }

    fn missed(report: &Report) -> Vec<&'static str> {
        judge(report).into_iter().filter(|goal| !goal.met).map(|goal| goal.name).collect()
    }

    #[test]
    fn a_run_in_which_all_went_well_reaches_all_goals() {
        assert_eq!(missed(&report()), Vec::<&str>::new());
    }

    #[test]
    fn what_went_wrong_misses_its_goal() {
        let mut late = report();
        late.cut.back = Latency { max_ms: 15_001.0, ..Latency::default() };
        late.killed.back = Latency { p99_ms: 2_001.0, ..Latency::default() };
        assert_eq!(missed(&late), ["all back after a cut, ms", "resumed after an edge's death p99, ms"]);
        let mut twice = report();
        twice.killed.twice = 1;
        assert_eq!(missed(&twice), ["notifications lost or twice"]);
        let mut refused = report();
        refused.after_cut.refusals.insert(11, 1);
        assert_eq!(missed(&refused), ["errors after it"]);
    }
}
