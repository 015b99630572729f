//! What an edge counts is counted for all rooms and users together, and is there from the start: labels come from fixed sets.

use std::collections::BTreeSet;

use edge_signal::CATALOGUE;
use serde_json::json;

use crate::cluster::{Deployment, settings};
use crate::rig::TestEdge;
use crate::rig::client::Client;
use crate::rig::process::EdgeProcess;
use crate::rig::sfu::TestSfu;

async fn scrape(edge: &EdgeProcess) -> String {
    let answer = TestEdge::http_at(edge.admin_address, "/metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Names with their labels.
async fn series(edge: &EdgeProcess) -> BTreeSet<String> {
    let scraped = scrape(edge).await;
    let lines = scraped.lines().filter(|line| line.starts_with("sluice_"));
    lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

/// Somebody joins a room, publishes and talks, and another one listens.
async fn used(edge: &EdgeProcess, n: usize) -> [Client; 2] {
    let rid = format!("room{n}");
    let mut ann = Client::joined(edge.address, &format!("ann{n}"), &rid).await;
    let mut bob = Client::joined(edge.address, &format!("bob{n}"), &rid).await;
    let published = ann.publish(&rid).await;
    assert_eq!(published["ok"], true, "{published}");
    bob.notified("stream-add").await;
    bob.subscribe(&rid, &published["data"]["mid"]).await;
    ann.done("broadcast", json!({"rid": rid, "data": n})).await;
    bob.notified("broadcast").await;
    [ann, bob]
}

/// Requests that fail, each in its way; a session that goes on, and one that is taken over.
async fn misused(edge: &EdgeProcess) {
    let mut eve = Client::connect(edge.address, "eve").await;
    assert_eq!(eve.refused("nothing", json!({})).await, -1);
    assert_eq!(eve.refused("broadcast", json!({"rid": "other", "data": 1})).await, 2);
    let joined = eve.done("join", json!({"rid": "e"})).await;
    assert_eq!(eve.refused("unpublish", json!({"rid": "e", "mid": "none"})).await, 3);
    assert_eq!(eve.refused("unsubscribe", json!({"rid": "e", "sid": "none"})).await, 3);
    let mut again = Client::connect(edge.address, "eve").await;
    let since = json!({"epoch": joined["epoch"], "seq": joined["seq"]});
    again.done("join", json!({"rid": "e", "session": joined["session"], "since": since})).await;
    let mut another = Client::connect(edge.address, "eve").await;
    another.done("join", json!({"rid": "e"})).await;
}

/// A process of its own: what other tests' edges count is not in it.
async fn edge() -> (TestSfu, EdgeProcess) {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let settings = format!("nodes: [{{id: sfu-1, grpc: 'http://{}'}}]\nlog: {{level: warn}}\n", sfu.address);
    let edge = EdgeProcess::start(&settings).await;
    (sfu, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_rooms_and_all_that_fails_add_nothing_to_the_list_of_what_is_counted() {
    let (_sfu, edge) = edge().await;
    let before = series(&edge).await;
    assert!(before.iter().any(|name| name.contains("join")), "{before:?}");
    let mut clients = Vec::new();
    for n in 0..=50 {
        clients.push(used(&edge, n).await);
    }
    misused(&edge).await;
    let new: Vec<_> = series(&edge).await.difference(&before).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_counted_is_there_and_explained_before_anybody_comes_and_none_is_a_summary() {
    let (_sfu, edge) = edge().await;
    let scraped = scrape(&edge).await;
    for metric in CATALOGUE.iter().flat_map(|group| group.metrics) {
        assert!(scraped.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        let has_value = |line: &str| line.starts_with(metric.name) && !line.starts_with('#');
        assert!(scraped.lines().any(has_value), "{} in {scraped}", metric.name);
    }
    assert!(!scraped.lines().any(|line| line.starts_with("# TYPE") && line.ends_with(" summary")), "{scraped}");
    let known = |line: &str| {
        let name = line.split(' ').nth(2).expect("a name");
        !name.starts_with("sluice_edge_") || CATALOGUE.iter().flat_map(|group| group.metrics).any(|it| it.name == name)
    };
    assert!(scraped.lines().filter(|line| line.starts_with("# TYPE")).all(known), "{scraped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_joins_members_and_calls_are_counted_as_what_they_are() {
    let (_sfu, edge) = edge().await;
    let [ann, bob] = used(&edge, 1).await;
    for (series, value) in [
        ("sluice_edge_rooms", 1.0),
        ("sluice_edge_members", 2.0),
        ("sluice_edge_streams", 1.0),
        ("sluice_edge_joins_total{how=\"new\"}", 2.0),
        ("sluice_edge_sfu_call_seconds_count{call=\"negotiate\",result=\"ok\"}", 2.0),
        ("sluice_edge_queue_depth{queue=\"sfu_running\"}", 0.0),
        ("sluice_edge_requests_total{method=\"publish\",error=\"none\"}", 1.0),
    ] {
        let found = edge.metric(series).await;
        assert!((found - value).abs() < 0.1, "{series}: {found}");
    }
    drop((ann, bob));
    misused(&edge).await;
    for (series, least) in [
        ("sluice_edge_joins_total{how=\"resumed\"}", 1.0),
        ("sluice_edge_joins_total{how=\"took_over\"}", 1.0),
        ("sluice_edge_join_seconds_count{how=\"took_over\"}", 1.0),
        ("sluice_edge_requests_total{method=\"unknown\",error=\"unknown_method\"}", 1.0),
        ("sluice_edge_requests_total{method=\"broadcast\",error=\"not_in_room\"}", 1.0),
        ("sluice_edge_requests_total{method=\"unpublish\",error=\"bad_mid\"}", 1.0),
    ] {
        let found = edge.metric(series).await;
        assert!(found >= least, "{series}: {found}");
    }
}

/// Of every 16th connection, so that among 32 one after the other there are two.
#[tokio::test(flavor = "multi_thread")]
async fn how_long_notifications_take_is_measured_of_some_sockets() {
    let (_sfu, edge) = edge().await;
    let mut members = Vec::new();
    for n in 0..32 {
        members.push(Client::joined(edge.address, &format!("peer{n}"), "r").await);
    }
    members[0].done("broadcast", json!({"rid": "r", "data": 1})).await;
    for member in &mut members[1..] {
        member.notified("broadcast").await;
    }
    let count = edge.metric("sluice_edge_notification_seconds_count").await;
    assert!(count >= 1.0, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_redis_are_timed_by_kind_and_result() {
    let mut deployment = Deployment::start("").await;
    let further = "log: {level: warn}\n";
    let edge = EdgeProcess::start(&settings("timed", deployment.redis.port(), deployment.sfu.address, further)).await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let count = async |kind: &str, result: &str| {
        edge.metric(&format!("sluice_edge_store_seconds_count{{kind=\"{kind}\",result=\"{result}\"}}")).await
    };
    assert!(count("step", "ok").await >= 1.0);
    assert!(count("ping", "ok").await >= 1.0);
    let published = ann.publish("r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let refused = bob.ask("unpublish", json!({"rid": "r", "mid": published["data"]["mid"]})).await;
    assert_eq!(refused["ok"], false, "it is another's: {refused}");
    assert!(count("step", "refused").await >= 1.0);
    let failed = async || count("ping", "unavailable").await + count("ping", "timeout").await;
    let before = failed().await;
    deployment.redis.stop();
    let seen = async {
        while failed().await <= before {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(crate::rig::PATIENCE, seen).await.expect("a failure is timed");
}
