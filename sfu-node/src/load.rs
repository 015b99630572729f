//! How loaded the node is, from what its shards count: nothing here touches a packet's path, and nothing is estimated but what
//! subscribers alone can know, the loss on the way to them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use room_store::Load;

use crate::control::Control;
use crate::shard::ShardHandle;

/// How often the load is measured: as often as it may be reported.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Measurements that the loss is taken over: subscribers report every second or less often.
const LOSS_WINDOW: usize = 10;

/// What the shards have counted since they started, and carry now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    cpu: Duration,
    bytes_sent: u64,
    packets_sent: u64,
    packets_reported: u64,
    packets_reported_lost: u64,
    subscribed_tracks: u64,
}

/// Turns totals into a load, each time over what has passed since the last.
#[derive(Debug)]
pub(crate) struct Meter {
    shards: u32,
    last: (Instant, Totals),
    /// Packets reported on, and lost of them, in the last measurements.
    losses: VecDeque<(u64, u64)>,
}

impl Meter {
    /// Of a node whose shards have just started.
    pub(crate) fn new(shards: usize, now: Instant) -> Self {
        Self { shards: shards as u32, last: (now, Totals::default()), losses: VecDeque::with_capacity(LOSS_WINDOW) }
    }

    /// The load since the last measurement.
    pub(crate) fn measure(&mut self, now: Instant, control: &Control) -> Load {
        self.load(now, control.shards().iter().fold(Totals::default(), Totals::with))
    }

    fn load(&mut self, now: Instant, totals: Totals) -> Load {
        let (then, before) = std::mem::replace(&mut self.last, (now, totals));
        let elapsed = now.saturating_duration_since(then).as_secs_f64();
        if self.losses.len() == LOSS_WINDOW {
            self.losses.pop_front();
        }
        let grown = |of: fn(&Totals) -> u64| of(&totals).saturating_sub(of(&before));
        self.losses.push_back((grown(|totals| totals.packets_reported), grown(|totals| totals.packets_reported_lost)));
        let (reported, lost) =
            self.losses.iter().fold((0, 0), |(reported, lost), new| (reported + new.0, lost + new.1));
        let per_second = |count: u64| if elapsed > 0.0 { (count as f64 / elapsed) as u64 } else { 0 };
        let cpu = totals.cpu.saturating_sub(before.cpu).as_secs_f64() / f64::from(self.shards);
        Load {
            cpu: if elapsed > 0.0 { (cpu / elapsed).min(1.0) as f32 } else { 0.0 },
            egress_bps: 8 * per_second(grown(|totals| totals.bytes_sent)),
            tracks: totals.subscribed_tracks,
            packets_per_second: per_second(grown(|totals| totals.packets_sent)),
            loss: if reported > 0 { (lost as f64 / reported as f64) as f32 } else { 0.0 },
        }
    }
}

impl Totals {
    fn with(self, shard: &ShardHandle) -> Self {
        let stats = &shard.stats;
        let retransmitted = stats.total("packets_retransmitted");
        Self {
            cpu: self.cpu + stats.cpu(),
            bytes_sent: self.bytes_sent + stats.total("bytes_sent"),
            packets_sent: self.packets_sent + stats.total("packets_sent") + retransmitted,
            packets_reported: self.packets_reported + stats.total("packets_reported"),
            packets_reported_lost: self.packets_reported_lost + stats.total("packets_reported_lost"),
            subscribed_tracks: self.subscribed_tracks + stats.subscribed_tracks(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f32, expected: f32) -> bool {
        (found - expected).abs() < 1e-6
    }

    #[test]
    fn a_load_is_what_has_passed_since_the_last_over_all_shards() {
        let start = Instant::now();
        let mut meter = Meter::new(2, start);
        let first = Totals {
            cpu: Duration::from_millis(500),
            bytes_sent: 1_000_000,
            packets_sent: 1_000,
            packets_reported: 100,
            packets_reported_lost: 10,
            subscribed_tracks: 7,
        };
        let load = meter.load(start + Duration::from_secs(1), first);
        assert_eq!((load.egress_bps, load.packets_per_second, load.tracks), (8_000_000, 1_000, 7));
        assert!(close(load.cpu, 0.25) && close(load.loss, 0.1), "{load:?}");

        let second = Totals { cpu: Duration::from_millis(4_500), subscribed_tracks: 3, ..first };
        let load = meter.load(start + Duration::from_secs(3), second);
        assert_eq!((load.egress_bps, load.packets_per_second, load.tracks), (0, 0, 3));
        assert!(close(load.cpu, 1.0), "two shards ran all the time: {load:?}");
        assert!(close(load.loss, 0.1), "nobody has said otherwise since: {load:?}");
    }

    #[test]
    fn loss_is_forgotten_when_it_is_long_over() {
        let mut now = Instant::now();
        let mut meter = Meter::new(1, now);
        let mut totals = Totals { packets_reported: 10, packets_reported_lost: 10, ..Totals::default() };
        let mut losses = Vec::new();
        for _ in 0..=LOSS_WINDOW {
            now += INTERVAL;
            losses.push(meter.load(now, totals).loss);
            totals.packets_reported += 10;
        }
        assert!(close(losses[0], 1.0) && close(losses[1], 0.5) && close(losses[LOSS_WINDOW], 0.0), "{losses:?}");
    }

    #[test]
    fn two_measurements_at_one_moment_are_no_load() {
        let now = Instant::now();
        let totals = Totals { cpu: INTERVAL, bytes_sent: 1, packets_sent: 1, ..Totals::default() };
        assert_eq!(Meter::new(1, now).load(now, totals), Load::default());
    }
}
