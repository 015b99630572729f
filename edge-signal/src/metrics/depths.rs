//! What of an edge is looked up when somebody asks: what waits in its queues, and how many rooms and members it has. Counting it all the
//! while would cost each request something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use telemetry::metrics::{Collect, Exposition};
use tokio::sync::mpsc::{Sender, WeakSender};

use super::catalogue::{LOAD_AGE, MEMBERS, QUEUE_DEPTH, QUEUED_BYTES, ROOMS, STREAMS};
use crate::members::Members;
use crate::migrate::Returns;
use crate::nodes::{NodeEvent, Nodes};
use crate::rooms::Rooms;

/// Bytes that wait for all clients together.
pub(crate) type QueuedBytes = Arc<AtomicUsize>;

/// Where to look.
pub(crate) struct Depths {
    /// Weak: the queue ends with those who fill it.
    pub(crate) node_events: WeakSender<NodeEvent>,
    pub(crate) returns: Returns,
    pub(crate) nodes: Nodes,
    pub(crate) rooms: Rooms,
    pub(crate) members: Arc<Members>,
    pub(crate) queued: QueuedBytes,
}

impl Collect for Depths {
    fn collect(&self, to: &mut Exposition) {
        let (calls, rooms, members) = (self.nodes.calls(), self.rooms.counted(), self.members.counted());
        for (queue, depth) in [
            ("node_events", self.node_events.upgrade().map_or(0, |sender| waiting(&sender))),
            ("returned", self.returns.waiting()),
            ("sfu_waiting", calls.waiting),
            ("sfu_running", calls.running),
            ("room_inbox", rooms.inbox),
        ] {
            to.sample(&QUEUE_DEPTH, &[("queue", queue)], depth as f64);
        }
        to.sample(&QUEUED_BYTES, &[], self.queued.load(Ordering::Relaxed) as f64);
        to.sample(&ROOMS, &[], rooms.open as f64);
        to.sample(&MEMBERS, &[], members.members as f64);
        to.sample(&STREAMS, &[], members.streams as f64);
        to.sample(&LOAD_AGE, &[], self.nodes.load_age().as_secs_f64());
    }
}

/// What waits in a bounded queue.
pub(crate) fn waiting<T>(queue: &Sender<T>) -> usize {
    queue.max_capacity() - queue.capacity()
}
