//! What a metric is, said once: its name, its type, its labels and what it tells. Handles, the HELP of a scrape and
//! docs/metrics.md all come from here. Which metrics there are is each crate's business.

use std::fmt::Write as _;

use metrics::{Counter, Gauge, Histogram, Label};

/// How a metric's values behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows from 0, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// A metric: made by [`counter`], [`gauge`] or [`histogram`] and kept in a [`catalogue!`](crate::catalogue).
#[derive(Debug)]
pub struct Metric {
    /// In base units, with the prefix of its service.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels, and what values they have, for readers.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it tells: HELP.
    pub help: &'static str,
    /// What to look at when it grows; empty where that says nothing.
    pub look: &'static str,
    /// When there is such a metric, as in "with `recording.url`"; empty: always.
    pub only: &'static str,
}

/// Metrics that belong together.
#[derive(Debug)]
pub struct Group {
    /// A heading.
    pub title: &'static str,
    /// A paragraph below it; may be empty.
    pub about: &'static str,
    /// Its metrics, in the order of reading.
    pub metrics: &'static [&'static Metric],
}

/// Declares metrics as statics, and the list of their groups as `CATALOGUE`: none can be made and left out of the list.
#[macro_export]
macro_rules! catalogue {
    ($($title:literal, $about:literal { $($(#[$doc:meta])* $name:ident = $metric:expr;)* })*) => {
        $($(
            $(#[$doc])*
            pub(crate) static $name: $crate::metrics::Metric = $metric;
        )*)*

        /// Every metric declared here.
        #[allow(unreachable_pub, reason = "private where another list includes it")]
        pub static CATALOGUE: &[$crate::metrics::Group] = &[
            $($crate::metrics::Group { title: $title, about: $about, metrics: &[$(&$name),*] }),*
        ];
    };
}

/// A counter; `name` ends in `_total`.
pub const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric::new(name, Kind::Counter, help)
}

/// A gauge.
pub const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric::new(name, Kind::Gauge, help)
}

/// A histogram; `name` ends in `_seconds`. Its bounds are [`SECONDS`](super::SECONDS), unless its crate keeps the counts itself
/// ([`Collect`](super::Collect)).
pub const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric::new(name, Kind::Histogram, help)
}

impl Metric {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, labels: &[], help, look: "", only: "" }
    }

    /// With labels: each one's name, and its values for readers.
    #[must_use]
    pub const fn labels(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { labels, ..self }
    }

    /// With what to look at when it grows.
    #[must_use]
    pub const fn look(self, look: &'static str) -> Self {
        Self { look, ..self }
    }

    /// There only on a condition.
    #[must_use]
    pub const fn only(self, only: &'static str) -> Self {
        Self { only, ..self }
    }

    /// Registers and describes the counter with these values of its labels. Without a recorder it counts nothing.
    ///
    /// # Panics
    /// In debug builds when the labels are not those of the catalogue; likewise below.
    pub fn counter(&'static self, labels: &[(&'static str, &str)]) -> Counter {
        metrics::describe_counter!(self.name, self.help);
        metrics::counter!(self.name, self.checked(Kind::Counter, labels))
    }

    /// Registers and describes the gauge, likewise.
    pub fn gauge(&'static self, labels: &[(&'static str, &str)]) -> Gauge {
        metrics::describe_gauge!(self.name, self.help);
        metrics::gauge!(self.name, self.checked(Kind::Gauge, labels))
    }

    /// Registers and describes the histogram, likewise.
    pub fn histogram(&'static self, labels: &[(&'static str, &str)]) -> Histogram {
        metrics::describe_histogram!(self.name, self.help);
        metrics::histogram!(self.name, self.checked(Kind::Histogram, labels))
    }

    fn checked(&self, kind: Kind, labels: &[(&'static str, &str)]) -> Vec<Label> {
        debug_assert_eq!(kind, self.kind, "{}", self.name);
        debug_assert!(self.has_labels(labels), "{}: {labels:?}", self.name);
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
    }

    pub(super) fn has_labels(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().map(|label| label.0).eq(self.labels.iter().map(|label| label.0))
    }
}

/// A group as Markdown: a heading, a paragraph and a table.
pub fn markdown(group: &Group) -> String {
    // Writing to a string does not fail.
    let mut text = format!("## {}\n\n", group.title);
    if !group.about.is_empty() {
        let _ = writeln!(text, "{}\n", group.about);
    }
    text.push_str("| metric | type | what | look when it grows |\n|---|---|---|---|\n");
    text.extend(group.metrics.iter().map(|metric| row(metric)));
    text.push('\n');
    text
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let mut what = metric.help.to_owned();
    for (label, values) in metric.labels {
        let values = if values.is_empty() { String::new() } else { format!(": {values}") };
        let _ = write!(what, " Label `{label}`{values}.");
    }
    if !metric.only.is_empty() {
        let _ = write!(what, " Only {}.", metric.only);
    }
    format!("| `{}` | {kind} | {what} | {} |\n", metric.name, metric.look)
}

#[cfg(test)]
mod tests {
    use super::*;

    static DROPS: Metric = counter("sluice_test_drops_total", "Drops.")
        .labels(&[("reason", "`full`, `late`"), ("shard", "")])
        .look("the disk")
        .only("with `a.setting`");

    #[test]
    fn a_row_says_all_that_is_known() {
        static METRICS: &[&Metric] = &[&DROPS];
        let text = markdown(&Group { title: "Drops", about: "What goes wrong.", metrics: METRICS });
        assert_eq!(
            text,
            "## Drops\n\nWhat goes wrong.\n\n| metric | type | what | look when it grows |\n|---|---|---|---|\n\
             | `sluice_test_drops_total` | counter | Drops. Label `reason`: `full`, `late`. Label `shard`. \
             Only with `a.setting`. | the disk |\n\n"
        );
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "sluice_test_drops_total")]
    fn other_labels_than_those_of_the_catalogue_are_a_mistake() {
        let _ = DROPS.counter(&[("reason", "full")]);
    }
}
