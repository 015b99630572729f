//! Closing transports on their nodes, in the background, each node for itself: one that cannot be reached holds up no other.
//! The store has forgotten them already; if a node cannot be reached for long it is left to itself: it ends transports whose
//! clients fall silent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{BootId, NodeId, TransportId};
use room_store::Released;
use telemetry::trace::Trace;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::calls::jittered;
use super::node::Node;
use super::{Inner, SfuError};

/// How long closing is tried. A client that is gone has been noticed by its node after half of that (30 s without consent).
const KEEP_TRYING: Duration = Duration::from_mins(1);
/// Time of one try, its own repetitions included.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Mean pause between tries.
const PAUSE: Duration = Duration::from_secs(2);
/// Transports of one node that wait: a big room that ends at once is some thousands.
const MAX_WAITING: usize = 16_384;
/// Transports named in one call.
const MAX_PER_CALL: usize = 512;

/// What is to be closed: a transport, and in which life of its node it was made.
type Transport = (BootId, String);

/// Transports of one node that wait to be closed.
#[derive(Default)]
pub(super) struct Closes {
    waiting: Mutex<VecDeque<Close>>,
    added: Notify,
}

#[derive(Debug, PartialEq, Eq)]
struct Close {
    transport: Transport,
    give_up: Instant,
    /// Of the request that ended it.
    trace: Option<Trace>,
}

/// The transports released, by node.
pub(super) fn by_node(released: &Released) -> HashMap<&NodeId, Vec<Transport>> {
    let publications = released.publications.iter().map(|(mid, placement)| (placement, TransportId::from(mid)));
    let subscriptions = released.subscriptions.iter().map(|(sid, placement)| (placement, TransportId::from(sid)));
    let mut nodes: HashMap<&NodeId, Vec<Transport>> = HashMap::new();
    for (placement, transport) in publications.chain(subscriptions) {
        nodes.entry(&placement.node).or_default().push((placement.boot.clone(), transport.to_string()));
    }
    nodes
}

impl Closes {
    /// Adds what there is room for; how many there is none for.
    fn push(&self, transports: Vec<Transport>, now: Instant) -> usize {
        let mut waiting = self.waiting();
        let room = MAX_WAITING.saturating_sub(waiting.len());
        let refused = transports.len().saturating_sub(room);
        let (give_up, trace) = (now + KEEP_TRYING, Trace::current());
        waiting.extend(transports.into_iter().take(room).map(|transport| Close { transport, give_up, trace }));
        self.added.notify_one();
        refused
    }

    /// Waits until something waits; when the first of it is given up. Safe to drop half-way.
    async fn next_end(&self) -> Instant {
        loop {
            if let Some(end) = self.waiting().front().map(|close| close.give_up) {
                return end;
            }
            self.added.notified().await;
        }
    }

    /// The next for one call. What was made in another life of the node has ended with it.
    fn take(&self, boot: &BootId) -> Vec<Close> {
        let mut waiting = self.waiting();
        waiting.retain(|close| close.transport.0 == *boot);
        let count = waiting.len().min(MAX_PER_CALL);
        waiting.drain(..count).collect()
    }

    fn put_back(&self, few: Vec<Close>) {
        let mut waiting = self.waiting();
        for close in few.into_iter().rev() {
            waiting.push_front(close);
        }
    }

