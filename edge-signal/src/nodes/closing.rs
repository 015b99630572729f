//! Closing transports on their nodes, in the background. The store has forgotten them already; if a node cannot be reached
//! for long it is left to itself: it ends transports whose clients fall silent.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proto::ids::{NodeId, TransportId};
use room_store::Released;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::calls::jittered;
use super::{Inner, SfuError};

/// How long closing is tried. A client that is gone has been noticed by its node after half of that (30 s without consent).
const KEEP_TRYING: Duration = Duration::from_mins(1);
/// Time of one try, its own repetitions included.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Mean pause between tries.
const PAUSE: Duration = Duration::from_secs(2);
/// How many nodes are called at the same time.
const MAX_AT_ONCE: usize = 64;
/// Transports named in one call.
const MAX_PER_CALL: usize = 512;

/// Transports of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    node: NodeId,
    transports: Vec<String>,
}

/// One closing for each node and [`MAX_PER_CALL`] transports.
pub(super) fn by_node(released: &Released) -> Vec<Close> {
    let publications = released.publications.iter().map(|(mid, placement)| (placement, TransportId::from(mid)));
    let subscriptions = released.subscriptions.iter().map(|(sid, placement)| (placement, TransportId::from(sid)));
    let mut nodes: HashMap<&NodeId, Vec<String>> = HashMap::new();
    for (placement, transport) in publications.chain(subscriptions) {
        nodes.entry(&placement.node).or_default().push(transport.to_string());
    }
    let chunks =
        nodes.iter().flat_map(|(node, transports)| transports.chunks(MAX_PER_CALL).map(move |few| (node, few)));
    chunks.map(|(&node, few)| Close { node: node.clone(), transports: few.to_vec() }).collect()
}

/// Closes what comes, until shutdown; what is under way then gets one more try's time from its owner.
pub(super) async fn run(nodes: Weak<Inner>, mut waiting: mpsc::Receiver<Close>, shutdown: CancellationToken) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(()) = running.next(), if !running.is_empty() => {}
            next = waiting.recv(), if running.len() < MAX_AT_ONCE => match next {
                Some(close) => running.push(close_for_long(nodes.clone(), close)),
                None => break,
            },
        }
    }
}

async fn close_for_long(nodes: Weak<Inner>, close: Close) {
    let give_up = Instant::now() + KEEP_TRYING;
    loop {
        let Some(nodes) = nodes.upgrade() else { return };
        let Some(node) = nodes.node(&close.node) else { return };
        match node.close_transports(close.transports.clone(), Instant::now() + TRY_TIMEOUT).await {
            Ok(()) => return,
            Err(SfuError::Unreachable) if Instant::now() < give_up => {}
            Err(error) => {
                nodes.metrics.closes_abandoned.increment(1);
                let count = close.transports.len();
                tracing::warn!(node = %close.node, count, %error, "transports were not closed: their node is left to notice");
                return;
            }
        }
        drop((nodes, node));
        sleep(jittered(PAUSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{BootId, Mid, RegionId, Sid};
    use room_store::Placement;

    use super::*;

    #[test]
    fn transports_are_gathered_by_node_and_split_when_many() {
        let on = |node: &str| Placement {
            node: NodeId::new(node).expect("valid"),
            boot: BootId::of(1),
            region: RegionId::new("r").expect("valid"),
        };
        let released = Released {
            publications: vec![(Mid::new("m1").expect("valid"), on("a"))],
            subscriptions: (0..MAX_PER_CALL)
                .map(|n| (Sid::new(format!("s{n}")).expect("valid"), on("a")))
                .chain([(Sid::new("x").expect("valid"), on("b"))])
                .collect(),
        };
        let mut closes = by_node(&released);
        closes.sort_by_key(|close| (close.node.clone(), close.transports.len()));
        let counts: Vec<_> = closes.iter().map(|close| (close.node.as_str(), close.transports.len())).collect();
        assert_eq!(counts, [("a", 1), ("a", MAX_PER_CALL), ("b", 1)]);
        assert!(by_node(&Released::default()).is_empty());
    }
}
