//! A watch as a stream of a call: what its client asks for in, what it is told out. What is told is decided in `control`.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use proto::ids::{BootId, NodeId, RoomId};
use proto::sfu::{WatchEvent, WatchRequest};
use tonic::{Status, Streaming};

use super::read_ids;
use crate::control::{Control, Told, WatchQueue};
use crate::node::Identification;

/// A watch that lives in its response stream: no task has to be ended with it. It is read only as fast as its client reads, and
/// so are the client's requests: one that does not read costs its queue, and no snapshots.
pub(super) struct OpenWatch {
    control: Arc<Control>,
    node: NodeId,
    boot: BootId,
    queue: WatchQueue,
    /// Rooms whose snapshot is still to be sent: those of one request at most, for the next is not read before.
    owed: VecDeque<RoomId>,
    requests: Streaming<WatchRequest>,
}

impl OpenWatch {
    /// Of no room yet.
    pub(super) fn new(
        control: Arc<Control>,
        identification: &Identification,
        queue: WatchQueue,
        requests: Streaming<WatchRequest>,
    ) -> Self {
        let (node, boot) = (identification.node.clone(), identification.boot.clone());
        Self { control, node, boot, queue, owed: VecDeque::new(), requests }
    }

    /// What it is told, for as long as its client keeps asking, keeps up, and the node lives.
    pub(super) fn events(self) -> impl Stream<Item = Result<WatchEvent, Status>> + Send {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await? {
                Ok(told) => {
                    let event = watch.stamped(&told);
                    Some((Ok(event), Some(watch)))
                }
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    /// `None`: its client asks no more.
    async fn next(&mut self) -> Option<Result<Told, Status>> {
        loop {
            if !self.owed.is_empty() {
                return Some(Ok(self.control.snapshot(&mut self.queue, &mut self.owed)));
            }
            tokio::select! {
                biased;
                told = self.queue.events.recv() => return Some(told.ok_or_else(|| self.ended())),
                request = self.requests.next() => {
                    if let Err(status) = request?.and_then(|request| self.apply(&request)) {
                        return Some(Err(status));
                    }
                }
            }
        }
    }

    fn apply(&mut self, request: &WatchRequest) -> Result<(), Status> {
        let add: Vec<RoomId> = read_ids(&request.add_rooms)?;
        let remove: Vec<RoomId> = read_ids(&request.remove_rooms)?;
        self.control.change_watch(self.queue.id, &add, &remove)?;
        self.owed.extend(add);
        Ok(())
    }

    fn ended(&self) -> Status {
        if self.queue.lagged() {
            return Status::aborted("fell behind: open again for a new snapshot");
        }
        Status::unavailable("the node is going away")
    }

    fn stamped(&self, told: &Told) -> WatchEvent {
        WatchEvent {
            node_id: self.node.to_string(),
            boot_id: self.boot.to_string(),
            event: Some(told.as_ref().clone()),
        }
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.control.close_watch(self.queue.id);
    }
}
