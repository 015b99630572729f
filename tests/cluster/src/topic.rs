//! What is in a topic of Kafka, read as anybody would: by a consumer of its own, from the beginning to the end there is now.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::Value;

/// For an answer of a broker that is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// For all that is in a topic.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it is.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key.
    pub key: String,
    /// What it says, which must be JSON.
    pub value: Value,
}

/// All messages of a topic, in each partition in order. None if there is no such topic yet. It blocks.
pub fn read(brokers: &str, topic: &str) -> anyhow::Result<Vec<Message>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // It belongs to no group, but must name one.
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
    let partitions: Vec<i32> = partitions.flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    let (mut places, mut left) = (TopicPartitionList::new(), 0);
    for partition in partitions {
        let (first, end) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        places.add_partition_offset(topic, partition, Offset::Beginning)?;
        left += end - first;
    }
    consumer.assign(&places)?;
    let (mut messages, deadline) = (Vec::new(), Instant::now() + READ_WITHIN);
    // No transactions: every offset is a message.
    while left > 0 {
        anyhow::ensure!(Instant::now() < deadline, "{left} messages of {topic} do not come");
        let Some(message) = consumer.poll(Duration::from_millis(500)) else { continue };
        let message = message?;
        left -= 1;
        messages.push(Message {
            partition: message.partition(),
            offset: message.offset(),
            key: String::from_utf8(message.key().unwrap_or_default().to_vec())?,
            value: serde_json::from_slice(message.payload().context("a message without content")?)?,
        });
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use serde_json::json;
    use servers::Kafka;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_broker_took_is_there_in_order_after_it_was_killed() {
        let mut kafka = Kafka::start().await;
        let brokers = kafka.brokers();
        assert!(read(&brokers, "nothing").expect("an answer").is_empty());
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer");
        for number in 0..100 {
            let (key, value) = (format!("key-{}", number % 7), json!({"number": number}).to_string());
            producer.send(BaseRecord::to("something").key(&key).payload(&value)).expect("there is room");
        }
        producer.flush(ANSWER_WITHIN).expect("all are taken");
        kafka.stop();
        kafka.start_again().await;
        let messages = read(&brokers, "something").expect("an answer");
        let mut numbers: Vec<u64> = messages.iter().filter_map(|message| message.value["number"].as_u64()).collect();
        let of_one_key = |message: &&Message| message.key == "key-3";
        assert!(messages.iter().filter(of_one_key).is_sorted_by_key(|message| message.value["number"].as_u64()));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
    }
}
