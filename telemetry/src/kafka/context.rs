//! What librdkafka tells: what became of each message, and what it would log itself. Nothing of it may go to Kafka again, and a
//! cluster that is away must not fill the log: see [`TARGET`] and [`PACE`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;

use super::TARGET;

/// One line in so long; the others are counted. Each broker that is away says so several times a second.
const PACE: Duration = Duration::from_secs(5);

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A log line: its loss is told by the log.
    Line,
    /// Anything else.
    Message,
}

/// What became of messages.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) delivered: AtomicU64,
    pub(super) lost_lines: AtomicU64,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Context {
    pub(super) fn lose(&self, kind: Kind) {
        match kind {
            Kind::Line => {
                self.lost_lines.fetch_add(1, Ordering::Relaxed);
            }
            Kind::Message => metrics::counter!("sluice_kafka_messages_dropped_total").increment(1),
        }
    }

    /// How many were kept back since the last one; `None`: this one is kept back, too.
    fn may_say(&self) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < PACE) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.unsaid))
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let Some(unsaid) = self.may_say() else { return };
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: TARGET, facility, unsaid, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: TARGET, facility, unsaid, "{line}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: TARGET, facility, unsaid, "{line}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(unsaid) = self.may_say() {
            tracing::warn!(target: TARGET, %error, unsaid, "{reason}");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, kind: usize) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.lose(Kind::from_opaque(kind));
                if let Some(unsaid) = self.may_say() {
                    tracing::warn!(target: TARGET, %error, unsaid, "a message was not delivered");
                }
            }
        }
    }
}

impl Kind {
    pub(super) fn opaque(self) -> usize {
        self as usize
    }

    fn from_opaque(opaque: usize) -> Self {
        if opaque == Self::Line as usize { Self::Line } else { Self::Message }
    }
}
