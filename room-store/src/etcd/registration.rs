//! A node's or an edge's entry: what it says of itself, written when it matters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    leased::{Leased, Place, Urgency},
    once, questions,
    shared::Shared,
    values,
};
use crate::{
    directory::{DirectoryError, NodeRegistration},
    edges::{EdgeRecord, EdgeRegistration},
    nodes::{Capacity, Load, NodeRecord, NodeState},
};

/// A change of load below this is told with the next regular report: it would not change where a stream goes.
const SHARE_THAT_MATTERS: f64 = 0.05;

/// A node's entry.
pub(super) struct NodeEntry {
    leased: Leased,
    said: Mutex<Said>,
    /// Ends the task that answers questions and says where the node is.
    _answering: DropGuard,
}

struct Said {
    record: NodeRecord,
    /// What changes of load are measured against.
    marked: Load,
}

impl NodeEntry {
    /// Registers; waits a while for the first writing.
    pub(super) async fn register(shared: &Arc<Shared>, record: NodeRecord) -> Self {
        let place =
            Place { name_key: shared.keys.name(&record.node), key: shared.keys.node(&record.region, &record.node) };
        let members = Arc::clone(&shared.members);
        let leased = Leased::start(shared.runtime(), members, place, values::of_node(&record));
        let stop = CancellationToken::new();
        let answering = questions::answer(
            Arc::clone(&shared.members),
            shared.keys.clone(),
            record.node.clone(),
            record.boot.clone(),
        );
        let once =
            once::say(Arc::clone(shared), shared.keys.once(&record.region, &record.node), values::of_node(&record));
        let (stopped, ended) = (stop.clone(), leased.ended());
        shared.runtime().spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = ended => {}
                () = answering => {}
                () = once => {}
            }
        });
        let said = Mutex::new(Said { marked: record.load, record });
        let entry = Self { leased, said, _answering: stop.drop_guard() };
        entry.leased.placed().await;
        entry
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl NodeRegistration for NodeEntry {
    async fn report(&self, load: Load) -> Result<(), DirectoryError> {
        let mut said = self.said();
        said.record.load = load;
        said.record.reports += 1;
        let urgency = if matters(&said.marked, &load, said.record.capacity) {
            said.marked = load;
            Urgency::Soon
        } else {
            Urgency::Later
        };
        self.leased.say(values::of_node(&said.record), urgency);
        self.leased.state()
    }

    async fn set_state(&self, state: NodeState) -> Result<(), DirectoryError> {
        let version = {
            let mut said = self.said();
            said.record.state = state;
            self.leased.say(values::of_node(&said.record), Urgency::Now)
        };
        self.leased.written(version).await
    }

    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
        self.leased.withdraw().await
    }
}

/// Whether placement could care.
fn matters(before: &Load, now: &Load, capacity: Capacity) -> bool {
    let share = |before: f64, now: f64, whole: f64| (now - before).abs() >= SHARE_THAT_MATTERS * whole;
    share(before.cpu.into(), now.cpu.into(), 1.0)
        || share(before.loss.into(), now.loss.into(), 1.0)
        || share(before.egress_bps as f64, now.egress_bps as f64, capacity.egress_bps as f64)
        || share(before.tracks as f64, now.tracks as f64, capacity.tracks as f64)
}

/// An edge's entry.
pub(super) struct EdgeEntry(Leased);

impl EdgeEntry {
    pub(super) fn register(shared: &Arc<Shared>, record: &EdgeRecord) -> Self {
        let key = shared.keys.edge(&record.edge);
        let place = Place { name_key: key.clone(), key };
        Self(Leased::start(shared.runtime(), Arc::clone(&shared.members), place, values::of_edge(record)))
    }
}

#[async_trait]
impl EdgeRegistration for EdgeEntry {
    fn update(&self, record: EdgeRecord) {
        self.0.say(values::of_edge(&record), Urgency::Now);
    }

    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
        self.0.withdraw().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_of_load_wait_and_large_ones_do_not() {
        let (none, capacity) = (Load::default(), Capacity { egress_bps: 1_000, tracks: 100 });
        for (now, expected) in [
            (Load { cpu: 0.04, ..none }, false),
            (Load { cpu: 0.06, ..none }, true),
            (Load { egress_bps: 49, ..none }, false),
            (Load { egress_bps: 50, ..none }, true),
            (Load { tracks: 4, ..none }, false),
            (Load { tracks: 5, ..none }, true),
            (Load { packets_per_second: 1_000_000, ..none }, false),
        ] {
            assert_eq!(matters(&none, &now, capacity), expected, "{now:?}");
            assert_eq!(matters(&now, &none, capacity), expected, "{now:?} falls");
        }
    }
}
