//! What is known of etcd's content, as the maps others read. Told what was read and heard, and the time; it speaks to nobody.
//!
//! - A node whose entry ends while etcd has only just come back is held in the map for a while: after an outage leases end
//!   before their owners have found a member again, and that is not the death of all nodes.
//! - A revocation stays until its time is over, whatever becomes of its entry: nobody takes one back, and an etcd that has lost
//!   everything is told again.
//! - A value that cannot be read changes nothing, and is named in the log once.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::ids::{BootId, EdgeId, NodeId, RegionId};
use tokio::time::Instant;

use super::{
    keys::{Key, Keys},
    values,
};
use crate::{
    edges::EdgeMap,
    nodes::{NodeMap, NodeRecord},
    revocation::{MAX_REVOCATIONS, RevocationList, Revoked, RevokedTimes},
};

/// Bounds of what is kept, whoever writes to etcd: at most some 10 MB each.
const MAX_NODES: usize = 10_000;
const MAX_NAMESAKES: usize = 8;
const MAX_EDGES: usize = 10_000;
const MAX_REGIONS: usize = 1_000;
/// Keys whose complaint is remembered, so that it is not repeated.
const MAX_COMPLAINTS: usize = 1_000;
/// A revocation that ends sooner need not be told to an etcd that has lost it.
const NOT_WORTH_TELLING: Duration = Duration::from_secs(5);

/// An entry of etcd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// The revision its key is there since.
    pub(super) created: i64,
}

/// What has changed since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) nodes: Option<Arc<NodeMap>>,
    pub(super) edges: Option<Arc<EdgeMap>>,
    pub(super) revoked: Option<Arc<RevocationList>>,
}

/// See the module.
pub(super) struct Mirror {
    keys: Keys,
    nodes: Arc<NodeMap>,
    edges: Arc<EdgeMap>,
    revoked: Arc<RevocationList>,
    answers: Vec<(String, Option<BootId>)>,
    /// Entries by node: one, but for a moment after it has changed its region, and where two have one name.
    entries: BTreeMap<NodeId, BTreeMap<RegionId, NodeEntry>>,
    hold_until: Option<Instant>,
    stale: Stale,
    complaints: HashSet<Vec<u8>>,
}

struct NodeEntry {
    record: Arc<NodeRecord>,
    created: i64,
    /// Gone from etcd, and held for a while.
    gone: bool,
}

/// Which maps have changed.
#[derive(Default)]
struct Stale {
    nodes: bool,
    edges: bool,
    revoked: bool,
}

