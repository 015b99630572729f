//! How loaded the node is, from what its shards count: nothing here touches a packet's path, and nothing is estimated but what
//! subscribers alone can know, the loss on the way to them. What is too much is `overload.rs`' to say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use room_store::Load;
use sfu_core::Histogram;
use telemetry::resident_memory;

use crate::control::Control;
use crate::shard::ShardHandle;

/// How often the load is measured. With the 400 ms that an entry in etcd waits at most, whoever reads it has one that is
/// less than a second old.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// What is measured is what has passed within this time.
const WINDOW: Duration = Duration::from_secs(1);

/// Likewise of the loss: subscribers report every second or less often.
const LOSS_WINDOW: Duration = Duration::from_secs(10);

/// Of fewer packets, one that was late by chance would count as a node that is.
const FEW: u64 = 20;

/// What the shards have counted since they started, and carry now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    cpu: Duration,
    bytes_sent: u64,
    packets_sent: u64,
    subscribed_tracks: u64,
}

/// Of it, what subscribers say.
#[derive(Debug, Clone, Copy, Default)]
struct Reported {
    packets: u64,
    lost: u64,
}

/// What one shard has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    busy: Duration,
    /// Packets by the time that they were in the shard.
    delays: [u64; Histogram::BUCKETS],
    /// Receive calls by the time that what they brought had waited in the kernel.
    waits: [u64; Histogram::BUCKETS],
}

/// All of it.
#[derive(Debug, Default)]
struct Seen {
    totals: Totals,
    reported: Reported,
    /// By shard.
    work: Vec<Work>,
}

/// What was seen lately.
#[derive(Debug)]
struct Window<T> {
    length: Duration,
    /// One older than `length`, so that the window is whole, and what came after it.
    seen: VecDeque<(Instant, T)>,
}

/// Turns totals into a load, each time over what has passed within the window.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes that the process may have in use.
    memory: Option<u64>,
    seen: Window<(Totals, Vec<Work>)>,
    reported: Window<Reported>,
}

impl<T> Window<T> {
    fn begin(length: Duration, now: Instant, first: T) -> Self {
        Self { length, seen: VecDeque::from([(now, first)]) }
    }

    /// Adds what is seen now, and gives what was seen at the window's beginning, and when.
    fn slide(&mut self, now: Instant, seen: T) -> &(Instant, T) {
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.length) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, seen));
        &self.seen[0]
    }
}

impl Meter {
    /// Of a node whose shards have just started, in a process that may use so many bytes of memory.
    pub(crate) fn new(shards: usize, memory: Option<u64>, now: Instant) -> Self {
        let nothing = (Totals::default(), vec![Work::default(); shards]);
        Self {
            memory,
            seen: Window::begin(WINDOW, now, nothing),
            reported: Window::begin(LOSS_WINDOW, now, Reported::default()),
        }
    }

    /// The load of the last second. Its pressure is not said.
    pub(crate) fn measure(&mut self, now: Instant, control: &Control) -> Load {
        let load = self.load(now, Seen::of(control.shards()));
        let share = |limit: u64| Some(resident_memory()? as f64 / limit.max(1) as f64);
        Load { memory: self.memory.and_then(share).unwrap_or_default() as f32, ..load }
    }

    fn load(&mut self, now: Instant, Seen { totals, reported, work }: Seen) -> Load {
        let (begun, (before, work_before)) = self.seen.slide(now, (totals, work.clone()));
        let elapsed = now.saturating_duration_since(*begun).as_secs_f64();
        let per_second = |count: u64| if elapsed > 0.0 { (count as f64 / elapsed) as u64 } else { 0 };
        let share = |time: Duration| if elapsed > 0.0 { (time.as_secs_f64() / elapsed).min(1.0) as f32 } else { 0.0 };
        let shards = || work.iter().zip(work_before);
        let busy = shards().map(|(now, then)| share(now.busy.saturating_sub(then.busy)));
        let delay = shards().map(|(now, then)| now.delay_since(then)).max().unwrap_or_default();
        let grown = |of: fn(&Totals) -> u64| of(&totals).saturating_sub(of(before));
        Load {
            cpu: share(totals.cpu.saturating_sub(before.cpu) / work.len().max(1) as u32),
            busy: busy.fold(0.0, f32::max),
            egress_bps: 8 * per_second(grown(|totals| totals.bytes_sent)),
            tracks: totals.subscribed_tracks,
            packets_per_second: per_second(grown(|totals| totals.packets_sent)),
            loss: loss(&self.reported.slide(now, reported).1, &reported),
            delay_us: u32::try_from(delay.as_micros()).unwrap_or(u32::MAX),
            ..Load::default()
        }
    }
}

