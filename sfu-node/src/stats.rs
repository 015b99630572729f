//! What a shard counts, where other threads can read it: single-writer atomics, written now and then by the shard's thread.
//! Turning them into metrics is `metrics.rs`' business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sfu_core::{Counters, Histogram};

use crate::udp::SocketTotals;

/// Totals of the drive loop itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopTotals {
    /// Rounds of the loop.
    pub(crate) rounds: u64,
    /// Time not spent waiting.
    pub(crate) busy: Duration,
    /// Processor time of the thread.
    pub(crate) cpu: Duration,
    /// How often a message to a sibling found its queue full and had to wait.
    pub(crate) sibling_overflows: u64,
    /// How often a message to the recorder found its queue full and was lost.
    pub(crate) recorder_overflows: u64,
}

/// One shard's published totals.
#[derive(Debug)]
pub(crate) struct ShardStats {
    transports: AtomicU64,
    subscribed_tracks: AtomicU64,
    busy_microseconds: AtomicU64,
    cpu_microseconds: AtomicU64,
    shedding: AtomicU64,
    shed_subscriptions: AtomicU64,
    delays: Times,
    receive_waits: Times,
    totals: Box<[AtomicU64]>,
}

/// What a shard has now, as opposed to what it has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alive {
    /// Transports.
    pub(crate) transports: usize,
    /// Tracks on their way to subscribers.
    pub(crate) subscribed_tracks: usize,
    /// Those of them that are paused.
    pub(crate) shed_subscriptions: usize,
    /// The level of shedding.
    pub(crate) shedding: u8,
}

/// How long packets took on their way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latencies {
    /// From a packet's arrival in the node to its sending, a subscriber each.
    pub(crate) delays: Histogram,
    /// In the kernel's queue, the first packet of each receive call.
    pub(crate) receive_waits: Histogram,
}

/// A published histogram.
#[derive(Debug, Default)]
struct Times {
    counts: [AtomicU64; Histogram::BUCKETS],
    microseconds: AtomicU64,
}

impl Times {
    fn publish(&self, histogram: &Histogram) {
        for (published, count) in self.counts.iter().zip(histogram.counts()) {
            published.store(*count, Ordering::Relaxed);
        }
        self.microseconds.store(histogram.sum().as_micros() as u64, Ordering::Relaxed);
    }

    fn read(&self) -> ([u64; Histogram::BUCKETS], Duration) {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        (counts, Duration::from_micros(self.microseconds.load(Ordering::Relaxed)))
    }
}

/// Names of the totals, in their order: the core's, then the shell's.
pub(crate) fn names() -> Vec<&'static str> {
    totals(&Counters::default(), &SocketTotals::default(), &LoopTotals::default()).map(|(name, _)| name).collect()
}

