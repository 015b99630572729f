//! What librdkafka tells: what became of each message, and what it would log itself. Nothing of it may go to Kafka again, and a
//! cluster that is away must not fill the log: see [`TARGET`] and [`PACE`].

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode;

use serde::Deserialize;

use super::TARGET;
use crate::metrics::KAFKA_MESSAGES_DROPPED;
use crate::pace::Pace;

/// One line in so long; the others are counted. Each broker that is away says so several times a second.
const PACE: Duration = Duration::from_secs(5);

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A log line: its loss is told by the log.
    Line,
    /// An event: what is lost of it becomes a line.
    Event,
}

/// A message that its client was not able to send.
#[derive(Debug)]
pub(super) struct Rescued {
    pub(super) topic: String,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) kind: Kind,
}

/// What an event is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About<'a> {
    #[serde(borrow)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow)]
    node: Option<Cow<'a, str>>,
}

/// What became of messages of all clients, of which one is replaced by the next.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) delivered: AtomicU64,
    pub(super) lost_lines: AtomicU64,
    pub(super) lost_events: AtomicU64,
    /// Not more than one client's queue holds: when it has failed for good, nothing is sent until the next one has taken these.
    rescued: Mutex<Vec<Rescued>>,
    pace: Pace,
}

/// What may wait of lines: the rest of librdkafka's queue is for events, which must not starve behind a flood of lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

/// What one client tells.
#[derive(Debug)]
pub(super) struct Context {
    counts: Arc<Counts>,
    bounds: Bounds,
    /// What it has not sent when it fails goes to the next one; not so when it is the last.
    has_heir: AtomicBool,
    lines: AtomicUsize,
    bytes: AtomicUsize,
    heard: AtomicU64,
}