fn loss(before: &Reported, now: &Reported) -> f32 {
    let (packets, lost) = (now.packets.saturating_sub(before.packets), now.lost.saturating_sub(before.lost));
    if packets > 0 { (lost as f64 / packets as f64) as f32 } else { 0.0 }
}

impl Seen {
    fn of(shards: &[ShardHandle]) -> Self {
        let mut seen = Self::default();
        for shard in shards {
            let stats = &shard.stats;
            let totals = &mut seen.totals;
            totals.cpu += stats.cpu();
            totals.bytes_sent += stats.total("bytes_sent");
            totals.packets_sent += stats.total("packets_sent") + stats.total("packets_retransmitted");
            totals.subscribed_tracks += stats.subscribed_tracks();
            seen.reported.packets += stats.total("packets_reported");
            seen.reported.lost += stats.total("packets_reported_lost");
            seen.work.push(Work { busy: stats.busy(), delays: stats.delays().0, waits: stats.receive_waits().0 });
        }
        seen
    }
}

impl Work {
    /// How long 19 of 20 packets were on the node at most since then, about: their wait in the kernel's queue is counted apart.
    fn delay_since(&self, before: &Self) -> Duration {
        nineteen_of_twenty(&before.delays, &self.delays) + nineteen_of_twenty(&before.waits, &self.waits)
    }
}

