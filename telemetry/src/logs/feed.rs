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

/// What was lost, and what of it has been told.
#[derive(Debug, Default)]
struct Account {
    counted: u64,
    told: u64,
    /// Messages delivered when something was lost last: one more, and the brokers are back.
    delivered: u64,
}

impl Feed {
    /// Sends until the queue is closed.
    pub(super) fn run(self) {
        let mut account = Account::default();
        let mut spare = Batch::default();
        let mut lost = 0;
        while let Some(work) = self.queue.next(Sink::Kafka, spare, LOOK) {
            // Now there is room for what it may have to tell, however much is logged.
            self.look(lost, &mut account);
            for (key, line) in work.batch.lines() {
                // The line break is for files.
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                lost += u64::from(!self.send(key, line, lost, &mut account));
            }
            spare = work.batch;
        }
    }

    /// Whether the line was sent; it is not when the process ends first, or when it is too large.
    fn send(&self, key: &[u8], line: &[u8], lost: u64, account: &mut Account) -> bool {
        loop {
            match self.producer.send_line(&self.topic, key, line) {
                Ok(()) => return true,
                Err(Refused::Full) if !self.hurry.load(Ordering::Relaxed) => thread::sleep(PATIENCE),
                Err(_) => return false,
            }
            self.look(lost, account);
        }
    }

    fn look(&self, lost: u64, account: &mut Account) {
        let lost = lost + self.queue.dropped(Sink::Kafka) + self.producer.lost_lines();
        let delivered = self.producer.delivered();
        if lost > account.counted {
            super::count_dropped(Sink::Kafka, lost - account.counted);
            account.counted = lost;
            account.delivered = delivered;
        } else if lost > account.told && delivered > account.delivered && self.queue.is_calm(Sink::Kafka) {
            super::say_dropped(Sink::Kafka, lost - account.told);
            account.told = lost;
        }
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests;