impl Counts {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            delivered: AtomicU64::new(0),
            lost_lines: AtomicU64::new(0),
            lost_events: AtomicU64::new(0),
            rescued: Mutex::default(),
            pace: Pace::new(PACE),
        })
    }

    pub(super) fn lose(&self, kind: Kind) {
        match kind {
            Kind::Line => {
                self.lost_lines.fetch_add(1, Ordering::Relaxed);
                crate::logs::count_undelivered();
            }
            Kind::Event => {
                self.lost_events.fetch_add(1, Ordering::Relaxed);
                KAFKA_MESSAGES_DROPPED.counter(&[]).increment(1);
            }
        }
    }

    /// What the next client is to send first.
    pub(super) fn take_rescued(&self) -> Vec<Rescued> {
        std::mem::take(&mut *self.rescued.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What could not be given to a client that was to be the next: these come after what that one gives back.
    pub(super) fn keep(&self, messages: impl IntoIterator<Item = Rescued>) {
        self.rescued.lock().unwrap_or_else(PoisonError::into_inner).extend(messages);
    }

    fn rescue(&self, message: &BorrowedMessage<'_>, kind: Kind) {
        let bytes = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
        let rescued = Rescued {
            topic: message.topic().to_owned(),
            key: bytes(message.key()),
            payload: bytes(message.payload()),
            kind,
        };
        self.rescued.lock().unwrap_or_else(PoisonError::into_inner).push(rescued);
    }

    /// What was rescued, and in vain.
    pub(super) fn give_up(&self, Rescued { payload, kind, .. }: &Rescued, at_the_end: bool) {
        match kind {
            Kind::Line => self.lose(Kind::Line),
            Kind::Event => self.lose_event(payload, at_the_end),
        }
    }

    /// An event that was taken and will not be delivered.
    fn lose_event(&self, payload: &[u8], at_the_end: bool) {
        self.lose(Kind::Event);
        // Its key does not tell whether it is a room, a node or an edge.
        let About { room, node } = serde_json::from_slice(payload).unwrap_or_default();
        let (room, node) = (room.as_deref(), node.as_deref());
        let payload = String::from_utf8_lossy(payload);
        // Lines with that target are in the console's log only: nothing goes to Kafka any more.
        if at_the_end {
            tracing::info!(target: TARGET, room, node, event.original = %payload, "an event was not delivered to Kafka");
        } else {
            tracing::info!(room, node, event.original = %payload, "an event was not delivered to Kafka");
        }
    }
}

impl Context {
    pub(super) fn new(counts: Arc<Counts>, bounds: Bounds) -> Self {
        let (lines, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { counts, bounds, has_heir: AtomicBool::new(true), lines, bytes, heard: AtomicU64::new(0) }
    }

    /// Grows with whatever the client tells.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on what it has not sent is lost.
    pub(super) fn disinherit(&self) {
        self.has_heir.store(false, Ordering::Relaxed);
    }

    /// Lines that wait, or are on their way.
    pub(super) fn waiting_lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// Takes room for a line, if there is some.
    pub(super) fn let_in(&self, bytes: usize) -> bool {
        let lines = self.lines.fetch_add(1, Ordering::Relaxed);
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One that waits for nothing waits for no room.
        let fits = lines == 0 || lines < self.bounds.lines && waiting + bytes <= self.bounds.bytes;
        if !fits {
            self.let_out(bytes);
        }
        fits
    }

    /// A line is with librdkafka no more.
    pub(super) fn let_out(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.hear();
        let Some(unsaid) = self.counts.pace.may_say() else { return };
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
        self.hear();
        if let Some(unsaid) = self.counts.pace.may_say() {
            tracing::warn!(target: TARGET, %error, unsaid, "{reason}");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, kind: usize) {
        self.hear();
        let kind = Kind::from_opaque(kind);
        let (Ok(message) | Err((_, message))) = result;
        if kind == Kind::Line {
            self.let_out(message.payload_len());
        }
        let Err((error, message)) = result else {
            self.counts.delivered.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let has_heir = self.has_heir.load(Ordering::Relaxed);
        // Any other error may mean that a broker has it. So may this one, of a message that was sent before and waited to be sent again.
        if has_heir && error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue) {
            return self.counts.rescue(message, kind);
        }
        match kind {
            Kind::Line => self.counts.lose(kind),
            Kind::Event => {
                self.counts.lose_event(message.payload().unwrap_or_default(), !has_heir);
            }
        }
        if let Some(unsaid) = self.counts.pace.may_say() {
            tracing::warn!(target: TARGET, %error, unsaid, "a message was not delivered");
        }
    }
}

impl Kind {
    pub(super) fn opaque(self) -> usize {
        self as usize
    }

    fn from_opaque(opaque: usize) -> Self {
        if opaque == Self::Line as usize { Self::Line } else { Self::Event }
    }
}

#[cfg(test)]
pub(in crate::kafka) mod tests {
    use std::io;

    use tracing::Subscriber;

    use super::*;

    /// What was logged, as text.
    #[derive(Clone, Default)]
    pub(in crate::kafka) struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        pub(in crate::kafka) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
            let writer = self.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish()
        }

        pub(in crate::kafka) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
        }
    }

    impl io::Write for Said {
        fn write(&mut self, said: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(said);
            Ok(said.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_lost_event_is_said_to_be_of_its_room_or_its_node_whatever_its_key() {
        let said = Said::default();
        let lose = |key: &str, event: &str| {
            let (key, payload) = (key.as_bytes().to_vec(), event.as_bytes().to_vec());
            let rescued = Rescued { topic: "sluice.events".to_owned(), key, payload, kind: Kind::Event };
            Counts::new().give_up(&rescued, true);
        };
        tracing::subscriber::with_default(said.subscriber(), || {
            lose("weekly", r#"{"type":"peer-left","room":"week\"ly","peer":"ann"}"#);
            lose("node-1", r#"{"type":"node-up","node":"node-1"}"#);
            lose("edge-1", "no event at all");
        });
        let said = said.text();
        let lines: Vec<&str> = said.lines().collect();
        let has = |line: usize, what: &str| lines[line].contains(what);
        assert!(has(0, r#"room="week\"ly""#) && !has(0, "node="), "{said}");
        assert!(has(1, r#"node="node-1""#) && !has(1, "room="), "{said}");
        assert!(has(2, "event.original=no event at all") && !has(2, "room=") && !has(2, "node="), "{said}");
    }

    #[test]
    fn lines_leave_room_and_one_that_is_alone_always_has_some() {
        let context = Context::new(Counts::new(), Bounds { lines: 3, bytes: 100 });
        assert!(context.let_in(1_000));
        assert!(!context.let_in(1));
        context.let_out(1_000);
        assert!(context.let_in(40) && context.let_in(40) && !context.let_in(40) && context.let_in(20));
        assert!(!context.let_in(0), "so many are enough");
        context.let_out(40);
        assert!(context.let_in(40));
    }
}