/// What 19 of 20 of those were at most that were counted between two moments; within a bucket they are taken to be spread evenly.
fn nineteen_of_twenty(before: &[u64; Histogram::BUCKETS], now: &[u64; Histogram::BUCKETS]) -> Duration {
    let counts = || now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before));
    let all: u64 = counts().sum();
    if all < FEW {
        return Duration::ZERO;
    }
    let wanted = all as f64 * 0.95;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in counts().zip(Histogram::BOUNDS) {
        let count = count as f64;
        if below + count >= wanted {
            return Duration::from_secs_f64(lower + (upper - lower) * (wanted - below) / count.max(1.0));
        }
        (below, lower) = (below + count, upper);
    }
    Duration::from_secs_f64(lower)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f32, expected: f32) -> bool {
        (found - expected).abs() < 1e-6
    }

    fn meter(shards: usize, now: Instant) -> Meter {
        Meter::new(shards, None, now)
    }

    fn seen(totals: Totals) -> Seen {
        Seen { totals, work: vec![Work::default(); 2], ..Seen::default() }
    }

    #[test]
    fn a_load_is_what_has_passed_since_the_start_and_then_within_a_second_over_all_shards() {
        let start = Instant::now();
        let mut meter = meter(2, start);
        let first =
            Totals { cpu: Duration::from_millis(250), bytes_sent: 500_000, packets_sent: 500, subscribed_tracks: 7 };
        let load = meter.load(start + Duration::from_millis(500), seen(first));
        assert_eq!((load.egress_bps, load.packets_per_second, load.tracks), (8_000_000, 1_000, 7));
        assert!(close(load.cpu, 0.25), "{load:?}");

        let second = Totals { cpu: Duration::from_millis(2_250), subscribed_tracks: 3, ..first };
        let load = meter.load(start + Duration::from_millis(1_500), seen(second));
        assert_eq!((load.egress_bps, load.packets_per_second, load.tracks), (0, 0, 3));
        assert!(close(load.cpu, 1.0), "two shards ran all the time: {load:?}");
    }

    #[test]
    fn four_measurements_a_second_are_of_a_whole_second_each() {
        let start = Instant::now();
        let mut meter = meter(2, start);
        let mut loads = Vec::new();
        for number in 1..=12 {
            // 100 packets in each of the first eight quarters of a second.
            let totals = Totals { packets_sent: 100 * number.min(8), ..Totals::default() };
            loads.push(meter.load(start + INTERVAL * number as u32, seen(totals)).packets_per_second);
        }
        assert_eq!(loads[..8], [400; 8]);
        assert_eq!(loads[8..], [300, 200, 100, 0]);
    }

    #[test]
    fn the_busiest_shard_counts() {
        let start = Instant::now();
        let mut meter = meter(2, start);
        let work = [900, 100].map(|ms| Work { busy: Duration::from_millis(ms), ..Work::default() });
        let load = meter.load(start + WINDOW, Seen { work: work.to_vec(), ..Seen::default() });
        assert!(close(load.busy, 0.9), "{load:?}");
    }

    #[test]
    fn a_delay_is_that_of_the_slowest_shard_with_the_wait_before_it() {
        let start = Instant::now();
        let mut meter = meter(2, start);
        let counted = |bucket: usize| {
            let mut counts = [0; Histogram::BUCKETS];
            counts[bucket] = 100;
            counts
        };
        let slow = Work { delays: counted(6), waits: counted(5), ..Work::default() };
        let quick = Work { delays: counted(0), waits: counted(0), ..Work::default() };
        let seen = || Seen { work: vec![slow, quick], ..Seen::default() };
        let load = meter.load(start + WINDOW, seen());
        let within = |bucket: usize| {
            Histogram::BOUNDS[bucket - 1] + 0.95 * (Histogram::BOUNDS[bucket] - Histogram::BOUNDS[bucket - 1])
        };
        let expected = (within(6) + within(5)) * 1e6;
        assert!((f64::from(load.delay_us) - expected).abs() < 2.0, "{expected}: {load:?}");
        assert_eq!(meter.load(start + 2 * WINDOW, seen()).delay_us, 0, "no packets since");
    }

    #[test]
    fn one_late_packet_of_few_is_no_delay_and_those_beyond_all_bounds_are_the_greatest() {
        let none = [0; Histogram::BUCKETS];
        let mut late = none;
        late[Histogram::BUCKETS - 1] = FEW - 1;
        assert_eq!(nineteen_of_twenty(&none, &late), Duration::ZERO);
        late[Histogram::BUCKETS - 1] = FEW;
        let greatest = Histogram::BOUNDS[Histogram::BOUNDS.len() - 1];
        assert_eq!(nineteen_of_twenty(&none, &late), Duration::from_secs_f64(greatest));
    }

    #[test]
    fn loss_is_forgotten_when_it_is_long_over() {
        let mut now = Instant::now();
        let mut meter = meter(1, now);
        let mut reported = Reported { packets: 10, lost: 10 };
        let mut losses = Vec::new();
        for _ in 0..=10 {
            now += Duration::from_secs(1);
            let work = vec![Work::default()];
            losses.push(meter.load(now, Seen { reported, work, ..Seen::default() }).loss);
            reported.packets += 10;
        }
        assert!(close(losses[0], 1.0) && close(losses[1], 0.5) && close(losses[10], 0.0), "{losses:?}");
    }

    #[test]
    fn two_measurements_at_one_moment_are_no_load() {
        let now = Instant::now();
        let totals = Totals { cpu: INTERVAL, bytes_sent: 1, packets_sent: 1, subscribed_tracks: 0 };
        assert_eq!(meter(2, now).load(now, seen(totals)), Load::default());
    }

    #[test]
    fn memory_is_measured_against_what_there_may_be() {
        let resident = resident_memory().expect("Linux tells");
        let measure = |limit| Meter::new(0, limit, Instant::now()).measure(Instant::now(), &Control::without_shards());
        let share = measure(Some(2 * resident)).memory;
        assert!((0.3..0.8).contains(&share), "{share}");
        assert!(close(measure(None).memory, 0.0));
    }

    proptest! {
        #[test]
        fn a_delay_is_within_the_bucket_that_the_nineteenth_of_twenty_is_in(
            counts in prop::array::uniform::<_, { Histogram::BUCKETS }>(0u64..1_000),
        ) {
            let all: u64 = counts.iter().sum();
            prop_assume!(all >= FEW);
            let delay = nineteen_of_twenty(&[0; Histogram::BUCKETS], &counts).as_secs_f64();
            let mut below = 0;
            let bucket = counts.iter().position(|count| { below += count; below as f64 >= all as f64 * 0.95 });
            let bucket = bucket.expect("all are somewhere").min(Histogram::BOUNDS.len() - 1);
            let lower = if bucket == 0 { 0.0 } else { Histogram::BOUNDS[bucket - 1] };
            prop_assert!((lower - 1e-6..=Histogram::BOUNDS[bucket] + 1e-6).contains(&delay), "{} in {}", delay, bucket);
        }
    }
}
