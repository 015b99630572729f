//! `loadtests serve`: the system under test, started by the generator as a process of its own. It takes orders on stdin, one a
//! line, answers each with a line of JSON, and ends with its input.

mod reference;
mod sluice;

use crate::{
    allocations,
    fanout::process::{Allocations, Greeting},
    os,
};
use std::io::{BufRead, Write, stdin, stdout};

/// What forwards the media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Sluice's SFU node.
    Sluice,
    /// The same fan-out made of the `webrtc` crate's peer connections.
    Webrtc,
}

impl Engine {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Webrtc => "webrtc",
        }
    }
}

/// How to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What forwards.
    #[arg(long)]
    engine: Engine,
    /// Threads that carry media.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// CPUs that the process keeps to.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
}

/// Serves until stdin ends.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.cpus.is_empty() {
        os::pin_to(&options.cpus)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.shards.into())
        .thread_name("tokio")
        .enable_all()
        .build()?;
    let (grpc, admin) = match options.engine {
        Engine::Sluice => {
            let (grpc, admin) = runtime.block_on(sluice::start(options.shards))?;
            (grpc, Some(admin))
        }
        Engine::Webrtc => (runtime.block_on(reference::start())?, None),
    };
    say(&Greeting { grpc: format!("http://{grpc}"), admin })?;
    for order in stdin().lock().lines() {
        if order? == "allocations" {
            let (media, other) = allocations::counted();
            say(&match options.engine {
                Engine::Sluice => Allocations { media, other },
                Engine::Webrtc => Allocations { media: media + other, other: 0 },
            })?;
        }
    }
    Ok(())
}

fn say(what: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut stdout = stdout().lock();
    serde_json::to_writer(&mut stdout, what)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}
