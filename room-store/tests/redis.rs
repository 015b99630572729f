//! Rooms on one real Redis pass the contract.

mod on_redis;

use std::sync::Arc;

use async_trait::async_trait;
use servers::{Redis, Reply, Shared};

static REDIS: Shared<Redis> = Shared::new();

#[async_trait]
impl on_redis::Server for Redis {
    async fn get() -> Arc<Self> {
        REDIS.get(Self::start).await
    }

    fn url(&self) -> String {
        self.url()
    }

    async fn command(&self, words: &[&str]) -> Vec<Reply> {
        vec![self.command(words).await]
    }

    async fn command_on(&self, _key: &str, words: &[&str]) {
        self.command(words).await;
    }
}

harness_on_redis!(OnOne, Redis);

room_store::room_store_contract!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    OnOne
);
