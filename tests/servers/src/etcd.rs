//! etcd: one server, one behind TLS, a cluster of three.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{
    Certificates,
    ports::free_port,
    process::{Process, until},
};

/// How often a start is tried: somebody else may take a port that was free.
const STARTS: usize = 5;
/// How long a server may take to say how it is.
const ANSWER: Duration = Duration::from_secs(2);

/// One server. Started again, it has its ports and what it wrote to disk.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    name: String,
    ports: Ports,
    /// Name and peer address of each member of its cluster.
    cluster: String,
    directory: TempDir,
    certificates: Option<Arc<Certificates>>,
    /// Bytes it may keep; `None`: as many as etcd allows by itself.
    quota: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    clients: u16,
    peers: u16,
    /// Health and metrics, always in plain text.
    metrics: u16,
}

impl Ports {
    fn free() -> Self {
        Self { clients: free_port(), peers: free_port(), metrics: free_port() }
    }

    fn member(self, name: &str) -> String {
        format!("{name}=http://127.0.0.1:{}", self.peers)
    }
}

impl Etcd {
    /// A cluster of one.
    pub async fn start() -> Self {
        Self::alone(None, None).await
    }

    /// One that is full (alarm `NOSPACE`) when it has so many bytes.
    pub async fn with_quota(bytes: u64) -> Self {
        Self::alone(None, Some(bytes)).await
    }

    /// One that takes only TLS, and only from clients with a certificate of its authority.
    pub async fn tls() -> Self {
        Self::alone(Some(Arc::new(Certificates::new())), None).await
    }

    async fn alone(certificates: Option<Arc<Certificates>>, quota: Option<u64>) -> Self {
        for _ in 0..STARTS {
            let ports = Ports::free();
            let mut server = Self { quota, ..Self::new("one", ports, ports.member("one"), certificates.clone()) };
            server.run();
            if server.comes_up().await {
                return server;
            }
        }
        panic!("etcd does not start");
    }

    fn new(name: &str, ports: Ports, cluster: String, certificates: Option<Arc<Certificates>>) -> Self {
        let directory = TempDir::with_prefix("etcd").expect("a temporary directory");
        Self { process: None, name: name.to_owned(), ports, cluster, directory, certificates, quota: None }
    }

    fn run(&mut self) {
        let Ports { clients, peers, metrics } = self.ports;
        let (clients, peers) =
            (format!("{}://127.0.0.1:{clients}", self.scheme()), format!("http://127.0.0.1:{peers}"));
        let metrics = format!("http://127.0.0.1:{metrics}");
        let mut options: Vec<String> = [
            ["--name", &self.name],
            ["--data-dir", "data"],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &self.cluster],
            ["--initial-cluster-state", "new"],
            ["--listen-metrics-urls", &metrics],
            ["--logger", "zap"],
            ["--log-outputs", "stderr"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        if let Some(certificates) = &self.certificates {
            let files = [
                ("--cert-file", certificates.server()),
                ("--key-file", certificates.server_key()),
                ("--trusted-ca-file", certificates.ca()),
            ];
            options
                .extend(files.into_iter().flat_map(|(option, path)| [option.to_owned(), path.display().to_string()]));
            options.push("--client-cert-auth".to_owned());
        }
        if let Some(quota) = self.quota {
            options.extend(["--quota-backend-bytes".to_owned(), quota.to_string()]);
        }
        self.process = Some(Process::start("etcd", &options, self.directory.path(), "etcd.log"));
    }

    /// Whether it serves; not so when one of its ports was taken.
    async fn comes_up(&mut self) -> bool {
        let mut process = self.process.take().expect("it was started");
        let mut ended = false;
        until("etcd serves", async || {
            ended = process.has_ended();
            ended || self.is_healthy().await
        })
        .await;
        self.process = Some(process);
        !ended
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    /// Where clients find it, the same after a new start.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.ports.clients)
    }

    /// What its certificates are, where it has any.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Kills it: its sockets close at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it on the same ports, with what it has on disk; returns when it serves.
    pub async fn start_again(&mut self) {
        self.stop();
        self.run();
        assert!(self.comes_up().await, "etcd takes its ports again");
    }

    /// Starts it on the same ports with an empty disk.
    pub async fn start_empty(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.directory.path().join("data")).expect("it had a disk");
        self.start_again().await;
    }

    /// Lets it hang: it keeps its sockets and answers nothing.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Whether it, and the majority of its cluster, takes requests.
    pub async fn is_healthy(&self) -> bool {
        self.get("/health").await.is_some_and(|answer| answer.contains("\"health\":\"true\""))
    }

    async fn leads(&self) -> bool {
        self.get("/metrics").await.is_some_and(|answer| answer.lines().any(|line| line == "etcd_server_is_leader 1"))
    }

    async fn get(&self, path: &str) -> Option<String> {
        let asked = async {
            let mut socket = TcpStream::connect(("127.0.0.1", self.ports.metrics)).await.ok()?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
            socket.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        timeout(ANSWER, asked).await.ok().flatten()
    }
}

/// Three members of one cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Returns when all of them serve.
    pub async fn start() -> Self {
        for _ in 0..STARTS {
            let named: Vec<_> = ["one", "two", "three"].into_iter().map(|name| (name, Ports::free())).collect();
            let cluster = named.iter().map(|(name, ports)| ports.member(name)).collect::<Vec<_>>().join(",");
            let members = named.into_iter().map(|(name, ports)| Etcd::new(name, ports, cluster.clone(), None));
            let mut all = Self { members: members.collect() };
            if all.run_all().await {
                return all;
            }
        }
        panic!("etcd does not start");
    }

    async fn run_all(&mut self) -> bool {
        for member in &mut self.members {
            member.run();
        }
        for member in &mut self.members {
            if !member.comes_up().await {
                return false;
            }
        }
        true
    }

    /// Where clients find them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// All members.
    pub fn members(&mut self) -> &mut [Etcd] {
        &mut self.members
    }

    /// The leader, as it says itself, when the others follow it.
    pub async fn leader(&mut self) -> &mut Etcd {
        let mut leader = 0;
        let members = &self.members;
        until("etcd has a leader", async || {
            for (index, member) in members.iter().enumerate() {
                if member.process.is_some() && member.is_healthy().await && member.leads().await {
                    leader = index;
                    return true;
                }
            }
            false
        })
        .await;
        &mut self.members[leader]
    }

    /// Kills all of them.
    pub fn stop(&mut self) {
        self.members.iter_mut().for_each(Etcd::stop);
    }

    /// Starts those again that were killed; returns when all serve.
    pub async fn start_again_stopped(&mut self) {
        for member in &mut self.members {
            if member.process.is_none() {
                member.start_again().await;
            }
        }
    }

    /// Starts all of them with what they have on disk; returns when all serve.
    pub async fn start_again(&mut self) {
        self.stop();
        assert!(self.run_all().await, "etcd takes its ports again");
    }
}
