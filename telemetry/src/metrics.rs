//! The process' metrics in Prometheus' text format. Which metrics exist is the services' business.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Bounds of every histogram whose name ends in `_seconds`: from a store's round trip to a request's deadline (10 s).
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Observations wait in memory until the next upkeep; at this pace they stay few.
const UPKEEP: Duration = Duration::from_secs(5);

/// What was recorded with the `metrics` macros in this process; clones show the same.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

/// Metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] BuildError);

impl Metrics {
    /// Makes this exporter the process' recorder; a second call gives the first one's.
    pub fn install() -> Result<Self, MetricsError> {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = INSTALLED.get() {
            return Ok(metrics.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .install_recorder()?;
        Ok(INSTALLED.get_or_init(|| Self(handle)).clone())
    }

    /// Everything recorded so far, in Prometheus' text exposition format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps histograms from growing between scrapes, until `shutdown`. One task per process runs it.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered() {
        let first = Metrics::install().expect("installed");
        let again = Metrics::install().expect("the same one");
        metrics::counter!("sluice_test_packets_total").increment(3);
        metrics::histogram!("sluice_test_answer_seconds").record(0.004);
        for text in [first.render(), again.render()] {
            assert!(text.contains("sluice_test_packets_total 3"), "{text}");
            assert!(text.contains("sluice_test_answer_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        }
    }

    #[tokio::test]
    async fn upkeep_ends_with_the_process() {
        let shutdown = CancellationToken::new();
        let upkeep = tokio::spawn(Metrics::install().expect("installed").upkeep(shutdown.clone()));
        shutdown.cancel();
        upkeep.await.expect("ended");
    }
}
