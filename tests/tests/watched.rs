//! What operators watch (`deploy/prometheus`, `deploy/grafana`, docs/runbook.md), as far as it can be judged without running a service: that Prometheus takes
//! it, that alerts fire when they should, and that all of it speaks of metrics that there are. That panels have data is for the cluster's tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const DASHBOARDS: [&str; 5] = ["fleet", "sfu-node", "edge", "call-quality", "stores-and-logs"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository's root")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Runs promtool in a directory; panics with what it says if it is not content.
fn promtool(directory: &Path, arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(directory).output();
    let output = output.expect("promtool, of the package prometheus");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

fn rules(file: &str) -> Vec<Value> {
    let groups = yaml(&format!("deploy/prometheus/{file}.yml"));
    list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn alerts() -> BTreeMap<String, Value> {
    rules("alerts").into_iter().map(|rule| (text(&rule["alert"]).to_owned(), rule)).collect()
}

fn recorded() -> BTreeSet<String> {
    rules("recording").iter().map(|rule| text(&rule["record"]).to_owned()).collect()
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("deploy/grafana/dashboards/{name}.json"))).expect("JSON")
}

/// Panels that show something, of all dashboards: where, and the panel.
fn panels() -> Vec<(String, Value)> {
    let of = |name: &'static str| {
        let panels = list(&dashboard(name)["panels"]).to_vec();
        panels
            .into_iter()
            .filter(|panel| panel["type"] != "row")
            .map(move |panel| (format!("{name}: {}", text(&panel["title"])), panel))
    };
    DASHBOARDS.into_iter().flat_map(of).collect()
}

/// Every query there is, with where it stands.
fn queries() -> Vec<(String, String)> {
    let panels = panels();
    let of_panel = |(place, panel): &(String, Value)| -> Vec<_> {
        list(&panel["targets"]).iter().map(|target| (place.clone(), text(&target["expr"]).to_owned())).collect()
    };
    let named = |rule: &Value| text(rule.get("alert").unwrap_or(&rule["record"])).to_owned();
    let of_rule = |rule: &Value| (named(rule), text(&rule["expr"]).to_owned());
    let rules = [rules("recording"), rules("alerts")].concat();
    panels.iter().flat_map(of_panel).chain(rules.iter().map(of_rule)).collect()
}

/// Names of our metrics and recorded series in a query.
fn names(query: &str) -> BTreeSet<String> {
    // What stands in quotes are values of labels.
    let without_values: String = query.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let ours =
        |word: &&str| ["sluice_", "process_", "instance:", "region:"].iter().any(|prefix| word.starts_with(prefix));
    without_values.split(|c| !is_of_names(c)).filter(ours).map(str::to_owned).collect()
}

/// Names and types of all metrics, from the first and second cells of docs/metrics.md, which is made of the services' own catalogues.
fn catalogue() -> BTreeMap<String, String> {
    let row = |line: &str| -> Option<(String, String)> {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.trim().to_owned()))
    };
    read("docs/metrics.md").lines().filter_map(row).collect()
}

#[test]
fn prometheus_takes_its_settings_and_rules() {
    promtool(&repository().join("deploy/prometheus"), &["check", "config", "--lint-fatal", "prometheus.yml"]);
}

#[test]
fn rules_say_what_their_tests_expect() {
    let directory = repository().join("deploy/prometheus/tests");
    let files: Vec<_> =
        std::fs::read_dir(&directory).expect("tests").map(|file| file.expect("a file").file_name()).collect();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        promtool(&directory, &["test", "rules", file.to_str().expect("a name")]);
    }
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let mut cases: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for file in std::fs::read_dir(repository().join("deploy/prometheus/tests")).expect("tests") {
        let name = file.expect("a file").file_name();
        let tests = yaml(&format!("deploy/prometheus/tests/{}", name.to_string_lossy()));
        for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
            let fires = !list(&case["exp_alerts"]).is_empty();
            cases.entry(text(&case["alertname"]).to_owned()).or_default()[usize::from(fires)] += 1;
        }
    }
    let alerts: Vec<_> = alerts().into_keys().collect();
    assert!(alerts.len() > 30, "{alerts:?}");
    assert_eq!(alerts, cases.keys().cloned().collect::<Vec<_>>());
    let missing: Vec<_> = cases.iter().filter(|(_, [silent, fires])| *silent == 0 || *fires == 0).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn each_alert_has_a_section_of_the_runbook_that_says_what_it_means_where_to_look_and_what_to_do() {
    let runbook = read("docs/runbook.md");
    let sections: BTreeMap<_, _> =
        runbook.split("\n### ").skip(1).map(|section| section.split_once('\n').expect("a heading")).collect();
    let alerts = alerts();
    assert_eq!(sections.keys().copied().collect::<Vec<_>>(), alerts.keys().map(String::as_str).collect::<Vec<_>>());
    for (name, rule) in &alerts {
        let parts: Vec<_> =
            ["**Means:** ", "**Look at:** ", "**Do:** "].map(|part| sections[name.as_str()].find(part)).into();
        assert!(parts.iter().all(Option::is_some) && parts.is_sorted(), "{name} has not the three parts in order");
        assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"])), "{name}");
        let url = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(text(&rule["annotations"]["runbook_url"]), url);
        assert!(text(&rule["annotations"]["summary"]).len() > 10, "{name}");
    }
}

