//! A deployment on this machine for as long as it is measured: real Redis and etcd, real edges and nodes, each a process of its
//! own on loopback, gone on drop.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use servers::{Etcd, Redis};
use tempfile::TempDir;

use crate::fanout::process::{Usage, usage};

/// For a program to say that it is ready.
const START: Duration = Duration::from_secs(30);
/// Lines of it that wait to be looked at.
const LINES: usize = 16;
/// Sessions outlive every measurement: rooms stay in the store without a socket that keeps them alive.
const SESSION_TTL: &str = "1h";

/// A program of this release, started.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// What it said when it was ready.
    ready: String,
}

impl Program {
    /// Starts one and waits until it says that it is ready; its log goes to a file in `directory`.
    pub fn start(program: &Path, arguments: &[&str], directory: &Path, name: &str) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("invariant: stdout is piped")?).lines();
        let mut started = Self { child, ready: String::new() };
        // A thread of its own, so that waiting can end: it does when the program does. It reads on when nobody listens any more, so
        // that the program can write on.
        let (tell, told) = mpsc::sync_channel(LINES);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        let deadline = std::time::Instant::now() + START;
        while !started.ready.starts_with("ready:") {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match told.recv_timeout(left) {
                Ok(line) => started.ready = line,
                Err(_) => bail!("{name} is not ready:\n{}", std::fs::read_to_string(&log).unwrap_or_default()),
            }
        }
        Ok(started)
    }

    /// What it said under `name=` when it was ready.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let value = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.with_context(|| format!("no {name} in “{}”", self.ready))?.parse().context("an address")
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.id())
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }

    /// It has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An edge of the deployment.
#[derive(Debug)]
pub struct Edge {
    /// The process.
    pub program: Program,
    /// Where clients connect.
    pub clients: SocketAddr,
}

/// What is started beside Redis and etcd, and with which settings.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Edges: `edge-1` and so on.
    pub edges: usize,
    /// SFU nodes: `node-1` and so on.
    pub nodes: usize,
    /// Shards of each node.
    pub shards: usize,
    /// `overload` of the nodes, and edges have the marks that they have by themselves. None: marks that are never reached, of both.
    pub overload: Option<Value>,
    /// Limits of the edges.
    pub limits: Value,
    /// `session` of the edges, beside the secret.
    pub session: Value,
}

impl Layout {
    /// So many edges with these limits, and one node.
    pub fn edges(edges: usize, limits: Value) -> Self {
        Self { edges, nodes: 1, shards: 1, overload: None, limits, session: json!({"ttl": SESSION_TTL}) }
    }
}

/// Everything that is started for a measurement.
#[derive(Debug)]
pub struct Deployment {
    /// Rooms.
    pub redis: Redis,
    /// What edges and nodes know of each other.
    pub etcd: Etcd,
    /// The nodes.
    pub nodes: Vec<Program>,
    /// Those that clients are told of.
    pub edges: Vec<Edge>,
    layout: Layout,
    binaries: PathBuf,
    directory: TempDir,
}

/// Limits of edges where what is measured is the work and not the limits.
pub fn without_limits() -> Value {
    json!({
        "connections": 50_000,
        "connections_per_address": 50_000,
        "connection_rate": 100_000,
        "connection_burst": 100_000,
        "edge_connection_rate": 100_000,
        "edge_connection_burst": 100_000,
        "message_rate": 1_000_000,
        "message_burst": 1_000_000,
        "room_message_rate": 1_000_000,
        "room_message_burst": 1_000_000,
        "room_broadcast_bytes": 1_000_000_000,
        "room_join_rate": 1_000_000,
        "room_join_burst": 1_000_000,
        "edge_message_rate": 1_000_000,
        "edge_message_burst": 1_000_000,
        "rooms": 1_000_000,
        "rooms_per_connection": 10_000,
    })
}

impl Deployment {
    /// Starts one with so many edges and these `limits` of theirs, with the programs in this directory, or those that were built
    /// beside this one.
    pub async fn start(edges: usize, limits: Value, programs: Option<PathBuf>) -> anyhow::Result<Self> {
        Self::of(Layout::edges(edges, limits), programs).await
    }

