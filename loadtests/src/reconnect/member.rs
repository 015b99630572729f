//! A client that comes back: joins, and after each lost connection joins again with its session and its position, as the SDK
//! does. It holds what it hears against what was said: each room has somebody who counts aloud.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::backoff::Backoff;
use super::counters::{self, Count, Counters};
use super::ledger::Ledger;
use crate::signalling::client::{Client, ClientError, Frame, InRoom, Target};

/// How often a member asks something, so that errors have somewhere to show.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What all members share.
#[derive(Debug)]
pub struct Shared {
    /// Where they may connect.
    pub edges: Vec<SocketAddr>,
    /// Grows with each cut: whoever is connected then is no longer.
    pub cut: watch::Sender<u32>,
    /// What became of it.
    pub ledger: Ledger,
    /// What was said in each room.
    pub counters: Counters,
    /// Everybody goes home.
    pub over: AtomicBool,
}

/// A place in a room's log, as the edge told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    epoch: Box<RawValue>,
    seq: u64,
}

#[derive(Debug, Serialize)]
struct Join<'a> {
    rid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'a Position>,
}

#[derive(Debug, Deserialize)]
struct Joined {
    session: String,
    epoch: Box<RawValue>,
    seq: u64,
    #[serde(default)]
    resync: bool,
}

#[derive(Debug, Deserialize)]
struct Notified<'a> {
    epoch: Option<Box<RawValue>>,
    seq: Option<u64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What others may know of a member.
#[derive(Debug)]
pub struct Standing {
    /// Its name.
    pub uid: String,
    /// Its room, by number.
    pub room: usize,
    /// Where it is connected; `u64::MAX` for nowhere.
    pub port: AtomicU64,
    /// The last number it heard. It is there before the first is said: until then 0.
    pub heard: AtomicU64,
}

/// One member of one room.
#[derive(Debug)]
pub struct Member {
    /// What others may know of it.
    pub standing: Arc<Standing>,
    rid: String,
    shared: Arc<Shared>,
    backoff: Backoff,
    session: Option<String>,
    position: Option<Position>,
    /// The next number may be any: it was told how things stand, not what it missed.
    astray: bool,
}

impl Member {
    /// Not yet there.
    pub fn new(uid: String, room: usize, shared: Arc<Shared>) -> Self {
        let backoff = Backoff::new(&shared.edges);
        let standing = Standing { uid, room, port: AtomicU64::new(u64::MAX), heard: AtomicU64::new(0) };
        let rid = counters::rid(room);
        Self { standing: Arc::new(standing), rid, shared, backoff, session: None, position: None, astray: false }
    }

    /// Its whole life.
    pub async fn run(mut self) {
        let mut cut = self.shared.cut.subscribe();
        while !self.shared.over.load(Ordering::Relaxed) {
            let lost = self.stay(&mut cut).await;
            self.standing.port.store(u64::MAX, Ordering::Relaxed);
            if self.shared.over.load(Ordering::Relaxed) {
                return;
            }
            self.shared.ledger.lost(&lost);
            sleep(self.backoff.wait()).await;
        }
    }

    /// One connection; says why it ended.
    async fn stay(&mut self, cut: &mut watch::Receiver<u32>) -> ClientError {
        cut.mark_unchanged();
        let edge = self.backoff.edge();
        let target = Target { edge, token: None };
        let mut client = match Client::connect(&target, &self.standing.uid, &self.rid, None).await {
            Ok(client) => client,
            Err(error) => return error,
        };
        if let Err(error) = self.join(&mut client).await {
            client.cut();
            return error;
        }
        self.backoff.reset();
        self.standing.port.store(edge.port().into(), Ordering::Relaxed);
        self.shared.ledger.there(&self.standing.uid);
        let first = Instant::now() + ASK_EVERY.mul_f64(rand::random_range(0.0..1.0));
        let mut asking = interval_at(first, ASK_EVERY);
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                _ = cut.changed() => {
                    client.cut();
                    return ClientError::Closed(None);
                }
                _ = asking.tick() => {
                    match client.send("keepalive", &InRoom { rid: &self.rid }).await {
                        Ok(_) => continue,
                        Err(error) => return error,
                    }
                }
                received = client.receive() => received,
            };
            match received {
                Ok(text) => self.hear(&text),
                Err(error) => return error,
            }
        }
    }

    async fn join(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let rid = self.rid.clone();
        let (session, since) = (self.session.clone(), self.position.clone());
        let data = Join { rid: &rid, session: session.as_deref(), since: since.as_ref() };
        let answer = client.request("join", &data, |_| ()).await?;
        let joined: Joined = Frame::read(&answer)?.data()?;
        let resumed = !joined.resync && since.as_ref().is_some_and(|since| since.epoch.get() == joined.epoch.get());
        if !resumed {
            if since.is_some() {
                self.shared.ledger.resynced();
            }
            // Numbers go on from whatever comes next, but beyond what was said by now.
            self.astray = since.is_some();
            self.standing.heard.store(self.shared.counters.said(self.standing.room), Ordering::Relaxed);
            self.position = Some(Position { epoch: joined.epoch, seq: joined.seq });
        }
        self.session = Some(joined.session);
        Ok(())
    }

    fn hear(&mut self, text: &str) {
        let Ok(frame) = Frame::read(text) else { return self.shared.ledger.wrong(text) };
        if frame.response {
            let outcome = if frame.ok { Ok(()) } else { Err(frame.code) };
            return self.shared.ledger.answered(outcome);
        }
        let Ok(Notified { epoch, seq, data }) = frame.data() else { return self.shared.ledger.wrong(text) };
        if let (Some(epoch), Some(seq)) = (epoch, seq) {
            self.position = Some(Position { epoch, seq });
        }
        if frame.method != Some("broadcast") {
            return;
        }
        let Some(Count { n }) = data.and_then(|data| serde_json::from_str(data.get()).ok()) else { return };
        let last = self.standing.heard.fetch_max(n, Ordering::Relaxed);
        self.shared.ledger.counted((!std::mem::take(&mut self.astray)).then_some(last), n);
    }
}
