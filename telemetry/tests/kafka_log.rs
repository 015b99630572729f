//! The log of a process whose brokers go away and come back: what is lost is told in the log itself.
#![cfg(feature = "kafka")]

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use telemetry::kafka::KafkaSettings;
use telemetry::{LogSettings, OtlpSettings, Service, flush_logs, init_logs};

const PATIENCE: Duration = Duration::from_secs(30);

fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "test").create().expect("it starts");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&all).expect("assigned");
    consumer
}

fn next(consumer: &BaseConsumer) -> Option<(String, Vec<u8>)> {
    let message = consumer.poll(Duration::from_millis(500))?.ok()?;
    let key = String::from_utf8(message.key()?.to_vec()).expect("text");
    Some((key, message.payload()?.to_vec()))
}

#[test]
fn what_was_dropped_is_told_in_the_log_once_the_brokers_are_back() {
    let cluster = MockCluster::new(1).expect("it starts");
    for topic in ["sluice.logs", "sluice.events"] {
        cluster.create_topic(topic, 1, 1).expect("a new one");
    }
    let mut kafka = KafkaSettings { brokers: vec![cluster.bootstrap_servers()], ..KafkaSettings::default() };
    kafka.properties.set("queue.buffering.max.kbytes", "1024");
    kafka.properties.set("reconnect.backoff.max.ms", "500");
    // Twelve megabytes for nobody. What a failed test says goes another way.
    rustix::stdio::dup2_stderr(std::fs::File::create("/dev/null").expect("always there")).expect("it takes the place");
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let logs = init_logs(&LogSettings::default(), &kafka, &OtlpSettings::default(), &service).expect("once");
    tracing::info!("before");
    flush_logs(PATIENCE);
    cluster.broker_down(1).expect("it goes");
    let filling = "x".repeat(1_000);
    let begun = Instant::now();
    for number in 0..12_000 {
        tracing::info!(number, filling, room = "weekly", "while away");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody waits: {:?}", begun.elapsed());
    let producer = logs.producer().expect("there are brokers");
    let event = producer.send("sluice.events", "weekly", b"{\"meanwhile\":1}".to_vec());
    assert_eq!(event, Ok(()), "there is room for events, however many lines wait");
    cluster.broker_up(1).expect("it comes back");
    flush_logs(PATIENCE);
    assert_eq!(producer.send("sluice.events", "weekly", b"{\"after\":1}".to_vec()), Ok(()));

    let consumer_of_lines = consumer(&cluster.bootstrap_servers(), "sluice.logs");
    // Told bit by bit: what is told takes room, too.
    let (mut kept, mut told) = (0, 0);
    let give_up = Instant::now() + PATIENCE;
    let mut sequence = 0;
    while (told == 0 || kept + told < 12_000) && Instant::now() < give_up {
        let Some((key, line)) = next(&consumer_of_lines) else { continue };
        let line: Value = serde_json::from_slice(&line).expect("an object");
        sequence += 1;
        assert_eq!(line["event.sequence"], sequence, "without a gap, and in order");
        match line["message"].as_str() {
            Some("while away") => {
                assert_eq!(key, "weekly");
                kept += 1;
            }
            Some("log lines were dropped") if line["sluice.sink"] == "kafka" => {
                told += line["sluice.lines"].as_u64().expect("how many");
            }
            _ => assert_eq!(key, "test-1"),
        }
    }
    assert!(told > 0, "so many find no room");
    assert_eq!(told, 12_000 - kept, "{kept} were kept");
    let events = consumer(&cluster.bootstrap_servers(), "sluice.events");
    let give_up = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < 2 && Instant::now() < give_up {
        found.extend(next(&events));
    }
    let event = |payload: &str| ("weekly".to_owned(), payload.as_bytes().to_vec());
    assert_eq!(found, [event("{\"meanwhile\":1}"), event("{\"after\":1}")], "events go the same way");

    // One that brokers refuse after all becomes a line.
    flush_logs(PATIENCE);
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    let event = r#"{"room":"weekly","refused":1}"#;
    assert_eq!(producer.send("sluice.events", "weekly", event.as_bytes().to_vec()), Ok(()));
    let give_up = Instant::now() + PATIENCE;
    let mut line = Value::Null;
    while line["event.original"].is_null() && Instant::now() < give_up {
        if let Some((_, next)) = next(&consumer_of_lines) {
            line = serde_json::from_slice(&next).expect("an object");
        }
    }
    assert_eq!((&line["event.original"], &line["sluice.room"]), (&event.into(), &"weekly".into()));
    let begun = Instant::now();
    logs.close();
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
}
