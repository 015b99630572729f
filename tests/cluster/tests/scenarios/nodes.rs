//! SFU nodes that die, go, come back, or are out of reach of some and not of others.

use std::time::Duration;

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::proxy::Mode;
use cluster::scenario::{Scenario, Verdict};
use tokio::time::sleep;

use crate::{UNHEARD, bound};

/// Media is back after a node's kill -9, its viewers' and publishers' spread included.
const MEDIA_BACK: Duration = Duration::from_secs(3);

fn streams_moved(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!((audit.leaves.len(), verdict.back.len()), (0, 0), "signalling goes on without a node");
}

fn nodes_lost() -> Expected {
    Expected { nodes_lost: true, ..Expected::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_of_a_killed_node_is_back_on_another() {
    let mut scenario = Scenario::start("a node is killed", &Plan::default(), Size::USUAL).await;
    let (node, published) = (scenario.population.busiest_node(), scenario.population.published());
    scenario.fault();
    scenario.deployment.node(&node).process.kill();
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("node killed", Duration::from_secs(45)).await;
    assert!(scenario.population.published() > published, "streams were on it");
    assert_ne!(scenario.population.busiest_node(), node);
    let verdict = scenario.verdict(&nodes_lost()).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() > UNHEARD / 4, "some flows were cut: {}", verdict.gaps);
    assert!(verdict.gaps.max() <= bound(MEDIA_BACK), "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_draining_node_move_before_it_ends() {
    let mut scenario = Scenario::start("a node drains", &Plan::default(), Size::USUAL).await;
    let (node, published) = (scenario.population.busiest_node(), scenario.population.published());
    scenario.fault();
    let process = &mut scenario.deployment.node(&node).process;
    process.terminate().expect("a signal");
    let status = process.ended(Duration::from_secs(40)).await.expect("ends by itself");
    assert!(status.success(), "{status}");
    scenario.right_again("node drained", Duration::from_secs(45)).await;
    assert!(scenario.population.published() > published, "streams were on it");
    let verdict = scenario.verdict(&nodes_lost()).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_node_that_is_restarted_in_place_are_published_anew() {
    let plan = Plan { nodes: &["home"], ..Plan::default() };
    let mut scenario = Scenario::start("a node is restarted in place", &plan, Size::USUAL).await;
    let published = scenario.population.published();
    scenario.fault();
    scenario.deployment.nodes[0].process.kill();
    scenario.deployment.nodes[0].restart().await.expect("starts again");
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("node restarted", Duration::from_mins(1)).await;
    assert!(scenario.population.published() >= published + 10, "all ten streams were on it");
    streams_moved(&scenario.verdict(&nodes_lost()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_died_while_no_edge_ran_is_found_dead() {
    let mut scenario = Scenario::start("a node died while no edge ran", &Plan::default(), Size::USUAL).await;
    let (node, published) = (scenario.population.busiest_node(), scenario.population.published());
    scenario.fault();
    scenario.deployment.edges.iter_mut().for_each(|edge| edge.process.kill());
    scenario.deployment.node(&node).process.kill();
    // Longer than its lease in etcd.
    sleep(Duration::from_secs(12)).await;
    for edge in &mut scenario.deployment.edges {
        edge.restart().await.expect("starts again");
    }
    scenario.right_again("edges back", Duration::from_mins(1)).await;
    assert!(scenario.population.published() > published, "streams were on it");
    let verdict = scenario.verdict(&nodes_lost()).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_from_etcd_only_is_not_dead() {
    let mut scenario = Scenario::start("a node is cut from etcd", &Plan::default(), Size::USUAL).await;
    let node = scenario.population.busiest_node();
    scenario.fault();
    scenario.deployment.node(&node).set_etcd(Mode::Swallow);
    scenario.nobody_notices(Duration::from_secs(20)).await;
    scenario.deployment.node(&node).set_etcd(Mode::Pass);
    scenario.nobody_notices(Duration::from_secs(3)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_one_edge_cannot_reach_is_not_dead() {
    let plan = Plan { node_links: true, ..Plan::default() };
    let mut scenario = Scenario::start("a node is cut from one edge", &plan, Size::USUAL).await;
    let node = scenario.population.busiest_node();
    scenario.fault();
    let edge = scenario.deployment.edges[0].process.pid().expect("it runs");
    let link = scenario.deployment.node(&node).link.as_ref().expect("the plan has links");
    link.set_for(edge, Mode::Swallow);
    scenario.nobody_notices(Duration::from_secs(20)).await;
    let link = scenario.deployment.node(&node).link.as_ref().expect("the plan has links");
    link.set(Mode::Pass);
    scenario.nobody_notices(Duration::from_secs(5)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}
