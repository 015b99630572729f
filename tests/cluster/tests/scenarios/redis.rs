//! The room store stops, forgets, fails over, is slow, or is out of reach of one edge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::admin::{keeps, status};
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::proxy::Mode;
use cluster::scenario::{Scenario, Verdict};
use cluster::stores::{RoomStore, Rooms};
use futures_util::future::try_join_all;
use servers::{Redis, RedisSentinels};
use tokio::time::sleep;

use crate::{STORE_UNAVAILABLE, UNHEARD, bound};

/// Everything is right again after the store is back, or has lost everything.
const RIGHT_AFTER_LOSS: Duration = Duration::from_secs(5);
/// How late after a whole ttl of sight an edge's next look for those who are due may be.
const SWEEP: Duration = Duration::from_secs(3);

fn store_lost() -> Expected {
    Expected { store_lost: true, ..Expected::default() }
}

/// What the store does is no reason to close a connection, and media goes on without it.
fn nobody_is_sent_away(verdict: &Verdict) {
    assert!(verdict.back.is_empty() && verdict.closes.is_empty(), "closed: {:?}", verdict.closes);
    assert!(verdict.gaps.max() < UNHEARD, "media goes on: {}", verdict.gaps);
}

/// Edges put back all that was lost before anybody looked: nobody was put out, no stream was lost, no snapshot lacked anything.
fn all_was_put_back(verdict: &Verdict) {
    let audit = &verdict.audit;
    assert_eq!(audit.leaves.len(), 0, "no member is lost: {:?}", audit.leaves);
    assert_eq!(audit.lacking, 0, "the new epoch began with everybody and everything: {audit}");
    assert_eq!(audit.resyncs, 0, "whoever was in the new epoch heard all of it: {audit}");
    nobody_is_sent_away(verdict);
}

/// Edges put nobody out before they have seen the store, in one life, for a whole ttl: only past that is it known that they put out nobody
/// who is there.
async fn nobody_is_put_out(scenario: &Scenario, plan: &Plan) {
    scenario.nobody_notices(plan.ttl + SWEEP).await;
}

