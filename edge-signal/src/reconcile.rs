//! What nodes tell is written to the store: streams that ended there end in their rooms. The writes are idempotent, so it
//! does no harm that other edges do the same.

use std::sync::Arc;
use std::time::Duration;

use proto::ids::{Mid, NodeId, RoomId, Sid};
use room_store::{EndedBy, Placement, Released, RemoveReason, RoomStore, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::nodes::{NodeEvent, Nodes};

/// How long a store that is out of reach is tried again for one event. After that the comparison at the watch's next
/// opening has to find what was missed; waiting longer would hold up everything behind it.
const KEEP_TRYING: Duration = Duration::from_secs(10);
/// Mean pause between tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Writes what nodes tell to the store.
pub(crate) struct Reconciler {
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) metrics: EdgeMetrics,
}

impl Reconciler {
    /// Until shutdown.
    pub(crate) async fn run(self, mut events: mpsc::Receiver<NodeEvent>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
            }
        }
    }

    async fn take(&self, event: NodeEvent) {
        let until = Instant::now() + KEEP_TRYING;
        match event {
            NodeEvent::Ended { room, placement, publications, subscriptions } => {
                for mid in publications {
                    self.end_stream(&room, &mid, &placement, RemoveReason::TransportEnded, until).await;
                }
                for sid in subscriptions {
                    self.end_subscription(&room, &sid, &placement, until).await;
                }
            }
            NodeEvent::Missing { room, carried, reason } => {
                for (mid, placement) in carried.publications {
                    self.end_stream(&room, &mid, &placement, reason, until).await;
                }
                for (sid, placement) in carried.subscriptions {
                    self.end_subscription(&room, &sid, &placement, until).await;
                }
            }
            NodeEvent::Dead { node, rooms } => self.bury(&node, rooms, until).await,
        }
    }

    /// Ends every stream of the node in rooms this edge is in; other edges do the same for theirs.
    async fn bury(&self, node: &NodeId, rooms: Vec<RoomId>, until: Instant) {
        for room in rooms {
            for (mid, placement) in self.members.streams_on(node, &room).await {
                self.end_stream(&room, &mid, &placement, RemoveReason::NodeLost, until).await;
            }
        }
    }

    async fn end_stream(&self, room: &RoomId, mid: &Mid, placement: &Placement, reason: RemoveReason, until: Instant) {
        self.metrics.publications_lost.increment(1);
        tracing::info!(%room, %mid, node = %placement.node, reason = reason.name(), "stream ended on its node");
        let by = || EndedBy::Node { room: room.clone(), placement: placement.clone(), reason };
        self.close(insist_until(until, || self.store.remove_publication(mid, by())).await);
    }

    async fn end_subscription(&self, room: &RoomId, sid: &Sid, placement: &Placement, until: Instant) {
        tracing::debug!(%room, %sid, node = %placement.node, "subscription ended on its node");
        let reason = RemoveReason::TransportEnded;
        let by = || EndedBy::Node { room: room.clone(), placement: placement.clone(), reason };
        self.close(insist_until(until, || self.store.remove_subscription(sid, by())).await);
    }

    fn close(&self, removed: Result<Released, StoreError>) {
        match removed {
            Ok(released) => self.nodes.close(&released),
            Err(error) => tracing::warn!(%error, "what a node told could not be written to the store"),
        }
    }
}

/// Repeats a call for a while as long as the store itself fails.
pub(crate) async fn insist<T, F>(call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    insist_until(Instant::now() + KEEP_TRYING, call).await
}

async fn insist_until<T, F>(until: Instant, mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Err(error) if error.is_transient() && Instant::now() < until => {
                sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
            }
            result => return result,
        }
    }
}
