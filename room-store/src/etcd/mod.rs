//! Nodes, edges and revocations in etcd. Everything is below one prefix, `/sluice` unless the settings say otherwise:
//!
//! | key | value (JSON with its version as `v`) | lives |
//! |---|---|---|
//! | `nodes/<region>/<sfuid>` | `boot`, `address`, `weight`, `capacity`, `state`, `load`, `reports`, `version` | under its node's lease of 5 s |
//! | `once/<region>/<sfuid>` | the same, as it was when the node registered | a day after it was last seen |
//! | `names/<sfuid>` | the key of the node that has the name | with it |
//! | `edges/<id>` | `boot`, `region`, `sees_store`, `takes_clients` | under its edge's lease of 5 s |
//! | `regions/<region>` | `weight`, `distances` to other regions | until its operator says otherwise |
//! | `revoked/peer/<uid>`, `revoked/token/<jti in base64url>` | `at_ms`, `until_ms` | until then |
//! | `asked/<sfuid>/<question>`, `answered/<sfuid>/<question>` | nothing, `boot` | for some seconds |
//! | `life` | a random name, not JSON: another means that etcd has lost everything | for ever |
//!
//! An operator sets a region's weight among equally distant ones, and how far others are, with
//! `etcdctl put /sluice/regions/eu '{"v":1,"weight":2,"distances":{"us":80,"asia":180}}'`.
//!
//! - `config`: the settings; `client`: calls, one member at a time; `feed`: reads and watches a prefix;
//! - `mirror`: what is known, as maps (pure); `follow` feeds it; `keys` and `values` are what it reads;
//! - `leased`: an entry of ours; `registration`: what nodes and edges write to it; `once`: what outlives it; `questions`: whether a node is alive.

mod client;
mod config;
mod feed;
mod follow;
mod keys;
mod leased;
mod mirror;
mod once;
mod questions;
mod registration;
mod revoke;
mod shared;
mod values;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use proto::ids::{BootId, NodeId};
use telemetry::settings::Contradiction;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::DropGuard;

pub use self::config::{DEFAULT_PREFIX, EtcdConfig, EtcdTls};
use self::{
    registration::{EdgeEntry, NodeEntry},
    shared::Shared,
};
use crate::{
    directory::{DirectoryError, NodeDirectory, NodeRegistration, NodeRegistry},
    edges::{EdgeDirectory, EdgeMap, EdgeRecord, EdgeRegistration},
    nodes::{NodeMap, NodeRecord},
    revocation::{RevocationList, Revocations, Revoked},
};

/// What etcd knows of nodes, edges and revocations. Clones are the same directory; when the last one is gone, it is followed no
/// more, and registrations live on. It is followed from the first use on that needs it.
#[derive(Clone)]
pub struct EtcdDirectory {
    shared: Arc<Shared>,
    /// Ends the task that follows etcd.
    _following: Arc<DropGuard>,
}

impl EtcdDirectory {
    /// Never waits for etcd, which need not be there: an error is one of the settings. Within a tokio runtime.
    pub fn connect(config: &EtcdConfig) -> Result<Self, Contradiction> {
        let checked = config.checked()?;
        if !config.is_set() {
            return Err(Contradiction::new("etcd.endpoints", "names no member"));
        }
        let shared = Arc::new(Shared::new(checked));
        let following = Arc::new(shared.shutdown.clone().drop_guard());
        Ok(Self { shared, _following: following })
    }

    /// Waits until everything was read once: until then the maps and the list are empty, and say nothing. `false`: not within
    /// this time.
    pub async fn loaded(&self, within: Duration) -> bool {
        let mut loaded = self.shared.watch_loaded();
        timeout(within, loaded.wait_for(|loaded| *loaded)).await.is_ok_and(|loaded| loaded.is_ok())
    }
}

#[async_trait]
impl NodeDirectory for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<NodeMap>> {
        self.shared.watch_nodes()
    }

    async fn is_alive(&self, node: &NodeId, boot: Option<&BootId>, within: Duration) -> Option<bool> {
        questions::ask(&self.shared, node, boot, within).await
    }

    fn knows_all(&self) -> bool {
        self.shared.is_reachable()
    }
}

#[async_trait]
impl NodeRegistry for EtcdDirectory {
    async fn register(&self, record: NodeRecord) -> Result<Box<dyn NodeRegistration>, DirectoryError> {
        Ok(Box::new(NodeEntry::register(&self.shared, record).await))
    }
}

impl EdgeDirectory for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<EdgeMap>> {
        self.shared.watch_edges()
    }

    fn is_reachable(&self) -> bool {
        self.shared.is_reachable()
    }

    fn register(&self, record: EdgeRecord) -> Box<dyn EdgeRegistration> {
        Box::new(EdgeEntry::register(&self.shared, &record))
    }
}

#[async_trait]
impl Revocations for EtcdDirectory {
    fn watch(&self) -> watch::Receiver<Arc<RevocationList>> {
        self.shared.watch_revoked()
    }

    fn watch_loaded(&self) -> watch::Receiver<bool> {
        self.shared.watch_loaded()
    }

    async fn revoke(&self, revoked: Revoked, lifetime: Duration) -> Result<(), DirectoryError> {
        revoke::revoke(&self.shared, revoked, lifetime).await
    }
}
