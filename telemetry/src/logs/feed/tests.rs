//! Against librdkafka's own cluster in memory, whose brokers can be stopped.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};

use super::super::queue::Destinations;
use super::*;
use crate::kafka::KafkaSettings;

const TO_KAFKA: Destinations = Destinations { console: false, kafka: true };
const TOPIC: &str = "sluice.logs";
const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

type Cluster = MockCluster<'static, DefaultProducerContext>;

struct Running {
    queue: Arc<Queue>,
    producer: Producer,
    hurry: Arc<AtomicBool>,
    feed: Option<thread::JoinHandle<()>>,
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).expect("it starts");
    cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a new one");
    cluster
}

fn start(brokers: &str, properties: &[(&str, &str)]) -> Running {
    let mut settings = KafkaSettings { brokers: vec![brokers.to_owned()], ..KafkaSettings::default() };
    for (name, value) in properties {
        settings.properties.set(*name, *value);
    }
    let producer = Producer::connect(&settings, "test").expect("it starts");
    let (queue, hurry) = (Arc::new(Queue::new(true)), Arc::new(AtomicBool::new(false)));
    let feed = Feed {
        queue: Arc::clone(&queue),
        producer: producer.clone(),
        topic: TOPIC.to_owned(),
        hurry: Arc::clone(&hurry),
    };
    let feed = thread::spawn(move || feed.run());
    Running { queue, producer, hurry, feed: Some(feed) }
}

impl Running {
    fn log(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let line = format!("{{\"number\":{number}");
            self.queue.push_json(line.as_bytes(), format!("room-{}", number % 7).as_bytes(), TO_KAFKA);
        }
    }

    /// What was not delivered.
    fn close(mut self, within: Duration) -> usize {
        self.hurry.store(true, Ordering::Relaxed);
        self.queue.close();
        self.feed.take().expect("once").join().expect("no panic");
        self.producer.close(Instant::now() + within)
    }
}

/// Keys and lines of all partitions, each in its order, until `count` have come or there are none for a while.
fn arrived(brokers: &str, count: usize) -> Vec<(String, serde_json::Value)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .expect("it starts");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&all).expect("assigned");
    let mut found = Vec::new();
    let give_up = Instant::now() + PATIENCE;
    while found.len() < count && Instant::now() < give_up {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(500)) else { continue };
        let key = String::from_utf8(message.key().expect("a key").to_vec()).expect("text");
        found.push((key, serde_json::from_slice(message.payload().expect("a line")).expect("an object")));
    }
    // One that came twice would come now.
    while let Some(Ok(message)) = consumer.poll(Duration::from_millis(300)) {
        found.push((
            "surplus".to_owned(),
            serde_json::from_slice(message.payload().expect("a line")).expect("an object"),
        ));
    }
    found
}

/// Every number once, each key's in order, numbered without a gap.
fn are_whole(found: &[(String, serde_json::Value)], count: u64) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sequences = Vec::new();
    for (key, line) in found {
        let number = line["number"].as_u64().expect("a number");
        assert_eq!(*key, format!("room-{}", number % 7));
        if let Some(before) = last.insert(key, number) {
            assert!(before < number, "{key}: {number} after {before}");
        }
        sequences.push(line["event.sequence"].as_u64().expect("a number"));
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=count).collect::<Vec<_>>());
}

#[test]
fn every_line_arrives_once_and_in_the_order_of_its_key() {
    let cluster = cluster();
    let running = start(&cluster.bootstrap_servers(), &[]);
    running.log(0..5_000);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    assert_eq!(running.close(PATIENCE), 0);
    are_whole(&arrived(&cluster.bootstrap_servers(), 5_000), 5_000);
}

#[test]
fn what_is_said_while_the_brokers_are_away_arrives_when_they_are_back() {
    let cluster = cluster();
    let running = start(&cluster.bootstrap_servers(), &[("reconnect.backoff.max.ms", "500")]);
    running.log(0..500);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    cluster.broker_down(1).expect("it goes");
    let begun = Instant::now();
    running.log(500..20_000);
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits: {:?}", begun.elapsed());
    thread::sleep(Duration::from_secs(2));
    cluster.broker_up(1).expect("it comes back");
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    assert_eq!(running.close(PATIENCE), 0);
    are_whole(&arrived(&cluster.bootstrap_servers(), 20_000), 20_000);
}

#[test]
fn a_message_whose_answer_is_lost_is_sent_again_and_stands_there_once() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let cluster = cluster();
    let running = start(&cluster.bootstrap_servers(), &[("retry.backoff.ms", "20")]);
    let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &lost);
    running.log(0..1_000);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    assert_eq!(running.close(PATIENCE), 0);
    are_whole(&arrived(&cluster.bootstrap_servers(), 1_000), 1_000);
}

#[test]
fn what_was_too_much_is_counted_and_told_when_the_brokers_are_back() {
    let cluster = cluster();
    let bounds = [("queue.buffering.max.kbytes", "1024"), ("reconnect.backoff.max.ms", "500")];
    let running = start(&cluster.bootstrap_servers(), &bounds);
    running.log(0..10);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    cluster.broker_down(1).expect("it goes");
    let filling = format!("{{\"number\":7,\"x\":\"{}\"", "x".repeat(1_000));
    for _ in 0..12_000 {
        running.queue.push_json(filling.as_bytes(), b"room-0", TO_KAFKA);
    }
    let dropped = running.queue.dropped(Sink::Kafka);
    assert!((1..12_000).contains(&dropped), "{dropped}");
    cluster.broker_up(1).expect("it comes back");
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    thread::sleep(2 * LOOK);
    assert_eq!(running.queue.dropped(Sink::Kafka), dropped, "there is room again");
    assert_eq!(running.close(PATIENCE), 0);
    let kept = 10 + 12_000 - dropped;
    let found = arrived(&cluster.bootstrap_servers(), kept as usize);
    let mut sequences: Vec<u64> = found.iter().filter_map(|(_, line)| line["event.sequence"].as_u64()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=kept).collect::<Vec<_>>(), "what was taken is numbered without a gap");
}

#[test]
fn drops_are_told_once_more_was_delivered_and_only_once() {
    // Nobody listens there: an account by hand.
    let running = start("127.0.0.1:1", &[]);
    let mut account = Account::default();
    let feed = Feed {
        queue: Arc::clone(&running.queue),
        producer: running.producer.clone(),
        topic: TOPIC.to_owned(),
        hurry: Arc::default(),
    };
    feed.look(3, &mut account);
    assert_eq!((account.counted, account.told), (3, 0));
    feed.look(3, &mut account);
    assert_eq!(account.told, 0, "nothing was delivered since");
    account.delivered = u64::MAX;
    feed.look(3, &mut account);
    assert_eq!(account.told, 0);
    running.close(Duration::from_millis(100));
}

#[test]
fn brokers_that_were_never_there_hold_up_neither_the_start_nor_the_end() {
    let begun = Instant::now();
    let running = start("127.0.0.1:1", &[]);
    running.log(0..1_000);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(running.close(Duration::from_secs(2)) > 0);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
