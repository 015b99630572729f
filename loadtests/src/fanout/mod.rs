//! `loadtests fanout`: what forwarding a packet costs. One process is the system under test, with a CPU of its own; this one plays
//! everybody else, from another CPU, as cheaply as it can.

pub mod payload;
pub mod process;
pub mod publisher;
pub mod report;
pub mod scenario;
pub mod scrapes;
pub mod setup;
pub mod traffic;

use crate::{os, serve::Engine};
use anyhow::{Context, bail};
use process::{Allocations, Node, Usage};
use report::{Report, Run};
use scenario::Scenario;
use scrapes::Scrapes;
use setup::Setup;
use std::time::{Duration, Instant};
use traffic::Traffic;

/// After the last peer has connected, before its memory is read: late handshake messages, freed buffers.
const SETTLE: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The calls, by name; all of them if none is given.
    #[arg(long = "scenario", value_parser = parse_scenario)]
    scenarios: Vec<Scenario>,
    /// Forwarded packets per second of the video calls, all subscribers together (audio has 50 per stream and second).
    #[arg(long, default_value_t = 50_000)]
    rate: u32,
    /// Seconds measured per run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds of traffic before that: retransmission rings allocate until they are full, which takes 4.1 s at the 250 packets a
    /// second of video-200.
    #[arg(long, default_value_t = 6)]
    warm_up: u64,
    /// Runs of each call; medians are reported.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Shards of the system under test, each with a CPU of its own.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Receivers that coalesce (`UDP_GRO`): on loopback nobody then cuts the node's messages into datagrams, as with a network
    /// card that does it in hardware. Without, the kernel cuts them in the node's time.
    #[arg(long)]
    coalesce: bool,
    /// Publishers that spread a frame over bursts of 5 ms, as browsers do. Without, it comes in one burst: the best case for
    /// segmentation offload.
    #[arg(long)]
    paced: bool,
    /// Measure each call a second time while its metrics are asked for once in so many milliseconds: in turn, in the same run.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    scrape_every: Option<u64>,
    /// Measure the same call through another engine too, run by run in turn with Sluice at the same rate.
    #[arg(long)]
    compare: Option<Engine>,
    /// Forwarded packets per second of that comparison: a rate that the other engine sustains on one CPU.
    #[arg(long, default_value_t = 20_000)]
    compare_rate: u32,
    /// The call of the comparison.
    #[arg(long, default_value = "video-50", value_parser = parse_scenario)]
    compare_scenario: Scenario,
}

fn parse_scenario(name: &str) -> Result<Scenario, String> {
    let names = Scenario::ALL.map(|scenario| scenario.name).join(", ");
    Scenario::named(name).ok_or_else(|| format!("one of: {names}"))
}

/// One measurement of a series.
#[derive(Debug, Clone, Copy)]
struct Trial {
    engine: Engine,
    scenario: Scenario,
    rate: u32,
    /// Metrics are asked for this often.
    scrape_every: Option<Duration>,
}

/// Runs everything and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let cpus = os::available_cpus()?;
    if options.shards >= cpus.len() {
        let (shards, all) = (options.shards, cpus.len());
        bail!("{shards} shards leave no CPU of {all} for the generator: its work would be measured, too");
    }
    let (node_cpus, own_cpus) = cpus.split_at(options.shards);
    os::pin_to(own_cpus)?;
    let scenarios = if options.scenarios.is_empty() { Scenario::ALL.to_vec() } else { options.scenarios.clone() };
    let sluice = |scenario, rate| Trial { engine: Engine::Sluice, scenario, rate, scrape_every: None };
    let mut trials = Vec::new();
    for scenario in scenarios {
        let trial = sluice(scenario, options.rate);
        trials.push(trial);
        if let Some(every) = options.scrape_every {
            trials.push(Trial { scrape_every: Some(Duration::from_millis(every)), ..trial });
        }
    }
    if let Some(engine) = options.compare {
        trials.push(sluice(options.compare_scenario, options.compare_rate));
        trials.push(Trial { engine, ..sluice(options.compare_scenario, options.compare_rate) });
    }
    let mut runs = Vec::new();
    for round in 1..=options.runs {
        for trial in &trials {
            let (engine, call, rate) = (trial.engine.name(), trial.scenario.name, trial.rate);
            let scraped = if trial.scrape_every.is_some() { ", scraped" } else { "" };
            eprintln!("run {round} of {}: {engine} {call} at {rate} packets/s{scraped}", options.runs);
            runs.push(measure(*trial, options, node_cpus)?);
        }
    }
    Ok(Report::new(cpus.len(), options.coalesce, options.paced, runs))
}

