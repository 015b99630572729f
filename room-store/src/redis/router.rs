//! Which server has a slot: the only one, or by the cluster's map, which is asked for anew whenever it proves wrong.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use deadpool_redis::redis::{Value, cmd, from_redis_value};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    connector::{Access, Connector, Target},
    flight::Flight,
    keys::Slot,
    node::{Command, Failure, Node},
    url::{Address, RedisUrl, Topology},
};

/// How long a call may last, all in all: shorter than the ten seconds in which a client is answered, so that an edge may try again.
pub(super) const CALL: Duration = Duration::from_millis(2_500);

/// How long to wait before a server that is not ready is asked again: this long, and up to as long again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a map of the cluster that may be wrong is kept: nodes need longer to agree on another.
const MAP_AGE: Duration = Duration::from_millis(250);

/// How long a map is waited for of a node that finds its cluster in order, once one has answered that does not.
const BETTER_MAP: Duration = Duration::from_millis(250);

/// Redirections followed in one call: a slot on its way is redirected once or twice.
const REDIRECTIONS: usize = 8;

/// Finds servers and calls them.
#[derive(Clone)]
pub(super) enum Router {
    /// All slots are one server's.
    One(Arc<Node>),
    /// A cluster's.
    Cluster(Arc<Cluster>),
}

impl Router {
    pub(super) fn new(url: &RedisUrl, access: Access, connections: usize) -> Self {
        let target = match &url.topology {
            Topology::Single(address) => Target::Server(address.clone()),
            Topology::Sentinel { sentinels, service } => {
                Target::Master { sentinels: sentinels.clone(), service: service.clone() }
            }
            Topology::Cluster(seeds) => {
                return Self::Cluster(Arc::new(Cluster::new(seeds.clone(), access, connections)));
            }
        };
        Self::One(Arc::new(Node::new(url.to_string(), Connector { access, target }, connections)))
    }

    /// The server of a slot, as far as known.
    pub(super) async fn node(&self, slot: Slot) -> Option<Arc<Node>> {
        match self {
            Self::One(node) => Some(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.node(slot).await,
        }
    }

    /// The same, without asking anybody.
    pub(super) fn known_node(&self, slot: Slot) -> Option<Arc<Node>> {
        match self {
            Self::One(node) => Some(Arc::clone(node)),
            Self::Cluster(cluster) => cluster.look_up(slot).0.map(|master| cluster.node_at(&master)),
        }
    }

    /// A server could not be reached, or had a slot no more: who has which is to be looked up again.
    pub(super) fn doubt(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.doubt();
        }
    }

    /// Has the server of a slot carry out a command. What is answered with a refusal is asked again, a few times, while there is time.
    pub(super) async fn call(&self, slot: Slot, command: &Command<'_>, deadline: Instant) -> Result<Value, Failure> {
        let mut asked = None;
        for _ in 0..REDIRECTIONS {
            let (node, asking) = match asked.take() {
                Some(node) => (node, true),
                None => match timeout_at(deadline, self.node(slot)).await {
                    Ok(Some(node)) => (node, false),
                    _ => return Err(Failure::Undone),
                },
            };
            match (node.call(command, asking, deadline).await, self) {
                (Err(Failure::Moved(address)), Self::Cluster(cluster)) => cluster.note_moved(slot, address),
                (Err(Failure::Ask(address)), Self::Cluster(cluster)) => asked = Some(cluster.node_at(&address)),
                (Err(Failure::Later), _) => {
                    self.doubt();
                    let pause = PAUSE.mul_f64(1.0 + rand::random::<f64>());
                    if timeout_at(deadline, sleep(pause)).await.is_err() {
                        return Err(Failure::Undone);
                    }
                }
                (Err(failure), _) => {
                    self.doubt();
                    return Err(failure);
                }
                (answer, _) => return answer,
            }
        }
        Err(Failure::Undone)
    }
}

/// A cluster: its nodes as far as they were heard of, and who has which slots.
pub(super) struct Cluster {
    access: Access,
    connections: usize,
    seeds: Vec<Address>,
    /// Never fewer: those that left a cluster are few.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    map: RwLock<Map>,
    asked: Flight<Instant>,
}

/// Ranges of slots by their last, and whether there is reason to think it wrong.
#[derive(Default)]
struct Map {
    ranges: Vec<(Slot, Slot, Address)>,
    doubtful: bool,
}

