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
    assert!(running.get("/metrics").contains("sluice_sfu_rounds_total{shard=\"0\"}"));
    let begun = Instant::now();
    running.terminate();
    assert!(running.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "nothing is on it: {:?}", begun.elapsed());
}

#[test]
fn a_program_of_this_machine_may_have_it_drain() {
    const JSON: &str = "Content-Type: application/json\r\nContent-Length: 0\r\n";
    let mut running = Running::start(CONFIG);
    let page = running.ask("POST /drain", "Content-Type: text/plain\r\nContent-Length: 0\r\n");
    assert!(page.starts_with("HTTP/1.1 415"), "{page}");
    assert!(running.get("/readyz").starts_with("HTTP/1.1 200"));
    let begun = running.ask("POST /drain", JSON);
    assert!(begun.starts_with("HTTP/1.1 202"), "{begun}");
    assert!(running.ended().success());
}

#[test]
fn what_a_scrape_shows_is_explained_and_of_one_type() {
    let running = Running::start(CONFIG);
    let text = running.get("/metrics");
    let has_value = |name: &str| {
        let follows = |rest: &str| ["{", " ", "_bucket{"].iter().any(|after| rest.starts_with(after));
        text.lines().any(|line| line.strip_prefix(name).is_some_and(follows))
    };
    let metrics = sfu_node::CATALOGUE.iter().flat_map(|group| group.metrics);
    for metric in metrics.filter(|metric| metric.only.is_empty()) {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{} is not explained", metric.name);
        assert!(has_value(metric.name), "{} has no value", metric.name);
    }
    assert!(!text.contains(" summary\n"), "a histogram without bounds");
    for series in [
        "sluice_sfu_info{node=\"node-1\",region=\"default\",version=\"",
        "sluice_sfu_requests_total{method=\"negotiate\",result=\"resource_exhausted\"} 0",
        "sluice_sfu_refused_total{reason=\"overloaded\"} 0",
        "sluice_sfu_transports_closed_total{reason=\"dtls_failed\"} 0",
        "sluice_sfu_dropped_total{shard=\"0\",reason=\"unauthenticated\"} 0",
        "sluice_sfu_shed_packets_total{shard=\"0\",how=\"paused\"} 0",
        "sluice_sfu_forwarding_delay_seconds_bucket{shard=\"0\",le=\"+Inf\"} 0",
        "sluice_sfu_tracks{direction=\"out\",kind=\"video\"} 0",
        "sluice_sfu_capacity_egress_bytes_per_second 125000000",
        "sluice_sfu_capacity_transports 10000",
    ] {
        assert!(text.contains(series), "{series} is missing in {text}");
    }
    assert!(!text.contains("recorder_cpu"), "this node records nothing");
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
fn it_is_called_as_its_machine_where_the_settings_say_so() {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
    let machine = machine.trim().split('.').next().expect("a name");
    let output = run("id: auto\n", &["--print-config"]);
    let shown = String::from_utf8_lossy(&output.stdout).replace('\'', "");
    assert!(shown.lines().any(|line| line == format!("id: {machine}")), "{output:?}");
}

#[test]
fn a_place_for_recordings_that_cannot_be_used_is_found_by_checking_the_settings() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("file"), "").expect("written");
    let place = place.path().display();
    let checked = |recording: &str| {
        let output = run(&format!("{CONFIG}recording: {{{recording}}}\n"), &["--check-config"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let s3 = format!("url: 's3://calls', spool_dir: '{place}/spool'");
    for (recording, key) in [
        (format!("url: 'file://{place}/file/below'"), "recording.url"),
        (format!("url: 'file://{place}/to', spool_dir: '{place}/file'"), "recording.spool_dir"),
        (format!("url: 's3://calls', spool_dir: '{place}/file/below'"), "recording.spool_dir"),
        (format!("{s3}, store: {{region: r, allow_http: perhaps}}"), "recording.store.allow_http"),
        (format!("{s3}, store: {{region: r, timeout: soon}}"), "recording.store.timeout"),
        (format!("{s3}, store: {{edpoint: 'http://127.0.0.1:1'}}"), "recording.store.edpoint"),
    ] {
        let (code, said) = checked(&recording);
        assert!(code == Some(64) && said.contains(&format!("{key}: ")), "{recording}: {code:?} {said}");
    }
    for recording in [
        format!("url: 'file://{place}/to/there'"),
        format!("{s3}, store: {{region: r, endpoint: 'http://127.0.0.1:1', allow_http: 'true'}}"),
    ] {
        assert_eq!(checked(&recording), (Some(0), String::new()), "{recording}");
    }
    let there: Vec<_> = std::fs::read_dir(place.to_string()).expect("read").collect();
    assert_eq!(there.len(), 1, "nothing is made by checking");
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
