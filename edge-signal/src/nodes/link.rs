//! The task of one node: it asks who the node is, keeps a watch open (`watch`), goes on asking meanwhile, has its silence judged
//! (`judge`), and closes transports (`closing`).
//!
//! ```text
//!          answered                probe not answered
//! Unknown ────────▶ Up(boot) ◀────────────────────────▶ Doubtful(boot)
//!                      ▲ answered       watch cut, then not answered │
//!                      └───────────── Down ◀─────────────────────────┘
//! ```
//!
//! Only in `Up` does a node get new streams. None of these states ends a stream: what does is the judge's, and what the node itself
//! says with a watch's snapshots.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use proto::ids::BootId;
use proto::sfu::{DescribeResponse, NodeState};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::calls::jittered;
use super::judge::{Failure, Lease, REFUSED_FOR};
use super::node::{Health, Node, Taking};
use super::{Inner, NodeEvent, closing, watch};

/// How long a node has to say who it is when it is not known to be up: a connection may have to be made.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it has while it is up. One that takes longer gets no new streams until it is quicker.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Mean pause between two probes of a node that is up: how late one that stands still is noticed, beside the time it has, unless a call
/// finds it slow before. A probe is a few hundred bytes; an edge of a hundred nodes sends fifty a second.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Least pause, however urgent: what many calls find at once is found once.
const MIN_PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Pause after the first failure; doubled with each further one. More than two refusals must be apart, so that the second counts.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// Longest mean pause: how late a node that came back is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// How long a node that refuses connections has to say through the directory that it lives. It takes two steps of the directory and
/// milliseconds of the node; a stream of a dead node is missed for as long.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

/// Follows the node until it is forgotten.
pub(super) async fn run(inner: Arc<Inner>, node: Arc<Node>) {
    let forgotten = node.forgotten.clone();
    tokio::select! {
        () = forgotten.cancelled() => {}
        () = follow(&inner, &node) => {}
        () = closing::run(&inner, &node) => {}
    }
    if node.set_cut_off(false) {
        inner.count_nodes();
    }
}

