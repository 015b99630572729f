//! A collector that is away costs traces, which are counted.
#![cfg(feature = "otlp")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use telemetry::kafka::KafkaSettings;
use telemetry::trace::Trace;
use telemetry::{LogSettings, Metrics, OtlpSettings, Service, init_logs};

/// More than may wait.
const STEPS: u64 = 10_000;

fn counted(metrics: &Metrics, why: &str) -> u64 {
    let name = format!("sluice_traces_dropped_total{{why=\"{why}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_no_collector_takes_are_counted() {
    // Somebody listens there and does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let metrics = Metrics::install().expect("installed");
    let otlp = OtlpSettings { endpoint: Some(endpoint), ..OtlpSettings::default() };
    let service = Service { name: "edge-signal", version: "0.1.0", id: "edge-1".to_owned() };
    let logs = init_logs(&LogSettings::default(), &KafkaSettings::default(), &otlp, &service).expect("once");
    for number in 0..STEPS {
        Trace::new(1 + u128::from(number), 7).export_whole("publish", Duration::ZERO);
    }
    assert_eq!(counted(&metrics, "queue"), STEPS - 8_192, "what finds no room is counted at once");
    // Now nobody does: what waits for an answer fails, and all that comes after.
    drop(silent);
    let give_up = Instant::now() + Duration::from_mins(1);
    while counted(&metrics, "export") < 8_192 {
        assert!(Instant::now() < give_up, "{} were counted", counted(&metrics, "export"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(counted(&metrics, "export") + counted(&metrics, "queue"), STEPS, "each once");
    tokio::task::spawn_blocking(|| logs.close()).await.expect("no panic");
}
