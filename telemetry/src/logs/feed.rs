//! The writer to Kafka, on a thread of its own: it moves lines from our queue to librdkafka's, and waits with them while that is
//! full, because brokers are away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::queue::{Batch, Queue, Sink};
use crate::kafka::{Producer, Refused};

/// How long it waits for room at a time.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often it looks whether there is something to tell.
const LOOK: Duration = Duration::from_millis(500);

/// The end of the queue at librdkafka's.
pub(super) struct Feed {
    pub(super) queue: Arc<Queue>,
    pub(super) producer: Producer,
    pub(super) topic: String,
    /// Set when waiting is over: the process ends.
    pub(super) hurry: Arc<AtomicBool>,
}

/// When lost lines are told of: not while more are being lost, and not before the brokers are back.
#[derive(Debug, Default)]
struct Account {
    lost: u64,
    /// Messages delivered when something was lost last: one more, and the brokers are back.
    delivered: u64,
}

impl Account {
    /// Whether it is time, with so many lost and delivered since the process started.
    fn is_time(&mut self, lost: u64, delivered: u64) -> bool {
        if lost > self.lost {
            *self = Self { lost, delivered };
        }
        delivered > self.delivered
    }
}

impl Feed {
    /// Sends until the queue is closed.
    pub(super) fn run(self) {
        let mut account = Account::default();
        let mut spare = Batch::default();
        while let Some(batch) = self.queue.next(Sink::Kafka, spare, LOOK) {
            // Now there is room for what it may have to tell, however much is logged.
            self.look(&mut account);
            for (key, line) in batch.lines() {
                // The line break is for files.
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                if !self.send(key, line, &mut account) {
                    self.queue.lose(Sink::Kafka, 1);
                }
            }
            spare = batch;
        }
    }

    /// Whether the line was sent; it is not when the process ends first, or when it is too large.
    fn send(&self, key: &[u8], line: &[u8], account: &mut Account) -> bool {
        loop {
            match self.producer.send_line(&self.topic, key, line) {
                Ok(()) => return true,
                Err(Refused::Full) if !self.hurry.load(Ordering::Relaxed) => thread::sleep(PATIENCE),
                Err(_) => return false,
            }
            self.look(account);
        }
    }

    fn look(&self, account: &mut Account) {
        let behind = self.producer.lost_lines();
        let lost = self.queue.lost(Sink::Kafka) + behind;
        if account.is_time(lost, self.producer.delivered()) && self.queue.is_calm(Sink::Kafka) {
            super::tell_dropped(&self.queue, Sink::Kafka, behind);
        }
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests;
