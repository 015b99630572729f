//! `loadtests reconnect`: everybody is cut off at once, and then an edge dies. On real Redis and etcd, with clients that come back
//! as the SDK does. What is asked: how soon they are back, whether the store bears it, whether anything goes wrong afterwards,
//! and whether each notification came once.

pub mod backoff;
pub mod counters;
pub mod ledger;
pub mod member;
pub mod report;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::signalling::client::Target;
use crate::signalling::deployment::Deployment;
use crate::signalling::hold;
use crate::signalling::report::{CpuTime, Machine};
use crate::signalling::unless_stopped;

use counters::{Counters, Counting};
use ledger::Ledger;
use member::{Member, Shared};
use report::{Report, judge};
use store::Watch;

/// Members that come in per second, at the beginning.
const ARRIVALS: u32 = 200;
/// After this nobody is waited for any more.
const GIVE_UP: Duration = Duration::from_mins(2);

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
    /// Where the programs `edge-signal` and `sfu-node` are, if not beside this one.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Runs it and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    hold::most_per_process();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(unless_stopped(play(options)))
}

async fn play(options: &Options) -> anyhow::Result<Report> {
    let (mut machine, begun) = (Machine::this(), CpuTime::now());
    eprintln!("starting Redis, etcd, a node and two edges");
    // With the limits that every edge has unless told otherwise: coming back is what they are to let everybody do.
    let mut deployment = Deployment::start(2, serde_json::json!({}), options.programs.clone()).await?;
    let edges: Vec<_> = deployment.edges.iter().map(|edge| edge.clients).collect();
    let (cut, _) = watch::channel(0);
    let shared = Arc::new(Shared {
        edges: edges.clone(),
        cut,
        ledger: Ledger::default(),
        counters: Counters::new(options.clients.div_ceil(options.room)),
        over: AtomicBool::new(false),
    });
    let ledger = &shared.ledger;

    eprintln!("{} clients come in", options.clients);
    let everybody: Vec<_> = (0..options.clients).map(|number| format!("member-{number}")).collect();
    let (mut members, mut standings) = (JoinSet::new(), Vec::new());
    for (number, uid) in everybody.iter().enumerate() {
        ledger.expect([uid.clone()]);
        let member = Member::new(uid.clone(), number / options.room, Arc::clone(&shared));
        standings.push(Arc::clone(&member.standing));
        members.spawn(member.run());
        sleep(Duration::from_secs(1) / ARRIVALS).await;
    }
    all_there(ledger).await?;
    // On the edge that stays: what they say goes on whatever becomes of the other.
    let survivor = Target { edge: edges[1], token: None };
    let counting = Counting::start(&survivor, &shared);
    let calm = Duration::from_secs(options.calm);
    sleep(calm).await;
    let before = ledger.close();

    eprintln!("all of them are cut off");
    let watch = Watch::start(deployment.redis.port(), deployment.redis.process_id());
    ledger.expect(everybody);
    shared.cut.send_modify(|cut| *cut += 1);
    all_there(ledger).await?;
    let (cut, store) = (ledger.close(), watch.finish().await?);
    sleep(calm).await;
    let after_cut = ledger.close();

    eprintln!("an edge is killed");
    let dead = deployment.edges.remove(0);
    let there = u64::from(dead.clients.port());
    let on_it = standings.iter().filter(|member| member.port.load(Ordering::Relaxed) == there);
    ledger.expect(on_it.map(|member| member.uid.clone()));
    dead.program.kill();
    all_there(ledger).await?;
    let killed = ledger.close();
    sleep(calm).await;
    let expected = counting.finish(&standings).await?;
    let after_kill = ledger.close();

    shared.over.store(true, Ordering::Relaxed);
    machine.stolen_percent = CpuTime::now().stolen_percent_since(begun);
    let mut report = Report {
        machine,
        clients: options.clients,
        before,
        cut,
        store,
        after_cut,
        killed,
        after_kill,
        expected,
        goals: Vec::new(),
    };
    report.goals = judge(&report);
    Ok(report)
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
