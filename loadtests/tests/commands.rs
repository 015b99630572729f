//! The commands of docs/performance.md run, and report everything that its tables show. How fast anything is, is not asked here.
//! Those that need stores and services are in `on_stores`.

use serde_json::Value;
use std::process::Command;

const SUBSCRIBERS: u64 = 2;
/// Forwarded packets per second: what a debug build on a busy machine carries, however slow it is.
const RATE: u64 = 200;
const SECONDS: u64 = 1;

/// The columns of the tables, by the report's names.
const COLUMNS: [&str; 6] = ["forwarded_rate", "cpu_us", "delay_p50_us", "delay_p99_us", "delay_most_us", "expected"];
/// So little work may come to zero: nothing allocated, no tick of the kernel's clock in one of the modes, no new page of memory.
const PERHAPS_ZERO: [&str; 4] = ["user_us", "system_us", "allocations_per_packet", "kib_per_subscriber"];

fn number(row: &Value, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("no number in column {column}: {row:#}"))
}

#[test]
fn fanout_reports_every_column_and_loses_nothing() {
    let (rate, seconds) = (RATE.to_string(), SECONDS.to_string());
    let output = Command::new(env!("CARGO_BIN_EXE_loadtests"))
        .args(["fanout", "--compare", "webrtc", "--scenario", "video-2", "--rate", &rate, "--seconds", &seconds])
        .args([
            "--compare-scenario",
            "video-2",
            "--compare-rate",
            &rate,
            "--warm-up",
            "1",
            "--runs",
            "1",
            "--paced",
            "--scrape-every",
            "100",
        ])
        .output()
        .expect("the program was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert!(report["cpus"].as_u64() >= Some(2) && report["paced"] == true, "{report:#}");
    for text in ["cpu_model", "kernel"] {
        assert!(report[text].is_string(), "{report:#}");
    }

    let rows = report["summary"].as_array().expect("rows");
    let engines: Vec<_> = rows.iter().map(|row| row["engine"].as_str().expect("a name")).collect();
    // Both of Sluice's are the same call at the same rate: one row of two runs.
    assert_eq!(engines, ["sluice", "sluice", "webrtc"]);
    assert_eq!(rows.iter().map(|row| row["runs"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(1), Some(1)]);
    let scraped: Vec<_> = rows.iter().map(|row| row["scrape_ms"].as_f64().is_some_and(|ms| ms > 0.0)).collect();
    assert_eq!(scraped, [false, true, false]);
    for row in rows {
        assert_eq!((row["scenario"].as_str(), row["lost"].as_u64()), (Some("video-2"), Some(0)), "{row:#}");
        for column in COLUMNS {
            assert!(number(row, column) > 0.0, "{column} is empty: {row:#}");
        }
        for column in PERHAPS_ZERO {
            assert!(number(row, column) >= 0.0, "{column} is not there: {row:#}");
        }
    }

    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["publisher_rate"].as_u64(), Some(RATE / SUBSCRIBERS), "{run:#}");
        let totals = &run["totals"];
        assert_eq!((totals["lost"].as_u64(), totals["repeated"].as_u64()), (Some(0), Some(0)), "{run:#}");
        // Warm-up and measurement together; a machine that is busy elsewhere delays bursts, but sends them.
        let expected = totals["expected"].as_u64().expect("a number");
        assert!(expected >= RATE * SECONDS, "{expected} packets: {run:#}");
    }

    let header = said.lines().find(|line| line.contains("packets/s ")).unwrap_or_else(|| panic!("no table: {said}"));
    for column in ["CPU µs", "user", "system", "allocs", "p50 µs", "p99 µs", "lost", "KiB/sub"] {
        assert!(header.contains(column), "{column} is not in the table: {header}");
    }
}

/// What the figure for instructions is divided by. (valgrind itself would take minutes.)
#[test]
fn instructions_forwards_exactly_what_it_says() {
    for (kind, packets) in [(&[][..], 396), (&["--audio"][..], 12)] {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtests"))
            .args(["instructions", "--subscribers", "3", "--bursts", "4"])
            .args(kind)
            .output()
            .expect("the program was built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        assert!(said.contains(&format!("{packets} packets forwarded to 3 subscribers")), "{said}");
    }
}

#[test]
fn logging_reports_every_column_and_loses_no_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtests"))
        .args(["logging", "--no-kafka", "--rate", "1000", "--seconds", "1"])
        .output()
        .expect("the program was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    let case = &report["cases"][0];
    for column in ["lines", "rate", "line_us", "worst_us", "written"] {
        assert!(number(case, column) > 0.0, "{column} is empty: {report:#}");
    }
    assert_eq!(case["lines"], case["written"], "{report:#}");
}
