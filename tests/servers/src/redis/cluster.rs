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
    pub async fn command_masters(&self, words: &[&str]) {
        for server in &self.servers {
            if let Ok(Reply::List(role)) = server.try_command(&["ROLE"]).await
                && role[0].text() == "master"
            {
                server.command(words).await;
            }
        }
    }
}
