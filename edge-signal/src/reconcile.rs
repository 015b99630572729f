//! What nodes tell is written to the store: streams that ended there end in their rooms. The writes are idempotent, so it does no
//! harm that other edges do the same.
//!
//! Nothing is kept here for a store that is out of reach, and nothing is forgotten: what could not be written is a room to be compared
//! with its node again, or to be buried again, which the node's task remembers. So an outage costs one mark for each room, however
//! much happens in it and however long it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use proto::ids::{BootId, Mid, NodeId, RecordingId, RoomId, Sid};
use proto::refusal::NoRecording;
use proto::sfu::RecordingEnd;
use room_store::{EndedBy, Placement, Publication, Released, RemoveReason, RoomStore, SetRecording, StoreError};
use telemetry::trace::Trace;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use crate::members::{Carried, Members};
use crate::metrics::EdgeMetrics;
use crate::nodes::{NodeEvent, Nodes, SfuError, record_request};

/// How long a store that is out of reach is tried again for one event, before its room is marked: one slow answer is no outage.
const TRY_AGAIN: Duration = Duration::from_millis(1_500);
/// How long a node has to begin or end what it records otherwise than the store says.
const TELL_NODE: Duration = Duration::from_secs(5);
/// And for something that nobody would mark.
const KEEP_TRYING: Duration = Duration::from_secs(10);
/// Mean pause between tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Events written at a time: one that waits for the store holds up no other.
const MAX_RUNNING: usize = 64;
/// Rooms of a dead node that are buried at a time.
const MAX_BURIALS: usize = 16;

/// Writes what nodes tell to the store.
pub(crate) struct Reconciler {
    store: Arc<dyn RoomStore>,
    members: Arc<Members>,
    nodes: Nodes,
    metrics: EdgeMetrics,
}

impl Reconciler {
    pub(crate) fn new(
        store: &Arc<dyn RoomStore>,
        members: &Arc<Members>,
        nodes: &Nodes,
        metrics: &EdgeMetrics,
    ) -> Self {
        let (store, members) = (Arc::clone(store), Arc::clone(members));
        Self { store, members, nodes: nodes.clone(), metrics: metrics.clone() }
    }

