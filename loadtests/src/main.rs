//! `loadtests`: the load generator. A JSON report goes to stdout, progress and a table for people to stderr.

use clap::{Parser, Subcommand};
use loadtests::{allocations::Counting, fanout, instructions, serve};
use std::io::Write;

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
    /// The system under test; started by the others.
    #[command(hide = true)]
    Serve(serve::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Fanout(options) => {
            let report = fanout::run(&options)?;
            eprint!("{}", report.table());
            let mut stdout = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut stdout, &report)?;
            stdout.write_all(b"\n")?;
        }
        Command::Instructions(options) => instructions::run(&options)?,
        Command::Serve(options) => serve::run(&options)?,
    }
    Ok(())
}
