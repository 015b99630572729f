//! A node's totals as Prometheus metrics, `sluice_sfu_…`: docs/metrics.md says what each means. Copied out of the shards'
//! atomics once a second, so that no packet pays for them.

use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Phase};
use crate::stats;

/// How old what a scrape shows may be.
const INTERVAL: Duration = Duration::from_secs(1);

/// Handles of all metrics of a node.
struct NodeMetrics {
    shards: Vec<ShardMetrics>,
    rooms: Gauge,
    transports: Gauge,
    publications: Gauge,
    subscriptions: Gauge,
    watchers: Gauge,
    watchers_lagged: Counter,
    draining: Gauge,
    superseded: Gauge,
}

struct ShardMetrics {
    transports: Gauge,
    subscribed_tracks: Gauge,
    busy: Gauge,
    cpu: Gauge,
    /// When the shard was last looked at, and its busy time then.
    seen_busy: (Instant, Duration),
    /// Likewise, and its processor time then.
    seen_cpu: (Instant, Duration),
    /// In the order of [`stats::names`].
    totals: Vec<Counter>,
}

/// Publishes the totals until `shutdown`, and a last time then.
pub(crate) async fn publish(control: &Control, shutdown: CancellationToken) {
    let mut metrics = NodeMetrics::register(control.shards().len());
    let mut tick = tokio::time::interval(INTERVAL);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        metrics.publish(control);
    }
    metrics.publish(control);
}

impl NodeMetrics {
    fn register(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(ShardMetrics::register).collect(),
            rooms: gauge!("sluice_sfu_rooms"),
            transports: gauge!("sluice_sfu_transports"),
            publications: gauge!("sluice_sfu_publications"),
            subscriptions: gauge!("sluice_sfu_subscriptions"),
            watchers: gauge!("sluice_sfu_watchers"),
            watchers_lagged: counter!("sluice_sfu_watchers_lagged_total"),
            draining: gauge!("sluice_sfu_draining"),
            superseded: gauge!("sluice_sfu_superseded"),
        }
    }

    fn publish(&mut self, control: &Control) {
        let census = control.census();
        self.rooms.set(census.rooms as f64);
        self.transports.set(census.transports as f64);
        self.publications.set(census.publications as f64);
        self.subscriptions.set(census.subscriptions as f64);
        self.watchers.set(census.watchers as f64);
        self.watchers_lagged.absolute(census.watchers_lagged);
        let phase = *control.phase().borrow();
        self.draining.set(f64::from(u8::from(matches!(phase, Phase::Draining { .. }))));
        self.superseded.set(f64::from(u8::from(phase == Phase::Superseded)));
        for (metrics, shard) in self.shards.iter_mut().zip(control.shards()) {
            metrics.transports.set(shard.stats.transports() as f64);
            metrics.subscribed_tracks.set(shard.stats.subscribed_tracks() as f64);
            let now = Instant::now();
            metrics.cpu.set(ratio(&mut metrics.seen_cpu, (now, shard.stats.cpu())));
            metrics.busy.set(ratio(&mut metrics.seen_busy, (now, shard.stats.busy())));
            for (metric, total) in metrics.totals.iter().zip(shard.stats.totals()) {
                metric.absolute(total);
            }
        }
    }
}

impl ShardMetrics {
    fn register(shard: usize) -> Self {
        let shard = shard.to_string();
        let total = |name| counter!(format!("sluice_sfu_{name}_total"), "shard" => shard.clone());
        Self {
            transports: gauge!("sluice_sfu_shard_transports", "shard" => shard.clone()),
            subscribed_tracks: gauge!("sluice_sfu_shard_subscribed_tracks", "shard" => shard.clone()),
            cpu: gauge!("sluice_sfu_shard_cpu_ratio", "shard" => shard.clone()),
            busy: gauge!("sluice_sfu_shard_busy_ratio", "shard" => shard.clone()),
            seen_busy: (Instant::now(), Duration::ZERO),
            seen_cpu: (Instant::now(), Duration::ZERO),
            totals: stats::names().into_iter().map(total).collect(),
        }
    }
}

/// Share of the time since `seen` that the shard used, 0 to 1.
fn ratio(seen: &mut (Instant, Duration), now: (Instant, Duration)) -> f64 {
    let before = std::mem::replace(seen, now);
    let (elapsed, busy) = (now.0.saturating_duration_since(before.0), now.1.saturating_sub(before.1));
    if elapsed.is_zero() { 0.0 } else { (busy.as_secs_f64() / elapsed.as_secs_f64()).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_catalogue() {
        let catalogue =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).expect("read");
        let totals = stats::names().into_iter().map(|name| format!("sluice_sfu_{name}_total"));
        let gauges = [
            "rooms",
            "transports",
            "publications",
            "subscriptions",
            "watchers",
            "shard_transports",
            "shard_busy_ratio",
            "shard_subscribed_tracks",
            "shard_cpu_ratio",
            "watchers_lagged_total",
            "draining",
            "superseded",
            "registered",
            "registration_failures_total",
            "drain_transports_cut_total",
        ];
        let gauges = gauges.map(|name| format!("sluice_sfu_{name}"));
        for name in totals.chain(gauges) {
            assert!(catalogue.contains(&format!("`{name}`")), "{name} is missing in docs/metrics.md");
        }
    }

    #[test]
    fn a_shard_s_load_is_its_busy_share_since_last_seen() {
        let start = Instant::now();
        let mut seen = (start, Duration::ZERO);
        let after = |seconds, busy| (start + Duration::from_secs(seconds), Duration::from_millis(busy));
        assert!((ratio(&mut seen, after(1, 250)) - 0.25).abs() < 1e-9);
        assert!((ratio(&mut seen, after(3, 2_250)) - 1.0).abs() < 1e-9);
        assert!(ratio(&mut seen, after(3, 2_250)).abs() < 1e-9, "no time has passed");
    }
}
