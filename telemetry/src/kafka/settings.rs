//! `kafka.*`: brokers, topics, and whatever librdkafka can be told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::settings::Contradiction;

/// What stands for a secret where settings are shown.
const MASK: &str = "***";

/// Longest topic that Kafka takes.
const MAX_TOPIC: usize = 249;

/// A key's value in a file of its own is a key or a password, not larger.
const MAX_VALUE_FILE: u64 = 64 * 1024;

/// Names of files end so: `sasl.password_file` holds `sasl.password`.
const IN_FILE: &str = "_file";

/// Properties that we choose otherwise than librdkafka, for lines that must arrive once and in order, and for an outage that must
/// not be noticed: 64 MiB or 200,000 messages wait, which is a minute of 1,000 lines a second three times over, and none of them
/// expires (`message.timeout.ms`), also where the topic is made only later (`topic.metadata.propagation.max.ms`). Brokers that are back are found within a second or two (`reconnect.backoff.max.ms`). Longer waits for fuller batches
/// (`linger.ms`) compress better and are later.
const DEFAULTS: [(&str, &str); 9] = [
    ("acks", "all"),
    ("compression.codec", "zstd"),
    ("enable.idempotence", "true"),
    ("linger.ms", "50"),
    ("message.timeout.ms", "0"),
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "200000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.propagation.max.ms", "1800000"),
];

/// librdkafka's second names of properties above.
const ALIASES: [(&str, &str); 4] = [
    ("request.required.acks", "acks"),
    ("compression.type", "compression.codec"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// Properties that are not to be set, and why.
const RESERVED: [(&str, &str); 8] = [
    ("bootstrap.servers", "is set by kafka.brokers"),
    ("debug", "has no effect: librdkafka is not heard below info"),
    ("delivery.report.only.error", "is set by the program, which counts what was delivered"),
    ("log_level", "has no effect: librdkafka is heard from info on"),
    ("metadata.broker.list", "is set by kafka.brokers"),
    ("log.queue", "is set by the program"),
    ("statistics.interval.ms", "has no effect: nobody takes the statistics"),
    ("transactional.id", "logs and events are not sent in transactions"),
];

/// Longer waits for a topic are none at all: librdkafka (2.12) reckons in microseconds of 32 bits.
const MAX_PROPAGATION_MS: u64 = i32::MAX as u64 / 1_000;

/// The keys below `kafka`: three of ours; every other is a property of librdkafka, its dots as levels or within the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port` of some brokers; the others are learnt from them. Empty: nothing goes to Kafka.
    pub brokers: Vec<String>,
    /// Where log lines go.
    pub topic: String,
    /// Where events go.
    pub events_topic: String,
    /// Everything else.
    pub properties: Properties,
}

/// Properties of librdkafka by their names, our defaults among them; those that are secrets are masked where they are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: "sluice.logs".to_owned(),
            events_topic: "sluice.events".to_owned(),
            properties: Properties::default(),
        }
    }
}

impl KafkaSettings {
    /// Whether anything goes to Kafka.
    pub fn is_set(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// Refuses what cannot be used: librdkafka itself is asked about its properties.
    pub fn check(&self) -> Result<(), Contradiction> {
        for (index, broker) in self.brokers.iter().enumerate() {
            let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != 0);
            if broker.contains([',', ' ']) || port.is_none() {
                return Err(Contradiction::new(format!("kafka.brokers.{index}"), "must be host:port"));
            }
        }
        for (key, topic) in [("kafka.topic", &self.topic), ("kafka.events_topic", &self.events_topic)] {
            if !is_topic(topic) {
                let reason = format!("must be 1 to {MAX_TOPIC} letters, digits, dots, - and _");
                return Err(Contradiction::new(key, reason));
            }
        }
        if self.topic == self.events_topic {
            let reason =
                "is kafka.topic, too: lines and events are read by different programs, from topics of their own";
            return Err(Contradiction::new("kafka.events_topic", reason));
        }
        for (key, why) in RESERVED {
            if self.properties.0.contains_key(key) {
                return Err(Contradiction::new(format!("kafka.{key}"), why));
            }
        }
        for unbounded in ["queue.buffering.max.messages", "queue.buffering.max.kbytes"] {
            if self.properties.0.get(unbounded).is_some_and(|value| value.trim().parse() == Ok(0)) {
                return Err(Contradiction::new(format!("kafka.{unbounded}"), "must be a bound"));
            }
        }
        let propagation = "topic.metadata.propagation.max.ms";
        if self.properties.0.get(propagation).is_some_and(|value| is_above(value, MAX_PROPAGATION_MS)) {
            let reason = format!("must be at most {MAX_PROPAGATION_MS}: librdkafka takes more for nothing");
            return Err(Contradiction::new(format!("kafka.{propagation}"), reason));
        }
        super::producer::check(self)
    }

