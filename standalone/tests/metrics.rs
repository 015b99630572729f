//! docs/metrics.md says what the code says: `UPDATE=1 cargo test -p sluice --test metrics` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::iter;

use telemetry::metrics::{Group, Kind, markdown, of_each_program};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
/// What is below is made from the code.
const MARK: &str = "<!-- Below: made from the code. `UPDATE=1 cargo test -p sluice --test metrics` -->\n";

fn groups() -> Vec<&'static Group> {
    sfu_node::CATALOGUE.iter().chain(edge_signal::CATALOGUE).chain(of_each_program()).collect()
}

#[test]
fn every_metric_is_documented_as_the_code_has_it() {
    let page = fs::read_to_string(PAGE).expect("there");
    let (by_hand, made) = page.split_once(MARK).expect("the mark");
    let rendered: String = iter::once("\n".to_owned()).chain(groups().into_iter().map(markdown)).collect();
    let rendered = format!("{}\n", rendered.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PAGE, format!("{by_hand}{MARK}{rendered}")).expect("written");
        return;
    }
    assert!(
        made == rendered,
        "docs/metrics.md is not what the code says: UPDATE=1 cargo test -p sluice --test metrics"
    );
}

#[test]
fn names_are_of_their_kind_and_each_is_there_once() {
    let metrics: Vec<_> = groups().into_iter().flat_map(|group| group.metrics).collect();
    for metric in &metrics {
        let name = metric.name;
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}: _total is for counters");
        assert!(metric.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}: base units");
        let lacks = ["_ms", "_milliseconds", "_us", "_kb", "_mb", "_bits", "_percent", "_count", "_sum", "_bucket"];
        assert!(!lacks.iter().any(|unit| name.trim_end_matches("_total").ends_with(unit)), "{name}: base units");
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}: {}", metric.help);
        let personal = ["room", "rid", "peer", "uid", "mid", "user", "address", "ip"];
        assert!(metric.labels.iter().all(|(label, _)| !personal.contains(label)), "{name}: {:?}", metric.labels);
    }
    let names: BTreeSet<_> = metrics.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), metrics.len(), "one name, one metric");
}
