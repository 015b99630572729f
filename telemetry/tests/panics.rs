//! A task that panics is told of where machines read, too.

use std::process::{Command, Stdio};

use serde_json::Value;
use telemetry::kafka::KafkaSettings;
use telemetry::{LogFormat, LogSettings, OtlpSettings, Service, init_logs};

/// Set for the process that panics: how it logs.
const CHILD: &str = "SLUICE_TEST_PANIC";

const MYSELF: &str = "a_panic_is_a_line_of_the_json_log_and_people_see_it_as_ever";

fn child(format: LogFormat) -> ! {
    let log = LogSettings { format, ..LogSettings::default() };
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let logs = init_logs(&log, &KafkaSettings::default(), &OtlpSettings::default(), &service).expect("once");
    let thread = std::thread::Builder::new().name("worker-7".to_owned());
    let worker = thread.spawn(|| panic!("no {}", "way")).expect("it starts");
    worker.join().expect_err("it panics");
    logs.close();
    // Past the test harness, which would print.
    std::process::exit(0)
}

/// What such a process says on stdout and on stderr.
fn said(format: &str) -> (String, String) {
    let output = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", MYSELF, "--nocapture"])
        .env(CHILD, format)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_panic_is_a_line_of_the_json_log_and_people_see_it_as_ever() {
    if let Ok(format) = std::env::var(CHILD) {
        child(if format == "json" { LogFormat::Json } else { LogFormat::Text });
    }
    let (out, err) = said("json");
    let lines: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [line] = &lines[..] else { panic!("{out}") };
    assert_eq!((&line["log.level"], &line["message"]), (&"error".into(), &"a thread has panicked".into()));
    assert_eq!((&line["error.message"], &line["process.thread.name"]), (&"no way".into(), &"worker-7".into()));
    assert!(line["log.origin.file.name"].as_str().is_some_and(|file| file.ends_with("panics.rs")), "{line}");
    assert!(line["log.origin.file.line"].is_u64() && line.get("error.stack_trace").is_none(), "{line}");
    assert!(!err.contains("no way"), "what machines read is on stdout: {err}");
    let (_, err) = said("text");
    assert_eq!(err.matches("no way").count(), 1, "{err}");
}
