//! What operators watch, held against services at work: a real Prometheus with the rules of `deploy/prometheus` scrapes edges and nodes under load, and
//! every panel of `deploy/grafana` has something to show.
//!
//! Whether alerts fire when they should is for `tests/tests/watched.rs`; here none does, for nothing is wrong.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::admin::scrape;
use cluster::deployment::{Deployment, Plan};
use cluster::population::{Population, Size};
use serde_json::Value;
use servers::Prometheus;
use tempfile::TempDir;
use tokio::time::sleep;

/// Long enough for rates over what has happened, short enough that what happened at the start is within a minute.
const WATCHED_FOR: Duration = Duration::from_secs(20);
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Spool files are looked at every 10 s.
const ALL_HAVE_DATA_WITHIN: Duration = Duration::from_secs(30);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn parsed(answer: &str) -> Value {
    serde_json::from_str(answer).expect("JSON")
}

/// Prometheus with our rules, which asks these every second.
async fn prometheus(deployment: &Deployment) -> Prometheus {
    let targets = |admins: Vec<SocketAddr>| format!("{:?}", admins.iter().map(ToString::to_string).collect::<Vec<_>>());
    let settings = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [recording.yml, alerts.yml]\nscrape_configs:\n\
         - {{job_name: edge, static_configs: [{{targets: {}}}]}}\n- {{job_name: sfu, static_configs: [{{targets: {}}}]}}\n",
        targets(deployment.edges.iter().map(|edge| edge.admin).collect()),
        targets(deployment.nodes.iter().map(|node| node.admin).collect()),
    );
    let (recording, alerts) = (read("prometheus/recording.yml"), read("prometheus/alerts.yml"));
    Prometheus::start(&settings, &[("recording.yml", &recording), ("alerts.yml", &alerts)]).await
}

/// Every query of every panel, with everything chosen, and where it stands.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for file in std::fs::read_dir(deploy().join("grafana/dashboards")).expect("dashboards") {
        let file = file.expect("a file").file_name().into_string().expect("a name");
        let dashboard = parsed(&read(&format!("grafana/dashboards/{file}")));
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]) {
                let query = target["expr"].as_str().expect("a query");
                // What happened while clients came in counts, too.
                let query = query.replace("$__rate_interval", "2m").replace("$region", ".*").replace("$instance", ".*");
                queries.push((format!("{file}: {}", panel["title"]), query));
            }
        }
    }
    assert!(queries.len() > 150, "{}", queries.len());
    queries
}

/// Whether one of a query's series has a number.
fn has_data(answer: &str) -> bool {
    let answer = parsed(answer);
    let is_number =
        |series: &Value| series["value"][1].as_str().and_then(|it| it.parse().ok()).is_some_and(|it: f64| !it.is_nan());
    list(&answer["data"]["result"]).iter().any(is_number)
}

/// Asks until each query is answered with data; in the end, those that are not.
async fn without_data(prometheus: &Prometheus) -> Vec<(String, String)> {
    let mut queries = queries();
    let deadline = Instant::now() + ALL_HAVE_DATA_WITHIN;
    loop {
        let mut without = Vec::new();
        for (place, query) in queries {
            if !has_data(&prometheus.query(&query).await) {
                without.push((place, query));
            }
        }
        if without.is_empty() || Instant::now() > deadline {
            return without;
        }
        queries = without;
        sleep(Duration::from_secs(1)).await;
    }
}

