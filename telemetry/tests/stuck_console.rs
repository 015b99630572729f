//! Whoever reads a program's output may stop reading. The program goes on, and ends.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use telemetry::kafka::KafkaSettings;
use telemetry::{LogFormat, LogSettings, OtlpSettings, Service, init_logs};

/// Set for the process that logs: where it says how long it took.
const CHILD: &str = "SLUICE_TEST_STUCK";

/// Some 60 MB: more than the queue and the pipe hold.
const LINES: u32 = 150_000;

fn child(report: &str) -> ! {
    let log = LogSettings { format: LogFormat::Json, ..LogSettings::default() };
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let logs = init_logs(&log, &KafkaSettings::default(), &OtlpSettings::default(), &service).expect("once");
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    for number in 0..LINES {
        let line = Instant::now();
        tracing::info!(number, filling = "0123456789012345678901234567890123456789", "said to nobody");
        worst = worst.max(line.elapsed());
    }
    let logged = begun.elapsed();
    let begun = Instant::now();
    logs.close();
    let closed = begun.elapsed();
    std::fs::write(report, format!("{} {} {}", logged.as_millis(), worst.as_millis(), closed.as_millis()))
        .expect("written");
    // Past the test harness, which would print.
    std::process::exit(0)
}

#[test]
fn a_reader_that_stops_holds_up_neither_the_program_nor_its_end() {
    if let Ok(report) = std::env::var(CHILD) {
        child(&report);
    }
    let report = tempfile::NamedTempFile::new().expect("a file");
    let myself = std::env::current_exe().expect("known");
    let mut running = Command::new(myself)
        .args(["--exact", "a_reader_that_stops_holds_up_neither_the_program_nor_its_end", "--nocapture"])
        .env(CHILD, report.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let give_up = Instant::now() + Duration::from_mins(1);
    while running.try_wait().expect("its own child").is_none() {
        assert!(Instant::now() < give_up, "it hangs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = std::fs::read_to_string(report.path()).expect("it came to its end");
    let took: Vec<u64> = took.split(' ').map(|ms| ms.parse().expect("milliseconds")).collect();
    assert!(took[0] < 20_000 && took[1] < 1_000, "logging took {took:?} ms");
    assert!(took[2] < 2_500, "the end took {took:?} ms");
    let mut written = String::new();
    running.stdout.take().expect("piped").read_to_string(&mut written).expect("text");
    let lines: Vec<&str> = written.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty(), "what the pipe holds was written");
}
