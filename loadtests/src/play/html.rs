//! The report as a page: figures in tables, and a plot of each series as inline SVG. It loads nothing and runs nothing.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::report::{Report, Sample};

/// Of a plot, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 140.0;
/// Points of a line: a soak has thousands of samples, a screen has not.
const POINTS: usize = 600;
const STYLE: &str = "body{font:14px sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}\
td,th{padding:.1rem .8rem .1rem 0;text-align:left}svg{width:100%;height:auto;background:#f6f6f6}\
polyline{fill:none;stroke:#1565c0;stroke-width:1.5}line{stroke:#c62828;stroke-dasharray:4}.missed{color:#c62828}";

/// A plot: what it shows, and (seconds, value).
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The page, well-formed as XML, too.
pub fn page(report: &Report) -> String {
    let about = escaped(&report.about);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>{about}</title><style>{STYLE}</style></head><body>\n<h1>{about}</h1>\n"
    );
    text += &goals(report);
    for series in series(&report.samples) {
        let faults: Vec<f64> = report.faults.iter().map(|fault| fault.at).collect();
        text += &plot(&series, &faults);
    }
    let _ = writeln!(text, "<h2>Figures</h2>\n<pre>{}</pre>\n</body></html>", escaped(&report.table()));
    text
}

fn goals(report: &Report) -> String {
    let mut text = "<table><tr><th>goal</th><th>at most</th><th>measured</th><th></th></tr>\n".to_owned();
    for goal in &report.goals {
        let verdict = if goal.met { "met" } else { "missed" };
        let (name, limit, measured) = (escaped(goal.name), goal.limit, goal.measured);
        let _ = writeln!(
            text,
            "<tr class=\"{verdict}\"><td>{name}</td><td>{limit:.2}</td><td>{measured:.2}</td><td>{verdict}</td></tr>"
        );
    }
    text + "</table>\n"
}

fn series(samples: &[Sample]) -> Vec<Series> {
    let of = |name: &str, value: &dyn Fn(&Sample) -> Option<f64>| Series {
        name: name.to_owned(),
        points: samples.iter().filter_map(|sample| Some((sample.at, value(sample)?))).collect(),
    };
    let mut all = vec![
        of("members", &|sample| Some(sample.members as f64)),
        of("rooms", &|sample| Some(sample.rooms as f64)),
        of("streams received", &|sample| Some(sample.streams as f64)),
        of("packets received per second", &|sample| Some(sample.packets_per_second)),
        of("longest silence, ms", &|sample| Some(sample.gap_ms)),
        of("failed requests", &|sample| Some(sample.failed as f64)),
        of("store's own figure, MiB", &|sample| Some(sample.store_bytes? as f64 / 1_048_576.0)),
    ];
    let names: BTreeSet<&String> = samples.iter().flat_map(|sample| sample.used.keys()).collect();
    for name in names {
        let rss = |sample: &Sample| Some(sample.used.get(name)?.rss_kib as f64 / 1_024.0);
        all.push(of(&format!("{name}: resident memory, MiB"), &rss));
        all.push(of(&format!("{name}: descriptors"), &|sample| Some(sample.used.get(name)?.descriptors as f64)));
    }
    all
}

fn plot(series: &Series, faults: &[f64]) -> String {
    let end = series.points.last().map_or(1.0, |(at, _)| at.max(1.0));
    let most = series.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let across = |at: f64| at / end * WIDTH;
    let step = series.points.len().div_ceil(POINTS).max(1);
    // Of each step the highest: what is rare is what one looks for.
    let highest = |part: &[(f64, f64)]| part.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1));
    let mut points = String::new();
    for (at, value) in series.points.chunks(step).filter_map(highest) {
        let down = HEIGHT - value / most.max(f64::EPSILON) * (HEIGHT - 10.0);
        let _ = write!(points, "{:.1},{down:.1} ", across(at));
    }
    let mut lines = String::new();
    for at in faults.iter().map(|at| across(*at)) {
        let _ = write!(lines, "<line x1=\"{at:.1}\" y1=\"0\" x2=\"{at:.1}\" y2=\"{HEIGHT}\"/>");
    }
    format!(
        "<h3>{}</h3>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{lines}<polyline points=\"{points}\"/></svg>\n<div>0 to {end:.0} s; highest {most:.1}</div>\n",
        escaped(&series.name)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::report::Done;
    use super::super::stage::Used;
    use super::*;
    use crate::signalling::goals::at_most;

    /// Tags that are open at the end, or closed out of order: none in a page that is well-formed.
    fn unbalanced(page: &str) -> Vec<String> {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split(' ').next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(name) if open.last().is_some_and(|last| last == name) => drop(open.pop()),
                Some(name) => return vec![format!("{name} closes {open:?}")],
                None if tag.ends_with('/') || tag.starts_with('!') => {}
                None => open.push(name.to_owned()),
            }
        }
        open
    }

    fn report() -> Report {
        let used = [("edge-1", 1_024), ("node-1", 2_048)];
        let used = used.map(|(name, rss_kib)| (name.to_owned(), Used { rss_kib, ..Used::default() })).into();
        let sample = Sample { store_bytes: Some(1), used, ..Sample::default() };
        let samples = (0..2_000).map(|at| Sample { at: f64::from(at), members: at as usize, ..sample.clone() });
        Report {
            about: "a < b & \"c\"".to_owned(),
            samples: samples.collect(),
            faults: vec![Done { at: 9.0, what: "kill edge-1".to_owned(), error: Some("<gone>".to_owned()) }],
            goals: vec![at_most("silence", 1.0, f64::INFINITY)],
            ..Report::default()
        }
    }

    #[test]
    fn the_page_is_well_formed_and_has_a_plot_of_each_series() {
        let page = page(&report());
        assert_eq!(unbalanced(&page), Vec::<String>::new());
        assert_eq!(page.matches("<polyline").count(), series(&report().samples).len());
        assert_eq!(series(&report().samples).len(), 7 + 2 * 2);
        assert!(page.contains("class=\"missed\"") && page.contains("a &lt; b &amp; &quot;c&quot;"));
        assert!(!page.contains("<script") && !page.contains("http"), "it loads nothing");
    }

    #[test]
    fn a_long_series_keeps_its_peaks() {
        let mut points: Vec<_> = (0..10_000).map(|at| (f64::from(at), 1.0)).collect();
        points[4_321].1 = 100.0;
        let drawn = plot(&Series { name: String::new(), points }, &[]);
        assert!(drawn.contains(",10.0 ") && drawn.matches(',').count() <= POINTS, "{drawn}");
    }

    #[test]
    fn nothing_measured_is_a_page_all_the_same() {
        assert_eq!(unbalanced(&page(&Report::default())), Vec::<String>::new());
    }
}