impl Map {
    fn master(&self, slot: Slot) -> Option<Address> {
        let after = self.ranges.partition_point(|(_, last, _)| *last < slot);
        self.ranges.get(after).filter(|(first, ..)| *first <= slot).map(|(.., address)| address.clone())
    }

    /// The slot is there, until the whole map is read again.
    fn note_moved(&mut self, slot: Slot, address: Address) {
        let Some(at) = self.ranges.iter().position(|(first, last, _)| *first <= slot && slot <= *last) else {
            self.doubtful = true;
            return;
        };
        let (first, last, old) = self.ranges.remove(at);
        let parts = [
            (first.0 < slot.0).then(|| (first, Slot(slot.0 - 1), old.clone())),
            Some((slot, slot, address)),
            (slot.0 < last.0).then(|| (Slot(slot.0 + 1), last, old)),
        ];
        self.ranges.splice(at..at, parts.into_iter().flatten());
        self.doubtful = true;
    }
}

impl Cluster {
    fn new(seeds: Vec<Address>, access: Access, connections: usize) -> Self {
        let (nodes, map, asked) = (Mutex::default(), RwLock::default(), Flight::default());
        Self { access, connections, seeds, nodes, map, asked }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<Address, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node_at(&self, address: &Address) -> Arc<Node> {
        let make = || {
            let connector = Connector { access: self.access.clone(), target: Target::Server(address.clone()) };
            Arc::new(Node::new(address.to_string(), connector, self.connections))
        };
        Arc::clone(self.nodes().entry(address.clone()).or_insert_with(make))
    }

    fn doubt(&self) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).doubtful = true;
    }

    fn note_moved(&self, slot: Slot, address: Address) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).note_moved(slot, address);
    }

    async fn node(self: &Arc<Self>, slot: Slot) -> Option<Arc<Node>> {
        let (master, doubtful) = self.look_up(slot);
        // A map that was just read is as good as another one; nobody waits for it where a master is known.
        if doubtful || master.is_none() {
            let is_new = |read: &Instant| read.elapsed() < MAP_AGE;
            let cluster = Arc::clone(self);
            let asked = self.asked.attempt(is_new, || async move {
                cluster.read_map().await;
                Instant::now()
            });
            asked.await;
        }
        let master = self.look_up(slot).0?;
        Some(self.node_at(&master))
    }

    fn look_up(&self, slot: Slot) -> (Option<Address>, bool) {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        (map.master(slot), map.doubtful)
    }

    /// All nodes are asked at once; the first who knows a map is believed: what it gets wrong, redirections put right. Not so one that
    /// does not see the others any more: it tells of the cluster as it was, redirects nobody, and may be the nearest.
    async fn read_map(&self) {
        let mut deadline = Instant::now() + CALL;
        let known: Vec<Address> = self.nodes().keys().cloned().collect();
        let all: BTreeSet<Address> = self.seeds.iter().cloned().chain(known).collect();
        let mut answers: FuturesUnordered<_> = all.iter().map(|address| self.ask(address, deadline)).collect();
        let mut doubtful = None;
        while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
            match answer {
                Some((ranges, true)) => return self.set_map(Map { ranges, doubtful: false }),
                Some((ranges, false)) if doubtful.is_none() => {
                    doubtful = Some(ranges);
                    deadline = deadline.min(Instant::now() + BETTER_MAP);
                }
                _ => {}
            }
        }
        // Better than none, and than an older one.
        if let Some(ranges) = doubtful {
            self.set_map(Map { ranges, doubtful: true });
        }
    }

    /// A node's map, and whether it finds its cluster in order.
    async fn ask(&self, address: &Address, deadline: Instant) -> Option<(Vec<(Slot, Slot, Address)>, bool)> {
        let node = self.node_at(address);
        let ask = async |what: &str| {
            let command = cmd("CLUSTER").arg(what).clone();
            node.call(&Command::Plain(&command), false, deadline).await.ok()
        };
        let info: Option<String> = ask("INFO").await.and_then(|info| from_redis_value(info).ok());
        let is_in_order = info.is_some_and(|info| info.lines().any(|line| line == "cluster_state:ok"));
        let ranges = read_ranges(ask("SLOTS").await?, &address.host)?;
        Some((ranges, is_in_order))
    }

    fn set_map(&self, map: Map) {
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = map;
    }
}

