//! The producer of a program that is built without Kafka: there is none.

use std::convert::Infallible;
use std::time::Instant;

use super::{Full, KafkaError, KafkaSettings, Refused};
use crate::settings::Contradiction;

/// Sends messages to Kafka; clones are the same one.
#[derive(Debug, Clone)]
pub struct Producer(Infallible);

pub(super) fn check(settings: &KafkaSettings) -> Result<(), Contradiction> {
    settings.effective()?;
    if settings.is_set() {
        return Err(Contradiction::new("kafka.brokers", "this program was built without Kafka"));
    }
    Ok(())
}

impl Producer {
    /// There is none.
    pub fn connect(settings: &KafkaSettings, _client: &str) -> Result<Self, KafkaError> {
        check(settings)?;
        Err(KafkaError::Start("this program was built without Kafka".to_owned()))
    }

    /// Never called.
    pub fn send(&self, _topic: &str, _key: &str, _payload: Vec<u8>) -> Result<(), Full> {
        match self.0 {}
    }

    pub(crate) fn send_line(&self, _topic: &str, _key: &[u8], _line: &[u8]) -> Result<(), Refused> {
        match self.0 {}
    }

    pub(crate) fn lost_lines(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn delivered(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn flush(&self, _by: Instant) {
        match self.0 {}
    }

    pub(crate) fn close(&self, _by: Instant) -> u64 {
        match self.0 {}
    }
}