    /// What librdkafka is told, by name; values in files are read now.
    pub(super) fn effective(&self) -> Result<BTreeMap<String, String>, Contradiction> {
        let mut all = self.properties.0.clone();
        let in_files: Vec<String> = all.keys().filter(|key| key.ends_with(IN_FILE)).cloned().collect();
        for key in in_files {
            let path = all.remove(&key).expect("invariant: it was there a line ago");
            let name = key.trim_end_matches(IN_FILE).to_owned();
            let refused = |reason: String| Contradiction::new(format!("kafka.{key}"), reason);
            let value = read_value(&path).map_err(|error| refused(format!("{path}: {error}")))?;
            if all.insert(name.clone(), value).is_some() {
                return Err(refused(format!("cannot be used with kafka.{name}")));
            }
        }
        if self.is_set() {
            all.insert("bootstrap.servers".to_owned(), self.brokers.join(","));
        }
        Ok(all)
    }
}

impl Properties {
    /// Sets a property by its name with dots.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        // Of two names of one property librdkafka would take whichever it is told last.
        if let Some((_, ours)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            self.0.remove(*ours);
        }
        self.0.insert(name, value.into());
    }
}

impl Default for Properties {
    fn default() -> Self {
        Self(DEFAULTS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }
}

/// Whether the property's value is nobody's business. Names of files are no secrets.
fn is_secret(key: &str) -> bool {
    let says = |word: &str| key.contains(word);
    !key.ends_with(IN_FILE)
        && !key.ends_with(".location")
        && (says("password") || says("passphrase") || says("secret") || says("key.pem") || says("oauthbearer.config"))
}

/// What is no number is librdkafka's to refuse.
fn is_above(value: &str, most: u64) -> bool {
    value.trim().parse::<u64>().is_ok_and(|value| value > most)
}

fn is_topic(topic: &str) -> bool {
    (1..=MAX_TOPIC).contains(&topic.len())
        && ![".", ".."].contains(&topic)
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A line break at its end is not part of it.
fn read_value(path: &str) -> std::io::Result<String> {
    let mut value = String::new();
    std::fs::File::open(path)?.take(MAX_VALUE_FILE).read_to_string(&mut value)?;
    Ok(value.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, shown(key, value)))).finish()
    }
}

fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret(key) { MASK } else { value }
}

