//! Rooms on a real Redis Cluster pass the contract.

mod on_redis;

use std::sync::Arc;

use async_trait::async_trait;
use servers::{RedisCluster, Reply, Shared};

static REDIS: Shared<RedisCluster> = Shared::new();

#[async_trait]
impl on_redis::Server for RedisCluster {
    async fn get() -> Arc<Self> {
        REDIS.get(Self::start).await
    }

    fn url(&self) -> String {
        self.url()
    }

    async fn command(&self, words: &[&str]) -> Vec<Reply> {
        self.command_masters(words).await
    }

    async fn command_on(&self, key: &str, words: &[&str]) {
        self.command_on(key, words).await;
    }
}

harness_on_redis!(OnCluster, RedisCluster);

room_store::room_store_contract!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    OnCluster
);
