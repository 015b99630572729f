//! A node that gets too little of its machine: who is in goes on, who comes is told, and it is over when it is over. What happens to
//! media when there is really too much of it is `tests/tests/overload.rs`'.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::admin::{number, shows, status};
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::scenario::Scenario;
use tokio::time::sleep;

use crate::{NO_SFU, UNHEARD};

/// `subscribe_failed`: what a subscriber is answered of a stream whose node takes nothing new.
const SUBSCRIBE_FAILED: i64 = 9;
/// Whether a node takes publications.
const REFUSING: &str = "sluice_sfu_refusing{what=\"publications\"}";
/// For how long newcomers are refused.
const TOO_MUCH: Duration = Duration::from_secs(4);
/// How soon all is normal again.
const NORMAL_AGAIN: Duration = Duration::from_secs(5);
/// What placement knows of a node is no older.
const LOAD_AGE: f64 = 1.0;

/// How old what the edges know of their nodes' load is while this lasts, in the order of age.
async fn ages_of_load(edges: &[SocketAddr], time: Duration) -> Vec<f64> {
    let (begun, mut ages) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        for edge in edges {
            ages.push(number(*edge, "sluice_edge_load_age_seconds").await.expect("it has the gauge"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    ages.sort_by(f64::total_cmp);
    ages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_too_much_to_do_refuses_newcomers_and_keeps_up_who_is_there() {
    // The defaults but for shedding, which is for more than a machine's hiccups.
    let node_settings = "overload: {shed: 2}\n".to_owned();
    let plan = Plan { nodes: &["home"], node_settings, alone: true, ..Plan::default() };
    let mut scenario = Scenario::start("a node has too much to do", &plan, Size::USUAL).await;
    let (edges, nodes): (Vec<_>, Vec<_>) = (
        scenario.deployment.edges.iter().map(|edge| edge.admin).collect(),
        scenario.deployment.nodes.iter().map(|node| node.admin).collect(),
    );
    scenario.fault();
    let squeezed: Vec<_> =
        scenario.deployment.nodes.iter().map(|node| node.process.squeeze().expect("it runs")).collect();
    for node in &nodes {
        shows(*node, REFUSING, 1, Duration::from_secs(10)).await.expect("too much to do");
        assert_eq!(status(*node, "/readyz").await.expect("an answer"), 200, "what it has is served");
    }
    let addresses = scenario.deployment.addresses();
    for number in 0..3 {
        scenario.population.add(&format!("newcomer{number}"), &format!("room-{number}"), &addresses, true, false);
    }
    let ages = ages_of_load(&edges, TOO_MUCH).await;
    let (usual, oldest) = (ages[ages.len() / 2], ages[ages.len() - 1]);
    scenario.figure(&format!(
        "load known to an edge: {:.0} ms old in the median, {:.0} at most",
        1e3 * usual,
        1e3 * oldest
    ));
    // The machine may have a hiccup of its own.
    assert!(ages[95 * ages.len() / 100] <= LOAD_AGE, "{ages:?}");
    let published = scenario.population.streams();
    assert!(!published.keys().any(|uid| uid.starts_with("newcomer")), "{:?}", published.keys());
    drop(squeezed);
    for node in &nodes {
        shows(*node, REFUSING, 0, NORMAL_AGAIN).await.expect("normal again");
    }
    // Their own pauses between two tries have grown meanwhile.
    scenario.right_again("newcomers let in", Duration::from_secs(30)).await;
    let verdict = scenario.verdict(&Expected::default().with_errors([NO_SFU, SUBSCRIBE_FAILED])).await;
    assert!(verdict.errors.contains_key(&NO_SFU), "newcomers were told: {:?}", verdict.errors);
    assert_eq!((verdict.closes.len(), verdict.audit.leaves.len()), (0, 0), "nobody lost anything");
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}
