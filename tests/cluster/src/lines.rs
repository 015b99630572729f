//! Log lines as Elasticsearch gets them: read from a process' stdout and from Kafka, and held against each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

use crate::process::Process;
use crate::topic::Message;

/// Counts the lines of one process that were given to Kafka.
const SEQUENCE: &str = "event.sequence";
/// Where a line comes from. Those of librdkafka about itself do not go to Kafka.
const LOGGER: &str = "log.logger";
const LIBRDKAFKA: &str = "librdkafka";
/// Every line has these, as text.
const TEXTS: [&str; 7] =
    ["@timestamp", "log.level", "message", "ecs.version", "service.name", "service.node.name", LOGGER];
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// One start of one process.
type Producer = (String, u64);

/// The lines that a process has written to stdout and must have sent to Kafka.
pub fn written(process: &Process) -> anyhow::Result<Vec<Value>> {
    let text = process.text();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let mut values = Vec::new();
    for line in lines {
        let value: Value = serde_json::from_str(line).with_context(|| format!("{} wrote {line}", process.name()))?;
        is_a_line(&value)?;
        if value[LOGGER] != LIBRDKAFKA {
            values.push(value);
        }
    }
    Ok(values)
}

/// A line has what every line has, and its fields have the schema's types.
fn is_a_line(value: &Value) -> anyhow::Result<()> {
    for name in TEXTS {
        anyhow::ensure!(value[name].is_string(), "no {name} in {value}");
    }
    let level = value["log.level"].as_str().unwrap_or_default();
    anyhow::ensure!(LEVELS.contains(&level), "{level} is no level: {value}");
    let time = value["@timestamp"].as_str().unwrap_or_default();
    let is_time = time.len() >= "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z') && time.as_bytes()[10] == b'T';
    anyhow::ensure!(is_time, "{time} is no time of day in UTC: {value}");
    for (name, hex) in [("trace.id", 32), ("span.id", 16)] {
        let Some(id) = value.get(name) else { continue };
        let id = id.as_str().unwrap_or_default();
        let is_id = id.len() == hex && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        anyhow::ensure!(is_id, "{id} is no {name}: {value}");
    }
    Ok(())
}

/// Everything that was written is in Kafka once, and nothing else; each producer's lines are numbered without a gap, and in order
/// within each partition; each key is in one partition.
pub fn arrived_once_in_order(written: &[Value], arrived: &[Message]) -> anyhow::Result<()> {
    let mut numbers: BTreeMap<Producer, BTreeSet<u64>> = BTreeMap::new();
    let mut last: BTreeMap<(Producer, i32), u64> = BTreeMap::new();
    let mut partitions: BTreeMap<&str, i32> = BTreeMap::new();
    for Message { partition, offset: _, key, value } in arrived {
        is_a_line(value)?;
        let number = value[SEQUENCE].as_u64().with_context(|| format!("no number in {value}"))?;
        let node = value["service.node.name"].as_str().unwrap_or_default();
        let producer =
            (node.to_owned(), value["process.pid"].as_u64().with_context(|| format!("no process in {value}"))?);
        let keyed = value["sluice.room"].as_str().unwrap_or(node);
        anyhow::ensure!(key == keyed, "the key is {key}, and not {keyed}: {value}");
        let home = partitions.entry(key).or_insert(*partition);
        anyhow::ensure!(home == partition, "{key} is in two partitions");
        let before = last.insert((producer.clone(), *partition), number);
        anyhow::ensure!(before < Some(number), "{number} comes after {before:?}: {value}");
        anyhow::ensure!(numbers.entry(producer).or_default().insert(number), "it arrived twice: {value}");
    }
    for (producer, numbers) in &numbers {
        let (first, last) = (numbers.first().copied().unwrap_or_default(), numbers.last().copied().unwrap_or_default());
        anyhow::ensure!(first <= 1, "the first of {producer:?} is {first}");
        let missing: Vec<u64> = (first..=last).filter(|number| !numbers.contains(number)).collect();
        anyhow::ensure!(missing.is_empty(), "of {producer:?} {} lines are missing: {missing:?}", missing.len());
    }
    let (there, here) = (sorted(arrived.iter().map(|message| &message.value)), sorted(written));
    let not_arrived = here.iter().find(|line| there.binary_search(line).is_err());
    anyhow::ensure!(not_arrived.is_none(), "it was written and did not arrive: {not_arrived:?}");
    let not_written = there.iter().find(|line| here.binary_search(line).is_err());
    anyhow::ensure!(not_written.is_none(), "it arrived and was not written: {not_written:?}");
    anyhow::ensure!(there.len() == here.len(), "{} lines were written, {} arrived", here.len(), there.len());
    Ok(())
}

/// Lines as text, without their numbers.
fn sorted<'a>(lines: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut texts: Vec<String> = lines
        .into_iter()
        .map(|line| {
            let mut line = line.clone();
            line.as_object_mut().and_then(|fields| fields.remove(SEQUENCE));
            line.to_string()
        })
        .collect();
    texts.sort_unstable();
    texts
}

/// The traces that lines of this service are of.
pub fn traces<'a>(lines: impl IntoIterator<Item = &'a Value>, service: &str) -> BTreeSet<String> {
    let of = lines.into_iter().filter(|line| line["service.name"] == service);
    of.filter_map(|line| line["trace.id"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(number: u64, message: &str) -> Value {
        json!({
            "@timestamp": "2026-11-30T15:00:00.000123Z", "log.level": "info", "message": message, "ecs.version": "8.17.0",
            "service.name": "edge-signal", "service.node.name": "edge-0", "log.logger": "edge", "process.pid": 7,
            "sluice.room": "a", "event.sequence": number,
        })
    }

    fn arrived(numbers: &[u64]) -> Vec<Message> {
        let message = |(offset, number): (usize, &u64)| Message {
            partition: 1,
            offset: offset as i64,
            key: "a".to_owned(),
            value: line(*number, &number.to_string()),
        };
        numbers.iter().enumerate().map(message).collect()
    }

    fn written(numbers: &[u64]) -> Vec<Value> {
        numbers.iter().map(|number| line(*number, &number.to_string())).collect()
    }

    #[test]
    fn lines_that_arrived_once_in_order_are_right() {
        arrived_once_in_order(&written(&[0, 1, 2]), &arrived(&[0, 1, 2])).expect("they did");
    }

    #[test]
    fn what_is_lost_doubled_or_in_disorder_is_found() {
        let verdict = |here: &[u64], there: &[u64]| {
            arrived_once_in_order(&written(here), &arrived(there)).expect_err("it is found").to_string()
        };
        assert!(verdict(&[0, 1, 2], &[0, 2]).contains("1 lines are missing: [1]"));
        assert!(verdict(&[0, 1, 2], &[0, 1]).contains("did not arrive"));
        assert!(verdict(&[0, 1], &[0, 1, 2]).contains("was not written"));
        assert!(verdict(&[0, 1, 2], &[0, 2, 1]).contains("1 comes after Some(2)"));
        assert!(verdict(&[0, 1], &[0, 1, 1]).contains("1 comes after Some(1)"));
        assert!(verdict(&[5, 6], &[5, 6]).contains("is 5"));
        let mut elsewhere = arrived(&[0, 1]);
        elsewhere[1].partition = 2;
        let two = arrived_once_in_order(&written(&[0, 1]), &elsewhere).expect_err("it is found");
        assert!(two.to_string().contains("two partitions"), "{two}");
    }
}
