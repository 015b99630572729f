//! A directory of nodes that says of their lives what the test wants: what an edge hears of a node it cannot reach itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::ids::{BootId, NodeId};
use room_store::{
    Capacity, Load, MemoryNodes, NodeDirectory, NodeMap, NodeRecord, NodeRegistration, NodeRegistry as _, NodeState,
};
use tokio::sync::watch;
use tonic::async_trait;

/// Nodes register in it; whether they live is set.
pub(crate) struct TestDirectory {
    nodes: MemoryNodes,
    leases: Mutex<HashMap<String, Box<dyn NodeRegistration>>>,
    alive: Mutex<Option<bool>>,
}

impl TestDirectory {
    /// Of these nodes, at these addresses, with leases.
    pub(crate) async fn of(nodes: &[(&str, &str, SocketAddr)]) -> Arc<Self> {
        // A node that has died does not answer.
        let alive = Mutex::new(Some(false));
        let directory = Arc::new(Self { nodes: MemoryNodes::new(), leases: Mutex::default(), alive });
        for (id, boot, address) in nodes {
            directory.register(id, boot, &format!("http://{address}")).await;
        }
        directory
    }

    /// A node takes a lease.
    pub(crate) async fn register(&self, id: &str, boot: &str, address: &str) {
        self.register_in("default", id, boot, address).await;
    }

    /// A node of this region takes a lease.
    pub(crate) async fn register_in(&self, region: &str, id: &str, boot: &str, address: &str) {
        let region = region.parse().expect("valid");
        let record = NodeRecord { region, address: address.to_owned(), ..record(id, boot, ([0; 4], 0).into()) };
        let lease = self.nodes.register(record).await.expect("registered");
        self.leases.lock().expect("not poisoned").insert(id.to_owned(), lease);
    }

    /// The node's lease ends.
    pub(crate) fn end_lease(&self, id: &str) {
        self.leases.lock().expect("not poisoned").remove(id).expect("has one");
    }

    /// What comes of asking nodes through the directory.
    pub(crate) fn set_alive(&self, alive: Option<bool>) {
        *self.alive.lock().expect("not poisoned") = alive;
    }
}

/// A node of the usual region, as it registers.
pub(crate) fn record(id: &str, boot: &str, address: SocketAddr) -> NodeRecord {
    NodeRecord {
        node: NodeId::new(id).expect("valid"),
        boot: Some(BootId::new(boot).expect("valid")),
        region: "default".parse().expect("valid"),
        address: format!("http://{address}"),
        weight: 1,
        capacity: Capacity::default(),
        state: NodeState::Ready,
        load: Load::default(),
        reports: 1,
        version: "test".to_owned(),
    }
}

#[async_trait]
impl NodeDirectory for TestDirectory {
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>> {
        self.nodes.watch()
    }

    async fn is_alive(&self, _: &NodeId, _: Option<&BootId>, _: Duration) -> Option<bool> {
        *self.alive.lock().expect("not poisoned")
    }

    fn knows_all(&self) -> bool {
        true
    }
}
