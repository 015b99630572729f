//! How the store bears it: asked all the time how long an answer takes, and how much it was asked by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::signalling::latency::{Latency, Times};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(20);

/// What it came to.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Store {
    /// Of a PING among all else.
    pub ping: Latency,
    /// Commands carried out.
    pub commands: u64,
    /// Of them the most in one second.
    pub busiest_second: u64,
}

/// Asks until it is asked what came of it.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Store>>,
}

impl Watch {
    /// Begins.
    pub fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(watch(port, Arc::clone(&over)));
        Self { over, task }
    }

    /// Ends.
    pub async fn finish(self) -> anyhow::Result<Store> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.context("invariant: nobody aborts it")?
    }
}

async fn watch(port: u16, over: Arc<AtomicBool>) -> anyhow::Result<Store> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let mut times = Times::default();
    let first = commands(&mut stream).await?;
    let (mut last, mut busiest, mut second) = (first, 0, Instant::now());
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(b"PING\r\n").await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        anyhow::ensure!(line.starts_with("+PONG"), "the store said {line}");
        times.record(asked.elapsed());
        if second.elapsed() >= Duration::from_secs(1) {
            let now = commands(&mut stream).await?;
            busiest = busiest.max(now - last);
            (last, second) = (now, Instant::now());
        }
        sleep(EVERY).await;
    }
    let all = commands(&mut stream).await?;
    Ok(Store { ping: times.summary(), commands: all - first, busiest_second: busiest.max(all - last) })
}

/// Commands carried out since the store began.
async fn commands(stream: &mut BufReader<TcpStream>) -> anyhow::Result<u64> {
    stream.write_all(b"INFO stats\r\n").await?;
    let mut length = String::new();
    stream.read_line(&mut length).await?;
    let length: usize = length.trim().strip_prefix('$').context("a text")?.parse()?;
    // And the line's end after it.
    let mut text = vec![0; length + 2];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8_lossy(&text);
    let count = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    Ok(count.context("a number of commands")?.trim().parse()?)
}
