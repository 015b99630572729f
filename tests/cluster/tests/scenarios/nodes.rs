//! SFU nodes that die, go, come back, or are out of reach of some and not of others.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::account::Expected;
use cluster::admin::{gauge, shows};
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::proxy::Mode;
use cluster::scenario::{Scenario, Verdict};
use cluster::stake::Stake;
use tokio::time::sleep;

use crate::{BAD_MID, NO_SFU, SFU_UNREACHABLE, UNHEARD, bound};

/// Media is back after a node's kill -9, its viewers' and publishers' spread included.
const MEDIA_BACK: Duration = Duration::from_secs(3);

fn streams_moved(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!((audit.leaves.len(), verdict.back.len()), (0, 0), "signalling goes on without a node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_of_a_killed_node_is_back_on_another() {
    let mut scenario = Scenario::start("a node is killed", &Plan::default(), Size::USUAL).await;
    let node = scenario.population.busiest_node();
    let stake = Stake::on(&scenario.population, &[&node]);
    scenario.fault();
    scenario.deployment.node(&node).process.kill();
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("node killed", Duration::from_secs(45)).await;
    stake.only_these_moved(&scenario.population, &[&node]);
    let verdict = scenario.verdict(&stake.expected().with_errors([BAD_MID, SFU_UNREACHABLE])).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() > UNHEARD / 2, "some flows were cut: {}", verdict.gaps);
    assert!(verdict.gaps.max() <= bound(MEDIA_BACK), "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_draining_node_move_before_it_ends() {
    let mut scenario = Scenario::start("a node drains", &Plan::default(), Size::USUAL).await;
    let node = scenario.population.busiest_node();
    let stake = Stake::on(&scenario.population, &[&node]);
    let fault = scenario.fault();
    let process = &mut scenario.deployment.node(&node).process;
    process.terminate().expect("a signal");
    let status = process.ended(Duration::from_secs(40)).await.expect("ends by itself");
    assert!(status.success(), "{status}");
    scenario.right_again("node drained", Duration::from_secs(45)).await;
    stake.only_these_moved(&scenario.population, &[&node]);
    let mut told = scenario.population.unwanted_after(fault);
    told.sort_unstable();
    let streams: Vec<String> = stake.mids().into_iter().collect();
    assert_eq!(told, streams, "the owners of these streams, and no other, were asked to move them, once");
    let verdict = scenario.verdict(&stake.expected().with_errors([BAD_MID])).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_node_that_is_restarted_in_place_are_published_anew() {
    let plan = Plan { nodes: &["home"], ..Plan::default() };
    let mut scenario = Scenario::start("a node is restarted in place", &plan, Size::USUAL).await;
    let stake = Stake::on(&scenario.population, &["node-0"]);
    assert_eq!(stake.mids().len(), 10, "all streams are on it");
    scenario.fault();
    scenario.deployment.nodes[0].process.kill();
    scenario.deployment.nodes[0].restart().await.expect("starts again");
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("node restarted", Duration::from_mins(1)).await;
    stake.only_these_moved(&scenario.population, &[]);
    // There is no other: until it is back, there is none.
    let expected = stake.expected().with_errors([BAD_MID, NO_SFU, SFU_UNREACHABLE]);
    streams_moved(&scenario.verdict(&expected).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_died_while_no_edge_ran_is_found_dead() {
    let mut scenario = Scenario::start("a node died while no edge ran", &Plan::default(), Size::USUAL).await;
    let node = scenario.population.busiest_node();
    let stake = Stake::on(&scenario.population, &[&node]);
    scenario.fault();
    scenario.deployment.edges.iter_mut().for_each(|edge| edge.process.kill());
    scenario.deployment.node(&node).process.kill();
    // Longer than its lease in etcd.
    sleep(Duration::from_secs(12)).await;
    for edge in &mut scenario.deployment.edges {
        edge.restart().await.expect("starts again");
    }
    scenario.right_again("edges back", Duration::from_mins(1)).await;
    stake.only_these_moved(&scenario.population, &[&node]);
    let verdict = scenario.verdict(&stake.expected().with_errors([BAD_MID, SFU_UNREACHABLE])).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
}

/// Somebody comes through these edges, into a room with streams on `node`, and is given another node.
async fn newcomer_lands_elsewhere(scenario: &mut Scenario, edges: &[SocketAddr], node: &str) {
    let streams = scenario.population.streams();
    let (owner, _) = streams.iter().find(|(_, stream)| stream.node == node).expect("a stream is on it");
    let mut members = scenario.population.members.iter();
    let room = members.find(|member| *member.client.uid == **owner).expect("it is there").client.room.to_string();
    scenario.population.add("newcomer", &room, edges, true, false);
    scenario.right_again("a newcomer meanwhile", Duration::from_secs(30)).await;
    let on = &scenario.population.streams()["newcomer"].node;
    assert_ne!(on, node, "nothing new goes there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_from_etcd_only_is_not_dead() {
    let mut scenario = Scenario::start("a node is cut from etcd", &Plan::default(), Size::USUAL).await;
    let (node, edges) = (scenario.population.busiest_node(), scenario.deployment.addresses());
    scenario.fault();
    let cut = scenario.deployment.node(&node);
    cut.set_etcd(Mode::Swallow);
    let admin = cut.admin;
    scenario.nobody_notices(Duration::from_secs(20)).await;
    let registered = async || gauge(admin, "sluice_sfu_registered").await.expect("it has the gauge");
    assert_eq!(registered().await, 0, "its lease has ended");
    newcomer_lands_elsewhere(&mut scenario, &edges, &node).await;
    assert_eq!(registered().await, 0, "it is cut off still");
    scenario.deployment.node(&node).set_etcd(Mode::Pass);
    shows(admin, "sluice_sfu_registered", 1, Duration::from_secs(30)).await.expect("it registers again");
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
    let [cut, whole] = [0, 1].map(|number| scenario.deployment.edges[number].admin);
    let cut_off = async |admin| gauge(admin, "sluice_edge_nodes_cut_off").await.expect("it has the gauge");
    assert_eq!((cut_off(cut).await, cut_off(whole).await), (1, 0), "one edge cannot reach it, the other can");
    let address = scenario.deployment.edges[0].address;
    newcomer_lands_elsewhere(&mut scenario, &[address], &node).await;
    assert_eq!((cut_off(cut).await, cut_off(whole).await), (1, 0), "it is cut off still");
    let link = scenario.deployment.node(&node).link.as_ref().expect("the plan has links");
    link.set(Mode::Pass);
    shows(cut, "sluice_edge_nodes_cut_off", 0, Duration::from_secs(30)).await.expect("it is reached again");
    scenario.nobody_notices(Duration::from_secs(5)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    streams_moved(&verdict);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}
