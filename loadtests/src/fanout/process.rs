//! The system under test as a process of its own, so that what is measured is its alone: started, asked for its allocations, and
//! read from `/proc`.

use crate::{os, serve::Engine};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What the process says once it serves.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Greeting {
    /// Where it answers gRPC.
    pub grpc: String,
    /// Where it answers operators; the reference does not.
    pub admin: Option<SocketAddr>,
}

/// Allocations since the process began.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Allocations {
    /// By threads that carry media. The reference has no such threads: there it is all of them.
    pub media: u64,
    /// By all others.
    pub other: u64,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time of all its threads, from the scheduler's own clock, in seconds.
    pub cpu: f64,
    /// Share of it in user mode, as the kernel's tick counts it.
    pub user_ticks: f64,
    /// Likewise in system mode.
    pub system_ticks: f64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
}

/// A running system under test.
pub struct Node {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it said.
    pub greeting: Greeting,
}

impl Node {
    /// Starts one of these shards on these CPUs.
    pub fn start(engine: Engine, shards: usize, cpus: &[usize]) -> anyhow::Result<Self> {
        let cpus: Vec<_> = cpus.iter().map(ToString::to_string).collect();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--engine", engine.name(), "--shards", &shards.to_string(), "--cpus", &cpus.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("invariant: stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("invariant: stdout is piped")?);
        let mut node = Self { child, orders, answers, greeting: Greeting::default() };
        node.greeting = node.read()?;
        Ok(node)
    }

    fn read<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the system under test ended: {:?}", self.child.wait()?);
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Its allocations so far.
    pub fn allocations(&mut self) -> anyhow::Result<Allocations> {
        self.orders.write_all(b"allocations\n")?;
        self.read()
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.id())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its orders would end it, too; this does not wait for the orderly way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used so far.
pub fn usage(process: u32) -> anyhow::Result<Usage> {
    let process = format!("/proc/{process}");
    let stat = fs::read_to_string(format!("{process}/stat"))?;
    // Fields behind the name, which may hold anything but ends with the last bracket (proc(5)).
    let fields: Vec<_> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let ticks = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? / os::clock_ticks());
    let status = fs::read_to_string(format!("{process}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line of resident memory")?;
    Ok(Usage {
        cpu: scheduled_seconds(&process, |_| true)?,
        user_ticks: ticks(11).context("user time")?,
        system_ticks: ticks(12).context("system time")?,
        rss_kib: rss.trim().trim_end_matches("kB").trim().parse()?,
    })
}

/// Time on CPUs of all threads with such a name; what a thread that has ended used is in none of them, but none ends while media flow.
pub(crate) fn scheduled_seconds(process: &str, counts: impl Fn(&str) -> bool) -> anyhow::Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("{process}/task"))? {
        let task = task?.path();
        if !counts(fs::read_to_string(task.join("comm")).unwrap_or_default().trim_end()) {
            continue;
        }
        let path = task.join("schedstat");
        // A thread that ended since it was listed has nothing to add.
        let Ok(text) = fs::read_to_string(path) else { continue };
        nanoseconds += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// UDP datagrams that the system dropped because a buffer was full: (receiving, sending).
pub fn udp_drops() -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = lines.next().zip(lines.next()).context("the UDP lines")?;
    let value = |name: &str| {
        let position = names.split(' ').position(|n| n == name)?;
        values.split(' ').nth(position)?.parse().ok()
    };
    Ok((value("RcvbufErrors").context("RcvbufErrors")?, value("SndbufErrors").context("SndbufErrors")?))
}
