//! The examples of docs/signalling.md are what the edge reads and writes, and docs/configuration.md has all its settings.

use std::process::Command;

use proto::signalling::{ErrorCode, Notification, methods, parse};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/signalling.md");

fn examples() -> Vec<Value> {
    let blocks = DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().expect("closed"));
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"))).collect()
}

#[test]
fn every_request_shown_is_understood_and_every_method_is_shown() {
    let examples = examples();
    let requests: Vec<&Value> = examples.iter().filter(|example| example["request"] == true).collect();
    for request in &requests {
        let inbound = parse(&request.to_string()).expect("of a known kind");
        assert!(inbound.request.is_ok(), "{inbound:?}: {request}");
    }
    for method in methods() {
        assert!(requests.iter().any(|request| request["method"] == method), "{method}");
    }
}

#[test]
fn every_notification_is_shown_and_no_other() {
    let examples = examples();
    let shown = || examples.iter().filter(|example| example["notification"] == true).map(|example| &example["method"]);
    for method in Notification::METHODS {
        assert!(shown().any(|shown| shown == method), "{method}");
    }
    for method in shown() {
        assert!(Notification::METHODS.iter().any(|known| known == method), "{method}");
    }
}

#[test]
fn the_table_of_errors_is_whole() {
    for code in ErrorCode::ALL {
        let row = format!("| {} | `{}` |", code.code(), code.name());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}

/// The paths of all keys that hold a value, with the value.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let Some(map) = value.as_object() else { return found.push((path.to_owned(), value.clone())) };
    for (key, value) in map {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        leaves(&path, value, found);
    }
}

/// As the document writes it: thousands apart.
fn written(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", written(number / 1_000), number % 1_000) }
}

/// Whether a row of a table names the key, in full or as one of several below one.
fn names(row: &str, path: &str) -> bool {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    row.contains(&format!("`{path}`")) || (row.contains(&format!("`{above}.")) && row.contains(&format!("`.{key}`")))
}

#[test]
fn every_setting_is_documented_with_its_default() {
    const SETTINGS: &str = include_str!("../../docs/configuration.md");
    let program = env!("CARGO_BIN_EXE_edge-signal");
    let output = Command::new(program).arg("--print-config").env_clear().output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_saphyr::from_slice(&output.stdout).expect("settings are shown as YAML");
    let mut settings = Vec::new();
    leaves("", &shown, &mut settings);
    assert!(settings.len() > 40, "{settings:?}");
    for (path, default) in settings {
        let rows: Vec<&str> = SETTINGS.lines().filter(|line| line.starts_with('|') && names(line, &path)).collect();
        assert!(!rows.is_empty(), "{path} is not documented");
        let stands_there = |row: &str| match &default {
            Value::Bool(default) => row.contains(&format!("`{default}`")),
            Value::Number(default) => {
                let thousands = default.as_u64().map(written);
                thousands.is_some_and(|default| row.contains(&default)) || row.contains(&default.to_string())
            }
            _ => true,
        };
        assert!(rows.iter().any(|row| stands_there(row)), "{path} is by default {default}, but: {rows:?}");
    }
}

const CLUSTER: &str = include_str!("../../docs/cluster.md");

/// Two rows of one failure are read as two, or contradict each other.
#[test]
fn the_table_of_failures_names_each_once() {
    let (_, table) = CLUSTER.split_once("## What happens when something fails").expect("it has one");
    let (table, _) = table.split_once("\n## ").expect("more follows");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named = |row: &str| row.split('|').nth(1).expect("a cell").replace(" alone", "").trim().to_owned();
    let failures: Vec<String> = rows.map(named).collect();
    assert!(failures.len() > 10, "{failures:?}");
    for failure in &failures {
        assert_eq!(failures.iter().filter(|other| *other == failure).count(), 1, "{failure}");
    }
}

#[test]
fn etcds_history_is_of_one_length_wherever_it_is_set_up() {
    let places = [CLUSTER, include_str!("../../README.md"), include_str!("../../deploy/compose.yaml")];
    let lengths = places.map(|place| {
        let (_, rest) = place.split_once("--auto-compaction-retention").expect("it is said how long");
        let length = rest.trim_start_matches([' ', '=']);
        length.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
    });
    assert_eq!(lengths, ["1h"; 3]);
}

/// What stands between these in docs/metrics.md is written by this test, when `UPDATE` is set.
const METRICS: (&str, &str) = ("<!-- edge: begin -->\n", "<!-- edge: end -->\n");

#[test]
fn the_table_of_metrics_is_what_the_edge_counts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let document = std::fs::read_to_string(path).expect("it is there");
    let (before, rest) = document.split_once(METRICS.0).expect("a beginning");
    let (shown, after) = rest.split_once(METRICS.1).expect("an end");
    let is = format!("\n{}", telemetry::metrics::markdown(edge_signal::CATALOGUE));
    if std::env::var_os("UPDATE").is_some() {
        let updated = [before, METRICS.0, &is, METRICS.1, after].concat();
        return std::fs::write(path, updated).expect("written");
    }
    assert!(shown == is, "docs/metrics.md is not what the code says: run this test with UPDATE=1");
}
