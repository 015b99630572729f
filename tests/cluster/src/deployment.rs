//! Edges and SFU nodes as processes, and the stores they share, each pair joined by a link of its own that can be cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{getegid, geteuid};
use servers::Redis;
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::ports;
use crate::process::Process;
use crate::proxy::{Mode, Proxy};
use crate::stores::{Registry, RoomStore, Rooms};

/// What signs session tokens on all edges.
const SECRET: &str = "the-fault-rigs-secret-of-32-bytes-and-more";

/// Marks that are never reached, but for memory: scenarios share two cores, and what a machine refuses that has too much to do is for those
/// that are about it.
const BUSY_NODE: &str = "overload: {refuse: 1.5, shed: 2, delay: 1h}\n";
/// Likewise.
const BUSY_EDGE: &str = "overload: {cpu: 1, lag: 10s, memory: 1}\n";

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
    /// Further settings of each edge, lines of YAML.
    pub edge_settings: String,
    /// Further settings of each node, lines of YAML; `NODE_ID` in them is its id.
    pub node_settings: String,
    /// Each node sees a file system of its own at this place, which nobody else sees and which is gone with it.
    pub small_disk: Option<SmallDisk>,
    /// No other deployment of this process runs beside it: for what wants the machine to itself.
    pub alone: bool,
}

/// A file system in memory.
#[derive(Debug, Clone)]
pub struct SmallDisk {
    /// Where: a directory that is there.
    pub at: PathBuf,
    /// How much it holds.
    pub kib: u32,
}

impl SmallDisk {
    /// What a program is run by that is to see it. Only root may mount; the program itself is whose the tests are.
    fn inside(&self) -> Vec<String> {
        const MOUNT: &str = "mount -t tmpfs -o \"size=$1k,mode=0700,uid=$3,gid=$4\" tmpfs \"$2\"
            user=$3 group=$4; shift 4; exec setpriv --reuid \"$user\" --regid \"$group\" --clear-groups \"$@\"";
        let sudo: &[&str] = if geteuid().is_root() { &[] } else { &["sudo", "-n", "-E"] };
        let words = sudo.iter().chain(&["unshare", "--mount", "sh", "-ec", MOUNT, "mount"]).map(ToString::to_string);
        let (user, group) = (geteuid().as_raw().to_string(), getegid().as_raw().to_string());
        words.chain([self.kib.to_string(), self.at.display().to_string(), user, group]).collect()
    }
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
            edge_settings: String::new(),
            node_settings: String::new(),
            small_disk: None,
            alone: false,
        }
    }
}

static TURNS: RwLock<()> = RwLock::const_new(());

/// The right to run, beside others or alone.
#[derive(Debug)]
enum Turn {
    Beside(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

impl Turn {
    async fn of(plan: &Plan) -> Self {
        if plan.alone { Self::Alone(TURNS.write().await) } else { Self::Beside(TURNS.read().await) }
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
    /// Its link to Redis; none with sentinels or a cluster.
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
    _turn: Turn,
}

impl Deployment {
    /// Starts it, when its turn has come, and waits until each part is ready. A test that runs one must not start another.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let turn = Turn::of(plan).await;
        let directory = TempDir::with_prefix("rig-")?;
        let rooms = Rooms::start(plan.rooms).await;
        let etcd = Registry::start(plan.three_etcds).await;
        let mut started = Self { edges: Vec::new(), nodes: Vec::new(), rooms, etcd, directory, _turn: turn };
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

    /// Starts one more node, as the plan has them, and waits until it is ready.
    pub async fn add_node(&mut self, plan: &Plan, region: &str) -> anyhow::Result<&Node> {
        let mut node = self.start_node(plan, self.nodes.len(), region)?;
        node.process.ready().await.with_context(|| node.id.clone())?;
        self.nodes.push(node);
        self.nodes.last().context("invariant: pushed just now")
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

    /// The one Redis; there is one unless the plan has sentinels or a cluster.
    pub fn redis(&mut self) -> &mut Redis {
        match &mut self.rooms {
            Rooms::Single(redis) => redis,
            Rooms::Sentinels(_) | Rooms::Cluster(_) => panic!("this deployment has several"),
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
             media: {{ip: [127.0.0.1], first_port: 0, shards: 1, affinity: none}}\n{etcd_settings}{}{}",
            unless_said(&plan.node_settings, BUSY_NODE),
            plan.node_settings.replace("NODE_ID", &id)
        );
        let inside = plan.small_disk.as_ref().map(SmallDisk::inside).unwrap_or_default();
        let process = Process::start_inside(self.directory.path(), &id, "sfu-node", &settings, inside)?;
        Ok(Node { process, id, admin, link, etcd })
    }

    fn start_edge(&self, plan: &Plan, number: usize, region: &str) -> anyhow::Result<Edge> {
        let (address, admin, id) = (ports::free(), ports::free(), format!("edge-{number}"));
        let (etcd, etcd_settings) = self.etcd_links()?;
        let (redis, redis_settings) = self.rooms.link()?;
        let (ttl, grace) = (plan.ttl.as_secs(), plan.grace.as_secs());
        let settings = format!(
            "id: {id}\nregion: {region}\nlisten: {address}\nadmin_listen: {admin}\ndrain: {{spread: 3s}}\n\
             session: {{ttl: {ttl}s, grace: {grace}s, secret: {SECRET}}}\n{redis_settings}{etcd_settings}{}{}",
            unless_said(&plan.edge_settings, BUSY_EDGE),
            plan.edge_settings
        );
        let process = Process::start(self.directory.path(), &id, "edge-signal", &settings)?;
        Ok(Edge { process, address, admin, redis, etcd })
    }
}

/// `marks`, unless the plan has some of its own.
fn unless_said<'a>(settings: &str, marks: &'a str) -> &'a str {
    if settings.contains("overload:") { "" } else { marks }
}

impl Edge {
    /// What its link to Redis does from now on.
    pub fn set_redis(&self, mode: Mode) {
        self.redis.as_ref().expect("invariant: called only where there is a link").set(mode);
    }

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
