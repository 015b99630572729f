//! Etcd away, frozen, without a leader, with its past compacted, with an empty disk: the map stays, and what comes back is
//! reconciled.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::ids::RegionId;
use room_store::{EdgeDirectory, Load, NodeDirectory, NodeState, Revocations, Revoked, etcd::EtcdDirectory};
use servers::{Etcd, EtcdCluster};
use tokio::time::{Instant, sleep};

use super::{PATIENCE, directory, directory_at, edge, edges, node, nodes, register, road::Road, seen, until, writer};

/// Longer than a lease, and than nodes are held after an outage.
const LONG: Duration = Duration::from_secs(12);

/// Which nodes each map had that was shown, but for equal ones in a row.
fn record(directory: &EtcdDirectory) -> Arc<Mutex<Vec<Vec<String>>>> {
    let history = Arc::new(Mutex::new(Vec::new()));
    let (mut maps, kept) = (NodeDirectory::watch(directory), Arc::clone(&history));
    tokio::spawn(async move {
        loop {
            let names: Vec<String> = maps.borrow_and_update().nodes.keys().map(ToString::to_string).collect();
            {
                let mut kept = kept.lock().expect("nobody panics");
                if kept.last() != Some(&names) {
                    kept.push(names);
                }
            }
            if maps.changed().await.is_err() {
                return;
            }
        }
    });
    history
}

#[tokio::test]
async fn an_outage_longer_than_leases_changes_nothing_and_nodes_come_back_as_they_were() {
    let mut etcd = Etcd::start().await;
    let (reader, writers) = (directory(&etcd).await, directory(&etcd).await);
    let one = register(&writers, node("one")).await;
    let two = register(&writers, node("two")).await;
    let edge_entry = EdgeDirectory::register(&writers, edge("e"));
    let before = nodes(&reader, |map| map.nodes.len() == 2).await;
    edges(&reader, |map| map.len() == 1).await;
    let history = record(&reader);

    etcd.stop();
    until("the outage is noticed", async || !reader.is_reachable()).await;
    until("its nodes notice", async || one.report(Load::default()).await.is_err()).await;
    sleep(LONG).await;
    assert_eq!(reader.map().nodes.keys().collect::<Vec<_>>(), before.nodes.keys().collect::<Vec<_>>());
    one.report(Load { tracks: 4_000, ..Load::default() }).await.expect_err("nobody sees it");
    two.set_state(NodeState::Draining).await.expect_err("nobody is told");

    etcd.start_again().await;
    let map =
        nodes(&reader, |map| map.nodes["one"].load.tracks == 4_000 && map.nodes["two"].state == NodeState::Draining)
            .await;
    assert_eq!(map.nodes["one"].boot, before.nodes["one"].boot);
    assert!(reader.is_reachable());
    until("they are seen again", async || one.report(Load::default()).await.is_ok()).await;
    sleep(LONG).await;
    let history = history.lock().expect("nobody panics").clone();
    assert_eq!(history, [["one", "two"]], "no map was shown without one of them");
    edges(&reader, |map| map.len() == 1).await;
    drop(edge_entry);
}

#[tokio::test]
async fn nodes_that_died_during_an_outage_are_gone_after_it_and_no_others() {
    let mut etcd = Etcd::start().await;
    let (reader, writers) = (directory(&etcd).await, directory(&etcd).await);
    let _alive = register(&writers, node("alive")).await;
    let dead = register(&writers, node("dead")).await;
    nodes(&reader, |map| map.nodes.len() == 2).await;
    let history = record(&reader);
    etcd.stop();
    drop(dead);
    etcd.start_again().await;
    nodes(&reader, |map| map.nodes.len() == 1).await;
    let history = history.lock().expect("nobody panics").clone();
    assert_eq!(history, [vec!["alive", "dead"], vec!["alive"]]);
}

