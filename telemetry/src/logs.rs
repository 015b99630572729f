//! The process' log: text for people to stderr, or JSON for machines to stdout; and JSON to Kafka when there are brokers.
//!
//! A thread that logs waits for nobody: lines are copied to a bounded queue, and threads of the log's own write them. Stdout
//! belongs to the program's own output otherwise; a JSON line there begins with `{`.

mod console;
mod ecs;
mod feed;
mod json;
mod panics;
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
use crate::kafka::{KafkaError, KafkaSettings, Producer};
use crate::otlp::{self, OtlpSettings};

/// How long the end of the process waits until what was logged is written.
const FLUSH: Duration = Duration::from_secs(2);

/// The part of it that is for traces.
const TRACES: Duration = Duration::from_millis(500);

/// Until when, from its beginning, lines may go to librdkafka's queue and to the console.
const HAND_OVER: Duration = Duration::from_millis(1_200);

/// Until when librdkafka has ended: the rest is for the line which says what was lost.
const ENDED: Duration = Duration::from_millis(1_850);

/// How long the producer has to end in a process that ends at once.
const CLOSE: Duration = Duration::from_millis(200);

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
    /// Traces cannot be exported.
    #[error("otlp: {0}")]
    Otlp(String),
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
        otlp::end(TRACES);
        self.queue.flush(now + HAND_OVER);
        self.hurry.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            let events = producer.close(now + ENDED);
            // What still comes to the producer is lost, too, and at once.
            self.queue.flush_to(Sink::Kafka, now + FLUSH);
            let lines = self.queue.take_untold(Sink::Kafka, producer.lost_lines());
            if lines > 0 || events > 0 {
                tracing::warn!(lines, events, "not delivered to Kafka before the end");
            }
        }
        tell_dropped(&self.queue, Sink::Console, 0);
        self.queue.flush_to(Sink::Console, now + FLUSH);
        self.queue.close();
    }
}

/// Writes the process' log, and exports traces, from now on. Once per process, inside its runtime.
pub fn init_logs(
    log: &LogSettings,
    kafka: &KafkaSettings,
    traces: &OtlpSettings,
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
    panics::log_them(log.format, producer.is_some());
    let hurry = Arc::new(AtomicBool::new(false));
    start("log", Arc::clone(&queue), move |queue| console::run(&queue, console))?;
    if let Some(producer) = producer.clone() {
        let feed = Feed { queue: Arc::clone(&queue), producer, topic: kafka.topic.clone(), hurry: Arc::clone(&hurry) };
        start("log-kafka", Arc::clone(&queue), move |_| feed.run())?;
    }
    // Lost when it is set already: then logs were, and it has not come so far.
    let _ = WHOLE.set(Whole { queue: Arc::clone(&queue), producer: producer.clone() });
    otlp::start(traces, service).map_err(LogError::Otlp)?;
    Ok(LogGuard { queue, producer, hurry })
}

/// The log of the process, for whoever ends it.
static WHOLE: OnceLock<Whole> = OnceLock::new();

struct Whole {
    queue: Arc<Queue>,
    producer: Option<Producer>,
}

/// Waits until what was logged is written, and delivered to Kafka, at most for `within`: for a process that ends without ado, as by
/// `abort`.
pub fn flush_logs(within: Duration) {
    let Some(Whole { queue, producer }) = WHOLE.get() else { return };
    let by = Instant::now() + within;
    queue.flush(by);
    if let Some(producer) = producer {
        producer.flush(by);
    }
}

