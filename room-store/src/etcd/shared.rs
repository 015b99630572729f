//! What the parts of the directory share: the connection, the mirror, and those who watch it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::BootId;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    client::{CallError, Members},
    config::Checked,
    follow::Follower,
    keys::Keys,
    mirror::Mirror,
};
use crate::{edges::EdgeMap, nodes::NodeMap, revocation::RevocationList};

/// A watch that is not heard of for longer shows the past: its member is asked every second, and left after three.
const REACHABLE_FOR: Duration = Duration::from_secs(3);

/// See the module.
pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) members: Arc<Members>,
    /// Ends the tasks.
    pub(super) shutdown: CancellationToken,
    runtime: Handle,
    following: AtomicBool,
    mirror: Mutex<Mirror>,
    nodes: watch::Sender<Arc<NodeMap>>,
    edges: watch::Sender<Arc<EdgeMap>>,
    revoked: watch::Sender<Arc<RevocationList>>,
    /// When the watch was last heard of, once everything was read; `None`: it is cut.
    heard: watch::Sender<Option<Instant>>,
    /// Everything was read once.
    loaded: watch::Sender<bool>,
    /// Questions that wait for an answer.
    waiting: Mutex<HashMap<String, oneshot::Sender<Option<BootId>>>>,
}

impl Shared {
    pub(super) fn new(checked: Checked) -> Self {
        let keys = Keys::new(&checked.prefix);
        Self {
            mirror: Mutex::new(Mirror::new(keys.clone())),
            keys,
            members: Arc::new(Members::new(checked)),
            shutdown: CancellationToken::new(),
            runtime: Handle::current(),
            following: AtomicBool::new(false),
            nodes: watch::Sender::default(),
            edges: watch::Sender::default(),
            revoked: watch::Sender::default(),
            heard: watch::Sender::default(),
            loaded: watch::Sender::default(),
            waiting: Mutex::default(),
        }
    }

    /// Begins to follow etcd, when nobody did before: who only registers does not need to know all others.
    pub(super) fn follow(self: &Arc<Self>) {
        if !self.following.swap(true, Ordering::Relaxed) {
            self.runtime.spawn(Follower::new(Arc::clone(self)).run());
        }
    }

    /// Runs something of the directory's.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn watch_nodes(self: &Arc<Self>) -> watch::Receiver<Arc<NodeMap>> {
        self.follow();
        self.nodes.subscribe()
    }

    pub(super) fn watch_edges(self: &Arc<Self>) -> watch::Receiver<Arc<EdgeMap>> {
        self.follow();
        self.edges.subscribe()
    }

    pub(super) fn watch_revoked(self: &Arc<Self>) -> watch::Receiver<Arc<RevocationList>> {
        self.follow();
        self.revoked.subscribe()
    }

    pub(super) fn watch_loaded(self: &Arc<Self>) -> watch::Receiver<bool> {
        self.follow();
        self.loaded.subscribe()
    }

    pub(super) fn is_reachable(self: &Arc<Self>) -> bool {
        self.follow();
        self.heard.borrow().is_some_and(|heard| heard.elapsed() < REACHABLE_FOR)
    }

    pub(super) fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch gave a sign of life.
    pub(super) fn heard(&self, now: Instant) {
        self.heard.send_replace(Some(now));
    }

    /// Everything was read.
    pub(super) fn loaded(&self) {
        self.show();
        self.loaded.send_replace(true);
    }

    /// The watch is cut.
    pub(super) fn lost(&self) {
        self.heard.send_replace(None);
    }

    /// Shows what has changed in the mirror; in its order, whoever shows it.
    pub(super) fn show(&self) {
        let mut mirror = self.mirror();
        let changed = mirror.take_changed();
        if let Some(nodes) = changed.nodes {
            self.nodes.send_replace(nodes);
        }
        if let Some(edges) = changed.edges {
            self.edges.send_replace(edges);
        }
        if let Some(revoked) = changed.revoked {
            self.revoked.send_replace(revoked);
        }
    }

    /// Gives answers to those who asked.
    pub(super) fn pass_answers(&self) {
        for (question, boot) in self.mirror().take_answers() {
            if let Some(waiter) = self.waiting().remove(&question) {
                // Who no longer waits does not need it.
                let _ = waiter.send(boot);
            }
        }
    }

    /// The answer to a question. Let go with the receiver's [`Waiting`].
    pub(super) fn wait_for(self: &Arc<Self>, question: &str) -> (Waiting, oneshot::Receiver<Option<BootId>>) {
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(question.to_owned(), sender);
        (Waiting { shared: Arc::clone(self), question: question.to_owned() }, receiver)
    }

    /// A lease of at least this length that nobody renews.
    pub(super) async fn grant(&self, length: Duration) -> Result<i64, CallError> {
        let seconds = length.as_secs().saturating_add(1).min(i64::MAX as u64) as i64;
        let granted = self.members.call(|mut client| async move { client.lease_grant(seconds, None).await }).await?;
        Ok(granted.id())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Option<BootId>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a question when it is dropped.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    question: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.question);
    }
}