impl Serialize for KafkaSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("brokers", &self.brokers)?;
        map.serialize_entry("topic", &self.topic)?;
        map.serialize_entry("events_topic", &self.events_topic)?;
        for (key, value) in &self.properties.0 {
            map.serialize_entry(key, shown(key, value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for KafkaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = KafkaSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of keys")
            }

            fn visit_unit<E>(self) -> Result<KafkaSettings, E> {
                Ok(KafkaSettings::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<KafkaSettings, A::Error> {
                let mut settings = KafkaSettings::default();
                while let Some(key) = entries.next_key::<String>()? {
                    match key.as_str() {
                        "brokers" => settings.brokers = entries.next_value()?,
                        "topic" => settings.topic = entries.next_value()?,
                        "events_topic" => settings.events_topic = entries.next_value()?,
                        _ => entries.next_value::<Tree>()?.into_properties(key, &mut settings.properties),
                    }
                }
                Ok(settings)
            }
        }
        deserializer.deserialize_any(Keys)
    }
}

/// A property's value, or those of all whose names begin alike.
enum Tree {
    Value(String),
    Below(Vec<(String, Tree)>),
}

impl Tree {
    fn into_properties(self, name: String, properties: &mut Properties) {
        match self {
            Self::Value(value) => properties.set(name, value),
            Self::Below(entries) => {
                for (key, tree) in entries {
                    tree.into_properties(format!("{name}.{key}"), properties);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of librdkafka")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Value(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Value(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Value(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Value(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Value(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Tree>()? {
                    match item {
                        Tree::Value(value) => list.push(value),
                        Tree::Below(_) => return Err(de::Error::custom("a list holds plain values")),
                    }
                }
                Ok(Tree::Value(list.join(",")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut below = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    below.push(entry);
                }
                Ok(Tree::Below(below))
            }
        }
        deserializer.deserialize_any(Values)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as De;

    use super::*;
    use crate::settings::{Settings, Sources, to_yaml};

    #[derive(Debug, Default, De, serde::Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        kafka: KafkaSettings,
    }

    impl Settings for Config {
        fn check(&self) -> Result<(), Contradiction> {
            self.kafka.check()
        }
    }

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let sources = Sources::text("edge.yaml", text).with_environment(environment.iter().copied());
        sources.load().map_err(|error| error.to_string())
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn properties_are_set_in_levels_or_in_one_piece_or_by_the_environment() {
        let text = "kafka:\n  brokers: [a:9092, 'b:9092']\n  linger: {ms: 5}\n  security.protocol: plaintext\n";
        let environment = [("SLUICE_KAFKA__SOCKET__KEEPALIVE__ENABLE", "true"), ("SLUICE_KAFKA__TOPIC", "logs")];
        let kafka = read(text, &environment).expect("valid").kafka;
        assert_eq!((kafka.brokers.len(), kafka.topic.as_str()), (2, "logs"));
        let effective = kafka.effective().expect("no files");
        for (key, value) in [
            ("bootstrap.servers", "a:9092,b:9092"),
            ("linger.ms", "5"),
            ("security.protocol", "plaintext"),
            ("socket.keepalive.enable", "true"),
            ("enable.idempotence", "true"),
        ] {
            assert_eq!(effective.get(key).map(String::as_str), Some(value), "{key}");
        }
        let kafka = read("", &[("SLUICE_KAFKA__BROKERS", "a:1,b:2")]).expect("valid").kafka;
        assert_eq!(kafka.brokers, ["a:1", "b:2"]);
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn what_librdkafka_does_not_know_is_named() {
        let brokers = "kafka:\n  brokers: [a:9092]\n";
        for (line, named) in [
            ("  no: {such: {property: 1}}\n", "edge.yaml:3: kafka.no.such.property: "),
            ("  no.such.property: 1\n", "edge.yaml:3: kafka.no.such.property: "),
            ("  acks: many\n", "edge.yaml:3: kafka.acks: "),
            ("  security.protocol: telepathy\n", "edge.yaml:3: kafka.security.protocol: "),
            ("  bootstrap.servers: b:1\n", "edge.yaml:3: kafka.bootstrap.servers: is set"),
            ("  debug: all\n", "edge.yaml:3: kafka.debug: has no effect"),
            ("  log_level: 7\n", "edge.yaml:3: kafka.log_level: has no effect"),
            ("  statistics.interval.ms: 1000\n", "edge.yaml:3: kafka.statistics.interval.ms: has no effect"),
            ("  delivery.report.only.error: true\n", "edge.yaml:3: kafka.delivery.report.only.error: is set"),
            ("  queue.buffering.max.messages: 0\n", "edge.yaml:3: kafka.queue.buffering.max.messages: "),
            ("  sasl.password_file: /nowhere\n", "edge.yaml:3: kafka.sasl.password_file: /nowhere: "),
            (
                "  topic.metadata.propagation.max.ms: 2147484\n",
                "edge.yaml:3: kafka.topic.metadata.propagation.max.ms: ",
            ),
            ("  topic: no topic\n", "edge.yaml:3: kafka.topic: "),
            ("  events_topic: sluice.logs\n", "edge.yaml:3: kafka.events_topic: is kafka.topic, too"),
        ] {
            let refused = read(&format!("{brokers}{line}"), &[]).expect_err(line);
            assert!(refused.starts_with(named), "{line} gave {refused}");
        }
        for broker in ["a", "a:", "a:none", "a:0", "a:65536", ":9092", "\"a:1,b:2\""] {
            let refused = read(&format!("kafka: {{brokers: [{broker}]}}\n"), &[]).expect_err(broker);
            assert!(refused.contains("kafka.brokers.0: "), "{broker} gave {refused}");
        }
        // Well-formed each, and not together.
        let refused = read("kafka: {brokers: [a:1], security.protocol: ssl, ssl.ca.location: /nowhere}\n", &[]);
        assert!(refused.expect_err("no such file").contains("kafka: "));
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn without_kafka_brokers_are_refused() {
        let refused = read("kafka: {brokers: [a:9092]}\n", &[]).expect_err("none to use");
        assert!(refused.starts_with("edge.yaml:1: kafka.brokers: "), "{refused}");
        assert!(read("kafka: {topic: logs}\n", &[]).is_ok());
    }

    #[test]
    fn a_value_may_be_in_a_file_and_not_in_both_places() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hunter2\n").expect("written");
        let mut kafka = KafkaSettings::default();
        kafka.properties.set("sasl.password_file", file.path().to_str().expect("text"));
        let effective = kafka.effective().expect("readable");
        assert_eq!(effective.get("sasl.password").map(String::as_str), Some("hunter2"));
        assert!(!effective.contains_key("sasl.password_file"));
        kafka.properties.set("sasl.password", "other");
        let refused = kafka.effective().expect_err("twice").to_string();
        assert!(refused.starts_with("kafka.sasl.password_file: ") && !refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn secrets_are_masked_and_all_that_is_in_force_is_shown() {
        let mut config = Config::default();
        for secret in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            config.kafka.properties.set(secret, "hunter2");
        }
        config.kafka.properties.set("ssl.key.location", "/etc/key.pem");
        config.kafka.properties.set("compression.type", "lz4");
        let shown = to_yaml(&config);
        assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{shown}");
        for part in ["sasl.password: ", "***", "/etc/key.pem", "linger.ms", "compression.type: lz4", "sluice.events"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains("compression.codec"), "another name of what was set");
    }
}
