//! `loadtests signalling`: what edges do per second and what they cost, on real Redis and etcd: joins, broadcasts, memory, and
//! whether a full store makes them slower.

pub mod broadcast;
pub mod client;
pub mod crowd;
pub mod deployment;
pub mod goals;
pub mod hold;
pub mod idle;
pub mod joins;
pub mod latency;
pub mod protoo;
pub mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use broadcast::Room;
use client::Target;
use deployment::Deployment;
use joins::Plan;
use protoo::Amount;
use report::{CpuTime, Machine, Report};

/// Joins before those that count.
const WARM_UP: Duration = Duration::from_secs(5);
/// Members of the room, and how many of them talk, where notifications come as fast as they go.
const THROUGHPUT_ROOM: (usize, usize) = (100, 4);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Joins at a steady rate.
    Joins,
    /// Broadcasts to a large room.
    Broadcast,
    /// Broadcasts as fast as they go.
    Throughput,
    /// Memory of idle connections.
    Idle,
    /// Joins with ever more rooms in the store.
    Crowd,
}

const ALL: [Part; 5] = [Part::Joins, Part::Broadcast, Part::Throughput, Part::Idle, Part::Crowd];

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What; all if none is given.
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// Edges that run already (`ip:port`), instead of a deployment that is started here and ended after. Their processes cannot be
    /// looked into: joins and broadcasts only. Repeatable.
    #[arg(long = "edge")]
    edges: Vec<SocketAddr>,
    /// Access token for them, good for every uid and room.
    #[arg(long, requires = "edges")]
    token: Option<String>,
    /// Joins per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Members of a small room.
    #[arg(long, default_value_t = 5, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    room: usize,
    /// Members of the large room.
    #[arg(long, default_value_t = 500, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=5_000))]
    members: usize,
    /// Broadcasts per second into it.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    broadcasts: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 20_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    idle: usize,
    /// Numbers of rooms in the store, growing.
    #[arg(long, value_delimiter = ',', default_value = "100,10000,100000")]
    crowd: Vec<usize>,
    /// Where the programs `edge-signal` and `sfu-node` are, if not beside this one.
    #[arg(long, conflicts_with = "edges")]
    programs: Option<PathBuf>,
    /// Measure npm `protoo-server` in the same run, too: joins, broadcasts, and the memory of up to 5,000 idle connections.
    #[arg(long)]
    compare: bool,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        let ours = self.edges.is_empty() || matches!(part, Part::Joins | Part::Broadcast);
        ours && (self.parts.is_empty() || self.parts.contains(&part))
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn plan(&self) -> Plan {
        Plan { rate: self.rate, length: self.length(), warm_up: WARM_UP, room: self.room }
    }
}

/// Runs everything and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    if let Some(part) = options.parts.iter().find(|part| !options.wants(**part)) {
        anyhow::bail!("{part:?} needs edges of its own: leave out --edge");
    }
    ensure!(options.crowd.is_sorted(), "--crowd: the numbers grow");
    hold::most_per_process();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(unless_stopped(measure(options)))
}

/// Until it is done, or somebody wants it to end: then everything that it started ends with it.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report { machine: Machine::this(), ..Report::default() };
    let begun = CpuTime::now();
    let deployment = match options.edges.as_slice() {
        [] => {
            eprintln!("starting Redis, etcd, a node and two edges");
            Some(Deployment::start(2, deployment::without_limits(), options.programs.clone()).await?)
        }
        _ => None,
    };
    let edges = match &deployment {
        Some(deployment) => deployment.edges.iter().map(|edge| edge.clients).collect(),
        None => options.edges.clone(),
    };
    let targets: Vec<_> = edges.iter().map(|&edge| Target { edge, token: options.token.clone() }).collect();
    report.edges = targets.len();
    for part in ALL.into_iter().filter(|part| options.wants(*part)) {
        eprintln!("measuring {part:?}");
        // What the others came to is worth having without it.
        if let Err(error) = self::part(part, options, &targets, deployment.as_ref(), &mut report).await {
            report.failed.push(format!("{part:?}: {error:#}"));
        }
    }
    drop(deployment);
    if options.compare {
        eprintln!("measuring protoo-server");
        let amount = Amount {
            joins: options.plan(),
            members: options.members,
            broadcasts: options.broadcasts,
            length: options.length(),
            throughput: THROUGHPUT_ROOM,
            idle: options.idle.min(5_000),
        };
        report.protoo = Some(protoo::run(amount).await.context("protoo-server")?);
    }
    report.machine.stolen_percent = CpuTime::now().stolen_percent_since(begun);
    report.goals = goals::judge(&report);
    Ok(report)
}

async fn part(
    part: Part,
    options: &Options,
    targets: &[Target],
    deployment: Option<&Deployment>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let ours = || deployment.context("invariant: only with a deployment of its own");
    match part {
        Part::Joins => report.joins = Some(joins::run(targets, options.plan(), "join").await),
        Part::Broadcast => {
            let mut room = Room::fill(targets, options.members, 1, "large").await?;
            report.broadcast = Some(room.deliveries(options.broadcasts, options.length()).await?);
        }
        Part::Throughput => {
            let deployment = ours()?;
            let (members, senders) = THROUGHPUT_ROOM;
            let room = Room::fill(&targets[..1], members, senders, "fast").await?;
            report.throughput = Some(room.throughput(options.length(), || deployment.cpu()).await?);
        }
        Part::Idle => report.idle = Some(idle(options, ours()?).await?),
        Part::Crowd => report.crowd = crowd::run(ours()?, targets, &options.crowd, options.plan()).await?,
    }
    Ok(())
}

/// On edges that have done nothing yet, as many as the system's limit on open files makes necessary.
async fn idle(options: &Options, deployment: &Deployment) -> anyhow::Result<idle::Idle> {
    let most = hold::most_per_process();
    let edges = (1..=options.idle.div_ceil(most))
        .map(|number| deployment.edge(&format!("idle-{number}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let addresses: Vec<_> = edges.iter().map(|edge| edge.clients).collect();
    let used = || {
        let mut used = idle::Used { store_cpu: deployment.store_cpu()?, ..idle::Used::default() };
        for edge in &edges {
            let usage = edge.program.usage()?;
            used.rss_kib += usage.rss_kib;
            used.edge_cpu += usage.cpu;
        }
        Ok(used)
    };
    idle::run(&addresses, options.idle, most, options.length(), used).await
}
