//! A master, two replicas, and three sentinels that make another the master when it is gone.

use tempfile::TempDir;

use super::{Redis, Reply, reply};
use crate::{
    ports::free_port,
    process::{Process, until},
};

/// What the sentinels call the master.
const SERVICE: &str = "sluice";

/// Three servers and three sentinels.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    _process: Process,
    _directory: TempDir,
    port: u16,
}

impl RedisSentinels {
    /// Returns when the replicas are in step and the sentinels know each other: then a failover can begin.
    pub async fn start() -> Self {
        let master = Redis::with(&["--save", "", "--repl-diskless-sync-delay", "0"]).await;
        let port = master.port().to_string();
        let mut servers = vec![master];
        for _ in 0..2 {
            let replica = ["--save", "", "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port];
            servers.push(Redis::with(&replica).await);
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(servers[0].port()));
        }
        let all = Self { servers, sentinels };
        until("all sentinels see all servers and each other", async || {
            for sentinel in &all.sentinels {
                if !sentinel.sees("num-slaves", "2").await || !sentinel.sees("num-other-sentinels", "2").await {
                    return false;
                }
            }
            all.replicas_in_step().await
        })
        .await;
        all
    }

    async fn replicas_in_step(&self) -> bool {
        let Ok(Reply::Text(info)) = self.servers[0].try_command(&["INFO", "replication"]).await else { return false };
        info.matches("state=online").count() == self.servers.len() - 1
    }

    /// The URL that names the master through its sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis-sentinel://{}/{SERVICE}", addresses.join(","))
    }

    /// The master, as the sentinels agree. They may not for a while.
    pub async fn master(&mut self) -> &mut Redis {
        let mut named = None;
        until("the sentinels agree on a master", async || {
            let mut ports = Vec::new();
            for sentinel in &self.sentinels {
                ports.push(sentinel.names().await);
            }
            named = ports[0];
            ports.iter().all(|port| port.is_some() && *port == named)
        })
        .await;
        let named = named.expect("they agree");
        self.servers.iter_mut().find(|server| server.port() == named).expect("one of the servers")
    }

    /// Kills the master, and waits until the sentinels agree on another: its port.
    pub async fn fail_over(&mut self) -> u16 {
        let first = self.master().await;
        let port = first.port();
        first.stop();
        let mut other = port;
        until("the sentinels make another the master", async || {
            other = self.master().await.port();
            other != port
        })
        .await;
        other
    }

    /// From now on nobody who is silent for less than an hour is taken for dead.
    pub async fn stay(&self) {
        for sentinel in &self.sentinels {
            let hour = ["SENTINEL", "SET", SERVICE, "down-after-milliseconds", "3600000"];
            let said = reply::ask(sentinel.port, &hour).await.expect("a sentinel answers");
            assert_eq!(said.text(), "OK");
        }
    }

    /// The server on this port, whatever it is.
    pub fn server(&self, port: u16) -> Option<&Redis> {
        self.servers.iter().find(|server| server.port() == port)
    }

    /// All servers, the first of which was the first master.
    pub fn servers(&mut self) -> &mut [Redis] {
        &mut self.servers
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let (port, directory) = (free_port(), TempDir::with_prefix("sentinel").expect("a temporary directory"));
        let file = directory.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        );
        std::fs::write(&file, settings).expect("written");
        let arguments = [file.display().to_string(), "--sentinel".to_owned()];
        let process = Process::start("redis-server", &arguments, directory.path(), "sentinel.log");
        Self { _process: process, _directory: directory, port }
    }

    async fn sees(&self, what: &str, expected: &str) -> bool {
        let Ok(Reply::List(fields)) = reply::ask(self.port, &["SENTINEL", "MASTER", SERVICE]).await else {
            return false;
        };
        fields.chunks(2).any(|pair| pair == [Reply::Text(what.to_owned()), Reply::Text(expected.to_owned())])
    }

    async fn names(&self) -> Option<u16> {
        match reply::ask(self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await.ok()? {
            Reply::List(address) => address.get(1)?.text().parse().ok(),
            _ => None,
        }
    }
}
