//! Families that are counted elsewhere and written when somebody asks: histograms with counts of their own, counters with
//! fractions, what the operating system knows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::catalogue::{Kind, Metric};

/// Something that has numbers of its own.
pub trait Collect: Send + Sync {
    /// Writes what it has now. Called for each scrape, on a thread that may block for a moment.
    fn collect(&self, to: &mut Exposition);
}

static SOURCES: Mutex<Vec<Weak<dyn Collect>>> = Mutex::new(Vec::new());

/// Has `source` asked at each scrape, for as long as it lives elsewhere. Two of a kind in one process (there are such in tests
/// only) write the same series: the later one's are shown.
pub fn expose<C: Collect + 'static>(source: &Arc<C>) {
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    sources.retain(|source| source.strong_count() > 0);
    let source: Weak<C> = Arc::downgrade(source);
    sources.push(source);
}

/// What all sources write now.
pub(super) fn collected() -> String {
    let sources: Vec<_> =
        SOURCES.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    let mut exposition = Exposition::default();
    for source in sources {
        source.collect(&mut exposition);
    }
    exposition.text()
}

/// Series by family, as they are collected.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    /// Lines by their labels.
    series: BTreeMap<String, String>,
}

impl Exposition {
    /// A value of a counter or a gauge.
    ///
    /// # Panics
    /// In debug builds when the metric is a histogram, or has other labels; likewise below.
    pub fn sample(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)], value: f64) {
        debug_assert_ne!(metric.kind, Kind::Histogram, "{}", metric.name);
        let set = label_set(metric, labels, None);
        self.insert(metric, set.clone(), format!("{}{set} {value}\n", metric.name));
    }

    /// A histogram: `counts` of observations up to each of `bounds` and above the one before (not cumulated), a last one of those
    /// beyond all bounds, and the `sum` of all.
    pub fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[(&'static str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        debug_assert_eq!(counts.len(), bounds.len() + 1, "{}", metric.name);
        let (name, set) = (metric.name, label_set(metric, labels, None));
        let mut lines = String::new();
        let mut total = 0;
        let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(counts) {
            total += count;
            // Writing to a string does not fail; likewise below.
            let _ = writeln!(lines, "{name}_bucket{} {total}", label_set(metric, labels, Some(&end)));
        }
        let _ = write!(lines, "{name}_sum{set} {sum}\n{name}_count{set} {total}\n");
        self.insert(metric, set, lines);
    }

    fn insert(&mut self, metric: &'static Metric, labels: String, lines: String) {
        let family = self.families.entry(metric.name).or_insert(Family { metric, series: BTreeMap::new() });
        family.series.insert(labels, lines);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Family { metric, series } in self.families.values() {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = write!(text, "# HELP {0} {help}\n# TYPE {0} {kind}\n", metric.name);
            text.extend(series.values().map(String::as_str));
            text.push('\n');
        }
        text
    }
}

/// `{name="value",…}`, or nothing.
fn label_set(metric: &Metric, labels: &[(&'static str, &str)], le: Option<&str>) -> String {
    debug_assert!(metric.has_labels(labels), "{}: {labels:?}", metric.name);
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .chain(le.map(|le| format!("le=\"{le}\"")))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::{counter, gauge, histogram};

    static BUSY: Metric = counter("sluice_test_busy_seconds_total", "Time\nwith a \\.").labels(&[("shard", "")]);
    static DELAY: Metric = histogram("sluice_test_delay_seconds", "Delay.").labels(&[("shard", "")]);
    static UP: Metric = gauge("sluice_test_up", "Up.");

    struct Source(f64);

    impl Collect for Source {
        fn collect(&self, to: &mut Exposition) {
            to.sample(&UP, &[], self.0);
        }
    }

    #[test]
    fn a_family_has_its_head_once_and_its_labels_escaped() {
        let mut exposition = Exposition::default();
        exposition.sample(&BUSY, &[("shard", "0")], 0.25);
        exposition.sample(&UP, &[], 1.0);
        exposition.sample(&BUSY, &[("shard", "\"\\\n")], 3.0);
        assert_eq!(
            exposition.text(),
            "# HELP sluice_test_busy_seconds_total Time\\nwith a \\\\.\n# TYPE sluice_test_busy_seconds_total counter\n\
             sluice_test_busy_seconds_total{shard=\"0\"} 0.25\nsluice_test_busy_seconds_total{shard=\"\\\"\\\\\\n\"} 3\n\n\
             # HELP sluice_test_up Up.\n# TYPE sluice_test_up gauge\nsluice_test_up 1\n\n"
        );
    }

    #[test]
    fn a_histogram_is_written_cumulated() {
        let mut exposition = Exposition::default();
        exposition.histogram(&DELAY, &[("shard", "1")], &[0.001, 0.5], &[4, 0, 2], 7.5);
        let text = exposition.text();
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(
            series,
            [
                "sluice_test_delay_seconds_bucket{shard=\"1\",le=\"0.001\"} 4",
                "sluice_test_delay_seconds_bucket{shard=\"1\",le=\"0.5\"} 4",
                "sluice_test_delay_seconds_bucket{shard=\"1\",le=\"+Inf\"} 6",
                "sluice_test_delay_seconds_sum{shard=\"1\"} 7.5",
                "sluice_test_delay_seconds_count{shard=\"1\"} 6",
            ]
        );
    }

    #[test]
    fn a_source_is_asked_while_it_lives_and_the_later_of_two_is_shown() {
        let first = Arc::new(Source(1.0));
        expose(&first);
        assert!(collected().contains("sluice_test_up 1\n"));
        let second = Arc::new(Source(2.0));
        expose(&second);
        assert!(collected().contains("sluice_test_up 2\n") && !collected().contains("sluice_test_up 1\n"));
        drop(second);
        assert!(collected().contains("sluice_test_up 1\n"));
        drop(first);
        assert!(!collected().contains("sluice_test_up"));
    }
}
