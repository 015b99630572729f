//! A rolling update: every edge and every node is told to end and started again, one after the other, as an operator or an
//! orchestrator does it, while people talk.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use cluster::account::Expected;
use cluster::admin::drain;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::process::Process;
use cluster::scenario::{Scenario, Verdict};
use cluster::stake::Stake;

use crate::BAD_MID;

/// What nobody in a call may lack at a stretch. Not three times that, as elsewhere: the scenario has the machine to itself.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// Longer than each takes by its settings (3 s an edge, 20 s a node).
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// The order to go, the end by itself with status 0, and a new start in the same place. Every other one is told by signal, and the
/// others by what listens at `admin`.
async fn update(number: usize, process: &mut Process, admin: SocketAddr) {
    if number.is_multiple_of(2) {
        process.terminate().expect("a signal");
    } else {
        drain(admin).await.expect("told to drain");
    }
    let status = process.ended(ENDS_WITHIN).await.expect("ends by itself");
    assert!(status.success(), "{}: {status}", process.name());
    process.restart().expect("starts again");
    process.ready().await.expect("is ready again");
}

/// Each node in turn. The streams that were on one when it was told to go, and no other, are published anew.
async fn update_nodes(scenario: &mut Scenario) -> BTreeSet<String> {
    let mut moved = BTreeSet::new();
    for number in 0..scenario.deployment.nodes.len() {
        let id = scenario.deployment.nodes[number].id.clone();
        let stake = Stake::on(&scenario.population, &[&id]);
        let node = &mut scenario.deployment.nodes[number];
        update(number, &mut node.process, node.admin).await;
        scenario.right_again(&format!("{id} updated"), Duration::from_secs(30)).await;
        stake.only_these_moved(&scenario.population, &[]);
        moved.extend(stake.mids());
    }
    moved
}

fn nobody_noticed(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!(audit.leaves.len(), 0, "nobody left: {:?}", audit.leaves);
    assert_eq!(verdict.closes.keys().collect::<Vec<_>>(), [&Some(1001)], "each was told that its edge goes away");
    // To ask for a stream that has moved meanwhile is in vain and harms nobody: its successor is told at the same moment.
    let unhealed: Vec<_> = verdict.given_up.iter().filter(|(_, code)| *code != Some(BAD_MID)).collect();
    assert!(unhealed.is_empty(), "no retry healed these: {unhealed:?}");
    assert!(verdict.gaps.max() <= LONGEST_GAP, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_rolling_update() {
    let plan = Plan { alone: true, ..Plan::default() };
    let mut scenario = Scenario::start("a rolling update", &plan, Size::USUAL).await;
    scenario.fault();
    for number in 0..scenario.deployment.edges.len() {
        let edge = &mut scenario.deployment.edges[number];
        update(number, &mut edge.process, edge.admin).await;
        scenario.right_again(&format!("edge {number} updated"), Duration::from_secs(30)).await;
    }
    let streams_lost = update_nodes(&mut scenario).await;
    let expected = Expected { streams_lost, ..Expected::default() };
    nobody_noticed(&scenario.verdict(&expected.with_errors([BAD_MID])).await);
}
