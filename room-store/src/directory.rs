//! The traits of a node directory: edges read it, nodes write it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use proto::ids::{BootId, NodeId};
use tokio::sync::watch;

use crate::nodes::{Load, NodeMap, NodeRecord, NodeState};

/// How long the entry of a node or an edge outlives its process at most, in a directory on another machine. Shorter, and a slow minute
/// of the directory ends entries of the living; longer, and a dead node is chosen for longer.
pub const LEASE_TTL: Duration = Duration::from_secs(5);

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
    /// A name longer than it keeps.
    #[error("the name is too long for the directory")]
    TooLong,
}

/// Reads which SFU nodes there are.
#[async_trait]
pub trait NodeDirectory: Send + Sync + 'static {
    /// The map, as last heard, and each next one. While the directory is out of reach the last map stays: an outage is not
    /// the death of nodes.
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>>;

    /// The map as last heard.
    fn map(&self) -> Arc<NodeMap> {
        Arc::clone(&self.watch().borrow())
    }

    /// Asks a node through the directory whether its process is alive: what an edge that the node refuses cannot see itself.
    /// `boot`: only this start of it counts. `Some(true)`: it answered within this time. `Some(false)`: it has an entry, the
    /// directory was in reach all the time, and nothing came, or another start answered. `None`: cannot tell, for the
    /// directory is out of reach, has no entry of the node, or takes no questions.
    async fn is_alive(&self, node: &NodeId, boot: Option<&BootId>, within: Duration) -> Option<bool> {
        let _ = (node, boot, within);
        None
    }

    /// Whether the directory answers now and keeps every node, so that one that is not in the map has no lease. Never so where
    /// the map is a list in somebody's settings: others may have another.
    fn knows_all(&self) -> bool {
        false
    }
}

/// Takes nodes in.
#[async_trait]
pub trait NodeRegistry: Send + Sync + 'static {
    /// Registers a node under a lease that lives as long as the registration. An earlier registration of the same id ends.
    /// A directory that is out of reach is no error: the registration keeps trying, with what was said last, and so it does
    /// when its lease is lost later.
    async fn register(&self, record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError>;
}

/// A node's entry in the directory. Dropping it lets the lease end by itself: others see the node vanish.
#[async_trait]
pub trait NodeRegistration: Send + Sync {
    /// Says what the node carries. Cheap enough to call once a second; a directory on another machine is told of small changes
    /// every few seconds only. [`DirectoryError::Unavailable`]: nobody sees the entry now; it is kept, and told later.
    /// [`DirectoryError::Ended`]: another process has registered with this id since, and this one never will again.
    async fn report(&self, load: Load) -> Result<(), DirectoryError>;

    /// Says whether it takes new streams. When this returns, it is told; errors as for [`NodeRegistration::report`].
    async fn set_state(&self, state: NodeState) -> Result<(), DirectoryError>;

    /// Takes the entry away now.
    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError>;
}
