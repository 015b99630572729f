//! Entries of nodes and edges: kept under leases, ended by namesakes, written as often as it matters.

use std::time::Duration;

use etcd_client::{Client, GetOptions, LeaseGrantOptions, PutOptions};
use room_store::{DirectoryError, EdgeDirectory, EdgeMap, EdgeRecord, Load, NodeDirectory, NodeRecord, NodeState};
use servers::Etcd;
use tokio::time::sleep;

use super::{boot, directory, edge, edges, node, nodes, register, until, writer};

async fn revision_and_lease(other: &mut Client, key: &str) -> Option<(i64, i64)> {
    let found = other.get(key, Some(GetOptions::new())).await.expect("read");
    found.kvs().first().map(|entry| (entry.mod_revision(), entry.lease()))
}

#[tokio::test]
async fn an_entry_whose_lease_was_ended_is_written_anew_with_the_same_boot() {
    let etcd = Etcd::start().await;
    let (directory, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let held = register(&directory, node("n")).await;
    let key = "/sluice/nodes/eu/n";
    let (_, lease) = revision_and_lease(&mut other, key).await.expect("it is there");
    other.lease_revoke(lease).await.expect("revoked");
    until("the entry is back under another lease", async || {
        revision_and_lease(&mut other, key).await.is_some_and(|(_, now)| now != lease)
    })
    .await;
    let map = nodes(&directory, |map| map.nodes.contains_key("n")).await;
    assert_eq!(map.nodes["n"].boot, Some(boot("n")));
    held.report(Load::default()).await.expect("it is seen");
}

#[tokio::test]
async fn what_a_node_registered_as_outlives_its_lease_and_is_read_by_who_comes_later() {
    let etcd = Etcd::start().await;
    let (registry, reader) = (directory(&etcd).await, directory(&etcd).await);
    let held = register(&registry, node("n")).await;
    nodes(&reader, |map| map.nodes.contains_key("n") && map.once.contains_key("n")).await;
    drop(held);
    nodes(&reader, |map| map.nodes.is_empty()).await;
    let late = directory(&etcd).await;
    for directory in [&reader, &late] {
        let map = directory.map();
        assert_eq!((map.nodes.len(), &*map.once["n"]), (0, &node("n")));
    }
    let mut other = writer(&etcd).await;
    let (_, lease) = revision_and_lease(&mut other, "/sluice/once/eu/n").await.expect("it is there");
    let left = other.lease_time_to_live(lease, None).await.expect("it lives").ttl();
    assert!((1..=24 * 3_600 + 1).contains(&left), "it ends, in {left} s");
    other.delete("/sluice/once/eu/n", None).await.expect("deleted");
    nodes(&reader, |map| map.once.is_empty()).await;
}

#[tokio::test]
async fn an_entry_that_somebody_deletes_is_written_anew() {
    let etcd = Etcd::start().await;
    let (directory, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let _node = register(&directory, node("n")).await;
    let _edge = EdgeDirectory::register(&directory, edge("e"));
    for key in ["/sluice/nodes/eu/n", "/sluice/names/n", "/sluice/edges/e"] {
        until("it is there", async || revision_and_lease(&mut other, key).await.is_some()).await;
        other.delete(key, None).await.expect("deleted");
        until("it is back", async || revision_and_lease(&mut other, key).await.is_some()).await;
    }
}

#[tokio::test]
async fn a_name_that_an_earlier_lease_of_ours_still_has_is_ours() {
    let etcd = Etcd::start().await;
    let (directory, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let held = register(&directory, node("n")).await;
    let (name, key) = ("/sluice/names/n", "/sluice/nodes/eu/n");
    let (_, first) = revision_and_lease(&mut other, name).await.expect("it is there");
    other.lease_revoke(first).await.expect("revoked");
    until("it is there under another", async || {
        revision_and_lease(&mut other, name).await.is_some_and(|(_, now)| now != first)
    })
    .await;
    // As if a new leader had not known of the first when it said that it was gone.
    other.lease_grant(60, Some(LeaseGrantOptions::new().with_id(first))).await.expect("granted");
    for place in [name, key] {
        other.put(place, "", Some(PutOptions::new().with_lease(first))).await.expect("written");
    }
    until("it is ours again", async || {
        revision_and_lease(&mut other, name).await.is_some_and(|(_, now)| now != first)
            && revision_and_lease(&mut other, key).await.is_some_and(|(_, now)| now != first)
    })
    .await;
    held.report(Load::default()).await.expect("it has not ended");
    assert!(nodes(&directory, |_| true).await.nodes.contains_key("n"));
}

#[tokio::test]
async fn of_two_processes_with_one_name_the_older_is_told_and_stays_away() {
    let etcd = Etcd::start().await;
    let (reader, first, second) = (directory(&etcd).await, directory(&etcd).await, directory(&etcd).await);
    let older = register(&first, node("n")).await;
    nodes(&reader, |map| map.nodes.contains_key("n")).await;
    // In another region even: a name is one node's in the whole deployment.
    let elsewhere = NodeRecord { region: "us".parse().expect("valid"), boot: Some(boot("other")), ..node("n") };
    let younger = register(&second, elsewhere).await;
    until("the older is told", async || older.report(Load::default()).await == Err(DirectoryError::Ended)).await;
    assert_eq!(older.set_state(NodeState::Draining).await, Err(DirectoryError::Ended));
    let map = nodes(&reader, |map| map.nodes["n"].region.as_str() == "us").await;
    assert_eq!(map.nodes["n"].boot, Some(boot("other")));
    younger.report(Load { tracks: 1_000, ..Load::default() }).await.expect("it is the node now");
    nodes(&reader, |map| map.nodes["n"].load.tracks == 1_000).await;
    assert_eq!(older.withdraw().await, Err(DirectoryError::Ended));
    sleep(Duration::from_secs(7)).await;
    let map = nodes(&reader, |_| true).await;
    assert_eq!(map.nodes["n"].boot, Some(boot("other")), "the older's lease has ended and took nothing with it");
}

#[tokio::test]
async fn a_node_started_again_takes_its_name_before_the_old_lease_has_ended() {
    let etcd = Etcd::start().await;
    let (reader, first, second) = (directory(&etcd).await, directory(&etcd).await, directory(&etcd).await);
    // Let go without a word, as by kill -9: its lease lives on for a while.
    drop(register(&first, node("n")).await);
    let again = NodeRecord { boot: Some(boot("again")), ..node("n") };
    let held = register(&second, again).await;
    nodes(&reader, |map| map.nodes.get("n").is_some_and(|node| node.boot == Some(boot("again")))).await;
    sleep(Duration::from_secs(7)).await;
    held.report(Load::default()).await.expect("it is the node");
    nodes(&reader, |map| map.nodes.contains_key("n")).await;
}

#[tokio::test]
async fn reports_are_written_at_most_twice_a_second_and_the_last_one_is() {
    let etcd = Etcd::start().await;
    let (directory, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let held = register(&directory, node("n")).await;
    let (before, _) = revision_and_lease(&mut other, "/sluice/nodes/eu/n").await.expect("it is there");
    for tracks in 1..=100 {
        held.report(Load { tracks: tracks * 40, ..Load::default() }).await.expect("current");
    }
    let map = nodes(&directory, |map| map.nodes.get("n").is_some_and(|node| node.load.tracks == 4_000)).await;
    assert_eq!(map.nodes["n"].reports, 100);
    let (after, _) = revision_and_lease(&mut other, "/sluice/nodes/eu/n").await.expect("it is there");
    assert!((1..=2).contains(&(after - before)), "{} writes of 100 reports", after - before);
}

#[tokio::test]
async fn whoever_reads_a_load_learns_how_long_it_has_waited() {
    let etcd = Etcd::start().await;
    let directory = directory(&etcd).await;
    let held = register(&directory, node("n")).await;
    held.report(Load { tracks: 1, ..Load::default() }).await.expect("current");
    nodes(&directory, |map| map.nodes.get("n").is_some_and(|node| node.load.tracks == 1)).await;
    // What is said now waits for its turn; what replaces it meanwhile is as much younger when it is written.
    held.report(Load { tracks: 2, ..Load::default() }).await.expect("current");
    sleep(Duration::from_millis(250)).await;
    held.report(Load { tracks: 3, ..Load::default() }).await.expect("current");
    let map = nodes(&directory, |map| map.nodes["n"].load.tracks == 3).await;
    assert!((30..=350).contains(&map.nodes["n"].load.age_ms), "{:?}", map.nodes["n"].load);
}

#[tokio::test]
async fn an_edge_says_whether_it_sees_the_store_and_is_gone_when_it_withdraws() {
    let etcd = Etcd::start().await;
    let (reader, writers) = (directory(&etcd).await, directory(&etcd).await);
    let held = EdgeDirectory::register(&writers, edge("e"));
    let map = edges(&reader, |map| map.contains_key("e")).await;
    assert_eq!(map["e"], edge("e"));
    held.update(EdgeRecord { sees_store: false, ..edge("e") });
    edges(&reader, |map| !map["e"].sees_store).await;
    held.withdraw().await.expect("taken away");
    edges(&reader, EdgeMap::is_empty).await;
}

#[tokio::test]
async fn an_edge_that_is_let_go_ends_with_its_lease() {
    let etcd = Etcd::start().await;
    let (reader, writers) = (directory(&etcd).await, directory(&etcd).await);
    let held = EdgeDirectory::register(&writers, edge("e"));
    edges(&reader, |map| map.contains_key("e")).await;
    drop(held);
    edges(&reader, EdgeMap::is_empty).await;
}
