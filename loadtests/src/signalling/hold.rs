//! `loadtests hold`: many idle connections, in a process of its own, for one has only so many open files. Started by the
//! measurement of memory; it connects, says so, joins when told to, and holds everything until its input ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, InRoom, Target};

/// Connections, and joins, at a time.
const AT_ONCE: usize = 64;
/// Connections from one loopback address: far fewer than it has ports.
const PER_SOURCE: usize = 4_000;
/// Descriptors beside the connections.
const SPARE_FILES: u64 = 200;
/// For all of them to connect, or to join.
const STEP_WITHIN: Duration = Duration::from_mins(5);

/// What to hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where to connect.
    #[arg(long)]
    edge: SocketAddr,
    /// How many.
    #[arg(long)]
    count: usize,
    /// The first one's number: names and addresses go on from it.
    #[arg(long)]
    first: usize,
    /// Members of a room, once told to join.
    #[arg(long)]
    room: usize,
}

/// How many connections one process can have here, after asking for as many as it may.
pub fn most_per_process() -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    limit.saturating_sub(SPARE_FILES) as usize
}

/// Does it, in this process.
pub fn run(options: &Options) -> anyhow::Result<()> {
    most_per_process();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(hold(options))
}

async fn hold(options: &Options) -> anyhow::Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    let room_of = |number: usize| format!("idle-room-{}", number / options.room);
    let connect = |number: usize| {
        let target = Target { edge: options.edge, token: None };
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + (number / PER_SOURCE) as u32);
        async move {
            let client = Client::connect(&target, &format!("idle-{number}"), &room_of(number), Some(source)).await?;
            anyhow::Ok((number, client))
        }
    };
    let numbers = options.first..options.first + options.count;
    let clients: Vec<_> = stream::iter(numbers).map(connect).buffer_unordered(AT_ONCE).try_collect().await?;
    answers.write_all(format!("{}\n", clients.len()).as_bytes()).await?;
    answers.flush().await?;

    let alive = Arc::new(AtomicUsize::new(clients.len()));
    let joined = Arc::new(AtomicUsize::new(0));
    let permits = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let (tell, told) = tokio::sync::watch::channel(false);
    let mut holders = JoinSet::new();
    for (number, mut client) in clients {
        let (rid, mut told, permits) = (room_of(number), told.clone(), Arc::clone(&permits));
        let (alive, joined) = (Arc::clone(&alive), Arc::clone(&joined));
        holders.spawn(async move {
            // Pings are answered while it waits.
            let asked = tokio::select! {
                asked = told.wait_for(|told| *told) => asked.is_ok(),
                _ = client.receive() => false,
            };
            if asked {
                let permit = permits.acquire().await;
                let answered = client.request("join", &InRoom { rid: &rid }, |_| ()).await;
                drop(permit);
                let ended = match answered {
                    Ok(_) => {
                        joined.fetch_add(1, Ordering::Relaxed);
                        client.drain().await
                    }
                    Err(error) => error,
                };
                eprintln!("connection {number} ended: {ended}");
            }
            alive.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while let Some(order) = orders.next_line().await? {
        let count = if order == "join" {
            let _ = tell.send(true);
            let done = async {
                while joined.load(Ordering::Relaxed) < alive.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(STEP_WITHIN, done).await.context("all to join")?;
            joined.load(Ordering::Relaxed)
        } else {
            alive.load(Ordering::Relaxed)
        };
        answers.write_all(format!("{count}\n").as_bytes()).await?;
        answers.flush().await?;
    }
    Ok(())
}

/// A process that holds connections.
#[derive(Debug)]
pub struct Holder {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// Starts one and waits until all of its connections are there.
    pub async fn start(edge: SocketAddr, first: usize, count: usize, room: usize) -> anyhow::Result<Self> {
        let numbers = [("--count", count), ("--first", first), ("--room", room)];
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hold", "--edge", &edge.to_string()])
            .args(numbers.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("invariant: stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().context("invariant: stdout is piped")?).lines();
        let mut holder = Self { _child: child, orders, answers };
        let there = holder.answer().await?;
        if there != count {
            bail!("{there} of {count} connections");
        }
        Ok(holder)
    }

    /// Has all of them join; gives how many did.
    pub async fn join(&mut self) -> anyhow::Result<usize> {
        self.orders.write_all(b"join\n").await?;
        self.answer().await
    }

    /// How many are there.
    pub async fn alive(&mut self) -> anyhow::Result<usize> {
        self.orders.write_all(b"alive\n").await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<usize> {
        let line = timeout(STEP_WITHIN, self.answers.next_line()).await.context("the holder's answer")??;
        line.context("the holder ended; what it said is above")?.parse().context("a number")
    }
}
