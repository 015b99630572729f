//! The traits of a node directory: edges read it, nodes write it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::nodes::{Load, NodeMap, NodeRecord, NodeState};

/// Why the directory has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The directory is out of reach.
    #[error("the node directory is out of reach")]
    Unavailable,
    /// The registration's lease has ended: register again.
    #[error("the registration has ended")]
    Ended,
    /// It holds as many as it may.
    #[error("the directory is full")]
    Full,
}

/// Reads which SFU nodes there are.
pub trait NodeDirectory: Send + Sync + 'static {
    /// The map, as last heard, and each next one. While the directory is out of reach the last map stays: an outage is not
    /// the death of nodes.
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>>;

    /// The map as last heard.
    fn map(&self) -> Arc<NodeMap> {
        Arc::clone(&self.watch().borrow())
    }
}

/// Takes nodes in.
#[async_trait]
pub trait NodeRegistry: Send + Sync + 'static {
    /// Registers a node under a lease that lives as long as the registration. An earlier registration of the same id ends.
    async fn register(&self, record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError>;
}

/// A node's entry in the directory. Dropping it lets the lease end by itself: others see the node vanish.
#[async_trait]
pub trait NodeRegistration: Send + Sync {
    /// Says what the node carries. Cheap enough to call once a second.
    async fn report(&self, load: Load) -> Result<(), DirectoryError>;

    /// Says whether it takes new streams.
    async fn set_state(&self, state: NodeState) -> Result<(), DirectoryError>;

    /// Takes the entry away now.
    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError>;
}
