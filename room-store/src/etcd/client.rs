//! Calls to etcd: one member at a time, the next one when it fails; every call has a deadline. What is called for is others'
//! business, and so is trying again.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use proto::ids::BootId;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::config::Checked;

/// How long a call may take: several times what an election in etcd does, and short enough that a lease survives two calls
/// that were lost.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Pause before the first and the longest before any later attempt, on average.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_500);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing came in time.
    #[error("no answer within {CALL_TIMEOUT:?}")]
    Timeout,
    /// What was read changed before it was written, again and again.
    #[error("the entry changes all the time")]
    Contended,
    /// Something did, or the connection failed.
    #[error("{}", reason(.0))]
    Etcd(Box<Error>),
}

impl CallError {
    /// Whether the lease the call was about has ended.
    pub(super) fn is_lease_gone(&self) -> bool {
        match self {
            Self::Timeout | Self::Contended => false,
            Self::Etcd(error) => match &**error {
                // The client says so itself when a keep-alive comes back with nothing left.
                Error::LeaseKeepAliveError(reason) => reason == "lease not found",
                Error::GRpcStatus(status) => status.message().contains("requested lease not found"),
                _ => false,
            },
        }
    }

    /// Whether a smaller answer may fit: what the client and the server say of a message beyond their bounds.
    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Timeout | Self::Contended => false,
            Self::Etcd(error) => match &**error {
                Error::GRpcStatus(status) => {
                    status.message().contains("length too large") || status.message().contains("larger than max")
                }
                _ => false,
            },
        }
    }
}

/// What is at the bottom of an error: the layers above it say "transport error".
fn reason(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = match error {
        Error::GRpcStatus(status) => status,
        Error::TransportError(error) => error,
        other => return other.to_string(),
    };
    let top = deepest.to_string();
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let bottom = deepest.to_string();
    if top.contains(&bottom) { top } else { format!("{top}: {bottom}") }
}

/// Connections to etcd's members, one at a time.
pub(super) struct Members {
    endpoints: Vec<String>,
    options: ConnectOptions,
    current: Mutex<Current>,
    /// Failures since something succeeded.
    failures: AtomicU32,
}

struct Current {
    index: usize,
    /// Counts up with each client.
    generation: u64,
    client: Option<Client>,
}

impl Members {
    /// Connects when it is first used.
    pub(super) fn new(checked: Checked) -> Self {
        let Checked { endpoints, prefix: _, options } = checked;
        // So that not everybody is at the first one listed.
        let index = rand::random_range(0..endpoints.len().max(1));
        let current = Mutex::new(Current { index, generation: 0, client: None });
        Self { endpoints, options, current, failures: AtomicU32::new(0) }
    }

    /// Does something with a client. An error that is not about a lease or a size moves everybody to the next member.
    pub(super) async fn call<T, F>(&self, what: impl FnOnce(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut used = None;
        let result = timeout(CALL_TIMEOUT, async {
            let (generation, client) = self.client().await?;
            used = Some(generation);
            what(client).await
        })
        .await;
        let result = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CallError::Etcd(Box::new(error))),
            Err(_) => Err(CallError::Timeout),
        };
        match &result {
            Ok(_) => self.succeeded(),
            Err(error) if error.is_lease_gone() || error.is_too_large() => self.succeeded(),
            Err(error) => self.failed(used, &error.to_string()).await,
        }
        result
    }

    /// The same, again with another member when it fails, until the deadline: for what may be done twice.
    pub(super) async fn insist<T, F>(&self, until: Instant, what: impl Fn(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pauses = Pauses::default();
        loop {
            match self.call(&what).await {
                Err(error) if !error.is_lease_gone() && Instant::now() < until => {
                    tracing::debug!(%error, "a call to etcd is repeated");
                    pauses.pause().await;
                }
                result => return result,
            }
        }
    }

    /// Says that the member in use has failed in a way no call shows: it is silent.
    pub(super) async fn leave(&self, reason: &str) {
        let generation = self.current.lock().await.generation;
        self.failed(Some(generation), reason).await;
    }

    async fn client(&self) -> Result<(u64, Client), Error> {
        let mut current = self.current.lock().await;
        if let Some(client) = &current.client {
            return Ok((current.generation, client.clone()));
        }
        let Some(endpoint) = self.endpoints.get(current.index) else {
            return Err(Error::InvalidArgs("no endpoints".to_owned()));
        };
        let client = Client::connect([endpoint], Some(self.options.clone())).await?;
        current.generation += 1;
        current.client = Some(client.clone());
        Ok((current.generation, client))
    }

    fn succeeded(&self) {
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!("etcd answers again");
        }
    }

    /// Only the first of those who used the same client moves on.
    async fn failed(&self, used: Option<u64>, reason: &str) {
        let mut current = self.current.lock().await;
        let endpoint = self.endpoints.get(current.index).map_or("", String::as_str);
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(endpoint, reason, "etcd does not answer");
        } else {
            tracing::debug!(endpoint, reason, "etcd does not answer");
        }
        let in_use = current.client.is_some().then_some(current.generation);
        if used == in_use {
            current.client = None;
            current.index = (current.index + 1) % self.endpoints.len().max(1);
        }
    }
}

/// Pauses between attempts: longer with each, by chance, so that those who lost etcd together do not come back together.
#[derive(Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// Waits before the next attempt.
    pub(super) async fn pause(&mut self) {
        let mean = FIRST_PAUSE.saturating_mul(1 << self.0.min(8)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        sleep(mean.mul_f64(rand::random_range(0.5..1.5))).await;
    }

    /// An attempt has succeeded.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// A name nobody else has: 64 random bits.
pub(super) fn unique() -> String {
    BootId::of(rand::random()).to_string()
}
