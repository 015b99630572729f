//! The process' log: text for people to stderr, or JSON for machines to stdout; and JSON to Kafka when there are brokers.
//!
//! A thread that logs waits for nobody: lines are copied to a bounded queue, and threads of the log's own write them. Stdout
//! belongs to the program's own output otherwise; a JSON line there begins with `{`.

mod console;
mod ecs;
mod feed;
mod json;
mod queue;
mod redact;
mod settings;

use std::io::{self, IsTerminal, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use self::ecs::Ecs;
use self::feed::Feed;
use self::queue::{Destinations, Queue, Sink};
pub use self::settings::{LogFormat, LogSettings};
use crate::OtlpSettings;
use crate::kafka::{KafkaError, KafkaSettings, Producer};

/// How long the end of the process waits until what was logged is written.
const FLUSH: Duration = Duration::from_secs(2);

/// The part of it that is for what waits for Kafka to reach librdkafka, and for the console.
const HAND_OVER: Duration = Duration::from_millis(700);

/// Who logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What kind of process it is: `edge-signal`, `sfu-node`, `sluice`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Which one of them: its `id`. It is the key of lines that are about no room.
    pub id: String,
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is neither a level nor directives.
    #[error("{level:?} is not a log level: {error}")]
    Level {
        /// As written.
        level: String,
        /// What is wrong with it.
        error: tracing_subscriber::filter::ParseError,
    },
    /// A process has one log.
    #[error("logs are set up already")]
    Twice,
    /// There is no console, or no thread to write to it.
    #[error("logs cannot be written: {0}")]
    Console(#[from] io::Error),
    /// There is no producer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// The log, while the process runs. Closing it is the last thing a process does: what is logged after that is not written.
#[derive(Debug)]
#[must_use = "dropped, it closes the log"]
pub struct LogGuard {
    queue: Arc<Queue>,
    producer: Option<Producer>,
    hurry: Arc<AtomicBool>,
}

impl LogGuard {
    /// The producer to Kafka, if there are brokers: events go through it, too.
    pub fn producer(&self) -> Option<Producer> {
        self.producer.clone()
    }

    /// Writes what was logged, within two seconds or not at all.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let now = Instant::now();
        self.queue.flush(now + HAND_OVER);
        self.hurry.store(true, Ordering::Relaxed);
        self.queue.close();
        if let Some(producer) = self.producer.take() {
            let left = producer.close(now + FLUSH);
            if left > 0 {
                count_dropped(Sink::Kafka, left as u64);
            }
        }
    }
}

/// Writes the process' log from now on. Once per process.
pub fn init_logs(
    log: &LogSettings,
    kafka: &KafkaSettings,
    _otlp: &OtlpSettings,
    service: &Service,
) -> Result<LogGuard, LogError> {
    let producer = if kafka.is_set() { Some(Producer::connect(kafka, &client_id(service))?) } else { None };
    let queue = Arc::new(Queue::new(producer.is_some()));
    let subscriber = subscriber(log, service, &queue, stderr().is_terminal(), producer.is_some())?;
    let console = match log.format {
        LogFormat::Text => console::file(&stderr())?,
        LogFormat::Json => console::file(&stdout())?,
    };
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    let hurry = Arc::new(AtomicBool::new(false));
    start("log", Arc::clone(&queue), move |queue| console::run(&queue, console))?;
    if let Some(producer) = producer.clone() {
        let feed = Feed { queue: Arc::clone(&queue), producer, topic: kafka.topic.clone(), hurry: Arc::clone(&hurry) };
        start("log-kafka", Arc::clone(&queue), move |_| feed.run())?;
    }
    // Lost when it is set already: then logs were, and it has not come so far.
    let _ = WHOLE.set(Arc::clone(&queue));
    Ok(LogGuard { queue, producer, hurry })
}

/// The log of the process, for whoever ends it.
static WHOLE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Waits until what was logged is written, at most for `within`: for a process that ends without ado, as by `abort`.
pub fn flush_logs(within: Duration) {
    if let Some(queue) = WHOLE.get() {
        queue.flush(Instant::now() + within);
    }
}

fn client_id(service: &Service) -> String {
    format!("{}-{}", service.name, service.id)
}

fn start(name: &str, queue: Arc<Queue>, run: impl FnOnce(Arc<Queue>) + Send + 'static) -> io::Result<()> {
    // It ends when the log is closed, or is left to itself by a process that ends: it may hang in a write.
    thread::Builder::new().name(name.to_owned()).spawn(move || run(queue)).map(drop)
}

fn subscriber(
    settings: &LogSettings,
    service: &Service,
    queue: &Arc<Queue>,
    colour: bool,
    kafka: bool,
) -> Result<impl Subscriber + Send + Sync + use<>, LogError> {
    let is_text = settings.format == LogFormat::Text;
    let text = is_text
        .then(|| tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(TextLines(Arc::clone(queue))));
    let to = Destinations { console: !is_text, kafka };
    let json = (to.console || to.kafka).then(|| Ecs::new(Arc::clone(queue), to, service));
    let may_be = filter_fn(|metadata: &Metadata<'_>| redact::may_be(metadata));
    Ok(Registry::default().with(settings.filter()?).with(may_be).with(text).with(json))
}

/// Where lines for people are put together.
struct TextLines(Arc<Queue>);

impl<'w> MakeWriter<'w> for TextLines {
    type Writer = TextLine<'w>;

    fn make_writer(&'w self) -> TextLine<'w> {
        TextLine(&self.0)
    }
}

/// Takes whole lines.
struct TextLine<'w>(&'w Queue);

impl io::Write for TextLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push_text(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count_dropped(sink: Sink, lines: u64) {
    metrics::counter!("sluice_log_lines_dropped_total", "sink" => sink.name()).increment(lines);
}

fn say_dropped(sink: Sink, lines: u64) {
    tracing::warn!(sink = sink.name(), lines, "log lines were dropped");
}
