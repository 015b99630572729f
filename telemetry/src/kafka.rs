//! Kafka, as logs and events use it: settings, and a producer that never makes its caller wait.
//!
//! Without the feature `kafka` there are the settings and no producer: `kafka.brokers` is refused then.

mod settings;

#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "kafka")]
mod producer;
#[cfg(not(feature = "kafka"))]
#[path = "kafka/absent.rs"]
mod producer;

pub use self::producer::Producer;
pub use self::settings::{KafkaSettings, Properties};

/// The target of what librdkafka logs: lines with it do not go to Kafka.
pub(crate) const TARGET: &str = "librdkafka";

/// No room for a message: as many wait for the brokers as may, or the message is larger than one may be. It is lost, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for a message to Kafka")]
pub struct Full;

/// Why a line is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "nothing is sent"))]
pub(crate) enum Refused {
    /// As many wait as may.
    Full,
    /// It is larger than a message may be, or nothing is sent any more.
    Never,
}

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] crate::settings::Contradiction),
    /// librdkafka cannot start.
    #[error("no Kafka producer: {0}")]
    Start(String),
}
