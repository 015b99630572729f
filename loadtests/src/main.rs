//! `loadtests`: the load generator. A JSON report goes to stdout, progress and a table for people to stderr.

use clap::{Parser, Subcommand};
use loadtests::{allocations::Counting, fanout, instructions, logging, play, reconnect, recording, serve, signalling};
use serde::Serialize;
use std::{io::Write, process::ExitCode};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Load generator for Sluice.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What forwarding a packet costs: CPU, allocations, delay, loss, memory.
    Fanout(fanout::Options),
    /// Runs the core's fan-out alone so many times, for an instruction counter to watch.
    Instructions(instructions::Options),
    /// What edges do per second and what they cost, on real Redis and etcd: joins, broadcasts, memory.
    Signalling(signalling::Options),
    /// Everybody is cut off at once, and an edge dies: how soon all are back, and whether anything is lost.
    Reconnect(reconnect::Options),
    /// What recording costs a node beside receiving: CPU for each stream, and whether any packet is lacking.
    Recording(recording::Options),
    /// Plays a scenario from a file: who comes when, what is done to the services, what must hold.
    Run(play::FileOptions),
    /// Plays a scenario with rooms of many shapes (loadtests/scenarios/rooms.yaml).
    Rooms(play::RoomsOptions),
    /// Plays a long scenario with a small churn: memory stays, no descriptor is leaked, nobody is left in the store.
    Soak(play::SoakOptions),
    /// What a line of the log costs the thread that logs it.
    Logging(logging::Options),
    /// The system under test; started by the others.
    #[command(hide = true)]
    Serve(serve::Options),
    /// A process that logs; started by `logging`.
    #[command(hide = true)]
    Log(logging::child::Options),
    /// Idle connections; started by `signalling`.
    #[command(hide = true)]
    Hold(signalling::hold::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Fanout(options) => {
            let report = fanout::run(&options)?;
            tell(&report, &report.table())?;
        }
        Command::Signalling(options) => {
            let report = signalling::run(&options)?;
            tell(&report, &report.table())?;
            // No matter how it was built: that is no question of speed.
            return Ok(if report.failed.is_empty() { judged(&report.goals) } else { ExitCode::FAILURE });
        }
        Command::Reconnect(options) => {
            let report = reconnect::run(&options)?;
            tell(&report, &report.table())?;
            return Ok(judged(&report.goals));
        }
        Command::Recording(options) => {
            let report = recording::run(&options)?;
            tell(&report, &report.table())?;
            return Ok(judged(&report.goals));
        }
        Command::Logging(options) => {
            let report = logging::run(&options)?;
            tell(&report, &report.table())?;
            return Ok(judged(&report.goals));
        }
        Command::Run(options) => return played(&options.run()?),
        Command::Rooms(options) => return played(&options.run()?),
        Command::Soak(options) => return played(&options.run()?),
        Command::Instructions(options) => instructions::run(&options)?,
        Command::Log(options) => logging::child::run(&options)?,
        Command::Serve(options) => serve::run(&options)?,
        Command::Hold(options) => signalling::hold::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A scenario's limits are its file's own: missed is missed, no matter how this was built.
fn played(report: &play::report::Report) -> anyhow::Result<ExitCode> {
    tell(report, &report.table())?;
    Ok(if report.goals.iter().all(|goal| goal.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report for programs to stdout, for people to stderr.
fn tell(report: &impl Serialize, table: &str) -> anyhow::Result<()> {
    eprint!("{table}");
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, report)?;
    stdout.write_all(b"\n")?;
    Ok(())
}

/// A goal that was missed is a failure, of a program that was built to be quick.
fn judged(goals: &[signalling::goals::Goal]) -> ExitCode {
    let missed = goals.iter().any(|goal| !goal.met);
    if missed && !cfg!(debug_assertions) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
