//! What the recorder's threads count: docs/metrics.md says what each means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use telemetry::metrics::{Collect, Exposition, expose};

use super::EndReason;
use crate::drive::thread_cpu;
use crate::metrics::catalogue as known;

/// Handles of all metrics of a recorder; clones are the same.
#[derive(Clone)]
pub(super) struct RecorderMetrics {
    pub(super) recordings: Gauge,
    pub(super) packets: Counter,
    pub(super) bytes: Counter,
    /// Lost because the recorder's thread was behind.
    pub(super) dropped_queue: Counter,
    /// Lost because the disk was.
    pub(super) dropped_disk: Counter,
    pub(super) write: Histogram,
    threads: Arc<Threads>,
}

/// Processor time of each thread, in microseconds.
struct Threads(Box<[AtomicU64]>);

impl Collect for Threads {
    fn collect(&self, to: &mut Exposition) {
        let total = self.0.iter().map(|thread| thread.load(Ordering::Relaxed)).sum();
        to.sample(&known::RECORDER_CPU, &[], Duration::from_micros(total).as_secs_f64());
    }
}

impl RecorderMetrics {
    pub(super) fn register(threads: usize) -> Self {
        let dropped = |reason| known::RECORDING_DROPPED.counter(&[("reason", reason)]);
        let threads = Arc::new(Threads((0..threads).map(|_| AtomicU64::new(0)).collect()));
        expose(&threads);
        for reason in [
            EndReason::Stopped,
            EndReason::PublicationEnded,
            EndReason::DiskFull,
            EndReason::Limit,
            EndReason::NodeEnding,
            EndReason::Failed(String::new()),
        ] {
            ended(&reason).increment(0);
        }
        Self {
            recordings: known::RECORDINGS.gauge(&[]),
            packets: known::RECORDING_PACKETS.counter(&[]),
            bytes: known::RECORDING_BYTES.counter(&[]),
            dropped_queue: dropped("queue"),
            dropped_disk: dropped("disk"),
            write: known::RECORDING_WRITE.histogram(&[]),
            threads,
        }
    }

    /// Notes the processor time of the calling thread, which is this one of them.
    pub(super) fn note_cpu(&self, thread: usize) {
        self.threads.0[thread].store(thread_cpu().as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, reason: &EndReason) {
        self.recordings.decrement(1.0);
        ended(reason).increment(1);
    }
}

fn ended(reason: &EndReason) -> Counter {
    known::RECORDING_ENDED.counter(&[("reason", reason.name())])
}
