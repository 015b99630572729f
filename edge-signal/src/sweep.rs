//! Ends sessions that are due. Every edge does so; the store makes each end happen once.

use std::sync::Arc;
use std::time::Duration;

use room_store::RoomStore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;

/// Mean pause between two sweeps: how late an expiry can be, beside the lease itself.
const INTERVAL: Duration = Duration::from_secs(1);
/// Rooms looked at in one sweep. What is left is due a second later still.
const MAX_ROOMS: usize = 1_024;

/// Ends due sessions.
pub(crate) struct Sweeper {
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) nodes: Nodes,
    /// The store is this process' own: it cannot have been out of reach or reset while sessions went unrefreshed.
    pub(crate) own_store: bool,
}

impl Sweeper {
    /// Until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut reachable_since = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(INTERVAL.mul_f64(rand::random_range(0.5..1.5))) => {}
            }
            match self.store.ping().await {
                Ok(()) => reachable_since = reachable_since.or(Some(Instant::now())),
                Err(_) => reachable_since = None,
            }
            if self.own_store || reachable_since.is_some_and(|since| since.elapsed() >= self.store.settings().ttl) {
                self.sweep().await;
            }
        }
    }

    async fn sweep(&self) {
        let Ok(rooms) = self.store.due_rooms(MAX_ROOMS).await else { return };
        for room in rooms {
            match self.store.expire_due(&room).await {
                Ok(expired) => {
                    if !expired.peers.is_empty() {
                        tracing::info!(%room, peers = expired.peers.len(), "sessions expired");
                    }
                    self.nodes.close(&expired.released);
                }
                Err(error) => return tracing::warn!(%error, "due sessions cannot be ended"),
            }
        }
    }
}
