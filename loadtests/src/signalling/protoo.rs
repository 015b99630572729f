//! npm `protoo-server` beside Sluice: the same clients do the same join and the same broadcast.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tempfile::TempDir;

use super::broadcast::{Deliveries, Room, Throughput};
use super::client::Target;
use super::deployment::Program;
use super::idle::{self, Idle, Used};
use super::joins::{self, Joins, Plan};

/// Where its script and its lock file are.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// What it came to; one process, which is both its edge and its store.
#[derive(Debug, Clone, Serialize)]
pub struct Protoo {
    /// As for Sluice.
    pub joins: Joins,
    /// As for Sluice.
    pub broadcast: Deliveries,
    /// As for Sluice.
    pub throughput: Throughput,
    /// As for Sluice, with fewer connections.
    pub idle: Idle,
}

/// How much is to be done, as for Sluice.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Joins.
    pub joins: Plan,
    /// Members of the large room.
    pub members: usize,
    /// Broadcasts per second into it.
    pub broadcasts: u32,
    /// For how long.
    pub length: Duration,
    /// Members of the room of the throughput, and how many of them talk.
    pub throughput: (usize, usize),
    /// Idle connections.
    pub idle: usize,
}

/// Installs it, starts it, measures.
pub async fn run(amount: Amount) -> anyhow::Result<Protoo> {
    let peers = Path::new(PEERS);
    ensure!(peers.is_dir(), "{PEERS} is missing: comparisons run where this program was built");
    if !peers.join("node_modules/protoo-server").is_dir() {
        let mut npm = Command::new("npm");
        let installed = npm.args(["ci", "--ignore-scripts", "--silent"]).current_dir(peers).status();
        ensure!(installed.context("npm does not start, is it installed?")?.success(), "npm ci failed in {PEERS}");
    }
    let directory = TempDir::with_prefix("protoo")?;
    let script = peers.join("protoo-server.mjs");
    let script = script.to_str().context("a path of text")?;
    let program = Program::start(Path::new("node"), &[script], directory.path(), "protoo-server")?;
    let targets = [Target { edge: program.address("clients")?, token: None }];
    let joins = joins::run(&targets, amount.joins, "protoo").await;
    let mut room = Room::fill(&targets, amount.members, 1, "protoo-large").await?;
    let broadcast = room.deliveries(amount.broadcasts, amount.length).await?;
    drop(room);
    let (members, senders) = amount.throughput;
    let room = Room::fill(&targets, members, senders, "protoo-fast").await?;
    let throughput = room.throughput(amount.length, || Ok((program.usage()?.cpu, 0.0))).await?;
    let edges = [targets[0].edge];
    let used = || {
        let usage = program.usage()?;
        Ok(Used { rss_kib: usage.rss_kib, edge_cpu: usage.cpu, store_cpu: 0.0 })
    };
    let idle = idle::run(&edges, amount.idle, amount.idle, amount.length, used).await?;
    Ok(Protoo { joins, broadcast, throughput, idle })
}
