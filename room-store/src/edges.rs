//! Which edges there are, and whether they see the room store: how an edge that has lost it knows that another has not.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use proto::ids::{BootId, EdgeId, RegionId};
use tokio::sync::watch;

use crate::directory::DirectoryError;

/// An edge, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRecord {
    /// Its id.
    pub edge: EdgeId,
    /// Its start: two processes of one id show by it.
    pub boot: BootId,
    /// Its region.
    pub region: RegionId,
    /// Whether it sees the room store.
    pub sees_store: bool,
    /// Whether it takes clients; one that drains does not.
    pub takes_clients: bool,
}

/// The edges whose leases are alive, as last heard.
pub type EdgeMap = BTreeMap<EdgeId, EdgeRecord>;

/// Where edges say that they are there.
#[async_trait]
pub trait EdgeDirectory: Send + Sync + 'static {
    /// The map, as last heard, and each next one. While the directory is out of reach the last map stays.
    fn watch(&self) -> watch::Receiver<Arc<EdgeMap>>;

    /// Whether the directory answers now: what it last told is then no older than its watch is slow.
    fn is_reachable(&self) -> bool;

    /// Says, under a lease that is kept until the registration is dropped, what this edge is; again when something changes. The
    /// implementation keeps trying through an outage, with the latest record.
    fn register(&self, record: EdgeRecord) -> Box<dyn EdgeRegistration>;
}

/// An edge's entry. Dropping it lets the lease end by itself.
#[async_trait]
pub trait EdgeRegistration: Send + Sync {
    /// Says something else from now on.
    fn update(&self, record: EdgeRecord);

    /// Takes the entry away now.
    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError>;
}
