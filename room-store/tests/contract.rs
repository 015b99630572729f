//! The in-memory room store passes the contract.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use room_store::{
    MemoryRooms, RoomSettings, RoomStore,
    contract::{Fault, FaultyRooms, Harness},
    memory::Checkpoint,
};

struct Memory {
    rooms: MemoryRooms,
    faulty: FaultyRooms,
    kept: Mutex<Option<Checkpoint>>,
}

#[async_trait]
impl Harness for Memory {
    async fn fresh(settings: RoomSettings) -> Self {
        let rooms = MemoryRooms::new(settings);
        Self { faulty: FaultyRooms::new(Arc::new(rooms.clone())), rooms, kept: Mutex::default() }
    }

    fn store(&self) -> Arc<dyn RoomStore> {
        Arc::new(self.faulty.clone())
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    fn inject(&self, fault: Fault) {
        self.faulty.inject(fault);
    }

    async fn checkpoint(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.rooms.checkpoint());
    }

    async fn lose_writes(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.rooms.restore(kept.expect("a checkpoint was made"));
    }

    async fn forget_everything(&self) {
        self.rooms.forget_everything();
    }
}

room_store::room_store_contract!(
    #[tokio::test(start_paused = true)]
    Memory
);

/// What doesn't need time stood still, again on several threads.
mod on_threads {
    use room_store::contract::concurrency;

    use super::Memory;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_at_once_agree_with_the_log() {
        concurrency::many_at_once_agree_with_the_log::<Memory>().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_uid_from_many_sockets_has_one_session() {
        concurrency::one_uid_from_many_sockets_has_one_session::<Memory>().await;
    }
}