fn measure(trial: Trial, options: &Options, cpus: &[usize]) -> anyhow::Result<Run> {
    let Trial { engine, scenario, rate, scrape_every } = trial;
    let mut node = Node::start(engine, options.shards, cpus).context("starting the system under test")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let alone = node.usage()?;
    let setup = runtime.block_on(Setup::new(&node.greeting.grpc, scenario))?;
    let publishers = runtime.block_on(setup.publishers())?;
    let before = node.usage()?;
    let subscribers = runtime.block_on(setup.subscribers())?;
    let stream = scenario.stream(rate);
    let publishers = publishers.into_iter().map(|endpoint| (endpoint, stream)).collect();
    std::thread::sleep(SETTLE);
    let idle = node.usage()?;
    let drops = process::udp_drops()?;

    let mut traffic = Traffic::new(publishers, subscribers, options.paced, options.coalesce)?;
    traffic.run(Duration::from_secs(options.warm_up))?;
    let (allocated, used, started) = (node.allocations()?, node.usage()?, Instant::now());
    let scrapes = scrape_every.zip(node.greeting.admin).map(|(every, admin)| Scrapes::start(admin, every));
    let arrivals = traffic.run(Duration::from_secs(options.seconds))?;
    let (end, seconds) = (node.usage()?, started.elapsed().as_secs_f64());
    let allocations = difference(allocated, node.allocations()?);
    let scraped = scrapes.map(Scrapes::finish).transpose()?;
    let totals = traffic.finish()?;

    let (user_us, system_us) = split(used, end, arrivals.packets);
    let drops_after = process::udp_drops()?;
    let microseconds = |quantile| arrivals.delay_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Run {
        engine: engine.name(),
        scenario,
        publisher_rate: stream.packet_rate(),
        payload_bytes: if scenario.video { payload::VIDEO_BYTES } else { payload::AUDIO_BYTES },
        seconds,
        forwarded: arrivals.packets,
        cpu_us: user_us + system_us,
        user_us,
        system_us,
        allocations_per_packet: allocations.media as f64 / arrivals.packets.max(1) as f64,
        allocations,
        delay_p50_us: microseconds(0.5),
        delay_p99_us: microseconds(0.99),
        delay_most_us: arrivals.delay_ns.max() as f64 / 1e3,
        scraped,
        totals,
        socket_drops: (drops_after.0 - drops.0, drops_after.1 - drops.1),
        rss_kib: [alone.rss_kib, idle.rss_kib, end.rss_kib],
        kib_per_subscriber: idle.rss_kib.saturating_sub(before.rss_kib) as f64
            / scenario.subscriber_transports() as f64,
    })
}

fn difference(before: Allocations, after: Allocations) -> Allocations {
    Allocations { media: after.media - before.media, other: after.other - before.other }
}

/// CPU microseconds per packet in user and system mode: the scheduler's exact sum, divided as the ticks were.
fn split(before: Usage, after: Usage, packets: u64) -> (f64, f64) {
    let per_packet = (after.cpu - before.cpu) * 1e6 / packets.max(1) as f64;
    let (user, system) = (after.user_ticks - before.user_ticks, after.system_ticks - before.system_ticks);
    let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
    (per_packet * user_share, per_packet * (1.0 - user_share))
}