    /// Gives up what has waited too long; how many that were.
    fn expire(&self, now: Instant) -> usize {
        let mut waiting = self.waiting();
        let count = waiting.iter().take_while(|close| close.give_up <= now).count();
        waiting.drain(..count);
        count
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        self.waiting().iter().map(|close| close.transport.1.clone()).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Close>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has these closed.
pub(super) fn push(inner: &Inner, node: &Node, transports: Vec<Transport>) {
    let refused = node.closes.push(transports, Instant::now());
    if refused > 0 {
        abandon(inner, node, refused, &SfuError::Full("too many wait to be closed".into()));
    }
}

/// Closes what waits whenever the node is up. Never ends.
pub(super) async fn run(inner: &Inner, node: &Node) {
    let mut changes = inner.changed.subscribe();
    loop {
        let end = node.closes.next_end().await;
        let expired = node.closes.expire(Instant::now());
        if expired > 0 {
            abandon(inner, node, expired, &SfuError::Unreachable);
        }
        if let Some(boot) = node.up() {
            close(inner, node, node.closes.take(&boot)).await;
        } else {
            // Either way the next round sees what is to be done.
            let _ = timeout_at(end, changes.changed()).await;
        }
    }
}

async fn close(inner: &Inner, node: &Node, few: Vec<Close>) {
    if few.is_empty() {
        return;
    }
    let transports = few.iter().map(|close| close.transport.1.clone()).collect();
    let closing = node.close_transports(transports, Instant::now() + TRY_TIMEOUT);
    match Trace::carry(trace_of(&few), "close", closing).await {
        Ok(()) => {}
        Err(SfuError::Unreachable) => {
            node.closes.put_back(few);
            sleep(jittered(PAUSE)).await;
        }
        Err(error) => abandon(inner, node, few.len(), &error),
    }
}

/// One call goes with one trace. That of several requests' transports goes with none: a call for each would be slower than clients
/// may leave.
fn trace_of(few: &[Close]) -> Option<Trace> {
    let first = few.first()?.trace;
    first.filter(|_| few.iter().all(|close| close.trace == first))
}

/// Some transports of a node will not be closed.
fn abandon(inner: &Inner, node: &Node, count: usize, error: &SfuError) {
    inner.metrics.closes_abandoned.increment(count as u64);
    tracing::warn!(node = %node.id, count, %error, "transports were not closed: their node is left to notice");
}

#[cfg(test)]
mod tests {
    use proto::ids::{Mid, RegionId, Sid};
    use room_store::Placement;

    use super::*;

    fn transports(boot: u64, count: usize) -> Vec<Transport> {
        (0..count).map(|number| (BootId::of(boot), format!("{boot}-{number}"))).collect()
    }

    fn names(few: &[Close]) -> Vec<&str> {
        few.iter().map(|close| close.transport.1.as_str()).collect()
    }

    #[test]
    fn transports_are_gathered_by_node() {
        let on = |node: &str| Placement {
            node: NodeId::new(node).expect("valid"),
            boot: BootId::of(1),
            region: RegionId::new("r").expect("valid"),
        };
        let sid = |name: &str| Sid::new(name).expect("valid");
        let released = Released {
            publications: vec![(Mid::new("m1").expect("valid"), on("a"))],
            subscriptions: vec![(sid("s1"), on("a")), (sid("s2"), on("b"))],
        };
        let nodes = by_node(&released);
        let of = |node: &str| nodes[&NodeId::new(node).expect("valid")].len();
        assert_eq!((nodes.len(), of("a"), of("b")), (2, 2, 1));
        assert!(by_node(&Released::default()).is_empty());
    }

    #[test]
    fn what_waits_goes_together_a_bounded_number_at_a_time_and_in_order() {
        let (closes, now) = (Closes::default(), Instant::now());
        for transport in transports(1, MAX_PER_CALL + 1) {
            assert_eq!(closes.push(vec![transport], now), 0);
        }
        let first = closes.take(&BootId::of(1));
        assert_eq!((first.len(), names(&first)[0]), (MAX_PER_CALL, "1-0"));
        closes.put_back(first);
        assert_eq!(names(&closes.take(&BootId::of(1)))[..2], ["1-0", "1-1"]);
        assert_eq!(closes.take(&BootId::of(1)).len(), 1);
        assert!(closes.take(&BootId::of(1)).is_empty());
    }

    #[tokio::test]
    async fn what_one_request_ended_is_closed_in_its_name() {
        let (closes, now) = (Closes::default(), Instant::now());
        let (one, other) = (Trace::new(1, 1), Trace::new(2, 1));
        Trace::carry(Some(one), "test", async { closes.push(transports(1, 2), now) }).await;
        assert_eq!(trace_of(&closes.take(&BootId::of(1))).map(Trace::id), Some(one.id()));
        for trace in [one, other] {
            Trace::carry(Some(trace), "test", async { closes.push(transports(1, 1), now) }).await;
        }
        assert_eq!(trace_of(&closes.take(&BootId::of(1))), None, "there are two");
        closes.push(transports(1, 1), now);
        assert_eq!(trace_of(&closes.take(&BootId::of(1))), None, "nobody asked for it");
    }

    #[test]
    fn what_ended_with_an_earlier_life_of_the_node_is_not_closed() {
        let (closes, now) = (Closes::default(), Instant::now());
        closes.push(transports(1, 3), now);
        closes.push(transports(2, 1), now);
        assert_eq!(names(&closes.take(&BootId::of(2))), ["2-0"]);
        assert!(closes.take(&BootId::of(1)).is_empty());
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let (closes, now) = (Closes::default(), Instant::now());
        assert_eq!(closes.push(transports(1, 10), now), 0);
        let later = now + Duration::from_secs(1);
        assert_eq!(closes.push(transports(1, MAX_WAITING), later), 10);
        assert_eq!(closes.expire(now + KEEP_TRYING), 10);
        assert_eq!(closes.expire(later + KEEP_TRYING), MAX_WAITING - 10);
        assert!(closes.waiting().is_empty());
    }
}
