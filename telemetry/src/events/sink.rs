//! Where events go: to Kafka, or, without it, to the log.

use std::fmt;
use std::sync::Arc;

use metrics::Counter;
use proto::ids::Seq;
use tracing::field::DisplayValue;

use super::{Event, Teller};
use crate::kafka::{Full, Producer};
use crate::metrics::{EVENTS, EVENTS_DROPPED};
use crate::trace::Trace;

/// Takes events to where others read them. It never waits.
pub trait EventOut: Send + Sync + 'static {
    /// Takes one; those of a key stay in order.
    fn put(&self, key: &str, payload: Vec<u8>) -> Result<(), Full>;
}

/// A topic of Kafka.
struct Topic {
    producer: Producer,
    name: String,
}

impl EventOut for Topic {
    fn put(&self, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        self.producer.send(&self.name, key, payload)
    }
}

/// Tells events, as one teller. Clones are the same.
#[derive(Clone)]
pub struct EventSink(Arc<Inner>);

struct Inner {
    teller: Teller,
    out: Option<Arc<dyn EventOut>>,
    told: Counter,
    dropped: Counter,
}

impl EventSink {
    /// `out`: where to; `None`: to the log.
    pub fn new(teller: Teller, out: Option<Arc<dyn EventOut>>) -> Self {
        let (told, dropped) = (EVENTS.counter(&[]), EVENTS_DROPPED.counter(&[]));
        Self(Arc::new(Inner { teller, out, told, dropped }))
    }

    /// To a topic of Kafka; without a producer to the log.
    pub fn to_topic(teller: Teller, producer: Option<Producer>, topic: &str) -> Self {
        let out = producer.map(|producer| Arc::new(Topic { producer, name: topic.to_owned() }) as _);
        Self::new(teller, out)
    }

    /// Tells an event, at once, with the trace of what this task works on: one that cannot be taken is counted, and goes to the log.
    pub fn emit(&self, event: Event) {
        let Inner { teller, out, told, dropped } = &*self.0;
        let trace = Trace::current().map(|trace| trace.id().to_string());
        let event = Event { teller: Some(teller.clone()), trace, ..event };
        told.increment(1);
        let Some(out) = out else { return event.log() };
        let key = event.key(teller);
        // Nothing in it fails to be written: texts, numbers and what was JSON before.
        let taken = serde_json::to_vec(&event).is_ok_and(|payload| out.put(key, payload).is_ok());
        if !taken {
            dropped.increment(1);
            event.log();
        }
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSink").field("teller", &self.0.teller).finish_non_exhaustive()
    }
}

impl Event {
    /// Events of a key are in order: those of a room, or of who tells.
    fn key<'a>(&'a self, teller: &'a Teller) -> &'a str {
        self.subject.room.as_ref().map_or(teller.id(), |room| room.as_str())
    }

    /// As a line of the log, with the fields that lines have. The trace is the line's own.
    fn log(&self) {
        let Self { id, kind, subject, detail, .. } = self;
        tracing::info!(
            event.action = kind,
            event.id = id,
            room = shown(subject.room.as_ref()),
            epoch = shown(subject.epoch.as_ref()),
            seq = subject.seq.map(Seq::get),
            peer = shown(subject.peer.as_ref()),
            mid = shown(subject.stream.as_ref()),
            sid = shown(subject.subscription.as_ref()),
            recording = shown(subject.recording.as_ref()),
            sfuid = shown(detail.sfuid.as_ref()),
            event.reason = detail.reason,
            restored = detail.restored.then_some(true),
            deadline_ms = detail.deadline_ms,
            duration_ms = detail.duration_ms,
            error.message = detail.error.as_deref(),
            url.full = detail.url.as_deref(),
            manifest = shown(detail.manifest.as_ref()),
            "{kind}"
        );
    }
}

fn shown<T: fmt::Display>(id: Option<&T>) -> Option<DisplayValue<&T>> {
    id.map(tracing::field::display)
}
