//! Keys of a JWKS server: fetched at start, from time to time, and when a token names a key that is not known. What was fetched last
//! stays in force while the server is away. How a document is read is `auth`.
//!
//! ```text
//!          a token names an unknown key, or the time has come
//! Waiting ───────────────────────────────────────────────────▶ Fetching ──▶ Waiting
//!          but no sooner than MIN_PAUSE after the last try
//! ```

use std::sync::Arc;
use std::time::Duration;

use telemetry::Latch;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::auth::{Jwks, Keyring};
use crate::https::{Address, Bounds, HttpsClient};
use crate::metrics::EdgeMetrics;

/// Least time between two tries, whoever asks: a stranger can name unknown keys as often as it likes. More: clients with a new key
/// wait longer for it; less: more load on the server.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// Most time between two tries while the server is away.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// What one fetch may take: a document of 64 keys with their certificates is half of it.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(4), body: 256 * 1024 };
/// Longest that a client waits for a fetch because of its token. Less than what a request to a store may take.
const WAIT: Duration = Duration::from_millis(2_500);

/// The keys of a server, as fetched last. Cheap to clone.
#[derive(Clone)]
pub(crate) struct JwksKeys {
    fetched: watch::Receiver<Fetched>,
    asked: Arc<Notify>,
}

/// How far fetching has come.
#[derive(Debug, Clone, Default)]
struct Fetched {
    /// `None`: never yet.
    keys: Option<Arc<Keyring>>,
    /// When the last try began, and whether it brought keys.
    last_try: Option<(Instant, bool)>,
}

/// Whether keys could be fetched that are newer than a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newer {
    /// They are there.
    Fetched,
    /// Not now; after this time it is worth another try.
    NotBefore(Duration),
}

/// What fetches them.
pub(crate) struct JwksSource {
    pub(crate) client: HttpsClient,
    pub(crate) address: Address,
    /// Mean time between two fetches.
    pub(crate) interval: Duration,
    pub(crate) metrics: EdgeMetrics,
}

impl JwksKeys {
    /// What is known now; nothing before the first fetch.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        self.fetched.borrow().keys.clone().unwrap_or_default()
    }

    /// Has the keys fetched anew, and waits a little for them.
    pub(crate) async fn newer(&self) -> Newer {
        let asked_at = Instant::now();
        let mut fetched = self.fetched.clone();
        let (due, is_first) = {
            let fetched = fetched.borrow_and_update();
            let due = fetched.last_try.map_or(asked_at, |(began, _)| began + MIN_PAUSE);
            (due, fetched.keys.is_none())
        };
        self.asked.notify_one();
        if due > asked_at + WAIT {
            return Newer::NotBefore(due - asked_at);
        }
        // The very first fetch may have begun before.
        let is_later = |fetched: &Fetched| {
            fetched.last_try.is_some_and(|(began, _)| began >= asked_at) || (is_first && fetched.keys.is_some())
        };
        let came = timeout_at(asked_at + WAIT, fetched.wait_for(is_later)).await;
        match came {
            Ok(Ok(now)) if now.last_try.is_some_and(|(_, is_good)| is_good) => Newer::Fetched,
            _ => Newer::NotBefore(MIN_PAUSE),
        }
    }
}

impl JwksSource {
    /// Where its keys will be. [`run`](Fetching::run) fetches them.
    pub(crate) fn fetching(self) -> (JwksKeys, Fetching) {
        let (tell, fetched) = watch::channel(Fetched::default());
        let asked = Arc::new(Notify::new());
        let keys = JwksKeys { fetched, asked: Arc::clone(&asked) };
        (keys, Fetching { source: self, tell, asked })
    }
}

/// The task that fetches.
pub(crate) struct Fetching {
    source: JwksSource,
    tell: watch::Sender<Fetched>,
    asked: Arc<Notify>,
}

impl Fetching {
    /// Until shutdown. `latch`: without any keys an edge can let nobody in.
    pub(crate) async fn run(self, latch: Latch, shutdown: CancellationToken) {
        latch.wait(format!("no keys from {} yet", self.source.address));
        shutdown.run_until_cancelled(self.fetch_again_and_again(&latch)).await;
    }

    async fn fetch_again_and_again(&self, latch: &Latch) {
        let mut failures: u32 = 0;
        loop {
            let began = Instant::now();
            let is_good = self.fetch(began).await;
            if is_good {
                latch.ready();
            }
            failures = if is_good { 0 } else { failures.saturating_add(1) };
            let pause = pause_after(failures, self.source.interval).mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = sleep_until(began + pause.max(MIN_PAUSE.min(self.source.interval))) => {}
                () = self.asked.notified() => sleep_until(began + MIN_PAUSE).await,
            }
        }
    }

    async fn fetch(&self, began: Instant) -> bool {
        let Self { source: JwksSource { client, address, metrics, .. }, tell, .. } = self;
        let read = match client.get(address, BOUNDS).await {
            Ok(answer) if answer.status.is_success() => Jwks::read(&answer.body).map_err(|error| error.to_string()),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        let keys = match read {
            Ok(Jwks { keys, unfit }) => {
                for error in unfit {
                    tracing::warn!(%address, %error, "a key of the JWKS server is not used");
                }
                tracing::debug!(%address, keys = keys.len(), "keys fetched");
                Some(Arc::new(keys))
            }
            Err(error) => {
                metrics.jwks_failures.increment(1);
                tracing::warn!(%address, error, "keys cannot be fetched: those fetched before stay in force");
                None
            }
        };
        let is_good = keys.is_some();
        tell.send_modify(|fetched| {
            fetched.last_try = Some((began, is_good));
            if keys.is_some() {
                fetched.keys = keys;
            }
        });
        is_good
    }
}

/// Mean time to the next try.
fn pause_after(failures: u32, interval: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => interval,
        Some(doublings) => (MIN_PAUSE * 2_u32.pow(doublings.min(8))).min(MAX_PAUSE).min(interval),
    }
}

#[cfg(test)]
mod tests;