/// Grafana says neither where it fails to parse one nor that it does, before somebody looks.
#[test]
fn every_panels_query_is_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let rule = |(number, (place, query)): (usize, &(String, String))| {
        let query = query.replace("$__rate_interval", "1m").replace("$region", ".*").replace("$instance", ".*");
        assert!(!query.contains('$'), "{place}: {query}");
        serde_json::json!({"record": format!("panel{number}"), "expr": query})
    };
    let queries = queries();
    assert!(queries.len() > 200, "{}", queries.len());
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    // JSON is YAML.
    let file = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]}).to_string();
    std::fs::write(directory.path().join("panels.yml"), file).expect("written");
    promtool(directory.path(), &["check", "rules", "panels.yml"]);
}

#[test]
fn panels_and_rules_name_no_metric_that_there_is_not() {
    let (catalogue, recorded) = (catalogue(), recorded());
    let known = |name: &String| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        catalogue.contains_key(name)
            || recorded.contains(name)
            || part.is_some_and(|whole| catalogue.get(whole).is_some_and(|kind| kind == "histogram"))
    };
    let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (place, query) in queries() {
        for name in names(&query).into_iter().filter(|name| !known(name)) {
            missing.entry(name).or_default().insert(place.clone());
        }
    }
    for name in DASHBOARDS {
        for variable in list(&dashboard(name)["templating"]["list"]) {
            for metric in names(text(&variable["definition"])).into_iter().filter(|name| !known(name)) {
                missing.entry(metric).or_default().insert(format!("{name}'s variables"));
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/metrics.md, and not recorded: {missing:#?}");
}

#[test]
fn what_is_recorded_is_used() {
    let used: BTreeSet<_> = queries().iter().flat_map(|(_, query)| names(query)).collect();
    let unused: Vec<_> = recorded().into_iter().filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn every_panel_says_what_it_shows_and_where_it_has_it_from() {
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yaml");
    let source = text(&source["datasources"][0]["uid"]).to_owned();
    for (place, panel) in panels() {
        assert!(!text(&panel["title"]).is_empty(), "{place}");
        assert!(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{place}");
        assert!(!list(&panel["targets"]).is_empty(), "{place}");
        for target in list(&panel["targets"]) {
            assert_eq!(text(&target["datasource"]["uid"]), source, "{place}");
        }
    }
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        let ids: BTreeSet<_> = list(&dashboard["panels"]).iter().map(|panel| panel["id"].to_string()).collect();
        assert_eq!(ids.len(), list(&dashboard["panels"]).len(), "{name}: two panels with one id");
        let variables: BTreeSet<_> =
            list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect();
        let all = dashboard.to_string();
        for variable in ["region", "instance"] {
            assert_eq!(all.contains(&format!("${variable}")), variables.contains(variable), "{name}: {variable}");
        }
    }
}

#[test]
fn instances_that_the_fleets_dashboard_names_are_of_the_chosen_regions() {
    let mut of_instances = 0;
    for panel in list(&dashboard("fleet")["panels"]) {
        for target in list(&panel["targets"]) {
            if text(&target["legendFormat"]).contains("{{instance}}") {
                of_instances += 1;
                assert!(text(&target["expr"]).contains("$region"), "{}: {}", panel["title"], target["expr"]);
            }
        }
    }
    assert!(of_instances > 1, "{of_instances}");
}

/// Two in one place hide one another.
#[test]
fn no_panel_lies_on_another() {
    for name in DASHBOARDS {
        let mut taken = BTreeSet::new();
        for panel in list(&dashboard(name)["panels"]) {
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{name}: {}", panel["title"]);
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}: {} lies on another", panel["title"]);
            }
        }
    }
}

#[test]
fn names_are_found_in_queries_and_values_of_labels_are_none() {
    let query =
        r#"sum by (region) (rate(sluice_a_total{reason="sluice_b"}[5m])) / instance:sluice_c:rate1m{instance=~"x"}"#;
    let expected = ["instance:sluice_c:rate1m", "sluice_a_total"];
    assert_eq!(names(query).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
