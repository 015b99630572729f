//! Rooms in Redis: one server, a master that sentinels name, or a cluster.
//!
//! Each call is one script that the server carries out at once, on keys of one slot: it checks, changes, appends to the room's log and
//! publishes. `docs/decisions/0007` says why and shows the keys; the scripts, in `lua/`, say what is in them.
//!
//! Reading order: `config` and `url` (what it is told), `rooms` (the calls), `steps` (one of them), `script` and `keys`, `router`,
//! `node`, `lanes` and `connector` (how it gets to a server), `listener` (what it hears), `index` and `parts` (what a cluster needs
//! besides).

mod config;
mod connector;
#[cfg(test)]
mod fake;
mod flight;
mod index;
mod keys;
mod lanes;
mod listener;
mod node;
mod owed;
mod parts;
mod reply;
mod rooms;
mod router;
mod script;
mod steps;
mod url;
mod wholes;

use std::sync::{Arc, Mutex, atomic::AtomicI64};

pub use self::{
    config::{RedisConfig, RedisConfigError, RedisTls},
    url::{Address, RedisUrl, RedisUrlError, Topology},
};
use self::{connector::Access, index::Index, keys::Keys, listener::Ear, router::Router, script::Scripts};
use crate::{feeds::Feeds, settings::RoomSettings, witness::Witness};

/// Rooms in Redis. Clones are the same store.
///
/// Each call is over within some 2.5 s. Feeds end with the last clone.
#[derive(Clone)]
pub struct RedisRooms(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    settings: RoomSettings,
    keys: Keys,
    scripts: Arc<Scripts>,
    ear: Arc<Ear>,
    /// On a cluster only.
    index: Option<Arc<Index>>,
    /// Sees what steps did.
    witness: Option<Arc<dyn Witness>>,
    /// Microseconds added to the server's clock: 0 but in tests.
    clock_offset: Arc<AtomicI64>,
}

impl RedisRooms {
    /// Prepares a store. Reads certificates, connects to nobody: a Redis that is away is no error, each call tries anew. Calls are to
    /// be made within a tokio runtime.
    pub fn connect(config: &RedisConfig, settings: RoomSettings) -> Result<Self, RedisConfigError> {
        Self::build(config, settings, Keys::new(config.url.database), Arc::default())
    }

    /// A store for tests: under a name that others on the same Redis don't use, with a clock that can be put forward, by
    /// microseconds.
    #[cfg(feature = "contract")]
    pub fn with_clock(
        config: &RedisConfig,
        settings: RoomSettings,
        name: &str,
        offset: Arc<AtomicI64>,
    ) -> Result<Self, RedisConfigError> {
        Self::build(config, settings, Keys::under(name, config.url.database), offset)
    }

    fn build(
        config: &RedisConfig,
        settings: RoomSettings,
        keys: Keys,
        clock_offset: Arc<AtomicI64>,
    ) -> Result<Self, RedisConfigError> {
        let access = Access::new(&config.url, config.read()?)?;
        let router = Router::new(&config.url, access, config.pool_size);
        let is_cluster = matches!(router, Router::Cluster(_));
        let scripts = Arc::new(Scripts::new(&settings, !is_cluster));
        let index = is_cluster.then(|| Arc::new(Index::new(keys.clone(), router.clone(), Arc::clone(&scripts))));
        let ear = Arc::new(Ear { keys: keys.clone(), feeds: Mutex::new(Feeds::default()), router });
        Ok(Self(Arc::new(Inner { settings, keys, scripts, ear, index, witness: None, clock_offset })))
    }
}