#[tokio::test]
async fn an_etcd_that_lost_everything_is_told_again_and_no_node_is_lost_from_the_map() {
    let mut etcd = Etcd::start().await;
    let (reader, writers) = (directory(&etcd).await, directory(&etcd).await);
    let held = register(&writers, node("n")).await;
    let revoked = Revoked::Token("t".to_owned());
    reader.revoke(revoked.clone(), Duration::from_hours(1)).await.expect("written");
    nodes(&reader, |map| !map.nodes.is_empty()).await;
    let history = record(&reader);
    etcd.start_empty().await;
    // Somebody else writes, so that the revision alone says nothing.
    let mut other = writer(&etcd).await;
    for index in 0..50 {
        other.put(format!("/other/{index}"), "", None).await.expect("written");
    }
    until("the node is seen again", async || held.report(Load::default()).await.is_ok()).await;
    let late = directory(&etcd).await;
    nodes(&late, |map| map.nodes.contains_key("n")).await;
    seen(Revocations::watch(&late), |list| list.0.contains_key(&revoked)).await;
    assert!(Revocations::watch(&reader).borrow().0.contains_key(&revoked));
    sleep(LONG).await;
    assert_eq!(*history.lock().expect("nobody panics"), [["n"]]);
}

#[tokio::test]
async fn a_directory_begun_without_etcd_finds_it_when_it_is_there() {
    let mut etcd = Etcd::start().await;
    etcd.stop();
    let directory = directory_at([etcd.endpoint()]);
    assert!(!directory.loaded(Duration::from_millis(200)).await);
    let held = register(&directory, node("n")).await;
    assert!(held.report(Load::default()).await.is_err(), "nobody sees it yet");
    assert!(!directory.is_reachable());
    etcd.start_again().await;
    nodes(&directory, |map| map.nodes.contains_key("n")).await;
    until("it is seen", async || held.report(Load::default()).await.is_ok()).await;
    assert!(directory.is_reachable());
}

#[tokio::test]
async fn killing_the_leader_of_three_is_no_more_than_a_pause() {
    let mut etcd = EtcdCluster::start().await;
    let endpoints = etcd.endpoints();
    let (reader, writers) = (directory_at(endpoints.clone()), directory_at(endpoints));
    assert!(reader.loaded(PATIENCE).await);
    let held = register(&writers, node("n")).await;
    nodes(&reader, |map| map.nodes.contains_key("n")).await;
    let history = record(&reader);
    for tracks in [1_000, 2_000] {
        etcd.leader().await.stop();
        held.report(Load { tracks, ..Load::default() }).await.ok();
        nodes(&reader, |map| map.nodes["n"].load.tracks == tracks).await;
        until("the watch is back", async || reader.is_reachable()).await;
        etcd.start_again_stopped().await;
    }
    assert_eq!(*history.lock().expect("nobody panics"), [["n"]]);
}

#[tokio::test]
async fn a_member_that_hangs_is_left_for_another() {
    let mut etcd = EtcdCluster::start().await;
    let endpoints = etcd.endpoints();
    let (reader, writers) = (directory_at(endpoints.clone()), directory_at(endpoints));
    assert!(reader.loaded(PATIENCE).await);
    let held = register(&writers, node("n")).await;
    nodes(&reader, |map| map.nodes.contains_key("n")).await;
    // One after the other, so that each of both directories is on the one that hangs at some time.
    for (index, tracks) in [(0, 1_000), (1, 2_000), (2, 3_000)] {
        etcd.members()[index].pause();
        held.report(Load { tracks, ..Load::default() }).await.ok();
        nodes(&reader, |map| map.nodes["n"].load.tracks == tracks).await;
        etcd.members()[index].resume();
        until("the member is back", async || etcd.members()[index].is_healthy().await).await;
    }
    assert!(reader.map().nodes.contains_key("n"));
}

