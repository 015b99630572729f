//! Nodes, edges and revocations in etcd.

mod config;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use proto::ids::{BootId, NodeId};
use telemetry::settings::Contradiction;
use tokio::sync::watch;

pub use self::config::{DEFAULT_PREFIX, EtcdConfig, EtcdTls};
use crate::{
    directory::{DirectoryError, NodeDirectory, NodeRegistration, NodeRegistry},
    edges::{EdgeDirectory, EdgeMap, EdgeRecord, EdgeRegistration},
    nodes::{NodeMap, NodeRecord},
    revocation::{RevocationList, Revocations, Revoked},
};

/// What etcd knows of nodes, edges and revocations. Clones are the same directory; when the last one and all registrations
/// are gone, its tasks end.
#[derive(Clone)]
pub struct EtcdDirectory(Arc<()>);

impl EtcdDirectory {
    /// Starts following etcd, whether it is there or not: an error is one of the settings. Within a tokio runtime.
    pub fn connect(config: &EtcdConfig) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self(Arc::new(())))
    }

    /// Waits until what etcd knows has been read once; `false`: not within this time.
    pub async fn loaded(&self, within: Duration) -> bool {
        todo!("{within:?}")
    }
}

#[async_trait]
impl NodeDirectory for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>> {
        todo!()
    }

    async fn is_alive(&self, _node: &NodeId, _boot: Option<&BootId>, _within: Duration) -> Option<bool> {
        todo!()
    }
}

#[async_trait]
impl NodeRegistry for EtcdDirectory {
    async fn register(&self, _record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError> {
        todo!()
    }
}

impl EdgeDirectory for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<EdgeMap>> {
        todo!()
    }

    fn is_reachable(&self) -> bool {
        todo!()
    }

    fn register(&self, _record: EdgeRecord) -> Box<dyn EdgeRegistration> {
        todo!()
    }
}

#[async_trait]
impl Revocations for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<RevocationList>> {
        todo!()
    }

    async fn revoke(&self, _revoked: Revoked, _lifetime: Duration) -> Result<(), DirectoryError> {
        todo!()
    }
}