    /// Until shutdown.
    pub(crate) async fn run(self, mut events: mpsc::Receiver<NodeEvent>, shutdown: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(()) = running.next() => {}
                event = events.recv(), if running.len() < MAX_RUNNING => match event {
                    Some(event) => running.push(self.take(event)),
                    None => return,
                },
            }
        }
    }

    async fn take(&self, event: NodeEvent) {
        match event {
            NodeEvent::Ended { room, placement, publications, subscriptions, reason } => {
                let there = |id| (id, placement.clone());
                let publications = publications.into_iter().map(|mid| (mid, placement.clone())).collect();
                let subscriptions = subscriptions.into_iter().map(there).collect();
                let carried = Carried { publications, subscriptions, ..Carried::default() };
                if self.end(&room, carried, reason).await.is_err() {
                    self.nodes.compare_later(&placement.node, &room);
                }
            }
            NodeEvent::Missing { node, room, carried } => {
                if self.end(&room, carried, RemoveReason::TransportEnded).await.is_err() {
                    self.nodes.compare_later(&node, &room);
                }
            }
            NodeEvent::RecordingEnded { node, room, mid, recording, reason, trace } => {
                if self.recording_ended(&room, &mid, &recording, reason, trace).await.is_err() {
                    self.nodes.compare_later(&node, &room);
                }
            }
            NodeEvent::RecordedOtherwise { node, room, streams } => {
                if self.put_recordings_right(&node, &room, streams).await.is_err() {
                    self.nodes.compare_later(&node, &room);
                }
            }
            NodeEvent::Dead { node, boots, rooms } => self.bury(&node, &boots, rooms).await,
        }
    }

    /// Ends every stream of these starts of the node in rooms this edge is in; other edges do the same for theirs.
    async fn bury(&self, node: &NodeId, boots: &[BootId], rooms: Vec<RoomId>) {
        let failed = AtomicBool::new(false);
        stream::iter(rooms)
            .for_each_concurrent(MAX_BURIALS, |room| {
                let failed = &failed;
                async move {
                    // When the store has just failed for one, the others need not find out for themselves.
                    let buried = !failed.load(Ordering::Relaxed) && self.bury_in(node, boots, &room).await.is_ok();
                    if buried {
                        self.nodes.buried(node, &room);
                    } else {
                        failed.store(true, Ordering::Relaxed);
                        self.nodes.bury_later(node, [room]);
                    }
                }
            })
            .await;
    }

    async fn bury_in(&self, node: &NodeId, boots: &[BootId], room: &RoomId) -> Result<(), StoreError> {
        let until = Instant::now() + TRY_AGAIN;
        let carried = insist_until(until, || self.members.carried_by(node, room)).await?;
        let (dead, _) = carried.partition(|placement| boots.contains(&placement.boot));
        self.end(room, dead, RemoveReason::NodeLost).await
    }

    /// Ends what was there; an error: not all of it, for the store is out of reach.
    async fn end(&self, room: &RoomId, carried: Carried, reason: RemoveReason) -> Result<(), StoreError> {
        let until = Instant::now() + TRY_AGAIN;
        for (mid, placement) in &carried.publications {
            self.end_stream(room, mid, placement, reason, until).await?;
        }
        for (sid, placement) in &carried.subscriptions {
            self.end_subscription(room, sid, placement, reason, until).await?;
        }
        Ok(())
    }

    async fn end_stream(
        &self,
        room: &RoomId,
        mid: &Mid,
        placement: &Placement,
        reason: RemoveReason,
        until: Instant,
    ) -> Result<(), StoreError> {
        let by = || EndedBy::Node { room: room.clone(), placement: placement.clone(), reason };
        let removed = insist_until(until, || self.store.remove_publication(mid, by())).await;
        if self.close(removed)? {
            self.metrics.publications_lost.increment(1);
            tracing::info!(%room, %mid, node = %placement.node, reason = reason.name(), "stream ended on its node");
        }
        Ok(())
    }

    async fn end_subscription(
        &self,
        room: &RoomId,
        sid: &Sid,
        placement: &Placement,
        reason: RemoveReason,
        until: Instant,
    ) -> Result<(), StoreError> {
        let by = || EndedBy::Node { room: room.clone(), placement: placement.clone(), reason };
        if self.close(insist_until(until, || self.store.remove_subscription(sid, by())).await)? {
            tracing::debug!(%room, %sid, node = %placement.node, "subscription ended on its node");
        }
        Ok(())
    }

    /// A node says so. What was ended by a client's doing, the store says already.
    async fn recording_ended(
        &self,
        room: &RoomId,
        mid: &Mid,
        recording: &RecordingId,
        reason: RecordingEnd,
        trace: Option<Trace>,
    ) -> Result<(), StoreError> {
        let set = SetRecording::ended(room.clone(), mid.clone(), recording.clone());
        match insist_until(Instant::now() + TRY_AGAIN, || self.store.set_recording(set.clone())).await {
            Ok(_) => {
                let (trace, reason) = (trace.map(|trace| display(trace.id())), reason.name());
                tracing::info!(trace.id = trace, %room, %mid, %recording, reason, "recording ended on its node");
                Ok(())
            }
            Err(error) if error.is_transient() => {
                self.metrics.node_writes_deferred.increment(1);
                Err(error)
            }
            // It ended with its stream.
            Err(_) => Ok(()),
        }
    }

    /// What the store says now is what the node is to do; what that cannot, or has done already, the store is told.
    async fn put_recordings_right(
        &self,
        node: &NodeId,
        room: &RoomId,
        streams: Vec<(Mid, Option<RecordingId>)>,
    ) -> Result<(), StoreError> {
        let until = Instant::now() + TRY_AGAIN;
        let Some(now) = insist_until(until, || self.store.snapshot(room)).await? else { return Ok(()) };
        for (mid, has) in streams {
            let Some(stream) = now.publications.iter().find(|it| it.mid == mid && it.placement.node == *node) else {
                continue;
            };
            match (&stream.recording, has) {
                (Some(wanted), has) if has.as_ref() != Some(wanted) => {
                    let has_answered = self.begin_recording(room, stream, wanted).await?;
                    if !has_answered {
                        // The room is told that it is recorded: this cannot wait for the next round.
                        sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
                        self.nodes.compare_later(node, room);
                        return Ok(());
                    }
                }
                (None, Some(has)) => {
                    tracing::info!(%room, %mid, recording = %has, "a recording that nobody wants any more is ended");
                    self.nodes.stop_recording(room, &mid, &stream.placement, &has);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the node has answered.
    async fn begin_recording(
        &self,
        room: &RoomId,
        stream: &Publication,
        recording: &RecordingId,
    ) -> Result<bool, StoreError> {
        let request = record_request(&stream.mid, &stream.placement, recording, true);
        match self.nodes.record(&stream.placement.node, request, Instant::now() + TELL_NODE).await {
            Err(SfuError::NoRecording(NoRecording::Outgrown)) => Ok(true),
            Err(SfuError::NoRecording(why)) => {
                tracing::debug!(%room, mid = %stream.mid, %recording, ?why, "what is to be recorded is not");
                self.recording_ended(room, &stream.mid, recording, RecordingEnd::Unspecified, None).await.map(|()| true)
            }
            Err(SfuError::Unreachable) => Ok(false),
            // What is not there any more is judged elsewhere.
            Ok(()) | Err(_) => Ok(true),
        }
    }

    /// Closes what is left of it on nodes; whether this edge was the one that ended it. What the store refuses for good has ended
    /// already.
    fn close(&self, removed: Result<Released, StoreError>) -> Result<bool, StoreError> {
        match removed {
            Ok(released) => {
                self.nodes.close(&released);
                Ok(!released.is_empty())
            }
            Err(error) if error.is_transient() => {
                self.metrics.node_writes_deferred.increment(1);
                tracing::debug!(%error, "what a node told cannot be written to the store yet");
                Err(error)
            }
            Err(error) => {
                tracing::debug!(%error, "what a node told is known already");
                Ok(false)
            }
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
