//! Lines as the Elastic Common Schema names their fields (docs/logs.md), made on the thread that logs, in memory that it keeps.
//!
//! A field whose name has a dot is one of the schema's and written as it is; every other is ours, and stands below `sluice.`.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::json::{self, Clock};
use super::queue::{Destinations, Queue};
use crate::kafka::TARGET as LIBRDKAFKA;

/// The version of the schema whose names these are.
const VERSION: &str = "8.17.0";

/// The field that a line's key is taken from, so that all lines of a room stay in order.
const KEY: &str = "room";

/// Fields in one line or span; what is beyond is left out. None has as many.
const MAX_FIELDS: usize = 32;

/// A buffer that once held a long line is not kept.
const KEPT: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread keeps to write its lines with.
#[derive(Default)]
struct Scratch {
    line: Vec<u8>,
    fields: Fields,
    clock: Clock,
}

/// Writes lines to a [`Queue`].
pub(super) struct Ecs {
    queue: Arc<Queue>,
    to: Destinations,
    /// What every line says of the process, as it stands in the line.
    process: Vec<u8>,
    /// The key of lines that are about no room.
    key: Vec<u8>,
}

/// Fields in JSON, each with a comma before it, and their names: the innermost of a name stands.
#[derive(Debug, Default)]
struct Fields {
    json: Vec<u8>,
    /// Each name, and where its field ends in `json`.
    names: Vec<(&'static str, usize)>,
    message: Vec<u8>,
    key: Vec<u8>,
}

impl Ecs {
    pub(super) fn new(queue: Arc<Queue>, to: Destinations, service: &super::Service) -> Self {
        let mut process = Vec::new();
        for (name, value) in [
            ("ecs.version", VERSION),
            ("service.name", service.name),
            ("service.version", service.version),
            ("service.node.name", &service.id),
        ] {
            let _ = write!(process, ",\"{name}\":");
            json::string(&mut process, value);
        }
        let _ = write!(process, ",\"process.pid\":{}", std::process::id());
        Self { queue, to, process, key: service.id.clone().into_bytes() }
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Ecs {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        SCRATCH.with(|scratch| {
            // A value that logs while it is printed would come here again: its own line is made with other memory.
            match scratch.try_borrow_mut() {
                Ok(mut scratch) => self.write(event, &context, &mut scratch),
                Err(_) => self.write(event, &context, &mut Scratch::default()),
            }
        });
    }
}

impl Ecs {
    fn write<S>(&self, event: &Event<'_>, context: &Context<'_, S>, scratch: &mut Scratch)
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let Scratch { line, fields, clock } = scratch;
        fields.clear();
        event.record(fields);
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    fields.add_from(outer);
                }
            }
        }
        let metadata = event.metadata();
        line.clear();
        line.extend_from_slice(b"{\"@timestamp\":\"");
        clock.write(line, SystemTime::now());
        line.extend_from_slice(b"\",\"log.level\":\"");
        line.extend_from_slice(level(*metadata.level()));
        line.extend_from_slice(b"\",\"message\":");
        if fields.message.is_empty() {
            line.extend_from_slice(b"\"\"");
        } else {
            line.extend_from_slice(&fields.message);
        }
        line.extend_from_slice(&self.process);
        line.extend_from_slice(b",\"log.logger\":\"");
        json::escape(line, metadata.target());
        line.push(b'"');
        line.extend_from_slice(&fields.json);
        let key = if fields.key.is_empty() { &self.key } else { &fields.key };
        let kafka = self.to.kafka && metadata.target() != LIBRDKAFKA;
        self.queue.push_json(line, key, Destinations { kafka, ..self.to });
        line.shrink_to(KEPT);
        fields.json.shrink_to(KEPT);
    }
}

fn level(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"error",
        Level::WARN => b"warn",
        Level::INFO => b"info",
        Level::DEBUG => b"debug",
        Level::TRACE => b"trace",
    }
}

impl Fields {
    fn clear(&mut self) {
        self.json.clear();
        self.names.clear();
        self.message.clear();
        self.key.clear();
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| *known == name)
    }

    /// Takes over what it has no field of that name for.
    fn add_from(&mut self, outer: &Self) {
        let mut from = 0;
        for &(name, end) in &outer.names {
            if !self.has(name) && self.names.len() < MAX_FIELDS {
                self.json.extend_from_slice(&outer.json[from..end]);
                self.names.push((name, self.json.len()));
            }
            from = end;
        }
        if self.key.is_empty() {
            self.key.extend_from_slice(&outer.key);
        }
    }

    fn put(&mut self, field: &Field, write: impl FnOnce(&mut Vec<u8>)) {
        let name = field.name();
        if name == "message" {
            self.message.clear();
            return write(&mut self.message);
        }
        if self.has(name) || self.names.len() >= MAX_FIELDS {
            return;
        }
        if name == "error" {
            self.json.extend_from_slice(b",\"error.message\":");
        } else {
            self.json.extend_from_slice(if name.contains('.') { b",\"" } else { b",\"sluice." });
            json::escape(&mut self.json, name);
            self.json.extend_from_slice(b"\":");
        }
        write(&mut self.json);
        self.names.push((name, self.json.len()));
    }

    fn put_key(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == KEY && self.key.is_empty() {
            let _ = self.key.write_fmt(value);
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, |out| json::float(out, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |out| json::number(out, value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |out| json::count(out, value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, |out| json::number(out, value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, |out| json::number(out, value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |out| out.extend_from_slice(if value { b"true" } else { b"false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_key(field, format_args!("{value}"));
        self.put(field, |out| json::string(out, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_key(field, format_args!("{value:?}"));
        self.put(field, |out| json::formatted(out, format_args!("{value:?}")));
    }
}
