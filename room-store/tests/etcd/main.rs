//! The directory on real etcd.

mod contract;
mod hostile;
mod outages;
mod questions;
mod registrations;
mod revocations;
mod road;
mod secured;

use std::{sync::Arc, time::Duration};

use etcd_client::Client;
use proto::ids::BootId;
use room_store::{
    Capacity, EdgeMap, EdgeRecord, Load, NodeDirectory, NodeMap, NodeRecord, NodeRegistration, NodeRegistry, NodeState,
    etcd::{EtcdConfig, EtcdDirectory},
};
use servers::Etcd;
use tokio::{sync::watch, time::timeout};

/// How long anything may take that is told through etcd, also after an outage.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(endpoints: impl IntoIterator<Item = String>) -> EtcdConfig {
    EtcdConfig { endpoints: endpoints.into_iter().collect(), ..EtcdConfig::default() }
}

fn directory_at(endpoints: impl IntoIterator<Item = String>) -> EtcdDirectory {
    EtcdDirectory::connect(&config(endpoints)).expect("usable settings")
}

/// A directory that has read everything.
async fn directory(etcd: &Etcd) -> EtcdDirectory {
    let directory = directory_at([etcd.endpoint()]);
    assert!(directory.loaded(PATIENCE).await, "read in time");
    directory
}

/// Somebody else who may write to etcd.
async fn writer(etcd: &Etcd) -> Client {
    Client::connect([etcd.endpoint()], None).await.expect("connected")
}

fn node(id: &str) -> NodeRecord {
    NodeRecord {
        node: id.parse().expect("valid"),
        boot: Some(boot(id)),
        region: "eu".parse().expect("valid"),
        address: "http://192.0.2.1:7000".to_owned(),
        weight: 1,
        capacity: Capacity::default(),
        state: NodeState::Ready,
        load: Load::default(),
        reports: 0,
        version: "1".to_owned(),
    }
}

fn boot(id: &str) -> BootId {
    format!("boot-of-{id}").parse().expect("valid")
}

fn edge(id: &str) -> EdgeRecord {
    EdgeRecord {
        edge: id.parse().expect("valid"),
        boot: boot(id),
        region: "eu".parse().expect("valid"),
        sees_store: true,
        takes_clients: true,
    }
}

async fn register(directory: &EtcdDirectory, record: NodeRecord) -> Box<dyn NodeRegistration> {
    NodeRegistry::register(directory, record).await.expect("etcd away or not, it begins")
}

/// Waits until a map is so.
async fn seen<T: Clone>(mut maps: watch::Receiver<Arc<T>>, is_so: impl Fn(&T) -> bool) -> Arc<T> {
    let map = timeout(PATIENCE, maps.wait_for(|map| is_so(map))).await.expect("seen in time").expect("it lives");
    Arc::clone(&map)
}

async fn nodes(directory: &EtcdDirectory, is_so: impl Fn(&NodeMap) -> bool) -> Arc<NodeMap> {
    seen(NodeDirectory::watch(directory), is_so).await
}

async fn edges(directory: &EtcdDirectory, is_so: impl Fn(&EdgeMap) -> bool) -> Arc<EdgeMap> {
    seen(room_store::EdgeDirectory::watch(directory), is_so).await
}

/// Waits until something that nobody announces is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} in time");
}
