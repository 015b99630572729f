//! A process that ends without ado has its last words where its log is read.
#![cfg(feature = "kafka")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use telemetry::kafka::KafkaSettings;
use telemetry::{LogSettings, OtlpSettings, Service, cancel_on_signal, flush_logs, init_logs};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "sluice.logs";

/// Set for the process that ends: how, and where the brokers are.
const CHILD: &str = "SLUICE_TEST_LAST_WORDS";

fn child(how: &str, brokers: &str) -> ! {
    let kafka = KafkaSettings { brokers: vec![brokers.to_owned()], ..KafkaSettings::default() };
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let _inside = runtime.enter();
    let _logs = init_logs(&LogSettings::default(), &kafka, &OtlpSettings::default(), &service).expect("once");
    tracing::info!("first words");
    flush_logs(PATIENCE);
    tracing::error!("last words");
    if how == "abort" {
        flush_logs(PATIENCE);
        std::process::abort();
    }
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        cancel_on_signal(shutdown.clone()).expect("signals can be watched");
        let stop = || kill_process(getpid(), Signal::TERM).expect("sent");
        stop();
        shutdown.cancelled().await;
        loop {
            // Longer than the echo of the first.
            tokio::time::sleep(Duration::from_millis(400)).await;
            stop();
        }
    })
}

fn ended(test: &str, how: &str, brokers: &str) -> ExitStatus {
    let myself = std::env::current_exe().expect("known");
    let mut command = Command::new(myself);
    command.args(["--exact", test, "--nocapture"]).env(CHILD, format!("{how} {brokers}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs")
}

/// What the lines say, until one says this.
fn until_said(brokers: &str, last: &str) -> Vec<String> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "test").create().expect("it starts");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&all).expect("assigned");
    let mut said: Vec<String> = Vec::new();
    let give_up = Instant::now() + PATIENCE;
    while said.last().is_none_or(|message| message != last) && Instant::now() < give_up {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(500)) else { continue };
        let line: Value = serde_json::from_slice(message.payload().expect("a line")).expect("an object");
        said.push(line["message"].as_str().expect("a message").to_owned());
    }
    said
}

fn ends(test: &str, how: &str) -> (ExitStatus, Vec<String>) {
    if let Ok(child_of) = std::env::var(CHILD) {
        let (how, brokers) = child_of.split_once(' ').expect("both");
        child(how, brokers);
    }
    let cluster = MockCluster::new(1).expect("it starts");
    cluster.create_topic(TOPIC, 1, 1).expect("a new one");
    let brokers = cluster.bootstrap_servers();
    let status = ended(test, how, &brokers);
    (status, until_said(&brokers, "last words"))
}

#[test]
fn what_a_process_says_before_it_aborts_reaches_the_brokers() {
    let (status, said) = ends("what_a_process_says_before_it_aborts_reaches_the_brokers", "abort");
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert_eq!(said, ["first words", "last words"]);
}

#[test]
fn a_process_that_is_told_twice_to_end_exits_with_its_client_of_kafka() {
    let (status, said) = ends("a_process_that_is_told_twice_to_end_exits_with_its_client_of_kafka", "signals");
    assert_eq!(status.code(), Some(130), "{status}");
    assert_eq!(said, ["first words", "last words"]);
}
