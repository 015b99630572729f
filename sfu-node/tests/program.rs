//! The program `sfu-node`: arguments, settings, endpoints, signals.

mod process;

use std::time::{Duration, Instant};

use process::{CONFIG, Running, run};

#[test]
fn it_becomes_ready_serves_its_endpoints_and_ends_on_sigterm() {
    let mut running = Running::start(CONFIG);
    assert!(running.grpc.starts_with("127.0.0.1:"), "{}", running.grpc);
    assert!(running.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(running.get("/readyz").starts_with("HTTP/1.1 200"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running.get("/metrics").contains("sluice_sfu_rounds_total{shard=\"0\"}") {
        assert!(Instant::now() < deadline, "metrics are published every second");
    }
    let begun = Instant::now();
    running.terminate();
    assert!(running.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "nothing is on it: {:?}", begun.elapsed());
}

#[test]
fn unusable_settings_end_it_with_64_and_a_line() {
    let output = run("id: a\nmedia:\n  shard: 1\n", &[]);
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(":3: media.shard: unknown key"), "{error}");
}

#[test]
fn settings_can_be_checked_and_shown() {
    let output = run(CONFIG, &["--check-config"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let output = run(CONFIG, &["--print-config"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains("id: node-1") && shown.contains("first_port: 0"), "{shown}");
}

#[test]
fn a_port_that_is_taken_is_an_error_to_act_on() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = holder.local_addr().expect("bound").port();
    let output = run(&CONFIG.replace("first_port: 0", &format!("first_port: {port}")), &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("set another media port"), "{error}");
}
