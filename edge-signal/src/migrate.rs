//! Moving streams off nodes that are going away: their owners on this edge are told to publish again, spread over a part of the time
//! the node gives them, and told again as long as they have not. Nothing is in the room's log: an owner that comes back meanwhile, to
//! this edge or another, is told anew. The store is not asked: it may be slow, or away, and the node does not wait for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{Mid, NodeId, PeerId, RoomId};
use telemetry::events::{Event, EventSink};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::{EdgeMetrics, waiting};
use crate::nodes::{Draining, Nodes};
use crate::notice::Signal;
use crate::rooms::Rooms;

/// What clients are told.
const REASON: &str = "draining";
/// Share of a node's time in which all are told once: in what is left, those that fail try again.
const SPREAD: f64 = 0.5;
/// Longest time in which all are told once: a node that gives an hour should still be empty soon.
const MAX_SPREAD: Duration = Duration::from_secs(30);
/// How soon those who have not moved are told again.
const AGAIN: Duration = Duration::from_secs(10);
/// Owners that have come back and wait to be looked at. What is lost here is found at the next look at all.
const MAX_RETURNED: usize = 1_024;

/// An owner has come back to a room, on this edge.
type Returned = (RoomId, PeerId);

/// Tells the [`Migrator`] who has come back. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Returns {
    nodes: Nodes,
    sender: mpsc::Sender<Returned>,
}

impl Returns {
    /// Those that nobody has looked at yet.
    pub(crate) fn waiting(&self) -> usize {
        waiting(&self.sender)
    }

    /// The peer has joined, or resumed, on this edge.
    pub(crate) fn note(&self, room: &RoomId, peer: &PeerId) {
        if self.nodes.any_draining() {
            let _ = self.sender.try_send((room.clone(), peer.clone()));
        }
    }
}

/// What a [`Migrator`] works with.
pub(crate) struct MigratorParts {
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) rooms: Rooms,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) events: EventSink,
}

/// Tells owners to publish again.
pub(crate) struct Migrator {
    parts: MigratorParts,
    returned: mpsc::Receiver<Returned>,
    plan: Plan,
}

/// What is to be done when.
#[derive(Default)]
struct Plan {
    /// When the node's streams are looked at next, all of them.
    looks: HashMap<NodeId, Instant>,
    tells: BinaryHeap<Reverse<Tell>>,
}

/// Somebody is to be told.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tell {
    at: Instant,
    node: NodeId,
    room: RoomId,
    owner: PeerId,
    mid: Mid,
}

impl Migrator {
    pub(crate) fn new(parts: MigratorParts) -> (Self, Returns) {
        let (sender, returned) = mpsc::channel(MAX_RETURNED);
        let returns = Returns { nodes: parts.nodes.clone(), sender };
        (Self { parts, returned, plan: Plan::default() }, returns)
    }

    /// Until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let migrating = async {
            let mut changes = self.parts.nodes.changes();
            loop {
                let next = self.plan.next();
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    Some((room, peer)) = self.returned.recv() => self.tell_returned(&room, &peer),
                    () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                }
                self.go_on();
            }
        };
        shutdown.run_until_cancelled(migrating).await;
    }

    fn go_on(&mut self) {
        let now = Instant::now();
        let draining = self.parts.nodes.draining();
        for node in self.plan.take_due_looks(&draining, now) {
            let by = node.told_by(now);
            for room in &node.rooms {
                self.plan.add(&node.node, room, self.parts.members.streams_on(&node.node, room), now, by);
            }
        }
        for tell in self.plan.take_due_tells(Instant::now()) {
            self.tell(&tell.node, &tell.room, tell.owner, &tell.mid);
        }
    }

    /// The owner's streams on nodes that are going away, if it is in the room: it was told on another socket, if at all.
    fn tell_returned(&self, room: &RoomId, peer: &PeerId) {
        for node in self.parts.nodes.draining() {
            let streams = self.parts.members.streams_on(&node.node, room).into_iter();
            for (owner, mid) in streams.filter(|(owner, _)| owner == peer) {
                self.tell(&node.node, room, owner, &mid);
            }
        }
    }

    fn tell(&self, node: &NodeId, room: &RoomId, owner: PeerId, mid: &Mid) {
        tracing::debug!(%room, %mid, "owner is told to move its stream");
        self.parts.metrics.migrations_told.increment(1);
        self.parts.events.emit(Event::stream_migrating(room, &owner, mid, node, REASON));
        self.parts.rooms.tell(room, Signal::migrate(room, owner, mid, REASON));
    }
}