#[tokio::test]
async fn a_past_that_was_compacted_while_the_watch_was_cut_is_read_anew() {
    let etcd = Etcd::start().await;
    let mut road = Road::to(&etcd).await;
    let reader = directory_at([road.endpoint()]);
    let mut other = writer(&etcd).await;
    let region = |weight: u32| format!(r#"{{"v":1,"weight":{weight}}}"#);
    for (key, weight) in [("stays", 1), ("goes", 2), ("changes", 3)] {
        other.put(format!("/sluice/regions/{key}"), region(weight), None).await.expect("written");
    }
    nodes(&reader, |map| map.regions.len() == 3).await;
    road.close();
    until("the cut is noticed", async || !reader.is_reachable()).await;
    other.delete("/sluice/regions/goes", None).await.expect("deleted");
    other.put("/sluice/regions/comes", region(4), None).await.expect("written");
    let last = other.put("/sluice/regions/changes", region(9), None).await.expect("written");
    other.compact(last.header().expect("it has one").revision(), None).await.expect("compacted");
    assert_eq!(reader.map().regions.len(), 3, "it cannot know");
    road.open();
    let map = nodes(&reader, |map| map.regions.contains_key("comes")).await;
    assert_eq!(map.regions.keys().map(RegionId::as_str).collect::<Vec<_>>(), ["changes", "comes", "stays"]);
    assert_eq!(map.regions["changes"].weight, 9);
}

/// It refuses whatever might write, and ends no lease that is renewed.
#[tokio::test]
async fn an_etcd_that_is_full_is_read_and_watched_on() {
    let etcd = Etcd::with_quota(2 << 20).await;
    let mut road = Road::to(&etcd).await;
    let (writers, reader, mut other) = (directory(&etcd).await, directory_at([road.endpoint()]), writer(&etcd).await);
    let _held = register(&writers, node("n")).await;
    other.put("/sluice/regions/eu", "{}", None).await.expect("written");
    nodes(&reader, |map| map.nodes.contains_key("n") && map.regions.contains_key("eu")).await;
    until("it is full", async || other.put("/elsewhere", vec![0; 1 << 20], None).await.is_err()).await;
    other.put("/sluice/regions/us", "{}", None).await.expect_err("it takes nothing more");

    let late = directory_at([etcd.endpoint()]);
    assert!(late.loaded(PATIENCE).await, "who comes now can read");
    assert!(late.map().nodes.contains_key("n"));
    road.close();
    until("the cut is noticed", async || !reader.is_reachable()).await;
    other.delete("/sluice/regions/eu", None).await.expect("to delete is to make room");
    road.open();
    let map = nodes(&reader, |map| map.regions.is_empty()).await;
    assert!(map.nodes.contains_key("n"));
}

#[tokio::test]
async fn what_happened_while_the_watch_was_cut_is_heard_of_in_order_when_it_is_back() {
    let etcd = Etcd::start().await;
    let mut road = Road::to(&etcd).await;
    let (reader, mut other) = (directory_at([road.endpoint()]), writer(&etcd).await);
    assert!(reader.loaded(PATIENCE).await);
    for round in 1..=3 {
        road.close();
        for weight in 1..=round * 10 {
            other.put("/sluice/regions/eu", format!(r#"{{"weight":{weight}}}"#), None).await.expect("written");
        }
        road.open();
        nodes(&reader, |map| map.regions.get("eu").is_some_and(|eu| eu.weight == round * 10)).await;
    }
}

#[tokio::test]
async fn a_node_cut_off_from_etcd_alone_is_gone_until_it_is_back_and_has_the_same_boot() {
    let etcd = Etcd::start().await;
    let mut road = Road::to(&etcd).await;
    let (reader, cut_off) = (directory(&etcd).await, directory_at([road.endpoint()]));
    let held = register(&cut_off, node("n")).await;
    let before = nodes(&reader, |map| map.nodes.contains_key("n")).await;
    road.close();
    nodes(&reader, |map| map.nodes.is_empty()).await;
    until("it notices", async || held.report(Load::default()).await.is_err()).await;
    road.open();
    let after = nodes(&reader, |map| map.nodes.contains_key("n")).await;
    assert_eq!(after.nodes["n"].boot, before.nodes["n"].boot);
    until("it is seen", async || held.report(Load::default()).await.is_ok()).await;
}

#[tokio::test]
async fn what_a_region_is_said_to_be_is_in_the_map() {
    let etcd = Etcd::start().await;
    let (reader, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let said = r#"{"v":1,"weight":2,"distances":{"us":80}}"#;
    other.put("/sluice/regions/eu", said, None).await.expect("written");
    let map = nodes(&reader, |map| map.regions.contains_key("eu")).await;
    assert_eq!((map.regions["eu"].weight, map.regions["eu"].distances["us"]), (2, 80));
    other.delete("/sluice/regions/eu", None).await.expect("deleted");
    nodes(&reader, |map| map.regions.is_empty()).await;
}

#[tokio::test]
async fn a_silent_watch_is_noticed_within_seconds() {
    let etcd = Etcd::start().await;
    let reader = directory(&etcd).await;
    until("it is reached", async || reader.is_reachable()).await;
    etcd.pause();
    let paused = Instant::now();
    until("the silence is noticed", async || !reader.is_reachable()).await;
    assert!(paused.elapsed() < Duration::from_secs(8), "{:?}", paused.elapsed());
    etcd.resume();
    until("it is reached again", async || reader.is_reachable()).await;
}
