//! The producer. Messages wait in librdkafka's queue, which is bounded; brokers that are away are its business, and a client of it that
//! has failed for good is replaced.

mod mending;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::context::{Bounds, Context, Counts, Kind};
use super::{Full, KafkaError, KafkaSettings, Refused};
use crate::settings::Contradiction;

/// What librdkafka has at least to end its threads in, of the time there is.
const END: Duration = Duration::from_millis(200);

type Client = BaseProducer<Context>;

/// Sends messages to Kafka; clones are the same one. Nothing here waits for a broker.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    state: RwLock<State>,
    config: ClientConfig,
    counts: Arc<Counts>,
    polling: Mutex<Option<JoinHandle<()>>>,
    /// Set when the last client is to end.
    ends: Done,
    /// Set once it has, or was given up.
    closed: Done,
}

/// Something that happens once.
#[derive(Default)]
struct Done {
    done: Mutex<bool>,
    changed: Condvar,
}

impl Done {
    fn set(&self) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, by: Instant) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let left = by.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(done, left, |done| !*done));
    }
}

enum State {
    Open(Arc<Client>),
    /// This one has failed for good, and the next is not there yet: nothing is sent, so that all stays in order.
    Mending(Arc<Client>),
    Closed,
}

/// Asks librdkafka whether the properties can be used, without a word to any broker.
pub(super) fn check(settings: &KafkaSettings) -> Result<(), Contradiction> {
    if settings.is_set() {
        let mut config = config(settings, "check")?;
        config.remove("bootstrap.servers");
        start(&config, &Counts::new()).map_err(|error| refusal(&error))?;
    }
    Ok(())
}

fn config(settings: &KafkaSettings, client: &str) -> Result<ClientConfig, Contradiction> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info).set("client.id", client);
    for (key, value) in settings.effective()? {
        config.set(key, value);
    }
    config.create_native_config().map_err(|error| refusal(&error))?;
    Ok(config)
}

fn start(config: &ClientConfig, counts: &Arc<Counts>) -> KafkaResult<Client> {
    // The eighth that is left is the events'.
    let part = |key, unit: usize| {
        let most = config.get(key).and_then(|value| value.trim().parse::<usize>().ok());
        most.map_or(usize::MAX, |most| (most - most / 8).saturating_mul(unit))
    };
    let bounds =
        Bounds { lines: part("queue.buffering.max.messages", 1), bytes: part("queue.buffering.max.kbytes", 1_024) };
    config.create_with_context(Context::new(Arc::clone(counts), bounds))
}

/// Names the key, and never its value, which may be a secret.
fn refusal(error: &ClientError) -> Contradiction {
    match error {
        ClientError::ClientConfig(_, reason, key, value) => {
            let reason = if value.is_empty() { reason.clone() } else { reason.replace(value, "…") };
            Contradiction::new(format!("kafka.{key}"), reason)
        }
        other => Contradiction::new("kafka", other.to_string()),
    }
}

