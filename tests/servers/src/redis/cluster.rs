//! A cluster of three masters with a replica each.

use super::{Redis, Reply};
use crate::{ports::free_port, process::until};

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

/// Six servers: the first three were made masters, the others their replicas, in this order.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Redis>,
}

impl RedisCluster {
    /// Returns when every node knows every slot's master and its replica.
    pub async fn start() -> Self {
        let mut servers = Vec::new();
        for _ in 0..2 * MASTERS {
            let bus = free_port().to_string();
            let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            servers.push(Redis::with(&[&options[..], &["--cluster-port", &bus]].concat()).await);
        }
        let all = Self { servers };
        all.assign_slots().await;
        all.meet().await;
        all.replicate().await;
        until("the cluster is whole", async || all.is_whole().await).await;
        all
    }

    async fn assign_slots(&self) {
        for (index, server) in self.servers[..MASTERS].iter().enumerate() {
            let (first, last) = (index * SLOTS / MASTERS, (index + 1) * SLOTS / MASTERS - 1);
            let range = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()];
            assert_eq!(server.command(&range).await.text(), "OK");
            let epoch = (index + 1).to_string();
            assert_eq!(server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.text(), "OK");
        }
    }

    async fn meet(&self) {
        for server in &self.servers[1..] {
            let bus = server.command(&["CONFIG", "GET", "cluster-port"]).await.list()[1].text().to_owned();
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), &bus];
            assert_eq!(self.servers[0].command(&meet).await.text(), "OK");
        }
        until("all nodes have met", async || {
            for server in &self.servers {
                if server.command(&["CLUSTER", "NODES"]).await.text().lines().count() != self.servers.len() {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn replicate(&self) {
        for (master, replica) in self.servers.iter().zip(&self.servers[MASTERS..]) {
            let id = master.command(&["CLUSTER", "MYID"]).await.text().to_owned();
            until("the replica accepts its master", async || {
                replica.command(&["CLUSTER", "REPLICATE", &id]).await == Reply::Text("OK".to_owned())
            })
            .await;
        }
    }

    /// Every node sees three masters with slots, each with a replica in step.
    async fn is_whole(&self) -> bool {
        for server in &self.servers {
            let Reply::List(ranges) = server.command(&["CLUSTER", "SLOTS"]).await else { return false };
            // First slot, last slot, master, replica.
            if ranges.len() != MASTERS || ranges.iter().any(|range| range.list().len() != 4) {
                return false;
            }
            let info = server.command(&["CLUSTER", "INFO"]).await;
            if !info.text().contains("cluster_state:ok") {
                return false;
            }
        }
        for master in &self.servers[..MASTERS] {
            if !master.command(&["INFO", "replication"]).await.text().contains("state=online") {
                return false;
            }
        }
        true
    }

    /// The URL that names three of its nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<_> =
            self.servers[..MASTERS].iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// The servers: masters first, as they were made.
    pub fn servers(&mut self) -> &mut [Redis] {
        &mut self.servers
    }

    /// Has each master carry out a command, whoever they are now.
    pub async fn command_masters(&self, words: &[&str]) -> Vec<Reply> {
        let mut replies = Vec::new();
        for server in &self.servers {
            if let Ok(Reply::List(role)) = server.try_command(&["ROLE"]).await
                && role[0].text() == "master"
            {
                replies.push(server.command(words).await);
            }
        }
        replies
    }

    /// Has the master that has a key carry out a command.
    pub async fn command_on(&self, key: &str, words: &[&str]) -> Reply {
        let port = self.master_of(key).await;
        self.at(port).command(words).await
    }

    /// The port of the master that has a key.
    pub async fn master_of(&self, key: &str) -> u16 {
        let slot = self.slot_of(key).await;
        for range in self.any().await.command(&["CLUSTER", "SLOTS"]).await.list() {
            let [Reply::Number(first), Reply::Number(last), master, ..] = range.list() else { panic!("{range:?}") };
            if (*first..=*last).contains(&slot) {
                let Reply::Number(port) = master.list()[1] else { panic!("{range:?}") };
                return port as u16;
            }
        }
        panic!("slot {slot} has no master")
    }

    async fn slot_of(&self, key: &str) -> i64 {
        match self.any().await.command(&["CLUSTER", "KEYSLOT", key]).await {
            Reply::Number(slot) => slot,
            other => panic!("{other:?} is no slot"),
        }
    }

    fn at(&self, port: u16) -> &Redis {
        self.servers.iter().find(|server| server.port() == port).expect("one of them")
    }

    /// Moves the slot of a key to another master, key by key, as an operator does who spreads a cluster anew.
    pub async fn move_slot_of(&self, key: &str) {
        let (slot, from) = (self.slot_of(key).await.to_string(), self.at(self.master_of(key).await));
        let to = self.servers[..MASTERS].iter().find(|server| server.port() != from.port()).expect("another");
        let (from_id, to_id) = (from.command(&["CLUSTER", "MYID"]).await, to.command(&["CLUSTER", "MYID"]).await);
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", from_id.text()]).await;
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", to_id.text()]).await;
        loop {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
            if keys.list().is_empty() {
                break;
            }
            let port = to.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.list().iter().map(Reply::text));
            from.command(&migrate).await;
        }
        for server in [to, from] {
            assert_eq!(server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", to_id.text()]).await.text(), "OK");
        }
    }

    async fn any(&self) -> &Redis {
        for server in &self.servers {
            if server.try_command(&["PING"]).await.is_ok() {
                return server;
            }
        }
        panic!("no server is left")
    }
}
