//! Broadcasts to one large room over all edges: how long each takes to each member, and what a notification costs the edge when
//! they come as fast as they can.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Client, Frame, InRoom, Target};
use super::latency::{Latency, Times};

/// Joins at a time while the room fills.
const FILLING: usize = 16;
/// What a chat message has, beside its time.
const PADDING: &str =
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.";
/// For the last notifications to arrive; what comes later counts as lost.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);
/// Between the room being full and the first broadcast: the notifications of the last joins.
const SETTLE: Duration = Duration::from_secs(2);

/// How many notifications came, and when.
#[derive(Debug, Default)]
struct Ledger {
    heard: AtomicU64,
    gone: Mutex<BTreeMap<String, u64>>,
    times: Mutex<Times>,
}

/// A broadcast's `data`.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    /// Nanoseconds since the room's beginning.
    at: u64,
    #[serde(skip_deserializing)]
    text: &'static str,
}

#[derive(Debug, Serialize)]
struct Broadcast<'a> {
    rid: &'a str,
    data: Stamp,
}

#[derive(Debug, Deserialize)]
struct Heard {
    data: Stamp,
}

/// What deliveries came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Deliveries {
    /// Members of the room.
    pub members: usize,
    /// From the sender's request to each other member.
    pub delivery: Latency,
    /// Notifications that should have come.
    pub expected: u64,
    /// And did not.
    pub lost: u64,
    /// Members whose connections ended meanwhile, by reason.
    pub gone: BTreeMap<String, u64>,
}

/// What throughput came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Throughput {
    /// Members of the room.
    pub members: usize,
    /// Notifications that arrived per second.
    pub per_second: f64,
    /// Notifications per second of CPU time of the edges.
    pub per_edge_core: f64,
    /// CPU microseconds of the store for each broadcast.
    pub store_us_per_broadcast: f64,
}

/// A full room whose members listen.
pub struct Room {
    rid: String,
    begin: Instant,
    senders: Vec<Client>,
    listeners: JoinSet<()>,
    ledger: Arc<Ledger>,
    members: usize,
}

impl Room {
    /// Fills it: members in turn over the targets, the first `senders` of which do the talking.
    pub async fn fill(targets: &[Target], members: usize, senders: usize, prefix: &str) -> anyhow::Result<Self> {
        let rid = format!("{prefix}-room");
        let begin = Instant::now();
        let joins = stream::iter(0..members).map(|number| {
            let (rid, target) = (format!("{prefix}-room"), targets[number % targets.len()].clone());
            let uid = format!("{prefix}-{number}");
            async move {
                let mut client = Client::connect(&target, &uid, &rid, None).await?;
                client.request("join", &InRoom { rid: &rid }, |_| ()).await?;
                anyhow::Ok(client)
            }
        });
        // As they come: a member that has joined must be listened to, or it is found too slow.
        let (mut talking, mut listeners, ledger) = (Vec::new(), JoinSet::new(), Arc::new(Ledger::default()));
        let mut joins = std::pin::pin!(joins.buffer_unordered(FILLING));
        let mut waiting = Vec::new();
        while let Some(client) = joins.next().await {
            let client = client.context("filling the room")?;
            if waiting.len() < senders {
                waiting.push(client);
            } else {
                listeners.spawn(listen(client, begin, Arc::clone(&ledger)));
            }
        }
        for mut client in waiting {
            // What piled up while the room filled.
            client.request("keepalive", &InRoom { rid: &rid }, |_| ()).await.or_else(only_unknown)?;
            talking.push(client);
        }
        sleep(SETTLE).await;
        ledger.heard.store(0, Ordering::Relaxed);
        Ok(Self { rid, begin, senders: talking, listeners, ledger, members })
    }

    /// Notifications that a broadcast of one of the senders brings to the listeners.
    fn audience(&self) -> u64 {
        self.listeners.len() as u64
    }

