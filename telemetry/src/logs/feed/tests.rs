//! Against librdkafka's own cluster in memory, whose brokers can be stopped.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::super::queue::Destinations;
use super::super::{LogFormat, LogSettings, Service, subscriber};
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

fn feed(brokers: &str, properties: &[(&str, &str)]) -> Feed {
    let mut settings = KafkaSettings { brokers: vec![brokers.to_owned()], ..KafkaSettings::default() };
    for (name, value) in properties {
        settings.properties.set(*name, *value);
    }
    Feed {
        queue: Arc::new(Queue::new(true)),
        producer: Producer::connect(&settings, "test").expect("it starts"),
        topic: TOPIC.to_owned(),
        hurry: Arc::default(),
    }
}

fn start(brokers: &str, properties: &[(&str, &str)]) -> Running {
    let feed = feed(brokers, properties);
    let (queue, producer, hurry) = (Arc::clone(&feed.queue), feed.producer.clone(), Arc::clone(&feed.hurry));
    let feed = thread::spawn(move || feed.run());
    Running { queue, producer, hurry, feed: Some(feed) }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Running {
    fn log(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let line = format!("{{\"number\":{number}");
            self.queue.push_json(line.as_bytes(), format!("room-{}", number % 7).as_bytes(), TO_KAFKA);
        }
    }

    /// Lines that were taken and not delivered.
    fn close(mut self, within: Duration) -> u64 {
        self.hurry.store(true, Ordering::Relaxed);
        self.queue.close();
        self.feed.take().expect("once").join().expect("no panic");
        self.producer.close(Instant::now() + within);
        self.producer.lost_lines()
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

/// What stands there once though its answer was lost, real brokers show (`tests/cluster`): these here know no message again.
#[test]
fn what_brokers_refuse_for_a_while_is_sent_again() {
    let cluster = cluster();
    let running = start(&cluster.bootstrap_servers(), &[("retry.backoff.ms", "20")]);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
    running.log(0..1_000);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    assert_eq!(running.close(PATIENCE), 0);
    are_whole(&arrived(&cluster.bootstrap_servers(), 1_000), 1_000);
}

#[test]
fn a_client_that_has_failed_for_good_is_replaced_and_nothing_is_lost() {
    let cluster = cluster();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &refused);
    let running = start(&cluster.bootstrap_servers(), &[]);
    running.log(0..1_000);
    // Some find the client failed, and wait for the next one.
    let mut logged = 1_000;
    wait_for("the next client sends", || {
        running.log(logged..logged + 10);
        logged += 10;
        running.producer.delivered() > 0
    });
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    assert_eq!(running.close(PATIENCE), 0);
    are_whole(&arrived(&cluster.bootstrap_servers(), logged as usize), logged);
}

#[test]
fn a_client_that_has_failed_holds_up_no_end_and_what_it_kept_is_counted() {
    let cluster = cluster();
    // The next clients fail, too.
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 100];
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &refused);
    let running = start(&cluster.bootstrap_servers(), &[]);
    running.log(0..1_000);
    let event = || running.producer.send("sluice.events", "room", b"{}".to_vec());
    wait_for("it fails", || event().is_err());
    let begun = Instant::now();
    let (queue, producer) = (Arc::clone(&running.queue), running.producer.clone());
    running.close(Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
    assert_eq!(queue.take_untold(Sink::Kafka, producer.lost_lines()), 1_000);
}

#[test]
fn lines_wait_for_a_topic_that_is_not_there_yet() {
    let cluster = cluster();
    cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("it is hidden");
    let running = start(&cluster.bootstrap_servers(), &[]);
    running.log(0..500);
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    // Long enough to be told that there is none.
    thread::sleep(Duration::from_secs(1));
    assert_eq!((running.producer.delivered(), running.producer.lost_lines()), (0, 0));
    cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("it is there");
    running.log(500..1_000);
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
    // The broker goes when it comes to it, and takes lines until then.
    let (deadline, mut pushed) = (Instant::now() + PATIENCE, 0);
    while running.queue.lost(Sink::Kafka) < 1_000 {
        assert!(Instant::now() < deadline, "{pushed} lines found room");
        running.queue.push_json(filling.as_bytes(), b"room-0", TO_KAFKA);
        pushed += 1;
    }
    let dropped = running.queue.lost(Sink::Kafka);
    cluster.broker_up(1).expect("it comes back");
    assert!(running.queue.flush(Instant::now() + PATIENCE));
    thread::sleep(2 * LOOK);
    assert_eq!(running.queue.lost(Sink::Kafka), dropped, "there is room again");
    assert_eq!(running.close(PATIENCE), 0);
    let kept = 10 + pushed - dropped;
    let found = arrived(&cluster.bootstrap_servers(), kept as usize);
    let mut sequences: Vec<u64> = found.iter().filter_map(|(_, line)| line["event.sequence"].as_u64()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=kept).collect::<Vec<_>>(), "what was taken is numbered without a gap");
}

#[test]
fn drops_are_told_once_more_was_delivered_and_only_once() {
    let cluster = cluster();
    let feed = feed(&cluster.bootstrap_servers(), &[]);
    let service = Service { name: "test", version: "0", id: "test-1".to_owned() };
    let settings = LogSettings { format: LogFormat::Json, ..LogSettings::default() };
    let subscriber = subscriber(&settings, &service, &feed.queue, false, true).expect("valid");
    let _logs = tracing::subscriber::set_default(subscriber);
    let told = || {
        let batch = feed.queue.next(Sink::Kafka, Batch::default(), Duration::ZERO).expect("open");
        let line = |(_, line)| serde_json::from_slice::<serde_json::Value>(line).expect("an object");
        batch.lines().map(line).map(|line| line["sluice.lines"].as_u64().expect("how many")).collect::<Vec<_>>()
    };
    let deliver = |count| {
        feed.producer.send_line(TOPIC, b"key", b"{}").expect("there is room");
        wait_for("it is delivered", || feed.producer.delivered() == count);
    };
    let mut account = Account::default();
    deliver(1);
    feed.look(&mut account);
    assert!(told().is_empty(), "nothing is lost");
    feed.queue.lose(Sink::Kafka, 3);
    feed.look(&mut account);
    feed.look(&mut account);
    assert!(told().is_empty(), "nothing was delivered since");
    deliver(2);
    feed.queue.lose(Sink::Kafka, 1);
    feed.look(&mut account);
    assert!(told().is_empty(), "more are being lost");
    deliver(3);
    feed.look(&mut account);
    assert_eq!(told(), [4]);
    deliver(4);
    feed.look(&mut account);
    assert!(told().is_empty(), "once");
    feed.producer.close(Instant::now() + PATIENCE);
}

#[test]
fn brokers_that_were_never_there_hold_up_neither_the_start_nor_the_end() {
    let begun = Instant::now();
    let running = start("127.0.0.1:1", &[]);
    running.log(0..1_000);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(running.close(Duration::from_secs(2)), 1_000);
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
}
