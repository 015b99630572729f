//! The commands of docs/performance.md that need Redis, etcd, edges and a node run, report everything that its table shows, and lose
//! nothing. How fast anything is, is not asked here.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The report of a command on the programs in `TEST_BIN_DIR`, or those beside it, and what it told people.
fn report(arguments: &[&str]) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtests"));
    command.args(arguments);
    if let Some(programs) = std::env::var_os("TEST_BIN_DIR") {
        command.arg("--programs").arg(programs);
    }
    let output = command.output().expect("the program was built");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    for text in ["cpu_model", "kernel"] {
        assert!(report["machine"][text].is_string(), "{report:#}");
    }
    (report, said)
}

#[test]
fn a_measurement_that_is_told_to_end_leaves_nothing_running() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtests"));
    command.args(["signalling", "--part", "joins", "--seconds", "600"]);
    if let Some(programs) = std::env::var_os("TEST_BIN_DIR") {
        command.arg("--programs").arg(programs);
    }
    // A group of its own, in which all that it starts is, too.
    let mut child =
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it was built");
    let said = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.into_iter().any(|line| line.starts_with("measuring")), "it begins");
    let group = format!("-{}", child.id());
    let is_told = |signal: &str| {
        let told = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
        told.expect("kill is there").success()
    };
    assert!(is_told("-0"), "the group is there, and can be looked at");
    assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill is there").success());
    assert!(!child.wait().expect("it ends").success(), "nothing was measured");
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_told("-0") {
        if Instant::now() >= deadline {
            is_told("-KILL");
            panic!("something that it started goes on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each of these, as paths, is a number above zero.
fn measured(report: &Value, columns: &[&str]) {
    for column in columns {
        let value = report.pointer(column).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {column}: {report:#}"));
        assert!(value > 0.0, "{column} is empty: {report:#}");
    }
}

/// The goals by name, each with what was measured.
fn goals(report: &Value) -> Vec<(&str, f64)> {
    let goals = report["goals"].as_array().expect("goals");
    // What was never measured is infinite, which JSON has not.
    goals
        .iter()
        .map(|goal| (goal["name"].as_str().expect("a name"), goal["measured"].as_f64().expect("measured")))
        .collect()
}

#[test]
fn signalling_reports_every_row_and_loses_nothing() {
    let (report, said) = report(&[
        "signalling",
        "--rate",
        "20",
        "--seconds",
        "1",
        "--members",
        "10",
        "--broadcasts",
        "5",
        "--idle",
        "300",
        "--crowd",
        "10,20",
    ]);
    measured(
        &report,
        &[
            "/joins/join/p50_ms",
            "/joins/join/p99_ms",
            "/joins/connect/p99_ms",
            "/broadcast/delivery/p50_ms",
            "/broadcast/delivery/p99_ms",
            "/broadcast/expected",
            "/throughput/per_second",
            "/throughput/per_edge_core",
            "/idle/bytes_per_connection",
            "/idle/bytes_per_member",
            "/idle/edge_us_per_member",
            "/idle/store_us_per_member",
            "/crowd/0/join/p50_ms",
            "/crowd/1/join/p50_ms",
            "/crowd/0/edge_us_per_join",
            "/crowd/1/store_us_per_join",
        ],
    );
    let counts = ["/edges", "/joins/join/count", "/idle/connections", "/crowd/0/rooms", "/crowd/1/rooms"]
        .map(|path| report.pointer(path).and_then(Value::as_u64));
    assert_eq!(counts, [2, 20, 300, 10, 20].map(Some), "{report:#}");
    let goals = goals(&report);
    for nothing in ["failed joins", "lost notifications", "failed joins among many rooms"] {
        assert!(goals.contains(&(nothing, 0.0)), "{nothing}: {goals:?}");
    }
    assert!(said.contains("goal: bytes per idle member of a small room"), "{said}");
}

#[test]
fn reconnect_reports_every_row_and_loses_nothing() {
    let (report, said) = report(&["reconnect", "--clients", "40", "--room", "8", "--calm", "2"]);
    measured(
        &report,
        &[
            "/cut/back/max_ms",
            "/killed/back/count",
            "/killed/back/p99_ms",
            "/before/heard",
            "/after_cut/heard",
            "/after_kill/heard",
            "/store/ping/p99_ms",
            "/store/ping_own/p99_ms",
            "/store/script/p99_ms",
            "/store/commands",
            "/store/busiest_second",
            "/expected",
        ],
    );
    let goals = goals(&report);
    for nothing in [
        "not back after a cut",
        "not back after it",
        "requests refused during it",
        "errors after it",
        "joins that were not told what was missed",
        "notifications lost or twice",
    ] {
        assert!(goals.iter().filter(|(name, _)| *name == nothing).all(|(_, measured)| *measured == 0.0), "{goals:?}");
        assert!(goals.iter().any(|(name, _)| *name == nothing), "{nothing}: {goals:?}");
    }
    assert_eq!(report["cut"]["back"]["count"], 40, "{report:#}");
    let accounts = ["before", "cut", "after_cut", "killed", "after_kill"];
    let heard: u64 = accounts.iter().map(|account| report[account]["heard"].as_u64().expect("a number")).sum();
    assert_eq!(Some(heard), report["expected"].as_u64(), "{report:#}");
    assert!(said.contains("PING from a thread of its own"), "{said}");
}

#[test]
fn recording_reports_every_row() {
    let (report, said) = report(&["recording", "--audio", "10", "--video", "2", "--seconds", "2"]);
    measured(
        &report,
        &["/parts/0/with/node", "/parts/1/with/node", "/parts/0/counts/packets", "/parts/1/counts/packets"],
    );
    let rows = [0, 1].map(|row| report.pointer(&format!("/parts/{row}/streams")).and_then(Value::as_u64));
    assert_eq!(rows, [Some(10), Some(2)], "{report:#}");
    let goals = goals(&report);
    for nothing in ["packets that audio recordings lack", "packets that video recordings lack"] {
        assert!(goals.contains(&(nothing, 0.0)), "{nothing}: {goals:?}");
    }
    assert!(said.contains("recorders"), "{said}");
}

const SHORT: &str = "
about: A short one
length: 10s
deployment: {edges: 2, nodes: 2}
rooms:
  - {shape: meeting, members: 3, audio: 2, video: 1, video_rate: 30}
  - {shape: chat, members: 4}
ramps: [{at: 0s, rooms: 4, over: 2s}]
churn: {leave_per_second: 1, cut_per_second: 1}
broadcast_every: 1s
faults: [{at: 6s, do: kill, what: edge-1}, {at: 7s, do: restart, what: edge-1}]
";

#[test]
fn a_scenario_reports_every_row_and_draws_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, html) = (directory.path().join("short.yaml"), directory.path().join("report.html"));
    std::fs::write(&file, format!("{SHORT}limits: {{failed: 0, ghosts: 0, loss: 0.5}}\n")).expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (report, said) = report(&["run", &path(&file), "--html", &path(&html)]);
    measured(
        &report,
        &[
            "/seconds",
            "/signalling/times/join/p99_ms",
            "/signalling/times/publish/p99_ms",
            "/signalling/times/subscribe/p99_ms",
            "/signalling/times/broadcast/p99_ms",
            "/signalling/resumed",
            "/media/sent",
            "/media/received",
            "/media/delay/p99_ms",
            "/media/gap_ms",
            "/services/edge-2/rss_mib/0",
            "/services/node-1/descriptors/0",
            "/services/redis/cpus",
            "/store_mib/0/0",
            "/samples/8/members",
            "/samples/8/packets_per_second",
        ],
    );
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert_eq!(goals(&report).len(), 3, "{report:#}");
    assert!(said.contains("goal: failed requests") && said.contains("kill edge-1"), "{said}");
    let page = std::fs::read_to_string(&html).expect("the page was written");
    assert!(page.contains("edge-2: resident memory") && page.contains("<polyline"), "{page}");
}

#[test]
fn a_limit_that_is_missed_is_a_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("strict.yaml");
    let text = "about: Strict\nlength: 2s\nrooms: [{shape: chat, members: 2}]\nramps: [{at: 0s, rooms: 1}]\n";
    // Nobody publishes, so there is nothing that was never silent.
    std::fs::write(&file, format!("{text}limits: {{media_gap: 1s}}\n")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtests"));
    command.arg("run").arg(&file);
    if let Some(programs) = std::env::var_os("TEST_BIN_DIR") {
        command.arg("--programs").arg(programs);
    }
    let output = command.output().expect("the program was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report all the same");
    assert_eq!(report["goals"][0]["met"], false, "{report:#}");
    assert!(said.contains("MISSED"), "{said}");
}

#[test]
fn after_a_warm_up_filled_pools_are_no_leak() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("warm.yaml");
    let text =
        "about: Warm\nlength: 4s\nwarm_up: 4s\nrooms: [{shape: pair, members: 2}]\nramps: [{at: 0s, rooms: 6}]\n";
    // With six pairs an edge opens three connections to the store and keeps them; by chance there may be one more.
    std::fs::write(&file, format!("{text}limits: {{descriptors: 2, failed: 0, ghosts: 0}}\n")).expect("written");
    let (report, said) = report(&["run", file.to_str().expect("text")]);
    assert!(said.contains("warming up for 4s") && said.contains("/metrics"), "{said}");
    assert!(report["goals"].as_array().is_some_and(|goals| goals.iter().all(|goal| goal["met"] == true)), "{report:#}");
}