    /// Sends at a steady rate and says how long it took.
    pub async fn deliveries(&mut self, rate: u32, length: Duration) -> anyhow::Result<Deliveries> {
        let before = self.ledger.heard.load(Ordering::Relaxed);
        *self.ledger.times.lock().expect("invariant: nobody panics holding it") = Times::default();
        let begin = Instant::now();
        let count = (f64::from(rate) * length.as_secs_f64()) as u32;
        for number in 0..count {
            sleep_until(begin + Duration::from_secs(1) / rate * number).await;
            let client = self.senders.first_mut().context("a sender")?;
            say(client, &self.rid, self.begin).await?;
        }
        let expected = u64::from(count) * self.audience();
        let deadline = Instant::now() + ARRIVE_WITHIN;
        while self.ledger.heard.load(Ordering::Relaxed) - before < expected && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        let heard = self.ledger.heard.load(Ordering::Relaxed) - before;
        let delivery = self.ledger.times.lock().expect("invariant: nobody panics holding it").summary();
        let gone = self.ledger.gone.lock().expect("invariant: nobody panics holding it").clone();
        Ok(Deliveries { members: self.members, delivery, expected, lost: expected.saturating_sub(heard), gone })
    }

    /// Sends as fast as answers come, and says what that came to. `cpu` tells the CPU seconds of the edges and of the store.
    pub async fn throughput(
        mut self,
        length: Duration,
        cpu: impl Fn() -> anyhow::Result<(f64, f64)>,
    ) -> anyhow::Result<Throughput> {
        let (before, begun, (edges, store)) = (self.ledger.heard.load(Ordering::Relaxed), Instant::now(), cpu()?);
        let until = begun + length;
        let mut talkers = JoinSet::new();
        for mut client in std::mem::take(&mut self.senders) {
            let (rid, begin) = (self.rid.clone(), self.begin);
            talkers.spawn(async move {
                let mut sent = 0_u64;
                while Instant::now() < until {
                    say(&mut client, &rid, begin).await?;
                    sent += 1;
                }
                anyhow::Ok(sent)
            });
        }
        let mut sent = 0;
        while let Some(talked) = talkers.join_next().await {
            sent += talked.context("invariant: nobody aborts them")??;
        }
        let heard = (self.ledger.heard.load(Ordering::Relaxed) - before) as f64;
        let (seconds, (edges_after, store_after)) = (begun.elapsed().as_secs_f64(), cpu()?);
        Ok(Throughput {
            members: self.members,
            per_second: heard / seconds,
            per_edge_core: heard / (edges_after - edges).max(f64::EPSILON),
            store_us_per_broadcast: (store_after - store) * 1e6 / sent.max(1) as f64,
        })
    }
}

/// A server that knows no keepalive has answered all the same.
fn only_unknown(error: super::client::ClientError) -> anyhow::Result<tokio_tungstenite::tungstenite::Utf8Bytes> {
    match error {
        super::client::ClientError::Refused { code: -1, .. } => Ok(String::new().into()),
        other => Err(other.into()),
    }
}

async fn say(client: &mut Client, rid: &str, begin: Instant) -> anyhow::Result<()> {
    let data = Stamp { at: begin.elapsed().as_nanos() as u64, text: PADDING };
    client.request("broadcast", &Broadcast { rid, data }, |_| ()).await?;
    Ok(())
}

/// Takes down each broadcast for as long as the connection lasts.
async fn listen(mut client: Client, begin: Instant, ledger: Arc<Ledger>) {
    loop {
        let text = match client.receive().await {
            Ok(text) => text,
            Err(error) => {
                let mut gone = ledger.gone.lock().expect("invariant: nobody panics holding it");
                *gone.entry(error.to_string()).or_default() += 1;
                return;
            }
        };
        let now = begin.elapsed();
        let Ok(frame) = Frame::read(&text) else { continue };
        if frame.method != Some("broadcast") {
            continue;
        }
        let Ok(Heard { data }) = frame.data() else { continue };
        let took = now.saturating_sub(Duration::from_nanos(data.at));
        ledger.times.lock().expect("invariant: nobody panics holding it").record(took);
        ledger.heard.fetch_add(1, Ordering::Relaxed);
    }
}
