//! What the recorder's threads count: docs/metrics.md says what each means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::EndReason;
use crate::drive::thread_cpu;

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
    cpu: Gauge,
    /// Of each thread, in microseconds.
    threads: Arc<[AtomicU64]>,
}

impl RecorderMetrics {
    pub(super) fn register(threads: usize) -> Self {
        let dropped = |reason| counter!("sluice_sfu_recording_dropped_total", "reason" => reason);
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
            recordings: gauge!("sluice_sfu_recordings"),
            packets: counter!("sluice_sfu_recording_packets_total"),
            bytes: counter!("sluice_sfu_recording_bytes_total"),
            dropped_queue: dropped("queue"),
            dropped_disk: dropped("disk"),
            write: histogram!("sluice_sfu_recording_write_seconds"),
            cpu: gauge!("sluice_sfu_recorder_cpu_seconds_total"),
            threads: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes the processor time of the calling thread, which is this one of them.
    pub(super) fn note_cpu(&self, thread: usize) {
        self.threads[thread].store(thread_cpu().as_micros() as u64, Ordering::Relaxed);
        let total = self.threads.iter().map(|thread| thread.load(Ordering::Relaxed)).sum();
        // A gauge, because counters here are whole numbers. It only grows.
        self.cpu.set(Duration::from_micros(total).as_secs_f64());
    }

    pub(super) fn ended(&self, reason: &EndReason) {
        self.recordings.decrement(1.0);
        ended(reason).increment(1);
    }
}

fn ended(reason: &EndReason) -> Counter {
    counter!("sluice_sfu_recording_ended_total", "reason" => reason.name())
}
