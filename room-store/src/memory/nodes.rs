//! Node directories without a server: one that nodes of this process register with, and one that is a list in the
//! settings.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use proto::ids::NodeId;
use tokio::sync::watch;

use crate::{
    directory::{DirectoryError, NodeDirectory, NodeRegistration, NodeRegistry},
    nodes::{Load, NodeMap, NodeRecord, NodeState},
};

/// Nodes that register in this process. Clones are the same directory. A registration that is dropped ends at once: the
/// death of a node of this process is no secret that a lease would have to find out.
#[derive(Clone, Default)]
pub struct MemoryNodes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    map: watch::Sender<Arc<NodeMap>>,
    /// Which registration of a node is the current one. Held while the map is changed.
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    by_node: HashMap<NodeId, u64>,
    last: u64,
}

impl MemoryNodes {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Inner {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeDirectory for MemoryNodes {
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>> {
        self.0.map.subscribe()
    }

    fn knows_all(&self) -> bool {
        true
    }
}

#[async_trait]
impl NodeRegistry for MemoryNodes {
    async fn register(&self, record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError> {
        let mut current = self.0.current();
        current.last += 1;
        let (node, id) = (record.node.clone(), current.last);
        current.by_node.insert(node.clone(), id);
        self.0.map.send_modify(|map| {
            Arc::make_mut(map).nodes.insert(node.clone(), Arc::new(record));
        });
        Ok(Box::new(Registration { nodes: Arc::clone(&self.0), node, id }))
    }
}

struct Registration {
    nodes: Arc<Inner>,
    node: NodeId,
    id: u64,
}

impl Registration {
    fn update(&self, change: impl FnOnce(&mut NodeRecord)) -> Result<(), DirectoryError> {
        let current = self.nodes.current();
        if current.by_node.get(&self.node) != Some(&self.id) {
            return Err(DirectoryError::Ended);
        }
        self.nodes.map.send_modify(|map| {
            if let Some(record) = Arc::make_mut(map).nodes.get_mut(&self.node) {
                change(Arc::make_mut(record));
            }
        });
        Ok(())
    }
}

#[async_trait]
impl NodeRegistration for Registration {
    async fn report(&self, load: Load) -> Result<(), DirectoryError> {
        self.update(|record| {
            record.load = load;
            record.reports += 1;
        })
    }

    async fn set_state(&self, state: NodeState) -> Result<(), DirectoryError> {
        self.update(|record| record.state = state)
    }

    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
        self.update(|_| ())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut current = self.nodes.current();
        if current.by_node.get(&self.node) == Some(&self.id) {
            current.by_node.remove(&self.node);
            self.nodes.map.send_modify(|map| {
                Arc::make_mut(map).nodes.remove(&self.node);
            });
        }
    }
}

/// Nodes listed in the settings: always there, whether they answer or not.
#[derive(Clone)]
pub struct StaticNodes(Arc<watch::Sender<Arc<NodeMap>>>);

impl StaticNodes {
    /// Of nodes with one id, the last counts.
    pub fn new(records: impl IntoIterator<Item = NodeRecord>) -> Self {
        let nodes = records.into_iter().map(|record| (record.node.clone(), Arc::new(record))).collect();
        Self(Arc::new(watch::Sender::new(Arc::new(NodeMap { nodes, ..NodeMap::default() }))))
    }
}

#[async_trait]
impl NodeDirectory for StaticNodes {
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Capacity;

    fn record(node: &str) -> NodeRecord {
        NodeRecord {
            node: node.parse().expect("valid"),
            boot: None,
            region: "here".parse().expect("valid"),
            address: "http://127.0.0.1:1".into(),
            weight: 1,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: "1".into(),
        }
    }

    #[test]
    fn listed_nodes_are_always_there() {
        let nodes = StaticNodes::new([record("a"), record("b")]);
        assert_eq!(nodes.map().nodes.len(), 2);
        assert!(!nodes.watch().has_changed().expect("open"));
    }
}
