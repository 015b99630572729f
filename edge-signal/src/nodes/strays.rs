//! Places that records name and no node of the map has, nor had within a day: nodes that died while no edge ran that knew them. They
//! cannot be asked, for where they are is not known. One is dead when the directory answers, keeps every node, and has had none of that
//! name for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{BootId, NodeId, RoomId};
use room_store::Placement;
use tokio::time::{Instant, sleep};

use super::calls::jittered;
use super::{Inner, NodeEvent};

/// How long the directory must have been without the node. A node that has only lost its lease takes it again within a few seconds
/// of seeing the directory; until then it may well carry its streams.
const ABSENT_FOR: Duration = Duration::from_secs(10);
/// Mean pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Places remembered. Further ones are named by their records again when these are dealt with.
const MAX_STRAYS: usize = 1_024;

/// The places no node is known for.
#[derive(Default)]
pub(super) struct Strays(Mutex<BTreeMap<(NodeId, BootId), Stray>>);

struct Stray {
    placement: Placement,
    /// Since when the directory has been seen without it.
    absent_since: Option<Instant>,
    /// Rooms of this edge whose records name it.
    rooms: BTreeSet<RoomId>,
}

/// What came of a look at the directory.
#[derive(Default)]
struct Looked {
    /// They are dead.
    dead: Vec<Stray>,
    /// They are known now.
    found: Vec<Stray>,
}

impl Strays {
    /// A room's record names this place.
    pub(super) fn note(&self, placement: &Placement, room: &RoomId) {
        let mut strays = self.lock();
        let key = (placement.node.clone(), placement.boot.clone());
        if strays.len() >= MAX_STRAYS && !strays.contains_key(&key) {
            return;
        }
        let stray = strays.entry(key).or_insert_with(|| Stray {
            placement: placement.clone(),
            absent_since: None,
            rooms: BTreeSet::new(),
        });
        stray.rooms.insert(room.clone());
    }

    /// The room is not this edge's any more.
    pub(super) fn forget(&self, room: &RoomId) {
        self.lock().retain(|_, stray| {
            stray.rooms.remove(room);
            !stray.rooms.is_empty()
        });
    }

    /// Looks what has become of them. `knows_all`: the directory can be asked; `is_known`: it has a node of this name.
    fn look(&self, knows_all: bool, is_known: impl Fn(&NodeId) -> bool, now: Instant) -> Looked {
        let mut looked = Looked::default();
        let mut strays = self.lock();
        for ((node, boot), mut stray) in std::mem::take(&mut *strays) {
            if is_known(&node) {
                looked.found.push(stray);
                continue;
            }
            stray.absent_since = knows_all.then(|| stray.absent_since.unwrap_or(now));
            if stray.absent_since.is_some_and(|since| now.duration_since(since) >= ABSENT_FOR) {
                looked.dead.push(stray);
            } else {
                strays.insert((node, boot), stray);
            }
        }
        looked
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NodeId, BootId), Stray>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after them until shutdown.
pub(super) async fn run(inner: Arc<Inner>) {
    let shutdown = inner.shutdown.clone();
    let minding = async {
        loop {
            sleep(jittered(INTERVAL)).await;
            mind(&inner).await;
        }
    };
    shutdown.run_until_cancelled(minding).await;
}

async fn mind(inner: &Arc<Inner>) {
    let is_known = |id: &NodeId| inner.find(id).is_some();
    let Looked { dead, found } = inner.strays.look(inner.directory.knows_all(), is_known, Instant::now());
    let nodes = super::Nodes { inner: Arc::clone(inner) };
    for stray in found {
        for room in &stray.rooms {
            nodes.watch_room(&stray.placement, room);
        }
    }
    for Stray { placement: Placement { node, boot, .. }, rooms, .. } in dead {
        inner.metrics.node_deaths.increment(1);
        tracing::warn!(%node, %boot, rooms = rooms.len(), "streams are on a node that nobody knows any more: they end");
        inner.tell(NodeEvent::Dead { node, boots: vec![boot], rooms: rooms.into_iter().collect() }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strays() -> Strays {
        let strays = Strays::default();
        strays.note(&placement(1), &room("r"));
        strays
    }

    fn placement(boot: u64) -> Placement {
        Placement {
            node: "node".parse().expect("valid"),
            boot: BootId::of(boot),
            region: "region".parse().expect("valid"),
        }
    }

    fn room(name: &str) -> RoomId {
        RoomId::new(name).expect("valid")
    }

    fn dead(looked: &Looked) -> usize {
        looked.dead.len()
    }

    #[test]
    fn a_node_that_the_directory_has_not_had_for_a_while_is_dead() {
        let (strays, start) = (strays(), Instant::now());
        assert_eq!(dead(&strays.look(true, |_| false, start)), 0);
        assert_eq!(dead(&strays.look(true, |_| false, start + ABSENT_FOR - Duration::from_millis(1))), 0);
        assert_eq!(dead(&strays.look(true, |_| false, start + ABSENT_FOR)), 1);
        assert_eq!(dead(&strays.look(true, |_| false, start + 2 * ABSENT_FOR)), 0, "once");
    }

    #[test]
    fn a_directory_out_of_reach_proves_nothing_and_the_time_begins_anew_after_it() {
        let (strays, start) = (strays(), Instant::now());
        assert_eq!(dead(&strays.look(true, |_| false, start)), 0);
        assert_eq!(dead(&strays.look(false, |_| false, start + ABSENT_FOR)), 0);
        assert_eq!(dead(&strays.look(true, |_| false, start + 10 * ABSENT_FOR)), 0);
        assert_eq!(dead(&strays.look(true, |_| false, start + 11 * ABSENT_FOR)), 1);
    }

    #[test]
    fn a_node_that_comes_back_is_no_stray() {
        let (strays, start) = (strays(), Instant::now());
        assert_eq!(dead(&strays.look(true, |_| false, start)), 0);
        let looked = strays.look(true, |_| true, start + ABSENT_FOR);
        assert_eq!((looked.found.len(), dead(&looked)), (1, 0));
        assert!(strays.lock().is_empty());
    }

    #[test]
    fn what_nobody_needs_is_forgotten_and_what_is_remembered_is_bounded() {
        let strays = strays();
        strays.note(&placement(1), &room("other"));
        strays.forget(&room("r"));
        assert_eq!(strays.lock().len(), 1);
        strays.forget(&room("other"));
        assert!(strays.lock().is_empty());
        for boot in 0..2 * MAX_STRAYS as u64 {
            strays.note(&placement(boot), &room("r"));
        }
        assert_eq!(strays.lock().len(), MAX_STRAYS);
    }
}
