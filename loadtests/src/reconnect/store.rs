//! How the store bears it: asked all the time how long an answer takes, by a thread that does nothing else; and what it says of
//! itself. The clients are thousands on one thread: among them a PING would wait for its own turn, not for the store.
//!
//! All of them share a few CPUs with the store, as in no deployment. What it waited for one is known from the kernel, and is told
//! apart.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::signalling::latency::{Latency, Times};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(5);
/// A store that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// What it came to.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Store {
    /// Of a PING among all else, from a thread of its own.
    pub ping: Latency,
    /// The same without what the store waited for a CPU meanwhile. The store itself kept nobody waiting for longer: what is left
    /// is its work, its writes to disk, and what the thread that asks waited for a CPU.
    pub ping_own: Latency,
    /// Share of the time in which the store had work and no CPU.
    pub starved: f64,
    /// What the store says it took to carry out a script.
    pub script: Option<Script>,
    /// Commands carried out.
    pub commands: u64,
    /// Of them the most in one second.
    pub busiest_second: u64,
}

/// By the store's own clock, from reading a script's call to its answer.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Script {
    /// Half of them took no longer, milliseconds.
    pub p50_ms: f64,
    /// Ninety-nine of a hundred.
    pub p99_ms: f64,
}

/// Asks until it is asked what came of it.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Store>>,
}

impl Watch {
    /// Begins, with the store on this port of the loopback, which is this process.
    pub fn start(port: u16, process_id: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        Self { over, thread: thread::spawn(move || watch(port, process_id, &until)) }
    }

    /// Ends.
    pub async fn finish(self) -> anyhow::Result<Store> {
        self.over.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await.context("invariant: nobody aborts it")?;
        joined.map_err(|_| anyhow::anyhow!("the thread that asks the store panicked"))?
    }
}

fn watch(port: u16, process_id: u32, over: &AtomicBool) -> anyhow::Result<Store> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    // The thread of the store that carries out commands is its first.
    let waits = || waited(&format!("/proc/{process_id}/task/{process_id}/schedstat"));
    // What the store says of itself is to be of this time only.
    anyhow::ensure!(say(&mut stream, "CONFIG RESETSTAT")? == "+OK", "the store forgets what it counted");
    let (mut ping, mut ping_own) = (Times::default(), Times::default());
    let (begun, at_first) = (Instant::now(), waits()?);
    let first = commands(&mut stream)?;
    let (mut last, mut busiest, mut second) = (first, 0, Instant::now());
    while !over.load(Ordering::Relaxed) {
        let (asked, before) = (Instant::now(), waits()?);
        let said = say(&mut stream, "PING")?;
        anyhow::ensure!(said == "+PONG", "the store said {said}");
        let took = asked.elapsed();
        ping.record(took);
        ping_own.record(took.saturating_sub(waits()?.saturating_sub(before)));
        if second.elapsed() >= Duration::from_secs(1) {
            let now = commands(&mut stream)?;
            busiest = busiest.max(now - last);
            (last, second) = (now, Instant::now());
        }
        thread::sleep(EVERY);
    }
    let all = commands(&mut stream)?;
    Ok(Store {
        ping: ping.summary(),
        ping_own: ping_own.summary(),
        starved: waits()?.saturating_sub(at_first).as_secs_f64() / begun.elapsed().as_secs_f64(),
        script: script(&info(&mut stream, "latencystats")?),
        commands: all - first,
        busiest_second: busiest.max(all - last),
    })
}

/// How long a thread has had work and no CPU, from the scheduler's own clock.
fn waited(path: &str) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let waited = text.split_whitespace().nth(1).context("three numbers")?;
    Ok(Duration::from_nanos(waited.parse()?))
}

/// A line for a line.
fn say(stream: &mut BufReader<TcpStream>, command: &str) -> anyhow::Result<String> {
    stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A part of what the store says of itself.
fn info(stream: &mut BufReader<TcpStream>, section: &str) -> anyhow::Result<String> {
    let length: usize = say(stream, &format!("INFO {section}"))?.strip_prefix('$').context("a text")?.parse()?;
    // And the line's end after it.
    let mut text = vec![0; length + 2];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Commands carried out since the store began to count.
fn commands(stream: &mut BufReader<TcpStream>) -> anyhow::Result<u64> {
    let text = info(stream, "stats")?;
    let count = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    Ok(count.context("a number of commands")?.trim().parse()?)
}

/// `latency_percentiles_usec_evalsha:p50=51.2,p99=130.0,p99.9=200.7`
fn script(latencies: &str) -> Option<Script> {
    let line = latencies.lines().find_map(|line| line.strip_prefix("latency_percentiles_usec_evalsha:"))?;
    let ms = |name: &str| {
        let value = line.trim().split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
        value.parse::<f64>().ok().map(|microseconds| microseconds / 1e3)
    };
    Some(Script { p50_ms: ms("p50")?, p99_ms: ms("p99")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_of_its_scripts_is_read() {
        let said = "# Latencystats\r\nlatency_percentiles_usec_ping:p50=1.003,p99=2.007,p99.9=3.007\r\n\
                    latency_percentiles_usec_evalsha:p50=51.000,p99=1300.000,p99.9=2000.000\r\n";
        let script = script(said).expect("it is there");
        assert!((script.p50_ms - 0.051).abs() < 1e-9 && (script.p99_ms - 1.3).abs() < 1e-9, "{script:?}");
        assert!(super::script("# Latencystats\r\n").is_none());
    }
}
