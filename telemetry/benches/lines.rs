//! What a line of the log costs the thread that logs it, at a given pace, with what an edge says of a request: JSON or text to
//! nowhere, and JSON to a broker in this process (librdkafka's mock) or to none: `cargo bench -p telemetry --features kafka --bench lines`.
//!
//! It is no Criterion benchmark: what counts is the pace of lines and threads that write beside, not one call after the other.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use telemetry::kafka::KafkaSettings;
use telemetry::{LogFormat, LogSettings, OtlpSettings, Service, init_logs};

/// Lines a second.
const PACE: u64 = 50_000;

/// Lines made one after the other before time is looked at: the clock costs as much as a short line.
const RUN: u64 = 50;

/// How long each case takes.
const LASTS: Duration = Duration::from_secs(5);

/// Set for the process that logs; how it does.
const CASE: &str = "SLUICE_BENCH_CASE";
/// Where it says what it took: stdout and stderr are what is measured.
const REPORT: &str = "SLUICE_BENCH_REPORT";

fn main() {
    match std::env::var(CASE) {
        Ok(case) => measure(&case),
        // A process has one log: each case is one.
        Err(_) => {
            for case in ["json", "text", "kafka", "kafka away"] {
                let myself = std::env::current_exe().expect("known");
                let report = tempfile::NamedTempFile::new().expect("a file");
                let mut child = Command::new(myself);
                child.env(CASE, case).env(REPORT, report.path()).stdout(Stdio::null()).stderr(Stdio::null());
                assert!(child.status().expect("runs").success(), "{case}");
                let said = std::fs::read(report.path()).expect("written");
                std::io::stdout().write_all(&said).expect("told");
            }
        }
    }
}

fn measure(case: &str) {
    let (kafka, _cluster) = brokers(case);
    let format = if case == "text" { LogFormat::Text } else { LogFormat::Json };
    let log = LogSettings { format, ..LogSettings::default() };
    let service = Service { name: "bench", version: "0", id: "bench-1".to_owned() };
    let logs = init_logs(&log, &kafka, &OtlpSettings::default(), &service).expect("once");
    let begun = Instant::now();
    let (mut lines, mut spent, mut worst) = (0, Duration::ZERO, Duration::ZERO);
    let span = tracing::info_span!("client", peer = "ann-0123456789", connection = 17);
    let _client = span.enter();
    while begun.elapsed() < LASTS {
        let due = begun + Duration::from_nanos(lines * 1_000_000_000 / PACE);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let start = Instant::now();
        for _ in 0..RUN {
            tracing::info!(room = %"room-4711", trace.id = %format_args!("{:032x}", lines), how = ?Some(3), took_ms = 12, "joined");
            lines += 1;
        }
        let took = start.elapsed();
        spent += took;
        worst = worst.max(took / RUN as u32);
    }
    let elapsed = begun.elapsed();
    logs.close();
    let mean = spent.as_nanos() / u128::from(lines);
    let pace = lines as f64 / elapsed.as_secs_f64();
    let report =
        format!("{case}: {mean} ns a line on the calling thread, {worst:?} in the worst {RUN}; {pace:.0} lines/s\n");
    std::fs::write(std::env::var(REPORT).expect("set by the parent"), report).expect("written");
}

#[cfg(feature = "kafka")]
fn brokers(case: &str) -> (KafkaSettings, Option<impl Sized>) {
    use rdkafka::mocking::MockCluster;

    let cluster = (case == "kafka").then(|| MockCluster::new(1).expect("it starts"));
    let mut settings = KafkaSettings::default();
    match (&cluster, case) {
        (Some(cluster), _) => settings.brokers = vec![cluster.bootstrap_servers()],
        (None, "kafka away") => settings.brokers = vec!["127.0.0.1:1".to_owned()],
        _ => {}
    }
    (settings, cluster)
}

#[cfg(not(feature = "kafka"))]
fn brokers(_case: &str) -> (KafkaSettings, Option<()>) {
    (KafkaSettings::default(), None)
}
