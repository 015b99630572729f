//! Edges and SFU nodes as processes, and the stores they share, each pair joined by a link of its own that can be cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use servers::{Etcd, EtcdCluster, Redis, RedisSentinels};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ports;
use crate::process::Process;
use crate::proxy::{Mode, Proxy};

/// What signs session tokens on all edges.
const SECRET: &str = "the-fault-rigs-secret-of-32-bytes-and-more";

/// Health is answered at once, on a machine that is not overloaded.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How rooms are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomStore {
    /// One Redis that loses everything when it ends.
    Forgetful,
    /// One Redis that has written to disk what it has answered.
    Durable,
    /// A master and its replicas, found through sentinels. Edges reach them directly.
    Sentinels,
}

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The region of each edge.
    pub edges: &'static [&'static str],
    /// The region of each SFU node.
    pub nodes: &'static [&'static str],
    /// `session.ttl`.
    pub ttl: Duration,
    /// `session.grace`.
    pub grace: Duration,
    /// How rooms are kept.
    pub rooms: RoomStore,
    /// Three members of etcd, not one.
    pub three_etcds: bool,
    /// Edges reach nodes through links that tell edges apart. A node behind such a link never refuses connections.
    pub node_links: bool,
}

impl Default for Plan {
    /// Two edges and two nodes in one region, with the times that are the default.
    fn default() -> Self {
        Self {
            edges: &["home", "home"],
            nodes: &["home", "home"],
            ttl: Duration::from_mins(1),
            grace: Duration::from_secs(30),
            rooms: RoomStore::Forgetful,
            three_etcds: false,
            node_links: false,
        }
    }
}

/// The servers that keep rooms.
#[derive(Debug)]
pub enum Rooms {
    /// One.
    Single(Redis),
    /// Several.
    Sentinels(RedisSentinels),
}

/// Where nodes and edges are registered.
#[derive(Debug)]
pub enum Registry {
    /// One etcd.
    Single(Etcd),
    /// Three.
    Three(EtcdCluster),
}

impl Registry {
    /// Where each member listens.
    fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let endpoints = match self {
            Self::Single(one) => vec![one.endpoint()],
            Self::Three(all) => all.endpoints(),
        };
        let address = |endpoint: &String| endpoint.strip_prefix("http://").and_then(|rest| rest.parse().ok());
        endpoints.iter().map(|endpoint| address(endpoint).with_context(|| format!("etcd at {endpoint}"))).collect()
    }

    /// Kills all of it.
    pub fn stop(&mut self) {
        match self {
            Self::Single(one) => one.stop(),
            Self::Three(all) => all.stop(),
        }
    }

    /// Starts it with what it has on disk.
    pub async fn start_again(&mut self) {
        match self {
            Self::Single(one) => one.start_again().await,
            Self::Three(all) => all.start_again().await,
        }
    }

    /// Kills the member that leads the others.
    pub async fn kill_leader(&mut self) {
        match self {
            Self::Single(_) => panic!("one alone has no leader to lose"),
            Self::Three(all) => all.leader().await.stop(),
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
    /// Its link to Redis; none with sentinels.
    pub redis: Option<Proxy>,
    /// Its links to etcd's members.
    pub etcd: Vec<Proxy>,
}

/// A running SFU node.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Its id.
    pub id: String,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
    /// The link through which edges reach it, if the plan has such.
    pub link: Option<Proxy>,
    /// Its links to etcd's members.
    pub etcd: Vec<Proxy>,
}

/// Everything that was started. All of it ends when this is dropped, the services before the stores.
#[derive(Debug)]
pub struct Deployment {
    /// The edges, in the plan's order.
    pub edges: Vec<Edge>,
    /// The nodes, in the plan's order.
    pub nodes: Vec<Node>,
    /// Where rooms are kept.
    pub rooms: Rooms,
    /// Where nodes and edges are registered.
    pub etcd: Registry,
    directory: TempDir,
}

