//! A Prometheus, from the system's packages: it scrapes what it is told, and answers queries. Rules are files that the test gives it.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{
    ports::free_port,
    process::{Process, until},
    s3::encoded,
};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A running one.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    port: u16,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one with these settings (`prometheus.yml`) and files beside them, by name; returns when it serves.
    pub async fn start(settings: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::with_prefix("prometheus-").expect("a temporary directory");
        for (name, content) in files.iter().chain(&[("prometheus.yml", settings)]) {
            fs::write(directory.path().join(name), content).expect("written");
        }
        let port = free_port();
        let arguments = [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let mut process = Process::start("prometheus", &arguments, directory.path(), "prometheus.log");
        until("Prometheus serves", async || {
            assert!(!process.has_ended(), "Prometheus has ended: {}", process.said());
            get(port, "/-/ready").await.is_some()
        })
        .await;
        Self { _process: process, port, _directory: directory }
    }

    /// What it answers now, as JSON: its `data.result` is a list of series, each with `metric` and `value`.
    pub async fn query(&self, expression: &str) -> String {
        self.ask(&format!("/api/v1/query?query={}", encoded(expression))).await
    }

    /// What it knows of the targets that it scrapes, as JSON: `data.activeTargets`, each with `health` and `lastError`.
    pub async fn targets(&self) -> String {
        self.ask("/api/v1/targets?state=active").await
    }

    /// Its rules, as JSON: `data.groups`, each with `rules`, each with `health` and, of alerts, `state`.
    pub async fn rules(&self) -> String {
        self.ask("/api/v1/rules").await
    }

    async fn ask(&self, path: &str) -> String {
        get(self.port, path).await.unwrap_or_else(|| panic!("Prometheus does not answer {path}"))
    }
}

/// The content of an answer, if there is one with status 200.
async fn get(port: u16, path: &str) -> Option<String> {
    let asked = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, content) = answer.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1) == Some("200")).then(|| content.to_owned())
    };
    timeout(ANSWER, asked).await.ok().flatten()
}
