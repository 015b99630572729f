//! The contract every node directory passes: what nodes say is what edges see, for as long as a node holds its registration.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto::ids::NodeId;
use tokio::time::{sleep, timeout};

use crate::directory::{DirectoryError, NodeDirectory, NodeRegistration, NodeRegistry};
use crate::nodes::{Capacity, Load, NodeMap, NodeRecord, NodeState};

/// A directory on another machine may take a moment to tell what changed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the suite needs of an implementation's tests.
#[async_trait]
pub trait DirectoryHarness: Send + Sync + Sized + 'static {
    /// A directory nobody else uses.
    async fn fresh() -> Self;

    /// What edges read.
    fn directory(&self) -> Arc<dyn NodeDirectory>;

    /// What nodes write.
    fn registry(&self) -> Arc<dyn NodeRegistry>;

    /// Lets more time pass than a lease lives that nobody holds any more.
    async fn outlive_leases(&self);
}

/// Makes a test of each case of the contract for a [`DirectoryHarness`]; the attributes are those of each test.
#[macro_export]
macro_rules! node_directory_contract {
    ($(#[$attribute:meta])* $harness:ty) => {
        $crate::room_store_contract!(@cases [$(#[$attribute])*] $harness:
            directory::{
                a_registered_node_is_seen_as_it_said, what_a_node_reports_is_seen_and_counted, a_withdrawn_node_is_gone,
                a_registration_let_go_ends_with_its_lease, registering_again_ends_the_earlier_registration,
                nodes_are_apart, a_map_once_read_does_not_change,
            }
        );
    };
}

fn record(node: &str) -> NodeRecord {
    NodeRecord {
        node: id(node),
        boot: Some("00000000000000aa".parse().expect("valid")),
        region: "here".parse().expect("valid"),
        address: "http://192.0.2.1:7000".into(),
        weight: 3,
        capacity: Capacity::default(),
        state: NodeState::Ready,
        load: Load::default(),
        reports: 0,
        version: "1.2.3".into(),
    }
}

fn id(node: &str) -> NodeId {
    node.parse().expect("valid")
}

/// The first map that `holds`.
async fn seen(directory: &Arc<dyn NodeDirectory>, holds: impl FnMut(&Arc<NodeMap>) -> bool) -> Arc<NodeMap> {
    let mut maps = directory.watch();
    let map = timeout(PATIENCE, maps.wait_for(holds)).await.expect("seen in time").expect("the directory lives");
    Arc::clone(&map)
}

/// A directory on another machine may take a moment to tell it.
async fn until_ended(registration: &dyn NodeRegistration) {
    let ended = async {
        while registration.report(Load::default()).await != Err(DirectoryError::Ended) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("told in time");
}

pub async fn a_registered_node_is_seen_as_it_said<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    assert!(directory.map().nodes.is_empty());
    let _held = harness.registry().register(record("n")).await.expect("registered");
    let map = seen(&directory, |map| map.nodes.contains_key("n")).await;
    assert_eq!(*map.nodes["n"], record("n"));
    assert_eq!(*directory.map().nodes["n"], record("n"), "who asks later sees the same");
}

pub async fn what_a_node_reports_is_seen_and_counted<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let held = harness.registry().register(record("n")).await.expect("registered");
    for tracks in [7, 8] {
        held.report(Load { tracks, ..Load::default() }).await.expect("current");
    }
    let map = seen(&directory, |map| map.nodes.get("n").is_some_and(|node| node.load.tracks == 8)).await;
    assert_eq!(map.nodes["n"].reports, 2);
    held.set_state(NodeState::Draining).await.expect("current");
    let map = seen(&directory, |map| map.nodes["n"].state == NodeState::Draining).await;
    assert_eq!((map.nodes["n"].load.tracks, map.nodes["n"].weight), (8, 3), "the rest is as it was");
}

pub async fn a_withdrawn_node_is_gone<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let held = harness.registry().register(record("n")).await.expect("registered");
    seen(&directory, |map| map.nodes.contains_key("n")).await;
    held.withdraw().await.expect("current");
    seen(&directory, |map| map.nodes.is_empty()).await;
}

pub async fn a_registration_let_go_ends_with_its_lease<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let held = harness.registry().register(record("n")).await.expect("registered");
    seen(&directory, |map| map.nodes.contains_key("n")).await;
    harness.outlive_leases().await;
    held.report(Load::default()).await.expect("a registration that is held outlives any time");
    drop(held);
    harness.outlive_leases().await;
    seen(&directory, |map| map.nodes.is_empty()).await;
}

pub async fn registering_again_ends_the_earlier_registration<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let old = harness.registry().register(record("n")).await.expect("registered");
    let new = harness.registry().register(NodeRecord { weight: 5, ..record("n") }).await.expect("registered again");
    until_ended(old.as_ref()).await;
    assert_eq!(old.set_state(NodeState::Draining).await, Err(DirectoryError::Ended));
    drop(old);
    harness.outlive_leases().await;
    new.report(Load { tracks: 1, ..Load::default() }).await.expect("the end of the old one is not that of the new");
    let map = seen(&directory, |map| map.nodes.get("n").is_some_and(|node| node.load.tracks == 1)).await;
    assert_eq!((map.nodes["n"].weight, map.nodes["n"].state), (5, NodeState::Ready));
}

pub async fn nodes_are_apart<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let one = harness.registry().register(record("one")).await.expect("registered");
    let two = harness.registry().register(record("two")).await.expect("registered");
    one.report(Load { tracks: 1, ..Load::default() }).await.expect("current");
    one.withdraw().await.expect("current");
    two.set_state(NodeState::Draining).await.expect("current");
    let map = seen(&directory, |map| !map.nodes.contains_key("one") && map.nodes.contains_key("two")).await;
    assert_eq!(map.nodes["two"].load, Load::default());
}

pub async fn a_map_once_read_does_not_change<H: DirectoryHarness>() {
    let harness = H::fresh().await;
    let directory = harness.directory();
    let held = harness.registry().register(record("n")).await.expect("registered");
    let before = seen(&directory, |map| map.nodes.contains_key("n")).await;
    held.report(Load { tracks: 9, ..Load::default() }).await.expect("current");
    seen(&directory, |map| map.nodes["n"].load.tracks == 9).await;
    assert_eq!(before.nodes["n"].load.tracks, 0);
}
