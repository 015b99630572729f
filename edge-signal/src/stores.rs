//! Where the edge keeps and learns what is not its own, by its settings: in this process, or in Redis and etcd.

use std::sync::Arc;

use room_store::{EdgeDirectory, MemoryRevocations, MemoryRooms, NodeDirectory, Revocations, RoomStore, StaticNodes};
use telemetry::settings::Contradiction;

use crate::settings::EdgeSettings;

/// Where the edge keeps and learns what is not its own.
#[derive(Clone)]
pub struct Stores {
    /// Rooms, members, streams.
    pub rooms: Arc<dyn RoomStore>,
    /// Which SFU nodes there are.
    pub nodes: Arc<dyn NodeDirectory>,
    /// Which other edges there are; `None`: this one is alone.
    pub edges: Option<Arc<dyn EdgeDirectory>>,
    /// What was revoked.
    pub revocations: Arc<dyn Revocations>,
    /// The room store is in this process: it cannot have been out of reach, or reset, while sessions went unrefreshed, so due
    /// sessions end from the start.
    pub own_store: bool,
}

impl Stores {
    /// Those that the settings name. A Redis or etcd that is away is no error. Within a tokio runtime.
    pub fn connect(settings: &EdgeSettings) -> Result<Self, Contradiction> {
        let stores = Self {
            rooms: Arc::new(MemoryRooms::new(settings.room_settings())),
            nodes: Arc::new(StaticNodes::new(settings.node_records())),
            edges: None,
            revocations: Arc::new(MemoryRevocations::default()),
            own_store: true,
        };
        #[cfg(feature = "redis")]
        let stores = stores.with_redis(settings)?;
        #[cfg(feature = "etcd")]
        let stores = stores.with_etcd(settings)?;
        Ok(stores)
    }

    #[cfg(feature = "redis")]
    fn with_redis(self, settings: &EdgeSettings) -> Result<Self, Contradiction> {
        let Some(config) = settings.redis_config()? else { return Ok(self) };
        let rooms = room_store::redis::RedisRooms::connect(&config, settings.room_settings())
            .map_err(|error| Contradiction::new("redis", error.to_string()))?;
        Ok(Self { rooms: Arc::new(rooms), own_store: false, ..self })
    }

    #[cfg(feature = "etcd")]
    fn with_etcd(self, settings: &EdgeSettings) -> Result<Self, Contradiction> {
        if !settings.etcd.is_set() {
            return Ok(self);
        }
        let directory = Arc::new(room_store::etcd::EtcdDirectory::connect(&settings.etcd)?);
        Ok(Self { nodes: directory.clone(), revocations: directory.clone(), edges: Some(directory), ..self })
    }
}
