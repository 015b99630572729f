//! The services of a scenario: what is done to them, and what they use. Restarted they are where they were.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use tokio::time::timeout;

use super::file::{Deed, Fault, Marks, Scenario};
use crate::fanout::process::usage;
use crate::os;
use crate::signalling::deployment::{Deployment, Edge, Layout, Program, without_limits};

/// For a client whose connection was cut to come back.
pub const GRACE: Duration = Duration::from_secs(10);
/// For a process that drains, at a restart.
const DRAIN: Duration = Duration::from_mins(1);
/// For the store to say how much memory it uses.
const ASK: Duration = Duration::from_secs(1);
/// Rooms' members in the store; other keys of theirs end with other words.
const MEMBERS: &str = "*:members";

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Used {
    /// CPU seconds since it began.
    pub cpu: f64,
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// The services.
#[derive(Debug)]
pub struct Stage {
    deployment: Deployment,
    addresses: Vec<SocketAddr>,
    paused: bool,
}

impl Stage {
    /// Starts them.
    pub async fn start(scenario: &Scenario, programs: Option<std::path::PathBuf>) -> anyhow::Result<Self> {
        let super::file::Layout { edges, nodes, shards, overload, marks } = scenario.deployment;
        let marks = marks.map_or_else(
            || json!({}),
            |Marks { refuse, shed, delay }| {
                json!({"refuse": refuse, "shed": shed, "delay": format!("{}ms", delay.0.as_millis())})
            },
        );
        let session = json!({"ttl": "60s", "grace": format!("{}s", GRACE.as_secs())});
        let overload = overload.then_some(marks);
        let layout = Layout { nodes, shards, overload, session, ..Layout::edges(edges, without_limits()) };
        let deployment = Deployment::of(layout, programs).await?;
        let addresses = deployment.edges.iter().map(|edge| edge.clients).collect();
        Ok(Self { deployment, addresses, paused: false })
    }

    /// Where clients connect.
    pub fn edges(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Where each edge and each node tells its metrics.
    pub fn admin_addresses(&self) -> anyhow::Result<Vec<(String, SocketAddr)>> {
        let edges = self.deployment.edges.iter().map(|edge| &edge.program).zip(1..);
        let nodes = self.deployment.nodes.iter().zip(1..);
        let named = edges.map(|(program, number)| (format!("edge-{number}"), program));
        named
            .chain(nodes.map(|(program, number)| (format!("node-{number}"), program)))
            .map(|(name, program)| Ok((name, program.address("admin")?)))
            .collect()
    }

    /// Carries a fault out. Blocks until what is started has started.
    pub fn carry_out(&mut self, fault: &Fault) -> anyhow::Result<()> {
        let signal = match fault.deed {
            Deed::Kill => libc::SIGKILL,
            Deed::Drain => libc::SIGTERM,
            Deed::Pause => libc::SIGSTOP,
            Deed::Resume => libc::SIGCONT,
            Deed::Restart => return self.restart(&fault.what),
        };
        if fault.what == "redis" {
            self.paused = fault.deed == Deed::Pause;
        }
        os::signal(self.process(&fault.what)?, signal).with_context(|| format!("{:?} {}", fault.deed, fault.what))
    }

    fn process(&self, name: &str) -> anyhow::Result<u32> {
        self.processes()
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, id)| id)
            .with_context(|| format!("no {name}"))
    }

    fn processes(&self) -> Vec<(String, u32)> {
        let edges = self.deployment.edges.iter().map(|edge| edge.program.id());
        let nodes = self.deployment.nodes.iter().map(Program::id);
        let edges = edges.zip(1..).map(|(id, number)| (format!("edge-{number}"), id));
        let nodes = nodes.zip(1..).map(|(id, number)| (format!("node-{number}"), id));
        let stores = [("redis", self.deployment.redis.process_id()), ("etcd", self.deployment.etcd.process_id())];
        edges.chain(nodes).chain(stores.map(|(name, id)| (name.to_owned(), id))).collect()
    }

    fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let (kind, number) = name.split_once('-').context("an edge or a node")?;
        let place = number.parse::<usize>()?.checked_sub(1).context("numbers begin at 1")?;
        match kind {
            "edge" => {
                let edge = self.deployment.edges.get_mut(place).context("an edge")?;
                wait_for(&mut edge.program, name)?;
                let Edge { clients, .. } = *edge;
                self.deployment.edges[place] = self.deployment.edge_at(name, clients)?;
            }
            "node" => {
                wait_for(self.deployment.nodes.get_mut(place).context("a node")?, name)?;
                self.deployment.nodes[place] = self.deployment.node(name)?;
            }
            _ => bail!("{name} is not restarted"),
        }
        Ok(())
    }

    /// What each of those that run uses.
    pub fn used(&self) -> Vec<(String, Used)> {
        let of = |(name, id)| {
            let usage = usage(id).ok()?;
            let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count() as u64;
            Some((name, Used { cpu: usage.cpu, rss_kib: usage.rss_kib, descriptors }))
        };
        self.processes().into_iter().filter_map(of).collect()
    }

    /// Bytes that the store says it uses for what it keeps; `None` while it hangs.
    pub async fn store_bytes(&self) -> Option<u64> {
        if self.paused {
            return None;
        }
        let asked = timeout(ASK, self.deployment.redis.command(&["INFO", "memory"])).await.ok()?;
        let mut lines = asked.text().lines();
        lines.find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok())
    }

    /// Members of all rooms in the store.
    pub async fn members_in_store(&self) -> anyhow::Result<u64> {
        ensure!(!self.paused, "the store hangs");
        let redis = &self.deployment.redis;
        let keys = redis.command(&["KEYS", MEMBERS]).await;
        let mut members = 0;
        for key in keys.list() {
            let count = redis.command(&["HLEN", key.text()]).await;
            members += match count {
                servers::Reply::Number(number) => number as u64,
                other => bail!("HLEN {}: {other:?}", key.text()),
            };
        }
        Ok(members)
    }
}

fn wait_for(program: &mut Program, name: &str) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + DRAIN;
    while !program.has_ended() {
        ensure!(std::time::Instant::now() < deadline, "{name} has not ended within {DRAIN:?}: kill or drain it first");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
