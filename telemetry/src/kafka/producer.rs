//! The producer. Messages wait in librdkafka's queue, which is bounded; brokers that are away are its business.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::context::{Context, Kind};
use super::{Full, KafkaError, KafkaSettings, Refused};
use crate::settings::Contradiction;

/// How long the thread that hears of deliveries waits for one at a time: how late it notices that it is to end.
const POLL: Duration = Duration::from_millis(50);

/// What librdkafka has at least to end its threads in, of the time there is.
const END: Duration = Duration::from_millis(200);

/// Sends messages to Kafka; clones are the same one. Nothing here waits for a broker.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    /// `None`: closed.
    client: RwLock<Option<Arc<BaseProducer<Context>>>>,
    context: Arc<Context>,
    polling: Mutex<Option<JoinHandle<()>>>,
    ends: Arc<AtomicBool>,
}

/// Asks librdkafka whether the properties can be used, without a word to any broker.
pub(super) fn check(settings: &KafkaSettings) -> Result<(), Contradiction> {
    if settings.is_set() {
        let mut config = config(settings, "check")?;
        config.remove("bootstrap.servers");
        let started: Result<BaseProducer<Context>, _> = config.create_with_context(Context::default());
        started.map_err(|error| refusal(&error))?;
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
        let config = config(settings, client)?;
        let started: Result<BaseProducer<Context>, _> = config.create_with_context(Context::default());
        let started = Arc::new(started.map_err(|error| KafkaError::Start(error.to_string()))?);
        let context = Arc::clone(started.context());
        let ends = Arc::new(AtomicBool::new(false));
        let polling = thread::Builder::new().name("kafka".to_owned()).spawn({
            let (client, ends) = (Arc::clone(&started), Arc::clone(&ends));
            move || {
                while !ends.load(Ordering::Relaxed) {
                    client.poll(POLL);
                }
            }
        });
        let polling = polling.map_err(|error| KafkaError::Start(error.to_string()))?;
        let shared = Shared { client: RwLock::new(Some(started)), context, polling: Mutex::new(Some(polling)), ends };
        Ok(Self(Arc::new(shared)))
    }

    /// Has a message sent, after those with the same key before it. Never waits.
    #[expect(clippy::needless_pass_by_value, reason = "whether librdkafka copies it is its own business")]
    pub fn send(&self, topic: &str, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        self.enqueue(topic, key.as_bytes(), &payload, Kind::Message).map_err(|_| {
            self.0.context.lose(Kind::Message);
            Full
        })
    }

    /// Likewise a log line, which does not count as lost when there is no room: there will be.
    pub(crate) fn send_line(&self, topic: &str, key: &[u8], line: &[u8]) -> Result<(), Refused> {
        self.enqueue(topic, key, line, Kind::Line)
    }

    fn enqueue(&self, topic: &str, key: &[u8], payload: &[u8], kind: Kind) -> Result<(), Refused> {
        let client = self.0.client.read().unwrap_or_else(PoisonError::into_inner);
        let record = BaseRecord::with_opaque_to(topic, kind.opaque()).key(key).payload(payload);
        client.as_ref().ok_or(Refused::Never)?.send(record).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Refused::Full,
            _ => Refused::Never,
        })
    }

    /// Messages that brokers have confirmed.
    pub(crate) fn delivered(&self) -> u64 {
        self.0.context.delivered.load(Ordering::Relaxed)
    }

    /// Lines that were taken and will not be delivered.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.0.context.lost_lines.load(Ordering::Relaxed)
    }

    /// Waits until all messages are delivered, at most until `by`, and ends librdkafka. What was not delivered is lost: how many.
    pub(crate) fn close(self, by: Instant) -> usize {
        let client = self.0.client.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(client) = client else { return 0 };
        // What could not be flushed in time stays where it is.
        let _ = client.flush(by.saturating_duration_since(Instant::now()).saturating_sub(END));
        let left = client.in_flight_count().max(0) as usize;
        self.0.ends.store(true, Ordering::Relaxed);
        let polling = self.0.polling.lock().unwrap_or_else(PoisonError::into_inner).take();
        end(client, polling, by);
        left
    }
}

/// Destroys the client, whose threads must not outlive `main`'s (OpenSSL goes away under them). One that hangs, as in a name that no
/// server resolves, is left to itself: the process ends without it.
fn end(client: Arc<BaseProducer<Context>>, polling: Option<JoinHandle<()>>, by: Instant) {
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

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
