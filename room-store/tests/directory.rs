//! The directory in memory against the contract.

use std::sync::Arc;

use async_trait::async_trait;
use room_store::contract::DirectoryHarness;
use room_store::{MemoryNodes, NodeDirectory, NodeRegistry};

struct InMemory(MemoryNodes);

#[async_trait]
impl DirectoryHarness for InMemory {
    async fn fresh() -> Self {
        Self(MemoryNodes::new())
    }

    fn directory(&self) -> Arc<dyn NodeDirectory> {
        Arc::new(self.0.clone())
    }

    fn registry(&self) -> Arc<dyn NodeRegistry> {
        Arc::new(self.0.clone())
    }

    // There are none: a registration ends when it is let go.
    async fn outlive_leases(&self) {}
}

room_store::node_directory_contract!(
    #[tokio::test]
    InMemory
);
