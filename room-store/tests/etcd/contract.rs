//! The contract every node directory passes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use room_store::{NodeDirectory, NodeRegistry, contract::DirectoryHarness, etcd::EtcdDirectory};
use servers::Etcd;
use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};

use super::directory;

struct InEtcd {
    directory: EtcdDirectory,
    _etcd: Etcd,
}

#[async_trait]
impl DirectoryHarness for InEtcd {
    async fn fresh() -> Self {
        // Starting a server is a test's own step, which no other thread may carry on with.
        let runtime = Handle::current();
        let started = spawn_blocking(move || {
            runtime.block_on(async {
                let etcd = Etcd::start().await;
                Self { directory: directory(&etcd).await, _etcd: etcd }
            })
        });
        started.await.expect("etcd starts")
    }

    fn directory(&self) -> Arc<dyn NodeDirectory> {
        Arc::new(self.directory.clone())
    }

    fn registry(&self) -> Arc<dyn NodeRegistry> {
        Arc::new(self.directory.clone())
    }

    // Leases are of 5 s, and etcd looks for those that have ended twice a second.
    async fn outlive_leases(&self) {
        sleep(Duration::from_secs(7)).await;
    }
}

room_store::node_directory_contract!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    InEtcd
);
