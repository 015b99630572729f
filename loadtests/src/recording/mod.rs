//! `loadtests recording`: what it costs a node to record, beside what it costs to receive. The node is a program of its own; this one
//! publishes, first without and then with a recording of each stream, on the same CPUs, and reads the manifests at the end.

pub mod node;
pub mod report;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::sfu::RecordRequest;
use proto::sfu::sfu_node_client::SfuNodeClient;

use crate::fanout::process::udp_drops;
use crate::fanout::publisher::Stream;
use crate::fanout::scenario::Scenario;
use crate::fanout::setup::Setup;
use crate::fanout::traffic::Traffic;
use crate::signalling::report::{CpuTime, Machine};
use node::{Counts, Cpu, Node};
use report::{Part, Report};

/// One video of 1 Mbit/s, in packets of 1,100 bytes.
const VIDEO_RATE: u32 = 114;
/// After recordings have been begun or ended: what is under way then belongs to neither phase.
const SETTLE: Duration = Duration::from_secs(2);
/// For one call to the node.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// For all manifests after the end.
const DELIVERED_WITHIN: Duration = Duration::from_mins(2);

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Audio streams at once, 50 packets a second each; 0: none.
    #[arg(long, default_value_t = 500)]
    audio: usize,
    /// Video streams of 1 Mbit/s at once; 0: none.
    #[arg(long, default_value_t = 20)]
    video: usize,
    /// Seconds measured without, and with recordings.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Shards of the node.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Where `sfu-node` is; by default beside this program.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where the node's spool and what it delivers are; by default in the temporary directory.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Runs everything and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let (mut machine, begun) = (Machine::this(), CpuTime::now());
    let parts = [("audio", options.audio, false), ("video", options.video, true)];
    let wanted = parts.into_iter().filter(|(_, streams, _)| *streams > 0);
    let measured: anyhow::Result<Vec<Part>> = wanted
        .map(|(name, streams, video)| {
            eprintln!("measuring {streams} {name} streams");
            measure(name, streams, video, options)
        })
        .collect();
    machine.stolen_percent = CpuTime::now().stolen_percent_since(begun);
    Ok(Report::new(machine, measured?))
}

fn measure(name: &'static str, streams: usize, video: bool, options: &Options) -> anyhow::Result<Part> {
    let node = Node::start(options.shards, options.programs.as_deref(), options.directory.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let scenario = Scenario { name, publishers: streams, subscribers: 0, streams_per_transport: 1, video };
    let publishers = runtime.block_on(async { Setup::new(&node.grpc, scenario).await?.publishers().await })?;
    let stream = if video { Stream::Video { packet_rate: VIDEO_RATE } } else { Stream::Audio };
    let publishers = publishers.into_iter().map(|endpoint| (endpoint, stream)).collect();
    let drops = udp_drops()?.0;

    let mut traffic = Traffic::new(publishers, Vec::new(), true, false)?;
    let seconds = Duration::from_secs(options.seconds);
    traffic.run(SETTLE)?;
    let without = used(&mut traffic, &node, seconds)?;
    record_all(&mut traffic, &node, streams, true)?;
    let with = used(&mut traffic, &node, seconds)?;
    record_all(&mut traffic, &node, streams, false)?;
    let delivered = node.delivered(streams, DELIVERED_WITHIN)?;
    let counts: Counts = delivered.iter().sum();
    Ok(Part::new(name, streams, without, with, counts, udp_drops()?.0 - drops))
}

/// What the node uses in this time, per second.
fn used(traffic: &mut Traffic, node: &Node, time: Duration) -> anyhow::Result<Cpu> {
    let (before, begun) = (node.cpu()?, Instant::now());
    traffic.run(time)?;
    let after = node.cpu()?;
    Ok(after.since(before, begun.elapsed()))
}

/// Begins or ends recordings of all streams while they flow.
fn record_all(traffic: &mut Traffic, node: &Node, streams: usize, on: bool) -> anyhow::Result<()> {
    let grpc = node.grpc.clone();
    let asking = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask_all(&grpc, streams, on))
    });
    while !asking.is_finished() {
        traffic.run(Duration::from_millis(50))?;
    }
    asking.join().ok().context("asking for recordings panicked")??;
    traffic.run(SETTLE).map(drop)
}

async fn ask_all(grpc: &str, streams: usize, on: bool) -> anyhow::Result<()> {
    let mut client = SfuNodeClient::connect(grpc.to_owned()).await.context("reaching the node's gRPC")?;
    for number in 0..streams {
        let request = RecordRequest {
            publication_id: crate::fanout::setup::publication(number),
            recording_id: format!("recording-{number}"),
            on,
            ..RecordRequest::default()
        };
        tokio::time::timeout(CALL_WITHIN, client.record(request)).await.context("the node does not answer")??;
    }
    Ok(())
}