impl Deployment {
    /// Starts it and waits until each part is ready.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("rig-")?;
        let rooms = match plan.rooms {
            RoomStore::Forgetful => Rooms::Single(Redis::start().await),
            RoomStore::Durable => Rooms::Single(Redis::durable().await),
            RoomStore::Sentinels => Rooms::Sentinels(RedisSentinels::start().await),
        };
        let etcd = if plan.three_etcds {
            Registry::Three(EtcdCluster::start().await)
        } else {
            Registry::Single(Etcd::start().await)
        };
        let mut started = Self { edges: Vec::new(), nodes: Vec::new(), rooms, etcd, directory };
        for (number, region) in plan.nodes.iter().enumerate() {
            let node = started.start_node(plan, number, region)?;
            started.nodes.push(node);
        }
        for (number, region) in plan.edges.iter().enumerate() {
            let edge = started.start_edge(plan, number, region)?;
            started.edges.push(edge);
        }
        started.ready().await?;
        Ok(started)
    }

    /// Waits until all that was just started is ready.
    async fn ready(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.process.ready().await.with_context(|| node.id.clone())?;
        }
        for edge in &mut self.edges {
            edge.process.ready().await.with_context(|| edge.process.name().to_owned())?;
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.edges.iter().map(|edge| edge.address).collect()
    }

    /// The one Redis; there is one unless the plan has sentinels.
    pub fn redis(&mut self) -> &mut Redis {
        match &mut self.rooms {
            Rooms::Single(redis) => redis,
            Rooms::Sentinels(_) => panic!("this deployment has sentinels"),
        }
    }

    /// The node with this id.
    pub fn node(&mut self, id: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of this deployment")
    }

    fn etcd_links(&self) -> anyhow::Result<(Vec<Proxy>, String)> {
        let addresses = self.etcd.addresses()?;
        let links = addresses.into_iter().map(Proxy::start).collect::<Result<Vec<_>, _>>()?;
        let endpoints: Vec<String> = links.iter().map(|link| format!("'http://{}'", link.address())).collect();
        Ok((links, format!("etcd: {{endpoints: [{}], prefix: /rig}}\n", endpoints.join(", "))))
    }

    fn start_node(&self, plan: &Plan, number: usize, region: &str) -> anyhow::Result<Node> {
        let (grpc, admin, id) = (ports::free(), ports::free(), format!("node-{number}"));
        let (etcd, etcd_settings) = self.etcd_links()?;
        let link = if plan.node_links { Some(Proxy::by_caller(grpc)?) } else { None };
        let advertised = link.as_ref().map_or(grpc, Proxy::address);
        let settings = format!(
            "id: {id}\nregion: {region}\ngrpc: {{listen: '{grpc}', advertise: 'http://{advertised}'}}\n\
             admin_listen: {admin}\ndrain: {{timeout: 20s}}\n\
             media: {{ip: [127.0.0.1], first_port: 0, shards: 1, affinity: none}}\n{etcd_settings}"
        );
        let process = Process::start(self.directory.path(), &id, "sfu-node", &settings)?;
        Ok(Node { process, id, admin, link, etcd })
    }

    fn start_edge(&self, plan: &Plan, number: usize, region: &str) -> anyhow::Result<Edge> {
        let (address, admin, id) = (ports::free(), ports::free(), format!("edge-{number}"));
        let (etcd, etcd_settings) = self.etcd_links()?;
        let (redis, url) = match &self.rooms {
            Rooms::Single(redis) => {
                let link = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port())))?;
                let url = format!("redis://{}", link.address());
                (Some(link), url)
            }
            Rooms::Sentinels(sentinels) => (None, sentinels.url()),
        };
        let (ttl, grace) = (plan.ttl.as_secs(), plan.grace.as_secs());
        let settings = format!(
            "id: {id}\nregion: {region}\nlisten: {address}\nadmin_listen: {admin}\ndrain: {{spread: 3s}}\n\
             session: {{ttl: {ttl}s, grace: {grace}s, secret: {SECRET}}}\nredis: {{url: '{url}'}}\n{etcd_settings}"
        );
        let process = Process::start(self.directory.path(), &id, "edge-signal", &settings)?;
        Ok(Edge { process, address, admin, redis, etcd })
    }
}

/// What an edge or a node answers its operators, by its admin address: the status of `/healthz` or `/readyz`.
pub async fn status(admin: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        status.with_context(|| format!("no status in {answer:?}"))
    };
    timeout(ANSWER_WITHIN, asked).await.context("no answer")?
}

impl Edge {
    /// What its link to Redis does from now on.
    pub fn set_redis(&self, mode: Mode) {
        self.redis.as_ref().expect("invariant: called only where there is a link").set(mode);
    }

    /// Starts it again where it was, and waits until it is ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart()?;
        self.process.ready().await.map(|_| ())
    }
}

impl Node {
    /// What its links to etcd do from now on.
    pub fn set_etcd(&self, mode: Mode) {
        self.etcd.iter().for_each(|link| link.set(mode));
    }

    /// Starts it again where it was, and waits until it is ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart()?;
        self.process.ready().await.map(|_| ())
    }
}