/// `CLUSTER SLOTS`: first, last, master, replicas. A master without a host is the one asked.
fn read_ranges(answer: Value, asked: &str) -> Option<Vec<(Slot, Slot, Address)>> {
    let Value::Array(rows) = answer else { return None };
    let mut ranges = Vec::new();
    for row in rows {
        let Value::Array(mut fields) = row else { return None };
        if fields.len() < 3 {
            return None;
        }
        let Value::Array(mut master) = fields.swap_remove(2) else { return None };
        if master.len() < 2 {
            return None;
        }
        let port = from_redis_value(master.swap_remove(1)).ok()?;
        let host: Option<String> = from_redis_value(master.swap_remove(0)).ok()?;
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| asked.to_owned());
        let last = from_redis_value(fields.swap_remove(1)).ok()?;
        let first = from_redis_value(fields.swap_remove(0)).ok()?;
        ranges.push((Slot(first), Slot(last), Address { host, port }));
    }
    ranges.sort();
    (!ranges.is_empty()).then_some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{config::Certificates, fake};

    /// A node that says of itself that it has all slots, this late.
    async fn node(is_in_order: bool, late: Duration) -> Address {
        let answer = move |port: u16, words: Vec<String>| async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if words[0] == "CLUSTER" {
                sleep(late).await;
            }
            match (&words[..], is_in_order) {
                (["CLUSTER", "INFO"], true) => "$18\r\ncluster_state:ok\r\n\r\n".to_owned(),
                (["CLUSTER", "INFO"], false) => "$20\r\ncluster_state:fail\r\n\r\n".to_owned(),
                (["CLUSTER", "SLOTS"], _) => format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:{port}\r\n"),
                (_, true) => format!("${}\r\n{port}\r\n", port.to_string().len()),
                (_, false) => "-CLUSTERDOWN The cluster is down\r\n".to_owned(),
            }
        };
        fake::serve(answer).await
    }

    fn router(seeds: Vec<Address>) -> Router {
        let url = "redis-cluster://127.0.0.1:1".parse().expect("a URL");
        let access = Access::new(&url, Certificates::default()).expect("none needed");
        Router::Cluster(Arc::new(Cluster::new(seeds, access, 1)))
    }

    #[tokio::test]
    async fn a_node_that_sees_no_cluster_any_more_is_not_believed_however_near_it_is() {
        let (cut_off, right) = (node(false, Duration::ZERO).await, node(true, BETTER_MAP / 5).await);
        let router = router(vec![cut_off.clone(), right.clone()]);
        let command = cmd("GET").arg("key").clone();
        let asked = router.call(Slot(7), &Command::Plain(&command), Instant::now() + CALL).await;
        let port: u16 = from_redis_value(asked.expect("one of them has it")).expect("a port");
        assert_eq!(port, right.port);
        let Router::Cluster(cluster) = router else { panic!("a cluster") };
        assert_eq!(cluster.look_up(Slot(7)), (Some(right), false), "without a detour");
    }

    #[tokio::test]
    async fn where_no_node_sees_the_cluster_a_map_is_kept_that_is_not_believed() {
        let Router::Cluster(cluster) = router(vec![node(false, Duration::ZERO).await]) else { panic!("a cluster") };
        assert!(cluster.node(Slot(7)).await.is_some());
        assert!(cluster.look_up(Slot(7)).1);
    }

    fn address(port: u16) -> Address {
        Address { host: "h".to_owned(), port }
    }

    #[test]
    fn a_moved_slot_is_found_where_it_is_and_its_neighbours_where_they_were() {
        let ranges = vec![(Slot(0), Slot(99), address(1)), (Slot(100), Slot(200), address(2))];
        let mut map = Map { ranges, doubtful: false };
        for slot in [0, 50, 99, 100] {
            map.note_moved(Slot(slot), address(3));
        }
        let found = |slot| map.master(Slot(slot)).map(|address| address.port);
        let slots = [0, 1, 49, 50, 51, 98, 99, 100, 101, 200, 201];
        let expected = [3, 1, 1, 3, 1, 1, 3, 3, 2, 2].map(Some).into_iter().chain([None]);
        assert!(slots.map(found).into_iter().eq(expected));
        assert!(map.doubtful);
    }
}