impl Producer {
    /// Starts one; `client` is what brokers call it. They need not be there.
    pub fn connect(settings: &KafkaSettings, client: &str) -> Result<Self, KafkaError> {
        let (config, counts) = (config(settings, client)?, Counts::new());
        let started = start(&config, &counts).map_err(|error| KafkaError::Start(error.to_string()))?;
        let started = Arc::new(started);
        let shared = Arc::new(Shared {
            state: RwLock::new(State::Open(Arc::clone(&started))),
            config,
            counts,
            polling: Mutex::default(),
            ends: Done::default(),
            closed: Done::default(),
        });
        let polling = thread::Builder::new().name("kafka".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || mending::run(&shared, started)
        });
        let polling = polling.map_err(|error| KafkaError::Start(error.to_string()))?;
        *shared.polling.lock().unwrap_or_else(PoisonError::into_inner) = Some(polling);
        Ok(Self(shared))
    }

    /// Has an event sent, after those with the same key before it. Never waits.
    #[expect(clippy::needless_pass_by_value, reason = "whether librdkafka copies it is its own business")]
    pub fn send(&self, topic: &str, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        self.enqueue(topic, key.as_bytes(), &payload, Kind::Event).map_err(|_| {
            self.0.counts.lose(Kind::Event);
            Full
        })
    }

    /// Likewise a log line, which does not count as lost when there is no room: there will be.
    pub(crate) fn send_line(&self, topic: &str, key: &[u8], line: &[u8]) -> Result<(), Refused> {
        self.enqueue(topic, key, line, Kind::Line)
    }

    fn enqueue(&self, topic: &str, key: &[u8], payload: &[u8], kind: Kind) -> Result<(), Refused> {
        match &*self.0.state() {
            State::Open(client) => put(client, topic, key, payload, kind),
            State::Mending(_) => Err(Refused::Full),
            State::Closed => Err(Refused::Never),
        }
    }

    /// Messages that brokers have confirmed.
    pub(crate) fn delivered(&self) -> u64 {
        self.0.counts.delivered.load(Ordering::Relaxed)
    }

    /// Lines that were taken and will not be delivered.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.0.counts.lost_lines.load(Ordering::Relaxed)
    }

    /// Waits until all messages are delivered, at most until `by`.
    pub(crate) fn flush(&self, by: Instant) {
        let client = match &*self.0.state() {
            State::Open(client) => Arc::clone(client),
            State::Mending(_) | State::Closed => return,
        };
        // What could not be flushed in time stays where it is.
        let _ = client.flush(by.saturating_duration_since(Instant::now()));
    }

    /// Likewise, and ends librdkafka. What was not delivered is lost and counted; how many events that were.
    pub(crate) fn close(&self, by: Instant) -> u64 {
        let shared = &self.0;
        let lost = || shared.counts.lost_events.load(Ordering::Relaxed);
        let before = lost();
        // On its own: who sends meanwhile must not wait for what follows.
        let state = std::mem::replace(&mut *shared.state_mut(), State::Closed);
        let client = match state {
            State::Open(client) => {
                let _ = client.flush(by.saturating_duration_since(Instant::now()).saturating_sub(END));
                client
            }
            State::Mending(client) => client,
            State::Closed => {
                shared.closed.wait(by);
                return 0;
            }
        };
        client.context().disinherit();
        shared.ends.set();
        let polling = shared.polling.lock().unwrap_or_else(PoisonError::into_inner).take();
        let context = Arc::clone(client.context());
        end(client, polling, by);
        for rescued in shared.counts.take_rescued() {
            shared.counts.give_up(&rescued, true);
        }
        // None, unless the client was not destroyed in time.
        for _ in 0..context.waiting_lines() {
            shared.counts.lose(Kind::Line);
        }
        shared.closed.set();
        lost() - before
    }
}

/// Gives a message to librdkafka.
fn put(client: &Client, topic: &str, key: &[u8], payload: &[u8], kind: Kind) -> Result<(), Refused> {
    let is_line = kind == Kind::Line;
    if is_line && !client.context().let_in(payload.len()) {
        return Err(Refused::Full);
    }
    let record = BaseRecord::with_opaque_to(topic, kind.opaque()).key(key).payload(payload);
    client.send(record).map_err(|(error, _)| {
        if is_line {
            client.context().let_out(payload.len());
        }
        match error.rdkafka_error_code() {
            // One that has failed for good is replaced: it is worth to wait.
            Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal) => Refused::Full,
            _ => Refused::Never,
        }
    })
}

/// Destroys the client, whose threads must not outlive `main`'s (OpenSSL goes away under them). One that hangs, as in a name that no
/// server resolves, is left to itself: the process ends without it.
fn end(client: Arc<Client>, polling: Option<JoinHandle<()>>, by: Instant) {
    let (ended, has_ended) = mpsc::sync_channel(1);
    let ending = thread::Builder::new().name("kafka-end".to_owned()).spawn(move || {
        if let Some(polling) = polling {
            let _ = polling.join();
        }
        drop(client);
        let _ = ended.send(());
    });
    if ending.is_ok() {
        let _ = has_ended.recv_timeout(by.saturating_duration_since(Instant::now()).max(END));
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
