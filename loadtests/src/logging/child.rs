//! `loadtests log`: logs at a steady pace, as an edge does of requests, and says on stderr what that took.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use telemetry::kafka::KafkaSettings;
use telemetry::{LogFormat, LogSettings, OtlpSettings, Service, init_logs};

/// By this its lines are found among others.
pub(super) const MESSAGE: &str = "a request was answered in time";
/// Lines made one after the other before the clock is looked at: that costs as much as a short line.
const RUN: u64 = 50;

/// How to log.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Lines a second.
    #[arg(long)]
    rate: u64,
    /// For so long.
    #[arg(long)]
    seconds: u64,
    /// To these, too.
    #[arg(long)]
    brokers: Option<String>,
}

/// What it took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// Lines.
    pub lines: u64,
    /// Lines a second that it came to.
    pub rate: f64,
    /// Of the thread that logs, for a line: microseconds by the clock.
    pub line_us: f64,
    /// The slowest run of 50 lines, for a line of it: microseconds.
    pub worst_us: f64,
    /// CPU seconds of the whole process for a second: writers and librdkafka, too.
    pub cpu: f64,
}

/// Logs, and says what it took.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let log = LogSettings { format: LogFormat::Json, ..LogSettings::default() };
    let kafka = KafkaSettings { brokers: options.brokers.iter().cloned().collect(), ..KafkaSettings::default() };
    let service = Service { name: "loadtests", version: env!("CARGO_PKG_VERSION"), id: "log-1".to_owned() };
    let logs = init_logs(&log, &kafka, &OtlpSettings::default(), &service)?;
    let cost = at_pace(options);
    logs.close();
    eprintln!("{}", serde_json::to_string(&cost?)?);
    Ok(())
}

fn at_pace(options: &Options) -> anyhow::Result<Cost> {
    let used = crate::fanout::process::usage(std::process::id())?.cpu;
    let (begun, lasts) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut lines, mut spent, mut worst) = (0, Duration::ZERO, Duration::ZERO);
    let span = tracing::info_span!("client", peer = "ann-0123456789", connection = 17);
    let _client = span.enter();
    while begun.elapsed() < lasts {
        let due = begun + Duration::from_nanos(lines * 1_000_000_000 / options.rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let start = Instant::now();
        for _ in 0..RUN {
            tracing::info!(room = "room-4711", trace.id = %format_args!("{lines:032x}"), method = "publish", took_ms = 12, "{MESSAGE}");
            lines += 1;
        }
        let took = start.elapsed();
        spent += took;
        worst = worst.max(took);
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Cost {
        lines,
        rate: lines as f64 / seconds,
        line_us: spent.as_secs_f64() * 1e6 / lines.max(1) as f64,
        worst_us: worst.as_secs_f64() * 1e6 / RUN as f64,
        cpu: (crate::fanout::process::usage(std::process::id())?.cpu - used) / seconds,
    })
}
