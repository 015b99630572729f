//! Edges and SFU nodes as processes, with the stores they share, each behind links of its own that can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::ports;
use crate::process::Process;
use crate::proxy::Proxy;

/// What signs session tokens on all edges.
const SECRET: &str = "the-fault-rigs-secret-of-32-bytes-and-more";
/// Where the deployment is in etcd.
const PREFIX: &str = "/rig";

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The region of each edge.
    pub edges: Vec<&'static str>,
    /// The region of each SFU node.
    pub nodes: Vec<&'static str>,
    /// `session.ttl` and `session.grace`.
    pub ttl: Duration,
    /// `session.grace`.
    pub grace: Duration,
    /// Edges reach nodes through links that tell them apart.
    pub node_links: bool,
}

impl Default for Plan {
    /// One edge and one node.
    fn default() -> Self {
        Self {
            edges: vec!["home"],
            nodes: vec!["home"],
            ttl: Duration::from_mins(1),
            grace: Duration::from_secs(30),
            node_links: false,
        }
    }
}

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    /// Its process.
    pub process: Process,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
}

/// A running SFU node.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Its id.
    pub id: String,
    /// Where its service listens.
    pub grpc: SocketAddr,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
    /// The link through which edges reach it, if the plan has such.
    pub link: Option<Proxy>,
}

/// Everything that was started. All of it ends when this is dropped.
#[derive(Debug)]
pub struct Deployment {
    /// The edges, in the plan's order.
    pub edges: Vec<Edge>,
    /// The nodes, in the plan's order.
    pub nodes: Vec<Node>,
    // Last: processes write into it until they end.
    _directory: TempDir,
}

impl Deployment {
    /// Starts it and waits until each part is ready.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("rig-")?;
        let mut nodes = Vec::new();
        for (number, region) in plan.nodes.iter().enumerate() {
            nodes.push(start_node(&directory, plan, number, region)?);
        }
        for node in &mut nodes {
            node.process.ready().await?;
        }
        let mut edges = Vec::new();
        for (number, region) in plan.edges.iter().enumerate() {
            edges.push(start_edge(&directory, plan, number, region, &nodes)?);
        }
        for edge in &mut edges {
            edge.process.ready().await.context("an edge")?;
        }
        Ok(Self { edges, nodes, _directory: directory })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.edges.iter().map(|edge| edge.address).collect()
    }
}

fn start_node(directory: &TempDir, plan: &Plan, number: usize, region: &str) -> anyhow::Result<Node> {
    let (grpc, admin, id) = (ports::free(), ports::free(), format!("node-{number}"));
    let link = if plan.node_links { Some(Proxy::by_caller(grpc)?) } else { None };
    let settings = format!(
        "id: {id}\nregion: {region}\ngrpc: {{listen: '{grpc}'}}\nadmin_listen: {admin}\n\
         media: {{ip: [127.0.0.1], first_port: 0, shards: 1, affinity: none}}\n"
    );
    let process = Process::start(directory.path(), &id, "sfu-node", &settings)?;
    Ok(Node { process, id, grpc, admin, link })
}

fn start_edge(directory: &TempDir, plan: &Plan, number: usize, region: &str, nodes: &[Node]) -> anyhow::Result<Edge> {
    let (address, admin, id) = (ports::free(), ports::free(), format!("edge-{number}"));
    let (ttl, grace) = (plan.ttl.as_secs(), plan.grace.as_secs());
    let mut settings = format!(
        "id: {id}\nregion: {region}\nlisten: {address}\nadmin_listen: {admin}\n\
         session: {{ttl: {ttl}s, grace: {grace}s}}\nnodes:\n"
    );
    for node in nodes {
        let at = node.link.as_ref().map_or(node.grpc, Proxy::address);
        settings += &format!("- {{id: {}, grpc: 'http://{at}'}}\n", node.id);
    }
    let process = Process::start(directory.path(), &id, "edge-signal", &settings)?;
    Ok(Edge { process, address, admin })
}