/// Redis is killed under load and is back, with all it had, after `outage`.
async fn outage(name: &'static str, plan: &Plan, outage: Duration) {
    let mut scenario = Scenario::start(name, plan, Size::USUAL).await;
    let published = scenario.population.published();
    scenario.fault();
    scenario.deployment.redis().stop();
    sleep(outage).await;
    for edge in &scenario.deployment.edges {
        assert_eq!(status(edge.admin, "/healthz").await.expect("answers"), 200, "degraded, not dead");
    }
    scenario.deployment.redis().start_again().await;
    let healed = scenario.population.answered(Instant::now(), Duration::from_secs(30)).await.expect("all are served");
    scenario.figure(&format!("each client's first change of the store after it was back: {healed}"));
    assert!(healed.max() <= RIGHT_AFTER_LOSS, "served again after {healed}");
    scenario.settled(Duration::from_secs(30)).await;
    nobody_is_put_out(&scenario, plan).await;
    assert_eq!(scenario.population.published(), published, "no stream was lost");
    let verdict = scenario.verdict(&Expected::default().with_errors([STORE_UNAVAILABLE])).await;
    assert_eq!(verdict.audit.leaves.len(), 0, "an outage expires nobody: {:?}", verdict.audit.leaves);
    assert_eq!((verdict.audit.resyncs, verdict.audit.lost_broadcasts), (0, 0), "{}", verdict.audit);
    nobody_is_sent_away(&verdict);
    assert!(!verdict.errors.is_empty(), "clients were told meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_three_times_longer_than_a_lease_expires_nobody() {
    let plan = Plan {
        ttl: Duration::from_secs(10),
        grace: Duration::from_secs(5),
        rooms: RoomStore::Durable,
        ..Plan::default()
    };
    outage("Redis stops for 30 s, leases are 10 s", &plan, Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_of_more_than_a_minute_expires_nobody() {
    let plan = Plan {
        ttl: Duration::from_secs(20),
        grace: Duration::from_secs(10),
        rooms: RoomStore::Durable,
        ..Plan::default()
    };
    outage("Redis stops for 65 s, leases are 20 s", &plan, Duration::from_secs(65)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_everything_is_flushed_every_room_is_right_again() {
    let plan = Plan { ttl: Duration::from_secs(12), grace: Duration::from_secs(6), ..Plan::default() };
    let mut scenario = Scenario::start("FLUSHALL", &plan, Size::USUAL).await;
    let (published, before) = (scenario.population.published(), epochs(&scenario));
    let begun = scenario.fault();
    scenario.deployment.redis().command(&["FLUSHALL"]).await;
    right_in_a_new_epoch(&scenario, &before).await;
    let took = begun.elapsed();
    scenario.figure(&format!("every room right again after {} ms", took.as_millis()));
    nobody_is_put_out(&scenario, &plan).await;
    assert_eq!(scenario.population.published(), published, "no stream was lost");
    let verdict = scenario.verdict(&store_lost()).await;
    assert_eq!(verdict.audit.new_epochs, 20, "one in each room");
    all_was_put_back(&verdict);
    assert!(took <= bound(RIGHT_AFTER_LOSS), "right again after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_comes_back_empty_is_filled_again() {
    let plan = Plan { ttl: Duration::from_secs(12), grace: Duration::from_secs(6), ..Plan::default() };
    let mut scenario = Scenario::start("Redis stops for 10 s and has lost everything", &plan, Size::USUAL).await;
    let (published, before) = (scenario.population.published(), epochs(&scenario));
    scenario.fault();
    scenario.deployment.redis().stop();
    sleep(Duration::from_secs(10)).await;
    scenario.deployment.redis().start_again().await;
    right_in_a_new_epoch(&scenario, &before).await;
    nobody_is_put_out(&scenario, &plan).await;
    assert_eq!(scenario.population.published(), published, "no stream was lost");
    let verdict = scenario.verdict(&store_lost().with_errors([STORE_UNAVAILABLE])).await;
    assert_eq!(verdict.audit.new_epochs, 20, "one in each room");
    all_was_put_back(&verdict);
}

/// The epoch each client knows its room to be in.
fn epochs(scenario: &Scenario) -> Vec<Option<Arc<str>>> {
    let standings = scenario.population.members.iter().map(|member| member.client.standing());
    standings.map(|standing| standing.borrow().place.as_ref().map(|place| Arc::clone(&place.epoch))).collect()
}

/// Until everybody is in another epoch than `before` and knows of everybody: before that, all still seems well.
async fn right_in_a_new_epoch(scenario: &Scenario, before: &[Option<Arc<str>>]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let others = epochs(scenario).iter().zip(before).filter(|(now, then)| now != then).count();
        if others == before.len() && scenario.population.missing().is_none() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{others} of {} are in a new epoch, and {:?}",
            before.len(),
            scenario.population.missing()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_every_room_is_right_again() {
    let plan = Plan {
        ttl: Duration::from_secs(12),
        grace: Duration::from_secs(6),
        rooms: RoomStore::Sentinels,
        ..Plan::default()
    };
    let mut scenario = Scenario::start("sentinel failover", &plan, Size::USUAL).await;
    let published = scenario.population.published();
    scenario.fault();
    let Rooms::Sentinels(sentinels) = &mut scenario.deployment.rooms else { panic!("the plan has sentinels") };
    let former = sentinels.master().await.port();
    let replicas = |sentinels: &mut RedisSentinels, then: fn(&Redis)| {
        sentinels.servers().iter().filter(|server| server.port() != former).for_each(then);
    };
    // They hang, and the master gives them up: what it takes from now on is lost with it.
    replicas(sentinels, Redis::pause);
    sentinels.master().await.command(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    sentinels.servers().iter_mut().find(|server| server.port() == former).expect("the master").stop();
    replicas(sentinels, Redis::resume);
    while sentinels.master().await.port() == former {
        assert!(begun.elapsed() < Duration::from_secs(30), "the sentinels make no other the master");
        sleep(Duration::from_millis(50)).await;
    }
    let failover = begun.elapsed();
    scenario.figure(&format!("sentinels took {} ms", failover.as_millis()));
    scenario.right_again("another master", Duration::from_secs(45)).await;
    // All seems well until somebody asks.
    scenario.population.answered(Instant::now(), Duration::from_secs(30)).await.expect("all are served");
    nobody_is_put_out(&scenario, &plan).await;
    assert_eq!(scenario.population.published(), published, "no stream was lost");
    let verdict = scenario.verdict(&store_lost().with_errors([STORE_UNAVAILABLE])).await;
    assert!(verdict.audit.new_epochs > 0, "a room whose last writes are lost is in a new epoch: {}", verdict.audit);
    assert_eq!(verdict.audit.leaves.len(), 0, "no member is lost: {:?}", verdict.audit.leaves);
    nobody_is_sent_away(&verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_puts_nobody_out_and_drops_no_node() {
    // Three times longer than a lease.
    let plan = Plan { ttl: Duration::from_secs(10), grace: Duration::from_secs(5), ..Plan::default() };
    let mut scenario = Scenario::start("every reply of Redis and etcd 500 ms late", &plan, Size::USUAL).await;
    let published = scenario.population.published();
    scenario.fault();
    let set = |scenario: &Scenario, mode| {
        scenario.deployment.edges.iter().for_each(|edge| edge.set_redis(mode));
        scenario.deployment.edges.iter().for_each(|edge| edge.set_etcd(mode));
        scenario.deployment.nodes.iter().for_each(|node| node.set_etcd(mode));
    };
    set(&scenario, Mode::Delay(Duration::from_millis(500)));
    let time = Duration::from_secs(30);
    let nodes = scenario.deployment.nodes.iter().map(|node| keeps(node.admin, "sluice_sfu_registered", 1, time));
    let edges = scenario.deployment.edges.iter().map(|edge| keeps(edge.admin, "sluice_edge_nodes_up", 2, time));
    let (kept, ()) = tokio::join!(try_join_all(nodes.chain(edges)), scenario.nobody_notices(time));
    kept.expect("no node is dropped");
    let edges = scenario.deployment.addresses();
    scenario.population.add("newcomer", "room-0", &edges, true, true);
    scenario.right_again("a newcomer meanwhile", Duration::from_secs(30)).await;
    set(&scenario, Mode::Pass);
    assert_eq!(scenario.population.published(), published + 1, "the newcomer's, and no other anew");
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
    nobody_is_sent_away(&verdict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_alone_has_lost_the_store_sends_its_clients_to_one_that_has_not() {
    let plan = Plan { ttl: Duration::from_secs(20), grace: Duration::from_secs(10), ..Plan::default() };
    let mut scenario = Scenario::start("an edge is cut from Redis", &plan, Size::USUAL).await;
    scenario.fault();
    scenario.deployment.edges[0].set_redis(Mode::Swallow);
    // All must have been moved before their leases end.
    sleep(plan.ttl).await;
    scenario.right_again("20 s after the cut", Duration::from_secs(15)).await;
    let ready = async |scenario: &Scenario, edge: usize| {
        status(scenario.deployment.edges[edge].admin, "/readyz").await.expect("answers") == 200
    };
    assert!(!ready(&scenario, 0).await && ready(&scenario, 1).await, "only the one that sees the store wants clients");
    scenario.deployment.edges[0].set_redis(Mode::Pass);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready(&scenario, 0).await {
        assert!(Instant::now() < deadline, "it does not want clients again");
        sleep(Duration::from_millis(100)).await;
    }
    let verdict = scenario.verdict(&Expected::default().with_errors([STORE_UNAVAILABLE])).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.new_epochs, audit.lost_broadcasts), (0, 0, 0), "{audit}");
    assert_eq!(audit.leaves.len(), 0, "nobody's lease ended: {:?}", audit.leaves);
    assert_eq!(verdict.closes.keys().collect::<Vec<_>>(), [&Some(1001)], "each was sent away, none was dropped");
    assert!(verdict.back.len() > 20, "about half of 100 clients were on it: {}", verdict.back);
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}
