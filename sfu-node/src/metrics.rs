//! A node's metrics, `sluice_sfu_…`: what there is now and what shards have counted is written when a scrape asks, so that neither
//! a packet nor a clock pays for it. Which metrics there are is the catalogue's to say.

pub(crate) mod catalogue;

use std::sync::Arc;

use room_store::Load;
use sfu_core::Histogram;
use telemetry::metrics::{Collect, Exposition, Metric, expose};
use tokio::sync::watch;

pub use self::catalogue::CATALOGUE;

use self::catalogue as known;
use crate::config::CapacityConfig;
use crate::control::{Control, Phase, REFUSALS};
use crate::node::Identification;
use crate::overload::Level;
use crate::shard::ShardHandle;
use crate::stats::{self, ShardStats};

/// What a scrape of a node asks.
pub(crate) struct NodeMetrics {
    identification: Identification,
    capacity: CapacityConfig,
    control: Arc<Control>,
    /// What the registry is told.
    load: watch::Receiver<Load>,
    /// In the order of [`stats::names`].
    totals: Vec<Total>,
}

/// A total of a shard, as a series of its metric.
struct Total {
    metric: &'static Metric,
    /// Where several totals are one metric: which this is.
    label: Option<(&'static str, &'static str)>,
}

impl NodeMetrics {
    /// Of this node; to be asked for as long as the result lives.
    pub(crate) fn exposed(
        identification: &Identification,
        capacity: CapacityConfig,
        control: &Arc<Control>,
        load: watch::Receiver<Load>,
    ) -> Arc<Self> {
        for reason in REFUSALS {
            let _ = known::REFUSED.counter(&[("reason", reason)]);
        }
        let _ = known::DRAIN_TRANSPORTS_CUT.counter(&[]);
        let metrics = Arc::new(Self {
            identification: identification.clone(),
            capacity,
            control: control.clone(),
            load,
            totals: stats::names().into_iter().map(Total::named).collect(),
        });
        expose(&metrics);
        metrics
    }