impl Mirror {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            nodes: Arc::default(),
            edges: Arc::default(),
            revoked: Arc::default(),
            answers: Vec::new(),
            entries: BTreeMap::new(),
            hold_until: None,
            stale: Stale::default(),
            complaints: HashSet::new(),
        }
    }

    /// What has changed since the last call.
    pub(super) fn take_changed(&mut self) -> Changed {
        let stale = std::mem::take(&mut self.stale);
        Changed {
            nodes: stale.nodes.then(|| Arc::clone(&self.nodes)),
            edges: stale.edges.then(|| Arc::clone(&self.edges)),
            revoked: stale.revoked.then(|| Arc::clone(&self.revoked)),
        }
    }

    /// Questions and who answered, since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<(String, Option<BootId>)> {
        std::mem::take(&mut self.answers)
    }

    /// The times of a revocation.
    pub(super) fn revocation(&self, revoked: &Revoked) -> Option<RevokedTimes> {
        self.revoked.0.get(revoked).copied()
    }

    /// Whether there is room for one more.
    pub(super) fn takes_revocations(&self) -> bool {
        self.revoked.0.len() < MAX_REVOCATIONS
    }

    /// Whether etcd has, or had a moment ago, an entry of the node.
    pub(super) fn has_node(&self, node: &NodeId) -> bool {
        self.entries.get(node).is_some_and(|entries| entries.values().any(|entry| !entry.gone))
    }

    /// Etcd is back from an outage: until then, nodes that vanish are held.
    pub(super) fn hold_until(&mut self, until: Instant) {
        self.hold_until = Some(until);
    }

    /// Everything there is in etcd. Gives the revocations that should be there and are not.
    pub(super) fn reload<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<'a>>,
        now: Instant,
        time: SystemTime,
    ) -> Vec<(Revoked, RevokedTimes)> {
        let mut seen = Seen::default();
        for entry in entries {
            let key = self.keys.parse(entry.key);
            seen.add(&key);
            self.take_in(key, entry);
        }
        let gone: Vec<(NodeId, RegionId)> = self
            .entries
            .iter()
            .flat_map(|(node, regions)| regions.keys().map(|region| (node.clone(), region.clone())))
            .filter(|it| !seen.nodes.contains(it))
            .collect();
        for (node, region) in gone {
            self.lose_node(&node, &region, now);
        }
        self.keep_once(|node, region| seen.once.contains(&(node.clone(), region.clone())));
        self.keep_edges(|edge| seen.edges.contains(edge));
        self.keep_regions(|region| seen.regions.contains(region));
        let lost = |(revoked, times): (&Revoked, &RevokedTimes)| {
            let missing = !seen.revoked.contains(revoked) && time + NOT_WORTH_TELLING < times.until;
            missing.then(|| (revoked.clone(), *times))
        };
        self.revoked.0.iter().filter_map(lost).collect()
    }

    /// An entry was written.
    pub(super) fn put(&mut self, entry: Entry<'_>) {
        self.take_in(self.keys.parse(entry.key), entry);
    }

    /// An entry has ended.
    pub(super) fn delete(&mut self, key: &[u8], now: Instant) {
        self.complaints.remove(key);
        match self.keys.parse(key) {
            Key::Node(region, node) => self.lose_node(&node, &region, now),
            Key::Once(region, gone) => self.keep_once(|node, there| *node != gone || *there != region),
            Key::Edge(gone) => self.keep_edges(|edge| *edge != gone),
            Key::Region(gone) => self.keep_regions(|region| *region != gone),
            Key::Revoked(_) | Key::Answered(_) | Key::Other | Key::Malformed => {}
        }
    }

    /// Adds a revocation: the later of two times counts, so that it does not matter which is heard of first.
    pub(super) fn revoke(&mut self, revoked: Revoked, times: RevokedTimes) -> bool {
        let known = self.revoked.0.get(&revoked).copied();
        if known.is_none() && !self.takes_revocations() {
            return false;
        }
        let joined = known
            .map_or(times, |known| RevokedTimes { at: known.at.max(times.at), until: known.until.max(times.until) });
        if known != Some(joined) {
            Arc::make_mut(&mut self.revoked).0.insert(revoked, joined);
            self.stale.revoked = true;
        }
        true
    }

    /// Forgets what has had its time: nodes that were held and did not come back, revocations that are over.
    pub(super) fn settle(&mut self, now: Instant, time: SystemTime) {
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
            self.drop_gone();
        }
        if self.revoked.0.values().any(|times| times.until <= time) {
            Arc::make_mut(&mut self.revoked).0.retain(|_, times| time < times.until);
            self.stale.revoked = true;
        }
    }

    fn take_in(&mut self, key: Key, entry: Entry<'_>) {
        let taken = match key {
            Key::Node(region, node) => self.take_node(&region, &node, entry),
            Key::Once(region, node) => self.take_once(region, node, entry.value),
            Key::Edge(edge) => self.take_edge(edge, entry.value),
            Key::Region(region) => self.take_region(region, entry.value),
            Key::Revoked(revoked) => values::revoked(entry.value)
                .map_err(|error| error.to_string())
                .and_then(|times| self.revoke(revoked, times).then_some(()).ok_or_else(too_many)),
            Key::Answered(question) => values::answer(entry.value)
                .map(|boot| self.answers.push((question, boot)))
                .map_err(|error| error.to_string()),
            Key::Other => return,
            Key::Malformed => Err("a key that names nothing".to_owned()),
        };
        match taken {
            Ok(()) => {
                self.complaints.remove(entry.key);
            }
            Err(reason) => self.complain(entry.key, &reason),
        }
    }

    fn take_node(&mut self, region: &RegionId, node: &NodeId, entry: Entry<'_>) -> Result<(), String> {
        let record = values::node(region.clone(), node.clone(), entry.value).map_err(|error| error.to_string())?;
        let full = match self.entries.get(node) {
            Some(regions) => !regions.contains_key(region) && regions.len() >= MAX_NAMESAKES,
            None => self.entries.len() >= MAX_NODES,
        };
        if full {
            return Err(too_many());
        }
        let taken = NodeEntry { record: Arc::new(record), created: entry.created, gone: false };
        self.entries.entry(node.clone()).or_default().insert(region.clone(), taken);
        self.show_node(node);
        Ok(())
    }

    fn lose_node(&mut self, node: &NodeId, region: &RegionId, now: Instant) {
        let Some(regions) = self.entries.get_mut(node) else { return };
        if self.hold_until.is_some_and(|until| now < until) {
            if let Some(entry) = regions.get_mut(region) {
                entry.gone = true;
            }
        } else {
            regions.remove(region);
        }
        self.show_node(node);
    }

    fn drop_gone(&mut self) {
        let with_gone = |regions: &BTreeMap<RegionId, NodeEntry>| regions.values().any(|entry| entry.gone);
        let affected: Vec<NodeId> =
            self.entries.iter().filter(|(_, regions)| with_gone(regions)).map(|(node, _)| node.clone()).collect();
        for node in affected {
            if let Some(regions) = self.entries.get_mut(&node) {
                regions.retain(|_, entry| !entry.gone);
            }
            self.show_node(&node);
        }
    }

    /// Of several entries of a node, one that is there comes first, then the youngest.
    fn show_node(&mut self, node: &NodeId) {
        let regions = self.entries.get(node);
        let best = regions.and_then(|it| it.values().max_by_key(|entry| (!entry.gone, entry.created)));
        let best = best.map(|entry| Arc::clone(&entry.record));
        if regions.is_some_and(BTreeMap::is_empty) {
            self.entries.remove(node);
        }
        if self.nodes.nodes.get(node) == best.as_ref() {
            return;
        }
        let map = Arc::make_mut(&mut self.nodes);
        match best {
            Some(record) => map.nodes.insert(node.clone(), record),
            None => map.nodes.remove(node),
        };
        self.stale.nodes = true;
    }

    fn take_once(&mut self, region: RegionId, node: NodeId, value: &[u8]) -> Result<(), String> {
        let record = values::node(region, node.clone(), value).map_err(|error| error.to_string())?;
        let known = self.nodes.once.get(&node);
        if known.is_none() && self.nodes.once.len() >= MAX_NODES {
            return Err(too_many());
        }
        if known.is_none_or(|known| **known != record) {
            Arc::make_mut(&mut self.nodes).once.insert(node, Arc::new(record));
            self.stale.nodes = true;
        }
        Ok(())
    }

    fn keep_once(&mut self, keep: impl Fn(&NodeId, &RegionId) -> bool) {
        if !self.nodes.once.iter().all(|(node, record)| keep(node, &record.region)) {
            Arc::make_mut(&mut self.nodes).once.retain(|node, record| keep(node, &record.region));
            self.stale.nodes = true;
        }
    }

    fn take_edge(&mut self, edge: EdgeId, value: &[u8]) -> Result<(), String> {
        let record = values::edge(edge.clone(), value).map_err(|error| error.to_string())?;
        let known = self.edges.get(&edge);
        if known.is_none() && self.edges.len() >= MAX_EDGES {
            return Err(too_many());
        }
        if known != Some(&record) {
            Arc::make_mut(&mut self.edges).insert(edge, record);
            self.stale.edges = true;
        }
        Ok(())
    }

    fn keep_edges(&mut self, keep: impl Fn(&EdgeId) -> bool) {
        if !self.edges.keys().all(&keep) {
            Arc::make_mut(&mut self.edges).retain(|edge, _| keep(edge));
            self.stale.edges = true;
        }
    }

    fn take_region(&mut self, region: RegionId, value: &[u8]) -> Result<(), String> {
        let said = values::region(value).map_err(|error| error.to_string())?;
        let known = self.nodes.regions.get(&region);
        if known.is_none() && self.nodes.regions.len() >= MAX_REGIONS {
            return Err(too_many());
        }
        if known != Some(&said) {
            Arc::make_mut(&mut self.nodes).regions.insert(region, said);
            self.stale.nodes = true;
        }
        Ok(())
    }

    fn keep_regions(&mut self, keep: impl Fn(&RegionId) -> bool) {
        if !self.nodes.regions.keys().all(&keep) {
            Arc::make_mut(&mut self.nodes).regions.retain(|region, _| keep(region));
            self.stale.nodes = true;
        }
    }

    fn complain(&mut self, key: &[u8], reason: &str) {
        if self.complaints.len() < MAX_COMPLAINTS && self.complaints.insert(key.to_vec()) {
            let key = String::from_utf8_lossy(&key[..key.len().min(256)]);
            tracing::warn!(?key, reason, "an entry of etcd is ignored");
        }
    }
}

fn too_many() -> String {
    "more of its kind than are kept".to_owned()
}

/// Which entries a reload has seen, readable or not.
#[derive(Default)]
struct Seen {
    nodes: BTreeSet<(NodeId, RegionId)>,
    once: BTreeSet<(NodeId, RegionId)>,
    edges: BTreeSet<EdgeId>,
    regions: BTreeSet<RegionId>,
    revoked: BTreeSet<Revoked>,
}

impl Seen {
    fn add(&mut self, key: &Key) {
        match key {
            Key::Node(region, node) => self.nodes.insert((node.clone(), region.clone())),
            Key::Once(region, node) => self.once.insert((node.clone(), region.clone())),
            Key::Edge(edge) => self.edges.insert(edge.clone()),
            Key::Region(region) => self.regions.insert(region.clone()),
            Key::Revoked(revoked) => self.revoked.insert(revoked.clone()),
            Key::Answered(_) | Key::Other | Key::Malformed => return,
        };
    }
}

#[cfg(test)]
mod tests;
