//! A node's or an edge's entry: what it says of itself, written when it matters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    leased::{Leased, Place, Urgency, Value},
    once, questions,
    shared::Shared,
    values,
};
use crate::{
    directory::{DirectoryError, NodeRegistration},
    edges::{EdgeRecord, EdgeRegistration},
    nodes::{Load, NodeRecord, NodeState},
};

/// A node's entry.
pub(super) struct NodeEntry {
    leased: Leased,
    said: Mutex<Said>,
    /// Ends the task that answers questions and says where the node is.
    _answering: DropGuard,
}

#[derive(Clone)]
struct Said {
    record: NodeRecord,
    /// When its load was told, if any was.
    told: Option<Instant>,
}

impl NodeEntry {
    /// Registers; waits a while for the first writing.
    pub(super) async fn register(shared: &Arc<Shared>, record: NodeRecord) -> Self {
        let place =
            Place { name_key: shared.keys.name(&record.node), key: shared.keys.node(&record.region, &record.node) };
        let members = Arc::clone(&shared.members);
        let said = Said { record: record.clone(), told: None };
        let leased = Leased::start(shared.runtime(), members, place, said.value());
        let stop = CancellationToken::new();
        let answering = questions::answer(
            Arc::clone(&shared.members),
            shared.keys.clone(),
            record.node.clone(),
            record.boot.clone(),
        );
        let once = once::say(
            Arc::clone(shared),
            shared.keys.once(&record.region, &record.node),
            values::of_node(&record, Duration::ZERO),
        );
        let (stopped, ended) = (stop.clone(), leased.ended());
        shared.runtime().spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = ended => {}
                () = answering => {}
                () = once => {}
            }
        });
        let entry = Self { leased, said: Mutex::new(said), _answering: stop.drop_guard() };
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
        said.told = Some(Instant::now());
        self.leased.say(said.value(), Urgency::Soon);
        self.leased.state()
    }

    async fn set_state(&self, state: NodeState) -> Result<(), DirectoryError> {
        let version = {
            let mut said = self.said();
            said.record.state = state;
            self.leased.say(said.value(), Urgency::Now)
        };
        self.leased.written(version).await
    }

    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
        self.leased.withdraw().await
    }
}

impl Said {
    /// As it is written, with the age that its load has by then.
    fn value(&self) -> Value {
        let Self { record, told } = self.clone();
        Box::new(move || values::of_node(&record, told.map(|told| told.elapsed()).unwrap_or_default()))
    }
}

/// An edge's entry.
pub(super) struct EdgeEntry(Leased);

impl EdgeEntry {
    pub(super) fn register(shared: &Arc<Shared>, record: &EdgeRecord) -> Self {
        let key = shared.keys.edge(&record.edge);
        let place = Place { name_key: key.clone(), key };
        Self(Leased::start(shared.runtime(), Arc::clone(&shared.members), place, of_edge(record)))
    }
}

#[async_trait]
impl EdgeRegistration for EdgeEntry {
    fn update(&self, record: EdgeRecord) {
        self.0.say(of_edge(&record), Urgency::Now);
    }

    async fn withdraw(self: Box<Self>) -> Result<(), DirectoryError> {
        self.0.withdraw().await
    }
}

fn of_edge(record: &EdgeRecord) -> Value {
    let value = values::of_edge(record);
    Box::new(move || value.clone())
}