impl Draining {
    /// By when all have been told once, or once more.
    fn told_by(&self, now: Instant) -> Instant {
        let spread = self.until.duration_since(self.since).mul_f64(SPREAD).min(MAX_SPREAD);
        (self.since + spread).max(now + self.soon_after(now))
    }

    fn soon_after(&self, time: Instant) -> Duration {
        AGAIN.min(self.until.saturating_duration_since(time)).mul_f64(SPREAD)
    }
}

impl Plan {
    fn next(&self) -> Option<Instant> {
        let tell = self.tells.peek().map(|Reverse(tell)| tell.at);
        self.looks.values().copied().chain(tell).min()
    }

    /// The nodes whose streams are to be looked at now. Nodes that do not drain (any more) are dropped, with what was planned for them.
    fn take_due_looks(&mut self, draining: &[Draining], now: Instant) -> Vec<Draining> {
        let drains = |id: &NodeId| draining.iter().any(|node| node.node == *id);
        self.looks.retain(|id, _| drains(id));
        self.tells.retain(|Reverse(tell)| drains(&tell.node));
        let mut due = Vec::new();
        for node in draining {
            let at = self.looks.entry(node.node.clone()).or_insert(now);
            if *at <= now {
                // The last of them have some time to move, too, before anybody is told again.
                let by = node.told_by(now);
                *at = (by + node.soon_after(by)).max(now + AGAIN);
                due.push(node.clone());
            }
        }
        due
    }

    fn add(&mut self, node: &NodeId, room: &RoomId, streams: Vec<(PeerId, Mid)>, now: Instant, by: Instant) {
        for (owner, mid) in streams {
            let at = now + by.saturating_duration_since(now).mul_f64(rand::random());
            self.tells.push(Reverse(Tell { at, node: node.clone(), room: room.clone(), owner, mid }));
        }
    }

    fn take_due_tells(&mut self, now: Instant) -> Vec<Tell> {
        let mut due = Vec::new();
        while self.tells.peek().is_some_and(|Reverse(tell)| tell.at <= now) {
            due.extend(self.tells.pop().map(|Reverse(tell)| tell));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn draining(since: Instant, seconds: u64) -> Draining {
        let rooms = BTreeSet::from([room()]);
        Draining { node: node(), since, until: since + Duration::from_secs(seconds), rooms }
    }

    fn node() -> NodeId {
        "node".parse().expect("valid")
    }

    fn room() -> RoomId {
        "r".parse().expect("valid")
    }

    fn streams(count: u64) -> Vec<(PeerId, Mid)> {
        let owner = |number| PeerId::new(format!("p{number}")).expect("valid");
        (0..count).map(|number| (owner(number), Mid::of(&owner(number), number))).collect()
    }

    #[test]
    fn owners_are_told_once_each_spread_over_half_of_the_drain() {
        let (mut plan, start) = (Plan::default(), Instant::now());
        let node = draining(start, 20);
        let due = plan.take_due_looks(std::slice::from_ref(&node), start);
        assert_eq!(due, std::slice::from_ref(&node));
        plan.add(&node.node, &room(), streams(1_000), start, node.told_by(start));
        let at = |plan: &mut Plan, seconds| plan.take_due_tells(start + Duration::from_secs(seconds)).len();
        let (first, second) = (at(&mut plan, 5), at(&mut plan, 10));
        assert_eq!(first + second, 1_000);
        assert!((400..600).contains(&first), "{first}");
        let looks = |plan: &mut Plan, ms| {
            plan.take_due_looks(std::slice::from_ref(&node), start + Duration::from_millis(ms)).len()
        };
        assert_eq!(looks(&mut plan, 14_999), 0, "not before the last who were told have had time to move");
        assert_eq!(looks(&mut plan, 15_000), 1);
    }

    #[test]
    fn those_who_have_not_moved_are_told_again_until_the_node_is_gone() {
        let (mut plan, start) = (Plan::default(), Instant::now());
        let node = draining(start, 60);
        let mut looks = Vec::new();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            for node in plan.take_due_looks(std::slice::from_ref(&node), now) {
                let by = node.told_by(now);
                plan.add(&node.node, &room(), streams(1), now, by);
                looks.push(second);
                assert!(by <= node.until, "{second}");
            }
        }
        assert_eq!(looks, [0, 35, 45, 55]);
        assert!(plan.next().is_some());
        assert!(plan.take_due_looks(&[], start + Duration::from_mins(1)).is_empty());
        assert_eq!(plan.next(), None, "nothing is left of a node that is gone");
    }

    #[test]
    fn a_long_drain_does_not_make_the_moves_slow() {
        let start = Instant::now();
        assert_eq!(draining(start, 3_600).told_by(start), start + MAX_SPREAD);
        assert_eq!(draining(start, 0).told_by(start), start);
    }
}