impl ShardStats {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            transports: zero(),
            subscribed_tracks: zero(),
            busy_microseconds: zero(),
            cpu_microseconds: zero(),
            shedding: zero(),
            shed_subscriptions: zero(),
            delays: Times::default(),
            receive_waits: Times::default(),
            totals: names().iter().map(|_| zero()).collect(),
        }
    }

    /// Publishes the totals; only the shard's thread calls it.
    pub(crate) fn publish(
        &self,
        alive: Alive,
        latencies: &Latencies,
        core: &Counters,
        socket: &SocketTotals,
        drive: &LoopTotals,
    ) {
        self.transports.store(alive.transports as u64, Ordering::Relaxed);
        self.subscribed_tracks.store(alive.subscribed_tracks as u64, Ordering::Relaxed);
        self.shed_subscriptions.store(alive.shed_subscriptions as u64, Ordering::Relaxed);
        self.shedding.store(u64::from(alive.shedding), Ordering::Relaxed);
        self.delays.publish(&latencies.delays);
        self.receive_waits.publish(&latencies.receive_waits);
        self.cpu_microseconds.store(drive.cpu.as_micros() as u64, Ordering::Relaxed);
        self.busy_microseconds.store(drive.busy.as_micros() as u64, Ordering::Relaxed);
        for (published, (_, value)) in self.totals.iter().zip(totals(core, socket, drive)) {
            published.store(value, Ordering::Relaxed);
        }
    }

    /// Transports alive when the shard last published.
    pub(crate) fn transports(&self) -> u64 {
        self.transports.load(Ordering::Relaxed)
    }

    /// Tracks on their way to subscribers, likewise.
    pub(crate) fn subscribed_tracks(&self) -> u64 {
        self.subscribed_tracks.load(Ordering::Relaxed)
    }

    /// Processor time that the shard's thread has used.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_microseconds.load(Ordering::Relaxed))
    }

    /// Time that the shard's thread has not waited.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_micros(self.busy_microseconds.load(Ordering::Relaxed))
    }

    /// How long packets took from their arrival in the node to their sending, a subscriber each: counts by bucket
    /// ([`Histogram::BOUNDS`]), and all times together.
    pub(crate) fn delays(&self) -> ([u64; Histogram::BUCKETS], Duration) {
        self.delays.read()
    }

    /// How long the first packet of each receive call was in the kernel's queue, likewise.
    pub(crate) fn receive_waits(&self) -> ([u64; Histogram::BUCKETS], Duration) {
        self.receive_waits.read()
    }

    /// The level of shedding, 0 to 9: 0 leaves out nothing, 8 all video, and 9 does not even decrypt it.
    pub(crate) fn shedding(&self) -> u8 {
        self.shedding.load(Ordering::Relaxed) as u8
    }

    /// Tracks to subscribers that are paused.
    pub(crate) fn shed_subscriptions(&self) -> u64 {
        self.shed_subscriptions.load(Ordering::Relaxed)
    }

    /// The total of this name, which is one of [`names`].
    pub(crate) fn total(&self, name: &str) -> u64 {
        let place = names().iter().position(|known| *known == name);
        self.totals[place.expect("invariant: callers name totals that there are")].load(Ordering::Relaxed)
    }

    /// Totals in the order of [`names`].
    pub(crate) fn totals(&self) -> impl Iterator<Item = u64> {
        self.totals.iter().map(|total| total.load(Ordering::Relaxed))
    }
}

fn totals(core: &Counters, socket: &SocketTotals, drive: &LoopTotals) -> impl Iterator<Item = (&'static str, u64)> {
    let shell = [
        ("receive_calls", socket.receive_calls),
        ("receive_errors", socket.receive_errors),
        ("receive_overflows", socket.receive_overflows),
        ("send_calls", socket.send_calls),
        ("send_congested", socket.send_congested),
        ("send_refused", socket.send_refused),
        ("send_split", socket.send_split),
        ("rounds", drive.rounds),
        ("sibling_overflows", drive.sibling_overflows),
        ("recorder_overflows", drive.recorder_overflows),
    ];
    core.iter().chain(shell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_can_be_read_by_name() {
        let stats = ShardStats::new();
        let core = Counters { packets_received: 7, ..Counters::default() };
        let socket = SocketTotals { send_split: 3, ..SocketTotals::default() };
        let (busy, cpu) = (Duration::from_millis(3), Duration::from_millis(2));
        let alive = Alive { transports: 2, subscribed_tracks: 4, shed_subscriptions: 3, shedding: 6 };
        let mut latencies = Latencies::default();
        latencies.delays.record(Duration::from_millis(1), 2);
        latencies.receive_waits.record(Duration::from_secs(9), 1);
        let totals = LoopTotals { rounds: 5, busy, cpu, ..LoopTotals::default() };
        stats.publish(alive, &latencies, &core, &socket, &totals);
        let read: std::collections::HashMap<_, _> = names().into_iter().zip(stats.totals()).collect();
        assert_eq!((stats.transports(), stats.subscribed_tracks()), (2, 4));
        assert_eq!((stats.busy(), stats.cpu()), (busy, cpu));
        assert_eq!((stats.shed_subscriptions(), stats.shedding()), (3, 6));
        let (delays, sum) = stats.delays();
        assert_eq!((delays[2], delays.iter().sum::<u64>(), sum), (2, 2, Duration::from_millis(2)));
        let (waits, sum) = stats.receive_waits();
        assert_eq!((waits[Histogram::BUCKETS - 1], sum), (1, Duration::from_secs(9)));
        assert_eq!((read["packets_received"], read["send_split"], read["rounds"], read["bytes_sent"]), (7, 3, 5, 0));
    }
}
