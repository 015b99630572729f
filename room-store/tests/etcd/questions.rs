//! Whether a node's process is alive, asked through etcd.

use std::time::Duration;

use etcd_client::GetOptions;
use room_store::{EdgeDirectory, Load, NodeDirectory};
use servers::Etcd;

use super::{boot, directory, node, nodes, register, until, writer};

const WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_living_node_answers_and_another_start_of_it_is_not_alive() {
    let etcd = Etcd::start().await;
    let (edge, host, mut other) = (directory(&etcd).await, directory(&etcd).await, writer(&etcd).await);
    let _held = register(&host, node("n")).await;
    let id = node("n").node;
    nodes(&edge, |map| map.nodes.contains_key("n")).await;
    until("it listens", async || edge.is_alive(&id, None, WITHIN).await == Some(true)).await;
    assert_eq!(edge.is_alive(&id, Some(&boot("n")), WITHIN).await, Some(true));
    assert_eq!(edge.is_alive(&id, Some(&boot("earlier")), WITHIN).await, Some(false));
    let own = boot("n");
    let many = (0..20).map(|_| edge.is_alive(&id, Some(&own), WITHIN));
    assert!(futures_util::future::join_all(many).await.iter().all(|alive| *alive == Some(true)));
    // Question and answer are gone with the question's lease.
    until("nothing is left of it", async || {
        let prefix = || Some(GetOptions::new().with_prefix().with_count_only());
        let asked = other.get("/sluice/asked/", prefix()).await.expect("read").count();
        asked + other.get("/sluice/answered/", prefix()).await.expect("read").count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_gone_is_not_alive_while_its_entry_still_is() {
    let etcd = Etcd::start().await;
    let (edge, host) = (directory(&etcd).await, directory(&etcd).await);
    let held = register(&host, node("n")).await;
    nodes(&edge, |map| map.nodes.contains_key("n")).await;
    drop(held);
    assert_eq!(edge.is_alive(&node("n").node, Some(&boot("n")), Duration::from_secs(1)).await, Some(false));
}

#[tokio::test]
async fn nothing_can_be_told_of_a_node_without_an_entry_or_without_etcd() {
    let mut etcd = Etcd::start().await;
    let (edge, host) = (directory(&etcd).await, directory(&etcd).await);
    assert_eq!(edge.is_alive(&node("n").node, None, WITHIN).await, None);
    let held = register(&host, node("n")).await;
    nodes(&edge, |map| map.nodes.contains_key("n")).await;
    etcd.stop();
    assert_eq!(edge.is_alive(&node("n").node, None, WITHIN).await, None);
    until("the outage is noticed", async || !edge.is_reachable()).await;
    assert_eq!(edge.is_alive(&node("n").node, None, WITHIN).await, None);
    assert!(edge.map().nodes.contains_key("n"), "it is still in the map");
    held.report(Load::default()).await.ok();
}