    fn what_is_live(&self, to: &mut Exposition) {
        let Identification { node, boot: _, region } = &self.identification;
        let labels = [("node", node.as_str()), ("region", region.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        to.sample(&known::INFO, &labels, 1.0);
        let census = self.control.census();
        for (metric, count) in [
            (&known::ROOMS, census.rooms),
            (&known::PEERS, census.peers),
            (&known::TRANSPORTS, census.transports),
            (&known::PUBLICATIONS, census.publications),
            (&known::SUBSCRIPTIONS, census.subscriptions),
            (&known::WATCHERS, census.watchers),
        ] {
            to.sample(metric, &[], count as f64);
        }
        to.sample(&known::WATCHERS_LAGGED, &[], census.watchers_lagged as f64);
        for (reason, count) in self.control.closed() {
            to.sample(&known::TRANSPORTS_CLOSED, &[("reason", reason)], count as f64);
        }
        for (direction, kind, count) in self.control.tracks() {
            to.sample(&known::TRACKS, &[("direction", direction), ("kind", kind)], count as f64);
        }
        let phase = *self.control.phase().borrow();
        to.sample(&known::DRAINING, &[], flag(matches!(phase, Phase::Draining { .. })));
        to.sample(&known::SUPERSEDED, &[], flag(phase == Phase::Superseded));
        to.sample(&known::REFUSING, &[("what", "publications")], flag(census.level >= Level::NoPublications));
        to.sample(&known::REFUSING, &[("what", "anything")], flag(census.level >= Level::NothingNew));
    }

    fn load(&self, to: &mut Exposition) {
        let load = *self.load.borrow();
        let CapacityConfig { transports, egress_bps, tracks } = self.capacity;
        for (metric, value) in [
            (&known::LOAD_CPU, load.cpu.into()),
            (&known::LOAD_BUSY, load.busy.into()),
            (&known::LOAD_EGRESS, load.egress_bps as f64 / 8.0),
            (&known::LOAD_TRACKS, load.tracks as f64),
            (&known::LOAD_PACKETS, load.packets_per_second as f64),
            (&known::LOAD_LOSS, load.loss.into()),
            (&known::LOAD_DELAY, f64::from(load.delay_us) / 1e6),
            (&known::LOAD_MEMORY, load.memory.into()),
            (&known::LOAD_PRESSURE, load.pressure.into()),
            (&known::CAPACITY_TRANSPORTS, transports.into()),
            (&known::CAPACITY_TRACKS, tracks as f64),
            (&known::CAPACITY_EGRESS, egress_bps as f64 / 8.0),
        ] {
            to.sample(metric, &[], value);
        }
    }

    fn shard(&self, to: &mut Exposition, shard: &ShardHandle) {
        let stats: &ShardStats = &shard.stats;
        let name = shard.index.0.to_string();
        let label = ("shard", name.as_str());
        for (metric, value) in [
            (&known::SHARD_TRANSPORTS, stats.transports() as f64),
            (&known::SHARD_SUBSCRIBED_TRACKS, stats.subscribed_tracks() as f64),
            (&known::SHARD_BUSY, stats.busy().as_secs_f64()),
            (&known::SHARD_CPU, stats.cpu().as_secs_f64()),
            (&known::OVERLOAD_LEVEL, stats.shedding().into()),
            (&known::SHED_SUBSCRIPTIONS, stats.shed_subscriptions() as f64),
        ] {
            to.sample(metric, &[label], value);
        }
        for (metric, (counts, sum)) in
            [(&known::FORWARDING_DELAY, stats.delays()), (&known::RECEIVE_WAIT, stats.receive_waits())]
        {
            to.histogram(metric, &[label], &Histogram::BOUNDS, &counts, sum.as_secs_f64());
        }
        for (total, value) in self.totals.iter().zip(stats.totals()) {
            match total.label {
                Some(which) => to.sample(total.metric, &[label, which], value as f64),
                None => to.sample(total.metric, &[label], value as f64),
            }
        }
    }
}

impl Collect for NodeMetrics {
    fn collect(&self, to: &mut Exposition) {
        self.what_is_live(to);
        self.load(to);
        for shard in self.control.shards() {
            self.shard(to, shard);
        }
    }
}

impl Total {
    fn named(name: &'static str) -> Self {
        if let Some(reason) = name.strip_prefix("dropped_") {
            return Self { metric: &known::DROPPED, label: Some(("reason", reason)) };
        }
        if let Some(how) = name.strip_prefix("shed_") {
            return Self { metric: &known::SHED_PACKETS, label: Some(("how", how)) };
        }
        let full = format!("sluice_sfu_{name}_total");
        let metric = CATALOGUE.iter().flat_map(|group| group.metrics).find(|metric| metric.name == full);
        Self {
            metric: metric.expect("invariant: every total is in the catalogue; a test has all of them"),
            label: None,
        }
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[cfg(test)]
mod tests {
    use telemetry::metrics::Kind;

    use super::*;

    #[test]
    fn every_total_has_its_metric() {
        let totals: Vec<_> = stats::names().into_iter().map(Total::named).collect();
        assert_eq!(totals.len(), stats::names().len());
        for total in totals {
            assert_eq!(total.metric.kind, Kind::Counter, "{}", total.metric.name);
            assert_eq!(total.metric.labels.len(), if total.label.is_some() { 2 } else { 1 }, "{}", total.metric.name);
            // The catalogue says which values there are.
            if let Some((name, value)) = total.label {
                let (_, values) = total.metric.labels.iter().find(|(label, _)| *label == name).expect("it has it");
                assert!(values.contains(&format!("`{value}`")), "{value} is missing: {values}");
            }
        }
    }

    #[test]
    fn names_are_each_one_metrics() {
        let mut names: Vec<_> = CATALOGUE.iter().flat_map(|group| group.metrics).map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("sluice_sfu_")), "{names:?}");
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
