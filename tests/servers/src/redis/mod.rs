//! Redis: one server, one behind TLS, a master with replicas and sentinels, a cluster.

mod cluster;
mod reply;
mod sentinels;

use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::TcpStream;

pub use self::{cluster::RedisCluster, reply::Reply, sentinels::RedisSentinels};
use crate::{
    Certificates,
    ports::free_port,
    process::{Process, until},
};

/// How often a start is tried: somebody else may take a port that was free.
const STARTS: usize = 5;

/// One server.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    options: Vec<String>,
    directory: TempDir,
    certificates: Option<Arc<Certificates>>,
}

impl Redis {
    /// A server that keeps everything in memory: started again it is empty.
    pub async fn start() -> Self {
        Self::with(&["--save", "", "--appendonly", "no"]).await
    }

    /// A server that writes each change to disk before it answers: killed and started again it has lost nothing.
    pub async fn durable() -> Self {
        Self::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server that takes only TLS, and only from clients with a certificate of its authority.
    pub async fn tls() -> Self {
        let certificates = Arc::new(Certificates::new());
        let path = |path: std::path::PathBuf| path.display().to_string();
        let (cert, key, ca) = (path(certificates.server()), path(certificates.server_key()), path(certificates.ca()));
        let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        let options = [&["--save", "", "--tls-auth-clients", "yes", "--tls-replication", "yes"][..], &files].concat();
        Self::start_with(&options, Some(certificates)).await
    }

    /// A server with further options, as on its command line.
    pub async fn with(options: &[&str]) -> Self {
        Self::start_with(options, None).await
    }

    async fn start_with(options: &[&str], certificates: Option<Arc<Certificates>>) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let directory = TempDir::with_prefix("redis").expect("a temporary directory");
        let mut server = Self { process: None, port: 0, options, directory, certificates };
        for _ in 0..STARTS {
            server.port = free_port();
            if server.try_start().await {
                return server;
            }
        }
        panic!("redis-server does not start: {}", server.process.map(|process| process.said()).unwrap_or_default());
    }

    /// Whether it came up; not so when its port was taken.
    async fn try_start(&mut self) -> bool {
        let mut options = vec!["--bind".to_owned(), "127.0.0.1".to_owned()];
        let port = self.port.to_string();
        options.extend(match self.certificates {
            Some(_) => ["--port", "0", "--tls-port", &port].map(str::to_owned).to_vec(),
            None => ["--port", &port].map(str::to_owned).to_vec(),
        });
        options.extend(self.options.iter().cloned());
        let mut process = Process::start("redis-server", &options, self.directory.path(), "redis.log");
        let mut ended = false;
        until("Redis answers", async || {
            ended = process.has_ended();
            ended || self.answers().await
        })
        .await;
        self.process = Some(process);
        !ended
    }

    async fn answers(&self) -> bool {
        match self.certificates {
            None => matches!(self.try_command(&["PING"]).await, Ok(Reply::Text(text)) if text == "PONG"),
            Some(_) => TcpStream::connect(("127.0.0.1", self.port)).await.is_ok(),
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1, the same after a new start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// What its certificates are, where it has any.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// Kills it: its sockets close at once.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it on the same port, with what it has on disk.
    pub async fn start_again(&mut self) {
        self.stop();
        assert!(self.try_start().await, "Redis takes its port again");
    }

    /// Lets it hang: it keeps its sockets and answers nothing.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Has it carry out a command.
    pub async fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_command(&self, words: &[&str]) -> std::io::Result<Reply> {
        reply::ask(self.port, words).await
    }
}