/// Likewise for a process that ends by `exit`, which takes OpenSSL's memory away: no thread of librdkafka's may be left then.
pub(crate) fn close_logs(within: Duration) {
    flush_logs(within);
    if let Some(producer) = WHOLE.get().and_then(|whole| whole.producer.as_ref()) {
        producer.close(Instant::now() + CLOSE);
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
    let text =
        is_text.then(|| tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(TextLines(Arc::clone(queue))));
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

/// Cheap enough for each line of a flood that finds no room: the keys are made once.
fn count_dropped(sink: Sink, lines: u64) {
    let counter = match sink {
        Sink::Console => metrics::counter!("sluice_log_lines_dropped_total", "sink" => "console"),
        Sink::Kafka => metrics::counter!("sluice_log_lines_dropped_total", "sink" => "kafka"),
    };
    counter.increment(lines);
}

/// Counts a line that librdkafka has lost.
#[cfg(feature = "kafka")]
pub(crate) fn count_undelivered() {
    count_dropped(Sink::Kafka, 1);
}

/// Tells of lost lines that no line has told of yet.
fn tell_dropped(queue: &Queue, sink: Sink, behind: u64) {
    let lines = queue.take_untold(sink, behind);
    if lines > 0 {
        tracing::warn!(sink = sink.name(), lines, "log lines were dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use serde_json::Value;

    use super::queue::Batch;
    use super::*;
    use crate::trace::{About, Kind, Trace};

    fn service() -> Service {
        Service { name: "edge-signal", version: "0.1.0", id: "edge-1".to_owned() }
    }

    /// What is written of what `log` does, each line with its key for Kafka.
    fn lines(format: LogFormat, level: &str, log: impl FnOnce()) -> Vec<(String, String)> {
        let queue = Arc::new(Queue::new(format == LogFormat::Json));
        let settings = LogSettings { format, level: level.to_owned() };
        let kafka = format == LogFormat::Json;
        let subscriber = subscriber(&settings, &service(), &queue, false, kafka).expect("valid level");
        tracing::subscriber::with_default(subscriber, log);
        let sink = if kafka { Sink::Kafka } else { Sink::Console };
        let batch = queue.next(sink, Batch::default(), Duration::ZERO).expect("open");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        batch.lines().map(|(key, line)| (text(key), text(line))).collect()
    }

    fn text(level: &str, log: impl FnOnce()) -> String {
        lines(LogFormat::Text, level, log).into_iter().map(|(_, line)| line).collect()
    }

    fn json(level: &str, log: impl FnOnce()) -> Vec<Value> {
        let parse = |(_, line): (String, String)| serde_json::from_str(&line).expect("an object");
        lines(LogFormat::Json, level, log).into_iter().map(parse).collect()
    }

    #[test]
    fn text_has_fields_and_honours_the_level() {
        let log = || {
            tracing::info!(node = "sz_1", "started");
            tracing::debug!("details");
        };
        let written = text("info", log);
        assert!(written.contains("started") && written.contains("node=\"sz_1\""), "{written}");
        assert!(!written.contains("details") && written.ends_with('\n') && written.lines().count() == 1, "{written}");
        assert!(text("debug", log).contains("details"));
        assert_eq!(text("warn", log), "");
        assert!(text("warn,telemetry=debug", log).contains("details"));
    }

    #[test]
    fn a_json_line_has_the_names_of_the_elastic_common_schema() {
        let lines =
            json("debug", || tracing::warn!(room = %"r1", count = 3, error = %"no \"way\"\n", ok = true, "it failed"));
        let [line] = &lines[..] else { panic!("{lines:?}") };
        for (name, value) in [
            ("log.level", "warn".into()),
            ("message", "it failed".into()),
            ("service.name", "edge-signal".into()),
            ("service.version", "0.1.0".into()),
            ("service.node.name", "edge-1".into()),
            ("log.logger", "telemetry::logs::tests".into()),
            ("sluice.room", "r1".into()),
            ("sluice.count", Value::from(3)),
            ("sluice.ok", Value::from(true)),
            ("error.message", "no \"way\"\n".into()),
            ("event.sequence", Value::from(1)),
        ] {
            let value: Value = value;
            assert_eq!(line.get(name), Some(&value), "{name} in {line}");
        }
        let time = line["@timestamp"].as_str().expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        assert!(line["ecs.version"].is_string() && line["process.pid"].is_u64(), "{line}");
    }

    #[test]
    fn a_line_has_the_fields_of_the_spans_it_is_in_and_the_innermost_of_each_name() {
        let lines = lines(LogFormat::Json, "info", || {
            let client = tracing::info_span!("client", peer = "ann", room = %"outer", late = tracing::field::Empty);
            client.record("late", 5);
            let _client = client.enter();
            let _request = tracing::info_span!("request", trace.id = %"abc", room = %"inner").entered();
            tracing::info!(peer = "bob", "said");
            tracing::info!("nothing of its own");
        });
        assert_eq!(lines[0].0, "inner", "the key is the room");
        for (line, peer) in [(&lines[0].1, "bob"), (&lines[1].1, "ann")] {
            let mut names = BTreeSet::new();
            // No name twice, which a parser would not show.
            for part in line.split(",\"") {
                assert!(names.insert(part.split("\":").next().expect("a name")), "{line}");
            }
            let line: Value = serde_json::from_str(line).expect("an object");
            assert_eq!(line["sluice.peer"], peer);
            assert_eq!((&line["sluice.room"], &line["trace.id"]), (&"inner".into(), &"abc".into()));
            assert_eq!(line["sluice.late"], 5);
        }
    }

    #[test]
    fn a_line_about_no_room_has_the_key_of_its_process() {
        let lines = lines(LogFormat::Json, "info", || tracing::info!("ready"));
        assert_eq!(lines[0].0, "edge-1");
    }

    #[test]
    fn a_line_within_a_step_that_is_about_a_room_has_the_key_of_the_room() {
        let lines = lines(LogFormat::Json, "info", || {
            let whole = Trace::new(5, 6);
            let about = About { room: Some("weekly"), mid: None };
            let says = async || tracing::info!("said");
            for mut step in [
                pin!(whole.step(7).follow_about("test", Kind::Internal, whole, about, says()))
                    as Pin<&mut dyn Future<Output = ()>>,
                pin!(Trace::carry_about(Some(whole), "test", about, says())),
                pin!(Trace::carry_about(None, "test", about, says())),
            ] {
                assert!(step.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
        });
        assert_eq!(lines.len(), 3);
        for (key, line) in lines {
            assert_eq!(key, "weekly");
            assert!(line.contains("\"sluice.room\":\"weekly\"") && !line.contains("sluice.mid"), "{line}");
        }
    }

    #[test]
    fn what_librdkafka_says_is_not_sent_to_kafka() {
        let lines = json("info", || {
            tracing::warn!(target: "librdkafka", "brokers are down");
            tracing::info!("still here");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((&line["message"], &line["event.sequence"]), (&"still here".into(), &1.into()));
    }

    #[test]
    fn others_say_nothing_below_info_and_nobody_says_what_is_named_a_secret() {
        let log = || {
            tracing::debug!(target: "h2::codec", "headers: authorization");
            tracing::trace!(target: "tungstenite", "frame");
            tracing::info!(target: "hyper", token = "hunter2", "request");
            tracing::info!(target: "hyper", "listens");
            tracing::trace!("ours");
        };
        for directives in ["trace", "info,h2=trace,hyper=trace,tungstenite=trace,telemetry=trace"] {
            let written = text(directives, log);
            assert_eq!(written.lines().count(), 2, "{written}");
            assert!(written.contains("listens") && written.contains("ours"), "{written}");
            assert_eq!(json(directives, log).len(), 2);
        }
    }

    #[test]
    fn the_index_template_knows_each_field_of_a_line_that_the_schema_names() {
        let template: Value =
            serde_json::from_str(include_str!("../../deploy/elastic/index-template.json")).expect("JSON");
        let pipeline: Value = serde_json::from_str(include_str!("../../deploy/elastic/pipeline.json")).expect("JSON");
        assert!(pipeline["processors"].as_array().is_some_and(|all| all.len() > 2));
        let lines =
            json("info", || tracing::info!(trace.id = "a", span.id = "b", error = "c", event.action = "d", "said"));
        for name in lines[0].as_object().expect("an object").keys() {
            let mut at = &template["template"]["mappings"];
            for step in name.split('.') {
                at = &at["properties"][step];
            }
            assert!(at["type"].is_string(), "{name}: {at}");
        }
    }

    #[test]
    fn a_value_that_logs_while_it_is_printed_makes_two_whole_lines() {
        struct Talks;
        impl std::fmt::Display for Talks {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                tracing::info!(inner = 1, "inside");
                f.write_str("said")
            }
        }
        let lines = json("info", || tracing::info!(what = %Talks, "outside"));
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        assert!(messages.contains(&"outside"), "{lines:?}");
        assert!(lines.iter().all(|line| line["message"] != "outside" || line["sluice.what"] == "said"), "{lines:?}");
    }
}
