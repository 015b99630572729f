//! The registry loses its leader, or all of itself, and nobody in a call notices.

use std::time::Duration;

use cluster::account::Expected;
use cluster::admin::{gauge, shows};
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::scenario::{Scenario, Verdict};

use crate::UNHEARD;

fn nothing_was_lost(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!((audit.leaves.len(), verdict.back.len()), (0, 0), "nobody lost its connection");
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

/// Some come, publish and watch.
async fn newcomers(scenario: &mut Scenario, name: &str, count: usize) {
    let edges = scenario.deployment.addresses();
    for number in 0..count {
        scenario.population.add(&format!("{name}{number}"), &format!("room-{number}"), &edges, true, true);
    }
    scenario.right_again(&format!("{count} {name} joined and published"), Duration::from_secs(30)).await;
}

/// Longer than the 5 s after which an entry ends of which nothing is heard: whoever is registered still has been heard since.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(8);
/// For nodes and edges to find a registry that is back: they wait for ten seconds at most between two tries.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// Each node says of its entry that it is there, or that it is not.
async fn registered(scenario: &Scenario, expected: u64) {
    for node in &scenario.deployment.nodes {
        let now = gauge(node.admin, "sluice_sfu_registered").await.expect("it has the gauge");
        assert_eq!(now, expected, "{}", node.id);
    }
}

/// A node that starts now registers, and edges learn of it and place streams on it.
async fn one_more_node_is_used(scenario: &mut Scenario, plan: &Plan) {
    let node = scenario.deployment.add_node(plan, "home").await.expect("it starts");
    let (id, admin) = (node.id.clone(), node.admin);
    shows(admin, "sluice_sfu_registered", 1, FOUND_WITHIN).await.expect("it registers");
    let nodes = scenario.deployment.nodes.len() as u64;
    for edge in &scenario.deployment.edges {
        shows(edge.admin, "sluice_edge_nodes_up", nodes, FOUND_WITHIN).await.expect("the edge learns of it");
    }
    let (edges, without_media) = (scenario.deployment.addresses(), Size::USUAL.with_media..Size::USUAL.rooms);
    // A room's streams meet where its first is, and that is on each node as likely as on any other, or likelier on this idle one.
    for room in without_media {
        let uid = format!("first{room}");
        scenario.population.add(&uid, &format!("room-{room}"), &edges, true, false);
        scenario.settled(Duration::from_secs(30)).await;
        if scenario.population.streams()[&uid].node == id {
            return;
        }
    }
    panic!("of the first streams of 15 rooms none was placed on {id}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_registrys_leader_dies_nobody_notices() {
    let plan = Plan { three_etcds: true, ..Plan::default() };
    let mut scenario = Scenario::start("etcd's leader is killed", &plan, Size::USUAL).await;
    scenario.fault();
    scenario.deployment.etcd.kill_leader().await;
    scenario.nobody_notices(LONGER_THAN_A_LEASE).await;
    registered(&scenario, 1).await;
    newcomers(&mut scenario, "newcomers", 3).await;
    one_more_node_is_used(&mut scenario, &plan).await;
    nothing_was_lost(&scenario.verdict(&Expected::default()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_registry_is_away_for_a_minute_people_join_and_publish() {
    let plan = Plan::default();
    let mut scenario = Scenario::start("etcd is away for 60 s", &plan, Size::USUAL).await;
    let fault = scenario.fault();
    scenario.deployment.etcd.stop();
    // All leases in it would have ended by then.
    scenario.nobody_notices(Duration::from_secs(20)).await;
    registered(&scenario, 0).await;
    newcomers(&mut scenario, "early", 2).await;
    scenario.nobody_notices(Duration::from_secs(35)).await;
    newcomers(&mut scenario, "late", 2).await;
    scenario.nobody_notices(Duration::from_mins(1).saturating_sub(fault.elapsed())).await;
    scenario.deployment.etcd.start_again().await;
    for node in &scenario.deployment.nodes {
        shows(node.admin, "sluice_sfu_registered", 1, FOUND_WITHIN).await.expect("it registers again");
    }
    scenario.nobody_notices(LONGER_THAN_A_LEASE).await;
    registered(&scenario, 1).await;
    newcomers(&mut scenario, "afterwards", 2).await;
    one_more_node_is_used(&mut scenario, &plan).await;
    nothing_was_lost(&scenario.verdict(&Expected::default()).await);
}
