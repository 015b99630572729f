//! `loadtests logging`: what a line of the log costs the thread that logs it, at a steady pace, by where it goes. A process has one log,
//! so each case is a process of its own ([`child`]).

pub mod child;
pub mod report;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use servers::Kafka;

use crate::signalling::report::{CpuTime, Machine};
use child::Cost;
use report::{Case, Report};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Lines a second.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Seconds of each case.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Without Kafka, real or away: only what goes to stdout.
    #[arg(long)]
    no_kafka: bool,
}

/// Runs everything and gives the report. Progress goes to stderr.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let (mut machine, begun) = (Machine::this(), CpuTime::now());
    let mut cases = vec![case("json", None, options)?];
    if !options.no_kafka {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let broker = runtime.block_on(Kafka::start());
        cases.push(case("json and Kafka", Some(&broker.brokers()), options)?);
        cases.push(case("json and Kafka, which is away", Some(&Kafka::not_started().brokers()), options)?);
    }
    machine.stolen_percent = CpuTime::now().stolen_percent_since(begun);
    Ok(Report::new(machine, options.rate, cases))
}

fn case(name: &'static str, brokers: Option<&str>, options: &Options) -> anyhow::Result<Case> {
    eprintln!("measuring {name}");
    let directory = tempfile::TempDir::with_prefix("logging")?;
    let lines = directory.path().join("lines");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["log", "--rate", &options.rate.to_string(), "--seconds", &options.seconds.to_string()]);
    command.args(brokers.into_iter().flat_map(|brokers| ["--brokers", brokers]));
    let output = command.stdin(Stdio::null()).stdout(File::create(&lines)?).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{name}: {}\n{said}", output.status);
    let cost = said.lines().last().with_context(|| format!("{name} says nothing"))?;
    let cost: Cost = serde_json::from_str(cost).with_context(|| said.clone())?;
    let written = BufReader::new(File::open(&lines)?).lines().map_while(Result::ok);
    let written = written.filter(|line| line.contains(child::MESSAGE)).count() as u64;
    Ok(Case { name, cost, written })
}
