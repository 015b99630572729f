//! A store on a real Redis that other tests use, too, under a name of its own, with a clock that is put forward.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proto::ids::RoomId;
use room_store::{
    RoomSettings, RoomStore,
    contract::{Fault, FaultyRooms},
    redis::{RedisConfig, RedisRooms},
};
use servers::Reply;

/// A Redis of some kind.
#[async_trait]
pub(crate) trait Server: Send + Sync + 'static {
    async fn get() -> Arc<Self>;
    fn url(&self) -> String;
    /// Carries out a command on all masters.
    async fn command(&self, words: &[&str]) -> Vec<Reply>;
    /// Carries out a command on the master that has this key.
    async fn command_on(&self, key: &str, words: &[&str]);
}

pub(crate) struct OnRedis<S> {
    server: Arc<S>,
    rooms: RedisRooms,
    faulty: FaultyRooms,
    name: String,
    offset: Arc<AtomicI64>,
}

static LAST: AtomicU64 = AtomicU64::new(0);

impl<S: Server> OnRedis<S> {
    pub(crate) async fn new(settings: RoomSettings) -> Self {
        let server = S::get().await;
        let config = RedisConfig::new(server.url().parse().expect("a URL"));
        let (name, offset) = (format!("test-{}", LAST.fetch_add(1, Ordering::Relaxed)), Arc::<AtomicI64>::default());
        let rooms = RedisRooms::with_clock(&config, settings, &name, Arc::clone(&offset)).expect("a configuration");
        Self { server, faulty: FaultyRooms::new(Arc::new(rooms.clone())), rooms, name, offset }
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let pattern = format!("{prefix}{}:2:*", self.name);
        let answers = self.server.command(&["KEYS", &pattern]).await;
        let keys = answers.iter().flat_map(Reply::list);
        keys.map(|key| key.text().to_owned()).collect()
    }

    pub(crate) fn faulty(&self) -> Arc<dyn RoomStore> {
        Arc::new(self.faulty.clone())
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.faulty.inject(fault);
    }

    /// What was published before is heard before this returns: it comes over the same connections.
    pub(crate) async fn advance(&self, by: Duration) {
        self.offset.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
        for number in 0..24 {
            let room = RoomId::new(format!("barrier {number}")).expect("valid");
            self.rooms.subscribe(&room).await.expect("Redis is there");
        }
    }

    pub(crate) async fn checkpoint(&self) {
        for key in self.keys("").await {
            self.server.command_on(&key, &["COPY", &key, &format!("saved-{key}"), "REPLACE"]).await;
        }
    }

    pub(crate) async fn lose_writes(&self) {
        self.forget_everything().await;
        for saved in self.keys("saved-").await {
            let key = saved.strip_prefix("saved-").expect("saved");
            self.server.command_on(key, &["COPY", &saved, key]).await;
        }
    }

    pub(crate) async fn forget_everything(&self) {
        for key in self.keys("").await {
            self.server.command_on(&key, &["DEL", &key]).await;
        }
    }
}

/// The contract's harness on a kind of Redis.
#[macro_export]
macro_rules! harness_on_redis {
    ($name:ident, $server:ty) => {
        struct $name(on_redis::OnRedis<$server>);

        #[async_trait::async_trait]
        impl room_store::contract::Harness for $name {
            const HISTORIES: u64 = 3;

            async fn fresh(settings: room_store::RoomSettings) -> Self {
                Self(on_redis::OnRedis::new(settings).await)
            }

            fn store(&self) -> std::sync::Arc<dyn room_store::RoomStore> {
                self.0.faulty()
            }

            async fn advance(&self, by: std::time::Duration) {
                self.0.advance(by).await;
            }

            fn inject(&self, fault: room_store::contract::Fault) {
                self.0.inject(fault);
            }

            async fn checkpoint(&self) {
                self.0.checkpoint().await;
            }

            async fn lose_writes(&self) {
                self.0.lose_writes().await;
            }

            async fn forget_everything(&self) {
                self.0.forget_everything().await;
            }
        }
    };
}
