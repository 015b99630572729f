//! The registry loses its leader, or all of itself, and nobody in a call notices.

use std::time::Duration;

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::scenario::{Scenario, Verdict};
use tokio::time::sleep;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_registrys_leader_dies_nobody_notices() {
    let plan = Plan { three_etcds: true, ..Plan::default() };
    let mut scenario = Scenario::start("etcd's leader is killed", &plan, Size::USUAL).await;
    scenario.fault();
    scenario.deployment.etcd.kill_leader().await;
    scenario.nobody_notices(Duration::from_secs(8)).await;
    newcomers(&mut scenario, "newcomers", 3).await;
    nothing_was_lost(&scenario.verdict(&Expected::default()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_registry_is_away_for_a_minute_people_join_and_publish() {
    let mut scenario = Scenario::start("etcd is away for 60 s", &Plan::default(), Size::USUAL).await;
    let fault = scenario.fault();
    scenario.deployment.etcd.stop();
    // All leases in it would have ended by then.
    scenario.nobody_notices(Duration::from_secs(20)).await;
    newcomers(&mut scenario, "early", 2).await;
    scenario.nobody_notices(Duration::from_secs(35)).await;
    newcomers(&mut scenario, "late", 2).await;
    scenario.nobody_notices(Duration::from_mins(1).saturating_sub(fault.elapsed())).await;
    scenario.deployment.etcd.start_again().await;
    scenario.nobody_notices(Duration::from_secs(10)).await;
    newcomers(&mut scenario, "afterwards", 2).await;
    sleep(Duration::from_secs(1)).await;
    nothing_was_lost(&scenario.verdict(&Expected::default()).await);
}
