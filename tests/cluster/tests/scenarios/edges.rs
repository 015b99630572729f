//! Edges that die, go, hang, or are cut off.

use std::time::Duration;

use cluster::account::{Expected, Journal};
use cluster::deployment::Plan;
use cluster::figures::Spread;
use cluster::population::Size;
use cluster::scenario::{Scenario, Verdict};
use cluster::stake::Stake;
use cluster::stores::RoomStore;
use tokio::time::sleep;

use crate::{BAD_MID, SFU_UNREACHABLE, UNHEARD, bound};

/// The clients of a dead edge are back, its death and their own wait included.
const BACK: Duration = Duration::from_secs(2);

/// Nobody noticed but those whose connection ended, and they went on where they were.
fn only_connections_were_lost(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!(audit.leaves.len(), 0, "nobody left: {:?}", audit.leaves);
    assert!(audit.resumed >= verdict.back.len() && !verdict.back.is_empty(), "{audit}");
    assert!(verdict.gaps.max() < UNHEARD, "media goes on without an edge: {}", verdict.gaps);
}

async fn an_edge_is_killed(name: &'static str, rooms: RoomStore) {
    let mut scenario = Scenario::start(name, &Plan { rooms, ..Plan::default() }, Size::USUAL).await;
    scenario.fault();
    scenario.deployment.edges[0].process.kill();
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("edge killed", Duration::from_secs(30)).await;
    sleep(Duration::from_secs(2)).await;
    scenario.deployment.edges[0].restart().await.expect("starts again");
    let verdict = scenario.verdict(&Expected::default()).await;
    only_connections_were_lost(&verdict);
    assert!(verdict.back.len() > 20, "about half of 100 clients were on it: {}", verdict.back);
    assert!(verdict.back.at(0.99) <= bound(BACK), "{}", verdict.back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_edge_resume_on_another_and_nobody_else_notices() {
    an_edge_is_killed("an edge is killed", RoomStore::Forgetful).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_edge_resume_where_rooms_are_in_a_redis_cluster() {
    an_edge_is_killed("an edge is killed, rooms are in a Redis Cluster", RoomStore::Cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_edge_resume_where_redis_takes_only_tls() {
    an_edge_is_killed("an edge is killed, Redis takes only TLS", RoomStore::Tls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_draining_edge_are_sent_to_another_one_by_one() {
    let mut scenario = Scenario::start("an edge drains", &Plan::default(), Size::USUAL).await;
    scenario.fault();
    scenario.deployment.edges[0].process.terminate().expect("a signal");
    let status = scenario.deployment.edges[0].process.ended(Duration::from_secs(20)).await.expect("ends by itself");
    assert!(status.success(), "{status}");
    scenario.right_again("edge drained", Duration::from_secs(30)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    only_connections_were_lost(&verdict);
    assert!(verdict.back.len() > 20, "about half of 100 clients were on it: {}", verdict.back);
    assert_eq!(verdict.closes.keys().collect::<Vec<_>>(), [&Some(1001)], "each was told that its edge goes away");
    assert!(
        verdict.closing.width() > Duration::from_secs(1),
        "spread over the 3 s that are set, not all at once: {}",
        verdict.closing
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_who_die_with_their_edge_are_gone_when_their_time_is_up_with_one_leave_each() {
    let plan = Plan { ttl: Duration::from_secs(12), grace: Duration::from_secs(6), ..Plan::default() };
    let mut scenario = Scenario::start("an edge dies with all its clients", &plan, Size::USUAL).await;
    let [dying, living] = scenario.deployment.addresses()[..] else { panic!("two edges") };
    for number in 0..10 {
        // Some in a room without media, some in one with.
        let room = if number < 5 { "room-19" } else { "room-0" };
        scenario.population.add(&format!("ghost{number}"), room, &[dying], number == 9, number == 9);
    }
    for room in [0, 19] {
        scenario.population.add(&format!("witness{room}"), &format!("room-{room}"), &[living], false, false);
    }
    scenario.settled(Duration::from_secs(30)).await;
    let fault = scenario.fault();
    scenario.deployment.edges[0].process.kill();
    let ghosts = scenario.population.dismiss(|member| member.client.uid.starts_with("ghost"));
    for ghost in &ghosts {
        ghost.client.end();
    }
    let expected =
        Expected { expired: ghosts.iter().map(|ghost| ghost.client.uid.to_string()).collect(), ..Expected::default() };
    scenario.gone.extend(ghosts);
    // Leases were renewed within a third of the ttl before; whoever sweeps has seen the store for a whole ttl.
    let (earliest, latest) = (plan.ttl / 2, 2 * plan.ttl + Duration::from_secs(5));
    scenario.settled(latest).await;
    let witnesses = scenario.population.members.iter().filter(|member| member.client.uid.starts_with("witness"));
    let witnesses: Vec<Journal> = witnesses.map(|witness| witness.client.journal().clone()).collect();
    let told_gone = |uid: &String| {
        let told = witnesses.iter().find_map(|witness| witness.told_gone(uid));
        told.unwrap_or_else(|| panic!("the others are not told that {uid} is gone")).saturating_duration_since(fault)
    };
    let gone = Spread::of(expected.expired.iter().map(told_gone));
    scenario.figure(&format!("ghosts were gone: {gone}"));
    assert_eq!(gone.len(), 10);
    assert!(gone.at(0.0) >= earliest, "one was gone before its time: {gone}");
    let verdict = scenario.verdict(&expected.with_errors([BAD_MID])).await;
    let leaves: Vec<(&str, usize)> = verdict.audit.leaves.iter().map(|(uid, times)| (uid.as_str(), *times)).collect();
    let once: Vec<String> = (0..10).map(|number| format!("ghost{number}")).collect();
    assert_eq!(leaves, once.iter().map(|uid| (uid.as_str(), 1)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_trying_while_no_edge_is_there_and_resume_when_one_is_back() {
    // Edges that are back give everybody a whole ttl: more than the 20 s that a client waits between two tries by then.
    let plan = Plan { ttl: Duration::from_secs(25), grace: Duration::from_secs(10), ..Plan::default() };
    let mut scenario = Scenario::start("no edge for longer than a lease", &plan, Size::USUAL).await;
    scenario.fault();
    scenario.deployment.edges.iter_mut().for_each(|edge| edge.process.kill());
    sleep(Duration::from_secs(35)).await;
    for edge in &mut scenario.deployment.edges {
        edge.restart().await.expect("starts again");
    }
    scenario.right_again("edges back", Duration::from_secs(45)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    only_connections_were_lost(&verdict);
    assert_eq!(verdict.back.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_whole_region_dies_its_clients_and_streams_go_to_the_other() {
    let plan = Plan { edges: &["east", "west"], nodes: &["east", "west"], ..Plan::default() };
    let mut scenario = Scenario::start("a region is killed", &plan, Size::USUAL).await;
    // The region that carries most: a room's streams are together, in that of whoever came first.
    let node = scenario.population.busiest_node();
    let region = scenario.deployment.nodes.iter().position(|other| other.id == node).expect("one of the plan's");
    let stake = Stake::on(&scenario.population, &[&node]);
    scenario.fault();
    scenario.deployment.edges[region].process.kill();
    scenario.deployment.nodes[region].process.kill();
    sleep(Duration::from_millis(500)).await;
    scenario.right_again("region killed", Duration::from_secs(45)).await;
    stake.only_these_moved(&scenario.population, &[&node]);
    let verdict = scenario.verdict(&stake.expected().with_errors([BAD_MID, SFU_UNREACHABLE])).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
    assert!(verdict.back.at(0.99) <= bound(BACK), "{}", verdict.back);
    // A publisher may hear only when it is back that its stream's node is dead.
    assert!(verdict.gaps.max() <= bound(BACK + Duration::from_secs(3)), "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_hangs_loses_its_clients_to_another_and_comes_back_to_none() {
    let mut scenario = Scenario::start("an edge hangs", &Plan::default(), Size::USUAL).await;
    scenario.fault();
    scenario.deployment.edges[0].process.freeze(true).expect("a signal");
    // A client asks every 20 s whether its edge is there and waits 10 s for the answer.
    sleep(Duration::from_secs(32)).await;
    scenario.deployment.edges[0].process.freeze(false).expect("a signal");
    scenario.right_again("edge hung for 32 s", Duration::from_secs(45)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    only_connections_were_lost(&verdict);
}
