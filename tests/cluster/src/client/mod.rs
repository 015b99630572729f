//! A signalling client that does as the SDK does: comes back with jitter to any of several edges, joins with its session and the
//! last place it knows, and asks again under the same `op` what was not answered. All that happens is written into its journal.

mod actor;
mod backoff;
mod socket;
mod standing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::account::{Happened, Journal};
use actor::{Actor, Order};
pub(crate) use backoff::Backoff;
pub use standing::{Own, Standing};

/// The server answers each request within 10 s; the rest is the way there and back.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// Orders that wait for the client's task: it takes them as fast as it writes frames.
const MAX_ORDERS: usize = 64;

/// A client in one room.
#[derive(Debug)]
pub struct Client {
    /// Who it is.
    pub uid: Arc<str>,
    /// Its room.
    pub room: Arc<str>,
    orders: mpsc::Sender<Order>,
    journal: Arc<Mutex<Journal>>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<()>,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server's answer.
    #[error("error {0}: {1}")]
    Answered(i64, String),
    /// The connection was lost, or no answer came.
    #[error("no answer")]
    Unanswered,
    /// The client is no more.
    #[error("the client has ended")]
    Ended,
}

impl Refusal {
    /// Whether the same request may succeed later: the store, the node or the edge is out of reach, or asks for patience.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Answered(2 | 10 | 11 | 12 | 14 | 429, _) | Self::Unanswered)
    }
}

impl Client {
    /// A client that goes into the room through any of these edges, and stays.
    pub fn start(uid: &str, room: &str, edges: &[SocketAddr]) -> Self {
        let (orders, taken) = mpsc::channel(MAX_ORDERS);
        let (told, standing) = watch::channel(Standing::default());
        let journal = Arc::new(Mutex::new(Journal::new(uid, room)));
        let (uid, room): (Arc<str>, Arc<str>) = (uid.into(), room.into());
        let actor = Actor::new(&uid, &room, edges, Arc::clone(&journal), told, taken);
        Self { uid, room, orders, journal, standing, task: tokio::spawn(actor.run()) }
    }

    /// What has happened to it so far.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what its media or its user did.
    pub fn note(&self, happened: Happened) {
        self.journal().note(happened);
    }

    /// Where it stands, and each change of it.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until something is so; false: it is not, within this time.
    pub async fn until(&self, within: Duration, condition: impl FnMut(&Standing) -> bool) -> bool {
        let mut standing = self.standing();
        matches!(timeout(within, standing.wait_for(condition)).await, Ok(Ok(_)))
    }

    /// Asks for something until it is carried out or refused for good, over lost connections and outages, at most for `patience`.
    /// All tries carry one `op`. `again` is called before each but the first.
    pub async fn request(
        &self,
        method: &'static str,
        data: Value,
        patience: Duration,
        again: impl Fn(),
    ) -> Result<Value, Refusal> {
        let result = self.try_for(method, data, patience, again).await;
        match &result {
            Err(Refusal::Answered(code, _)) => self.note(Happened::GaveUp(method, Some(*code))),
            Err(Refusal::Unanswered) => self.note(Happened::GaveUp(method, None)),
            Ok(_) | Err(Refusal::Ended) => {}
        }
        result
    }

    async fn try_for(
        &self,
        method: &'static str,
        mut data: Value,
        patience: Duration,
        again: impl Fn(),
    ) -> Result<Value, Refusal> {
        let deadline = Instant::now() + patience;
        let mut backoff = Backoff::default();
        data["rid"] = json!(*self.room);
        data["op"] = json!(format!("{:024x}", rand::random::<u128>() >> 32));
        let mut last = Refusal::Unanswered;
        let mut asked = false;
        loop {
            let mut standing = self.standing();
            let joined = timeout_at(deadline, standing.wait_for(|now| now.joined || now.ended.is_some())).await;
            match joined.map(|now| now.is_ok_and(|now| now.ended.is_none())) {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::Ended),
                Err(_) => return Err(last),
            }
            if std::mem::replace(&mut asked, true) {
                again();
            }
            last = match self.ask(method, data.clone()).await {
                Err(refusal) if refusal.is_passing() && Instant::now() < deadline => refusal,
                done => return done,
            };
            if matches!(last, Refusal::Answered(2, _)) {
                let _ = self.orders.send(Order::JoinAgain).await;
            }
            sleep(backoff.next().max(Duration::from_millis(20))).await;
        }
    }

    /// Has a stream recorded, anybody's, or no longer. Gives the recording that begins or ends, if one does.
    pub async fn record(&self, mid: &str, on: bool, patience: Duration) -> Result<Option<String>, Refusal> {
        let answer = self.request("record", json!({"mid": mid, "on": on}), patience, || ()).await?;
        let recording = answer["recording"].as_str().map(str::to_owned);
        if let Some(recording) = recording.clone() {
            self.note(Happened::Recorded { mid: mid.to_owned(), on, recording });
        }
        Ok(recording)
    }

    /// Asks once.
    pub async fn ask(&self, method: &'static str, data: Value) -> Result<Value, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Request { method, data, reply }).await.map_err(|_| Refusal::Ended)?;
        let answer = match timeout(ANSWER_WITHIN, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Refusal::Unanswered)),
            Err(_) => Err(Refusal::Unanswered),
        };
        if let Err(Refusal::Answered(code, _)) = &answer {
            self.note(Happened::Refused(method, *code));
        }
        answer
    }

    /// Leaves the room and ends. The server must have carried it out.
    pub async fn leave(&self, within: Duration) -> Result<(), Refusal> {
        self.request("leave", json!({}), within, || ()).await?;
        self.task.abort();
        self.note(Happened::Left);
        Ok(())
    }

    /// Drops the connection and comes back, as after a short loss of the network. The server sees the connection end.
    pub async fn cut(&self) {
        let _ = self.orders.send(Order::Cut).await;
    }

    /// It is gone at once, as a browser that crashes: the server sees its connection end, and hears no more of it.
    pub fn end(&self) {
        self.task.abort();
        self.note(Happened::Lost(None));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