/// What promtool holds against a scrape: metrics without HELP, names that say another type, units that are none.
fn held_against(scrape: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the package prometheus");
    child.stdin.take().expect("piped").write_all(scrape.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Our metrics that a text names.
fn names(text: &str) -> BTreeSet<&str> {
    let ours = |word: &&str| word.starts_with("sluice_") || word.starts_with("process_");
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).filter(ours).collect()
}

/// Which of this many targets do not answer.
fn of_targets(answer: &Value, expected: usize) -> Vec<String> {
    let targets = list(&answer["data"]["activeTargets"]);
    assert_eq!(targets.len(), expected, "{answer}");
    let down = targets.iter().filter(|target| target["health"] != "up");
    down.map(|target| format!("{} is down: {}", target["scrapeUrl"], target["lastError"])).collect()
}

/// Waits until each target has been asked: Prometheus takes some seconds until it begins.
async fn all_are_scraped(prometheus: &Prometheus, targets: usize) {
    let begun = Instant::now();
    loop {
        let answer = parsed(&prometheus.targets().await);
        let seen = list(&answer["data"]["activeTargets"]).iter().filter(|target| target["health"] == "up").count();
        if seen == targets {
            return;
        }
        assert!(begun.elapsed() < SETTLED_WITHIN, "{answer}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Rules that cannot be evaluated, and alerts that fire though nothing is wrong.
fn of_rules(answer: &Value) -> Vec<String> {
    let rules: Vec<_> = list(&answer["data"]["groups"]).iter().flat_map(|group| list(&group["rules"])).collect();
    assert!(rules.len() > 60, "{} rules", rules.len());
    let ill = rules.iter().filter(|rule| rule["health"] != "ok");
    let ill = ill.map(|rule| format!("{} is {}: {}", rule["name"], rule["health"], rule["lastError"]));
    let firing = rules.iter().filter(|rule| rule["state"] == "firing");
    ill.chain(firing.map(|rule| format!("{} fires: {}", rule["name"], rule["alerts"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_panel_has_data_every_metric_is_there_and_no_alert_fires() {
    let recordings = TempDir::with_prefix("watched-").expect("a temporary directory");
    let at = recordings.path().display();
    let plan = Plan {
        edge_settings: "recording: {rooms: ['room-0']}\n".to_owned(),
        node_settings: format!("recording: {{url: 'file://{at}/out', spool_dir: '{at}/spool-NODE_ID', min_free: 0}}\n"),
        alone: true,
        ..Plan::default()
    };
    std::fs::create_dir(recordings.path().join("out")).expect("a directory");
    let deployment = Deployment::start(&plan).await.expect("a deployment");
    let prometheus = prometheus(&deployment).await;
    // What is counted from now on has been seen at 0.
    all_are_scraped(&prometheus, plan.edges.len() + plan.nodes.len()).await;
    let size = Size { rooms: 8, members: 5, with_media: 3, publishers: 2 };
    let population = Population::enter(size, &deployment.addresses(), plan.ttl);
    population.settled(SETTLED_WITHIN).await.expect("settled");
    sleep(WATCHED_FOR).await;

    // All of it is told at once: each run takes a minute.
    let mut faults = Vec::new();
    let mut scrapes = String::new();
    for admin in deployment.edges.iter().map(|edge| edge.admin).chain(deployment.nodes.iter().map(|node| node.admin)) {
        let scrape = scrape(admin).await.expect("a scrape");
        faults.extend(held_against(&scrape).lines().map(|line| format!("{admin}: {line}")));
        let summaries = scrape.lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" summary"));
        faults.extend(summaries.map(|line| format!("{admin}: a histogram without bounds: {line}")));
        scrapes += &scrape;
    }
    let of_panels = queries().into_iter().map(|(_, query)| query + "\n").collect();
    let watched = [read("prometheus/recording.yml"), read("prometheus/alerts.yml"), of_panels].concat();
    faults.extend(names(&watched).difference(&names(&scrapes)).map(|name| format!("no service has {name}")));
    let without = without_data(&prometheus).await;
    faults.extend(without.into_iter().map(|(place, query)| format!("no data: {place}: {query}")));
    faults.extend(of_targets(&parsed(&prometheus.targets().await), plan.edges.len() + plan.nodes.len()));
    faults.extend(of_rules(&parsed(&prometheus.rules().await)));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
