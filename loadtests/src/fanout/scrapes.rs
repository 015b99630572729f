//! A Prometheus that asks much too often: what a node's scrapes take while it forwards, and what they do to packets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

/// For one answer. A node that takes longer is not measured any more.
const ANSWER: Duration = Duration::from_secs(10);

/// What scrapes came to.
#[derive(Debug, Clone, Serialize)]
pub struct Scraped {
    /// How many there were.
    pub count: usize,
    /// From connecting to the last byte, milliseconds: median.
    pub median_ms: f64,
    /// The longest.
    pub slowest_ms: f64,
    /// Series of the last one.
    pub series: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// Scrapes until it is told to stop.
#[derive(Debug)]
pub struct Scrapes {
    /// Dropped to stop.
    going_on: Sender<()>,
    thread: JoinHandle<anyhow::Result<Scraped>>,
}

impl Scrapes {
    /// Begins: one each `every`, or as soon as the one before has ended.
    pub fn start(admin: SocketAddr, every: Duration) -> Self {
        let (going_on, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let (mut times, mut last) = (Vec::new(), String::new());
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                last = scrape(admin)?;
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            Ok(Scraped {
                count: times.len(),
                median_ms: *times.get(times.len() / 2).context("no scrape in the time measured")?,
                slowest_ms: times[times.len() - 1],
                series: last.lines().filter(|line| line.starts_with("sluice_")).count(),
                bytes: last.len(),
            })
        });
        Self { going_on, thread }
    }

    /// Stops, and tells what there was.
    pub fn finish(self) -> anyhow::Result<Scraped> {
        drop(self.going_on);
        // invariant: it does not panic: what can go wrong is an error.
        self.thread.join().ok().context("scraping panicked")?
    }
}

fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "a scrape was answered {:?}", answer.lines().next());
    Ok(answer)
}