async fn follow(inner: &Inner, node: &Node) {
    let mut pause = MIN_PAUSE;
    loop {
        tell_unburied(inner, node).await;
        if let Some(boot) = ask(inner, node, DESCRIBE_TIMEOUT).await {
            pause = MIN_PAUSE;
            inner.set_health(node, &Health::Up(boot.clone()));
            tracing::info!(node = %node.id, %boot, "node is up");
            let error = tokio::select! {
                error = watch::run(inner, node, &boot) => error,
                error = keep_asking(inner, node, &boot) => error,
            };
            inner.metrics.watches_cut.increment(1);
            tracing::info!(node = %node.id, %error, "watch of node was cut");
            // Often only the connection is gone, and the node answers at once.
            inner.set_health(node, &Health::Doubtful(boot));
            sleep(jittered(MIN_PROBE_PAUSE / 2)).await;
        } else {
            inner.set_health(node, &Health::Down);
            // Two refusals too close together would have to wait for a third.
            sleep(jittered(pause).max(REFUSED_FOR)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// Asks a node that is up whether it still is, and what it takes, beside its watch. Ends when it answers as another start, or is
/// dead.
async fn keep_asking(inner: &Inner, node: &Node, boot: &BootId) -> Status {
    let mut pause = PROBE_INTERVAL;
    loop {
        sleep(MIN_PROBE_PAUSE).await;
        tokio::select! {
            () = sleep(jittered(pause)) => {}
            () = node.probe_now.notified() => {}
        }
        tell_unburied(inner, node).await;
        match ask(inner, node, PROBE_TIMEOUT).await {
            Some(now) if now == *boot => {
                pause = PROBE_INTERVAL;
                inner.set_health(node, &Health::Up(now));
            }
            Some(_) => return Status::aborted("the node was started anew"),
            None if node.judge().dead().contains(boot) => return Status::aborted("the node is dead"),
            None => {
                pause = MIN_PAUSE;
                inner.set_health(node, &Health::Doubtful(boot.clone()));
            }
        }
    }
}

/// Asks the node who it is, and draws the conclusions. `None`: it does not answer, or as somebody else.
async fn ask(inner: &Inner, node: &Node, within: Duration) -> Option<BootId> {
    let asked = Instant::now();
    let said = node.describe(asked + within).await;
    match said.and_then(|said| identity(&said, node).map(|boot| (boot, said))) {
        Ok((boot, said)) => {
            node.unheard().handle_answer();
            let accused = node.judge().handle_answer(&boot, asked);
            set_cut_off(inner, node, false);
            take_state(inner, node, &said);
            let (dead, _) = hear(inner, node, accused).await;
            tell_dead(inner, node, dead).await;
            Some(boot)
        }
        Err(error) => {
            tracing::debug!(node = %node.id, %error, "node does not answer");
            say_unheard(inner, node, &error);
            let failure = if is_refusal(&error) { Failure::Refused } else { Failure::Silent };
            node.judge().handle_failure(failure, asked);
            judge(inner, node).await;
            None
        }
    }
}

/// One that has never answered is none that died: nobody else looks after it.
fn say_unheard(inner: &Inner, node: &Node, error: &Status) {
    if let Some(cause) = node.unheard().handle_failure(error) {
        tracing::warn!(node = %node.id, address = node.address, cause, "node has not answered yet");
        inner.tell_of_change();
    }
}

/// Looks at what speaks against the node. What the node refuses this edge, it may still do for others: so the directory is asked.
async fn judge(inner: &Inner, node: &Node) {
    let lease = node.lease.borrow().clone();
    let mut dead = node.judge().convict_silent(&lease, Instant::now());
    let accused = node.judge().accused(Instant::now());
    let mut cut_off = lease != Lease::Gone && node.judge().is_cut_off(Instant::now());
    let (guilty, alive) = hear(inner, node, accused).await;
    dead.extend(guilty);
    cut_off |= !alive.is_empty();
    if !dead.is_empty() {
        set_cut_off(inner, node, false);
    } else if cut_off {
        set_cut_off(inner, node, true);
    }
    tell_dead(inner, node, dead).await;
}

/// Asks the directory about the accused: who is dead, and who lives. A directory that is there, has a lease of the node, and cannot ask
/// it proves nothing: etcd may be between two leaders. It is asked again with the next question.
async fn hear(inner: &Inner, node: &Node, accused: Vec<BootId>) -> (Vec<BootId>, Vec<BootId>) {
    let asked = accused.into_iter().map(|boot| async move {
        let alive = inner.directory.is_alive(&node.id, Some(&boot), ALIVE_WITHIN).await;
        (boot, alive)
    });
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    for (boot, alive) in join_all(asked).await {
        let lease = node.lease.borrow().clone();
        let may_say = inner.directory.knows_all() && lease.covers(&boot);
        let mut judge = node.judge();
        match alive {
            Some(true) => {
                judge.acquit(&boot);
                living.push(boot);
            }
            None if may_say && !judge.handle_no_word(&boot, Instant::now()) => {
                tracing::debug!(node = %node.id, %boot, "node cannot be asked through the directory now");
            }
            Some(false) | None => dead.extend(judge.convict(&boot)),
        }
    }
    (dead, living)
}

fn set_cut_off(inner: &Inner, node: &Node, cut_off: bool) {
    if !node.set_cut_off(cut_off) {
        return;
    }
    inner.count_nodes();
    if cut_off {
        tracing::warn!(node = %node.id, address = node.address, "node lives, but cannot be reached from this edge: nothing of it is removed");
    } else {
        tracing::info!(node = %node.id, "node is not cut off from this edge any more");
    }
}

fn take_state(inner: &Inner, node: &Node, said: &DescribeResponse) {
    node.records.store(said.records, Ordering::Relaxed);
    match said.state() {
        // What does not say is older than the question.
        NodeState::Ready | NodeState::Unspecified => inner.set_taking(node, Taking::Yes),
        NodeState::Draining => set_draining(inner, node, said.drain_deadline_ms),
        NodeState::Superseded => inner.set_taking(node, Taking::No),
    }
}

/// The node is going away, in so many milliseconds.
pub(super) fn set_draining(inner: &Inner, node: &Node, deadline_ms: u64) {
    // A node does not drain for longer than a day; what a broken one says must not leave the clock's range.
    const MAX_MS: u64 = 24 * 60 * 60 * 1_000;
    if matches!(*node.taking(), Taking::Draining { .. }) {
        return;
    }
    let since = Instant::now();
    let until = since + Duration::from_millis(deadline_ms.min(MAX_MS));
    tracing::info!(node = %node.id, deadline_ms, "node drains: its streams are to move");
    inner.set_taking(node, Taking::Draining { since, until });
}

async fn tell_dead(inner: &Inner, node: &Node, boots: Vec<BootId>) {
    if boots.is_empty() {
        return;
    }
    let rooms: Vec<_> = node.rooms.borrow().iter().cloned().collect();
    if matches!(*node.taking(), Taking::Draining { .. }) {
        tracing::info!(node = %node.id, ?boots, rooms = rooms.len(), "node has ended after its drain: what is left of its streams ends");
    } else {
        inner.metrics.node_deaths.increment(boots.len() as u64);
        tracing::warn!(node = %node.id, ?boots, rooms = rooms.len(), "node is dead: its streams end");
    }
    if !rooms.is_empty() {
        inner.tell(NodeEvent::Dead { node: node.id.clone(), boots, rooms }).await;
    }
}

/// Tells again of rooms whose records of dead starts could not be removed, or were found later.
async fn tell_unburied(inner: &Inner, node: &Node) {
    let boots = node.judge().dead();
    let rooms: Vec<_> = node.unburied.take().into_iter().collect();
    if boots.is_empty() || rooms.is_empty() {
        return;
    }
    inner.tell(NodeEvent::Dead { node: node.id.clone(), boots, rooms }).await;
}

fn identity(said: &DescribeResponse, node: &Node) -> Result<BootId, Status> {
    if said.node_id != node.id.as_str() {
        return Err(Status::failed_precondition(format!("this address is node {:?}", said.node_id)));
    }
    if said.region != node.region.as_str() {
        let (set, says) = (&node.region, &said.region);
        tracing::warn!(node = %node.id, %set, says, "node says another region than `nodes` does: clients go by `nodes`");
    }
    BootId::new(&said.boot_id).map_err(|error| Status::failed_precondition(error.to_string()))
}

fn is_refusal(error: &Status) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}
