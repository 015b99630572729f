//! Rooms on a real Redis that sentinels have just made the master pass the contract: what another server was told before is nothing
//! that this one knows of. How a failover goes that comes in the midst is in `redis_failures`.

mod on_redis;

use std::sync::Arc;

use async_trait::async_trait;
use servers::{Redis, RedisSentinels, Reply, Shared};

/// Sentinels whose first master is dead.
struct FailedOver {
    all: RedisSentinels,
    master: u16,
}

static REDIS: Shared<FailedOver> = Shared::new();

impl FailedOver {
    async fn start() -> Self {
        let mut all = RedisSentinels::start().await;
        let first = all.master().await.port();
        let master = all.fail_over().await;
        assert_ne!(master, first, "the first master is dead");
        // A server that waits for a CPU is not dead, and the contract knows nothing of another failover.
        all.stay().await;
        Self { all, master }
    }

    fn master(&self) -> &Redis {
        self.all.server(self.master).expect("one of them")
    }
}

#[async_trait]
impl on_redis::Server for FailedOver {
    async fn get() -> Arc<Self> {
        REDIS.get(Self::start).await
    }

    fn url(&self) -> String {
        self.all.url()
    }

    async fn command(&self, words: &[&str]) -> Vec<Reply> {
        vec![self.master().command(words).await]
    }

    async fn command_on(&self, _key: &str, words: &[&str]) {
        self.master().command(words).await;
    }
}

harness_on_redis!(OnAnotherMaster, FailedOver);

room_store::room_store_contract!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    OnAnotherMaster
);
