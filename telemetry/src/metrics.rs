//! The process' metrics in Prometheus' text format. Which metrics exist is the services' business.

pub mod catalogue;
mod exposition;
mod process;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

pub use self::catalogue::{Group, Kind, Metric, markdown};
pub use self::exposition::{Collect, Exposition, expose};

use self::catalogue::{counter, gauge};
use self::process::Process;

/// Bounds of every histogram that is recorded one by one, seconds: from a hop within a process to a request's deadline.
pub const SECONDS: [f64; 15] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Observations wait in memory until the next upkeep; at this pace they stay few.
const UPKEEP: Duration = Duration::from_secs(5);

crate::catalogue! {
    "Program", "Of each program." {
        BUILD_INFO = gauge("sluice_build_info", "1, of the program that runs.").labels(&[("program", ""), ("version", "")]);
    }
    "Logs and traces", "Of each program. What waits and what is dropped: [logs.md](logs.md)." {
        LOG_LINES_DROPPED = counter("sluice_log_lines_dropped_total", "Lines that found no room, or could not be delivered.")
            .labels(&[("sink", "`console`, `kafka`")])
            .look("who reads stdout; brokers that are away, or slow");
        KAFKA_MESSAGES_DROPPED = counter("sluice_kafka_messages_dropped_total", "[Events](events.md) that could not be delivered.")
            .look("brokers");
        KAFKA_PRODUCERS_REPLACED = counter(
            "sluice_kafka_producers_replaced_total",
            "Clients of Kafka that brokers had refused for good, and that were replaced.",
        )
        .look("rights on the brokers (an idempotent producer needs `IdempotentWrite`), and whether they lose their data");
        TRACES_DROPPED = counter("sluice_traces_dropped_total", "Steps of traces that were not exported.")
            .labels(&[("why", "`queue` (as many waited as may), `export` (the collector did not take them)")])
            .look("the collector");
    }
    "Life events", "Of both services; [events.md](events.md) says what events are." {
        EVENTS = counter("sluice_events_total", "Events told, to Kafka or to the log.");
        EVENTS_DROPPED = counter(
            "sluice_events_dropped_total",
            "Events that Kafka's producer did not take, because its queue was full or its client is being replaced: they are lines \
             of the log instead.",
        )
        .look("Kafka");
    }
}

/// Every metric that a program has whatever it is: this crate's, in the order of reading.
pub fn of_each_program() -> impl Iterator<Item = &'static Group> {
    CATALOGUE.iter().chain(process::CATALOGUE)
}

/// What was recorded in this process; clones show the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    _process: Arc<Process>,
}

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
        let recorded = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .install_recorder()?;
        register_from_the_start();
        let process = Arc::new(Process::new());
        expose(&process);
        Ok(INSTALLED.get_or_init(|| Self { recorded, _process: process }).clone())
    }

    /// Says which program this is.
    pub fn identify(&self, program: &str, version: &str) {
        BUILD_INFO.gauge(&[("program", program), ("version", version)]).set(1.0);
    }

    /// Everything recorded so far and what is collected now, in Prometheus' text exposition format. May take some milliseconds.
    pub fn render(&self) -> String {
        let mut text = self.recorded.render();
        text.push_str(&exposition::collected());
        text
    }

    /// Keeps histograms from growing between scrapes, until `shutdown`. One task per process runs it.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.recorded.run_upkeep();
        }
    }
}

/// A counter that is not there before it first counts makes neither a panel nor an alert.
fn register_from_the_start() {
    for sink in ["console", "kafka"] {
        let _ = LOG_LINES_DROPPED.counter(&[("sink", sink)]);
    }
    for why in ["queue", "export"] {
        let _ = TRACES_DROPPED.counter(&[("why", why)]);
    }
    for metric in [&KAFKA_MESSAGES_DROPPED, &KAFKA_PRODUCERS_REPLACED, &EVENTS, &EVENTS_DROPPED] {
        let _ = metric.counter(&[]);
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

    #[test]
    fn what_each_program_has_is_there_and_explained_before_anything_happens() {
        let metrics = Metrics::install().expect("installed");
        metrics.identify("a-test", "1.2.3");
        let text = metrics.render();
        for metric in of_each_program().flat_map(|group| group.metrics) {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            assert!(text.contains(&help), "{help} is missing in {text}");
            let shown = |line: &str| line.starts_with(metric.name) && !line.starts_with('#');
            assert!(text.lines().any(shown), "{} has no value in {text}", metric.name);
        }
        assert!(text.contains("sluice_build_info{program=\"a-test\",version=\"1.2.3\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn upkeep_ends_with_the_process() {
        let shutdown = CancellationToken::new();
        let upkeep = tokio::spawn(Metrics::install().expect("installed").upkeep(shutdown.clone()));
        shutdown.cancel();
        upkeep.await.expect("ended");
    }
}