    /// Starts one with this layout, likewise.
    pub async fn of(layout: Layout, programs: Option<PathBuf>) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let binaries = match programs {
            Some(programs) => programs,
            None => own.parent().context("invariant: a program is in a directory")?.to_owned(),
        };
        for name in ["edge-signal", "sfu-node"] {
            if !binaries.join(name).is_file() {
                let missing = binaries.join(name);
                bail!(
                    "{} is missing: cargo build --release -p edge-signal -p sfu-node -p loadtests",
                    missing.display()
                );
            }
        }
        let directory = TempDir::with_prefix("loadtests")?;
        // As a deployment has it: written down every second, without anybody waiting for it.
        let redis = Redis::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]).await;
        let etcd = Etcd::start().await;
        let (edges, nodes) = (layout.edges, layout.nodes);
        let mut deployment = Self { redis, etcd, nodes: Vec::new(), edges: Vec::new(), layout, binaries, directory };
        for number in 1..=nodes {
            let node = deployment.node(&format!("node-{number}"))?;
            deployment.nodes.push(node);
        }
        for number in 1..=edges {
            let edge = deployment.edge(&format!("edge-{number}"))?;
            deployment.edges.push(edge);
        }
        Ok(deployment)
    }

    /// Starts a node, which is the caller's.
    pub fn node(&self, id: &str) -> anyhow::Result<Program> {
        // What is measured is what it does, and not what it leaves away.
        let never = json!({"refuse": 1.5, "shed": 2.0, "delay": "1h"});
        let settings = json!({
            "id": id,
            "grpc": {"listen": "127.0.0.1:0"},
            "admin_listen": "127.0.0.1:0",
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "media": {"ip": ["127.0.0.1"], "first_port": 0, "shards": self.layout.shards, "affinity": "none"},
            "overload": self.layout.overload.clone().unwrap_or(never),
        });
        Self::run(&self.binaries, &self.directory, "sfu-node", id, &settings)
    }

    /// Starts one more edge, which is the caller's.
    pub fn edge(&self, id: &str) -> anyhow::Result<Edge> {
        self.edge_at(id, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at this address, to which clients come back.
    pub fn edge_at(&self, id: &str, listen: SocketAddr) -> anyhow::Result<Edge> {
        let mut session = self.layout.session.clone();
        session["secret"] = json!("what the edges of a load test sign with");
        // As of the nodes: the generator and all others are on the same CPUs.
        let never = json!({"cpu": 1.0, "lag": "10s", "memory": 1.0});
        let settings = json!({
            "id": id,
            "listen": listen,
            "admin_listen": "127.0.0.1:0",
            "redis": {"url": self.redis.url()},
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "session": session,
            "limits": self.layout.limits,
            "overload": if self.layout.overload.is_some() { json!({}) } else { never },
            "log": {"level": "warn"},
        });
        let program = Self::run(&self.binaries, &self.directory, "edge-signal", id, &settings)?;
        let clients = program.address("clients")?;
        Ok(Edge { program, clients })
    }

    fn run(binaries: &Path, directory: &TempDir, program: &str, id: &str, settings: &Value) -> anyhow::Result<Program> {
        let path = directory.path().join(format!("{id}.yaml"));
        // JSON is YAML.
        std::fs::write(&path, settings.to_string())?;
        let path = path.to_str().context("a path of text")?;
        Program::start(&binaries.join(program), &["--config", path], directory.path(), id)
    }

    /// CPU seconds that the store has used so far.
    pub fn store_cpu(&self) -> anyhow::Result<f64> {
        Ok(usage(self.redis.process_id())?.cpu)
    }

    /// CPU seconds that the edges have used so far, and those of the store.
    pub fn cpu(&self) -> anyhow::Result<(f64, f64)> {
        let edges: anyhow::Result<f64> = self.edges.iter().map(|edge| Ok(edge.program.usage()?.cpu)).sum();
        Ok((edges?, self.store_cpu()?))
    }
}
