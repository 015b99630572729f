//! The end of a process is held up by nobody whom it tells something: what hangs is left.
#![cfg(all(feature = "kafka", feature = "otlp"))]

use std::io::pipe;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use telemetry::kafka::KafkaSettings;
use telemetry::trace::Trace;
use telemetry::{LogSettings, OtlpSettings, Service, init_logs};

/// The goal is two seconds.
const END: Duration = Duration::from_millis(3_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_a_collector_and_a_console_that_hang_together_hold_up_no_end() {
    // Connections are opened, and nobody ever reads.
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hangs.local_addr().expect("bound");
    let kafka = KafkaSettings { brokers: vec![address.to_string()], ..KafkaSettings::default() };
    let traces = OtlpSettings { endpoint: Some(format!("http://{address}")), ..OtlpSettings::default() };
    let (_unread, full) = pipe().expect("a pipe");
    rustix::stdio::dup2_stderr(full).expect("it takes the place");
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let logs = init_logs(&LogSettings::default(), &kafka, &traces, &service).expect("once");
    let producer = logs.producer().expect("there are brokers");
    for number in 0..20_000 {
        tracing::info!(number, "said to nobody");
        Trace::new(number, 1).export_whole("told to nobody", Duration::from_millis(1));
    }
    assert_eq!(producer.send("sluice.events", "room", b"{}".to_vec()), Ok(()));
    // So that all of them are in the middle of it.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    tokio::task::spawn_blocking(|| logs.close()).await.expect("no panic");
    assert!(begun.elapsed() < END, "{:?}", begun.elapsed());
}
