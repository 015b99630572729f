//! The node that records, as a program of its own: its CPU by thread, and what it has delivered.

use std::fs;
use std::iter::Sum;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fanout::process::scheduled_seconds;
use crate::signalling::deployment::Program;

/// Threads whose names begin so receive and write recordings, and do nothing else.
const RECORDERS: &str = "rec";

/// A node, and where it delivers to.
#[derive(Debug)]
pub struct Node {
    program: Program,
    /// Where it answers gRPC.
    pub grpc: String,
    directory: TempDir,
}

/// CPU seconds of a node; per second of the clock, once it is of a phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cpu {
    /// All of its threads.
    pub node: f64,
    /// Those that record.
    pub recorders: f64,
}

/// What manifests say of packets, all of them together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Received.
    pub packets: u64,
    /// Sent, and in no file.
    pub lost: u64,
    /// Of these, those that came too late.
    pub late: u64,
    /// Of these, those that could not be taken.
    pub dropped: u64,
}

impl Node {
    /// Starts one with so many shards.
    pub fn start(shards: usize, programs: Option<&Path>, directory: Option<&Path>) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().context("invariant: a program is in a directory")?;
        let binary = programs.unwrap_or(beside).join("sfu-node");
        anyhow::ensure!(
            binary.is_file(),
            "{} is missing: cargo build --release -p sfu-node -p loadtests",
            binary.display()
        );
        let all = directory.map_or_else(std::env::temp_dir, Path::to_owned);
        let directory = tempfile::Builder::new().prefix("recordings-").tempdir_in(all)?;
        let path = directory.path();
        let settings = json!({
            "id": "node-1",
            "grpc": {"listen": "127.0.0.1:0"},
            "admin_listen": "127.0.0.1:0",
            "media": {"ip": ["127.0.0.1"], "first_port": 0, "shards": shards, "affinity": "none"},
            // What is measured is what it does, and not what it leaves away.
            "overload": {"refuse": 1.5, "shed": 2.0, "delay": "1h"},
            "recording": {
                "url": format!("file://{}", path.join("delivered").display()),
                "spool_dir": path.join("spool"),
                "min_free": 0,
            },
            "log": {"level": "warn"},
        });
        let file = path.join("node.yaml");
        fs::write(&file, settings.to_string())?;
        for name in ["delivered", "spool"] {
            fs::create_dir(path.join(name))?;
        }
        let program = Program::start(&binary, &["--config", file.to_str().context("a path of text")?], path, "node-1")?;
        let grpc = format!("http://{}", program.address("grpc")?);
        Ok(Self { program, grpc, directory })
    }

    /// What it has used so far.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let process = format!("/proc/{}", self.program.id());
        let recorders = scheduled_seconds(&process, |thread| thread.starts_with(RECORDERS))?;
        Ok(Cpu { node: scheduled_seconds(&process, |_| true)?, recorders })
    }

    /// What the manifests say of packets, once so many are there.
    pub fn delivered(&self, count: usize, within: Duration) -> anyhow::Result<Vec<Counts>> {
        let (delivered, deadline) = (self.directory.path().join("delivered"), Instant::now() + within);
        loop {
            let found = manifests(&delivered)?;
            if found.len() >= count {
                return found.iter().map(|path| Counts::of(&serde_json::from_slice(&fs::read(path)?)?)).collect();
            }
            anyhow::ensure!(Instant::now() < deadline, "{} of {count} recordings after {within:?}", found.len());
            sleep(Duration::from_millis(200));
        }
    }
}

fn manifests(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(manifests(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

impl Cpu {
    /// Per second of a phase of this length, which began at `before`.
    #[must_use]
    pub fn since(self, before: Self, length: Duration) -> Self {
        let seconds = length.as_secs_f64();
        Self { node: (self.node - before.node) / seconds, recorders: (self.recorders - before.recorders) / seconds }
    }
}

impl Counts {
    fn of(manifest: &Value) -> anyhow::Result<Self> {
        let tracks = manifest["tracks"].as_array().with_context(|| format!("no tracks in {manifest}"))?;
        tracks
            .iter()
            .map(|track| {
                let count = |key: &str| track[key].as_u64().with_context(|| format!("no {key} in {track}"));
                let (packets, lost) = (count("packets")?, count("lost")?);
                anyhow::Ok(Self { packets, lost, late: count("late")?, dropped: count("dropped")? })
            })
            .sum()
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |one, other| Self {
            packets: one.packets + other.packets,
            lost: one.lost + other.lost,
            late: one.late + other.late,
            dropped: one.dropped + other.dropped,
        })
    }
}

impl<'a> Sum<&'a Self> for Counts {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.copied().sum()
    }
}
