//! Which SFU nodes a new stream may go to, best first: a pure function of the directory's map, where the client is, and
//! what was chosen lately. That streams of one room meet is the store's part: of the candidates it takes one that carries
//! the room already.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::ids::{NodeId, RegionId};
use rand::{Rng, RngExt as _};
use room_store::{Load, NodeMap, NodeRecord, NodeState};

/// Most candidates named: what a store looks at.
const MAX_CANDIDATES: usize = 16;
/// Share of its processors above which a node takes nothing new: beyond it, packets queue.
const CPU_LIMIT: f64 = 0.85;
/// Share of its egress above which a node takes nothing new: layers and keyframes come in bursts.
const EGRESS_LIMIT: f64 = 0.9;
/// What a stream chosen for a node is taken to cost until the node's next report shows it.
const FRESH_TRACKS: u64 = 4;
const FRESH_EGRESS_BPS: u64 = 4_000_000;
/// A choice is forgotten after this even without a report: nodes that never report (a list in the settings) would else
/// be last for ever.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// What choices leave of the room a node that never reports is known to have. They only bring it behind others: it says
/// itself when it is full, while a few hundred publishes, refused ones included, would shut everybody out of a lone node.
const LEFT_BY_CHOICES: f64 = 0.01;

/// What was chosen since nodes last reported their load.
#[derive(Debug, Default)]
pub struct Fresh {
    chosen: HashMap<NodeId, Choices>,
}

#[derive(Debug)]
struct Choices {
    /// The report they came after.
    reports: u64,
    since: Instant,
    count: u64,
}

impl Fresh {
    /// Counts a choice of `node` against it.
    pub fn choose(&mut self, node: &NodeRecord, now: Instant) {
        self.chosen.retain(|_, choices| choices.counts(now));
        let fresh = || Choices { reports: node.reports, since: now, count: 0 };
        let choices = self.chosen.entry(node.node.clone()).or_insert_with(fresh);
        if choices.reports != node.reports {
            *choices = fresh();
        }
        choices.count += 1;
    }

    /// The node's load, and what was chosen for it since it said so.
    fn load_of(&self, node: &NodeRecord, now: Instant) -> Load {
        let choices =
            self.chosen.get(&node.node).filter(|choices| choices.reports == node.reports && choices.counts(now));
        let count = choices.map_or(0, |choices| choices.count);
        Load {
            tracks: node.load.tracks.saturating_add(count.saturating_mul(FRESH_TRACKS)),
            egress_bps: node.load.egress_bps.saturating_add(count.saturating_mul(FRESH_EGRESS_BPS)),
            ..node.load
        }
    }
}

impl Choices {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < FRESH_FOR
    }
}

/// Nodes for a new stream of a client in `region`, best first, at most 16; none when nothing has room. Of the nearest
/// region that has any: the better of two random ones by weight × headroom, then the others by the same. `usable` says
/// what this edge itself knows of a node.
pub fn candidates<'a>(
    map: &'a NodeMap,
    region: &RegionId,
    fresh: &Fresh,
    usable: impl Fn(&NodeRecord) -> bool,
    rng: &mut impl Rng,
    now: Instant,
) -> Vec<&'a NodeRecord> {
    let mut open: Vec<Open<'a>> = map
        .nodes
        .values()
        .filter(|node| node.state == NodeState::Ready && usable(node))
        .map(|node| Open { node, score: f64::from(node.weight) * room(node, fresh, now) })
        .filter(|open| open.score > 0.0)
        .collect();
    let Some(nearest) = nearest_region(map, region, &open, rng) else { return Vec::new() };
    open.retain(|open| open.node.region == nearest);
    open.sort_by(Open::better_first);
    bring_forward_better_of_two(&mut open, rng);
    open.into_iter().take(MAX_CANDIDATES).map(|open| open.node).collect()
}

/// A node that takes new streams.
struct Open<'a> {
    node: &'a NodeRecord,
    score: f64,
}

impl Open<'_> {
    fn better_first(a: &Self, b: &Self) -> Ordering {
        b.score.total_cmp(&a.score).then_with(|| a.node.node.cmp(&b.node.node))
    }
}

/// What is left of the node with what was chosen lately; 0 or less: nothing new.
fn room(node: &NodeRecord, fresh: &Fresh, now: Instant) -> f64 {
    let expected = headroom(node, &fresh.load_of(node, now));
    if node.reports == 0 { expected.max(headroom(node, &node.load) * LEFT_BY_CHOICES) } else { expected }
}

/// Share of the node that is free, by whatever is scarcest; 0 or less: nothing new.
fn headroom(node: &NodeRecord, load: &Load) -> f64 {
    let free = |used: f64, limit: f64| if limit > 0.0 { 1.0 - used / limit } else { 0.0 };
    let cpu = free(f64::from(load.cpu), CPU_LIMIT);
    let egress = free(load.egress_bps as f64, node.capacity.egress_bps as f64 * EGRESS_LIMIT);
    let tracks = free(load.tracks as f64, node.capacity.tracks as f64);
    let least = cpu.min(egress).min(tracks);
    // A load that is no number is no reason to choose a node.
    if cpu.is_nan() { 0.0 } else { least }
}

/// The region, among those that have room, at the least distance; of several, one by chance and weight.
fn nearest_region(map: &NodeMap, home: &RegionId, open: &[Open<'_>], rng: &mut impl Rng) -> Option<RegionId> {
    let distance = |region: &RegionId| match map.regions.get(home) {
        _ if region == home => 0,
        Some(known) => known.distances.get(region).map_or(u64::MAX, |&distance| u64::from(distance) + 1),
        None => u64::MAX,
    };
    let least = open.iter().map(|open| distance(&open.node.region)).min()?;
    let mut regions: Vec<&RegionId> =
        open.iter().map(|open| &open.node.region).filter(|region| distance(region) == least).collect();
    regions.sort();
    regions.dedup();
    let weight = |region: &RegionId| map.regions.get(region).map_or(1, |known| u64::from(known.weight.max(1)));
    let mut point = rng.random_range(0..regions.iter().map(|region| weight(region)).sum::<u64>());
    regions
        .into_iter()
        .find(|region| {
            let within = point < weight(region);
            point = point.saturating_sub(weight(region));
            within
        })
        .cloned()
}

/// Two random choices: close to the best spread, without sending everybody to the one best node at once. `open` is sorted,
/// so the better of two is the one nearer to the front.
fn bring_forward_better_of_two(open: &mut [Open<'_>], rng: &mut impl Rng) {
    if open.len() > 1 {
        let first = rng.random_range(0..open.len());
        let second = (first + rng.random_range(1..open.len())) % open.len();
        open[..=first.min(second)].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use room_store::{Capacity, Region};

    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).expect("valid")
    }

    fn node(id: &str, at: &str) -> NodeRecord {
        NodeRecord {
            node: NodeId::new(id).expect("valid"),
            boot: None,
            region: region(at),
            address: "http://127.0.0.1:1".to_owned(),
            weight: 1,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: String::new(),
        }
    }

    fn map(nodes: Vec<NodeRecord>) -> NodeMap {
        let nodes = nodes.into_iter().map(|node| (node.node.clone(), Arc::new(node))).collect();
        NodeMap { nodes, regions: BTreeMap::new() }
    }

    fn names(map: &NodeMap, at: &str, fresh: &Fresh, seed: u64) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let found = candidates(map, &region(at), fresh, |_| true, &mut rng, Instant::now());
        found.into_iter().map(|node| node.node.to_string()).collect()
    }

    #[test]
    fn the_clients_own_region_comes_before_all_others() {
        let map = map(vec![node("a1", "a"), node("a2", "a"), node("b1", "b")]);
        for seed in 0..20 {
            assert_eq!(names(&map, "b", &Fresh::default(), seed), ["b1"]);
            assert_eq!(names(&map, "a", &Fresh::default(), seed).len(), 2);
        }
    }

    #[test]
    fn a_region_without_room_hands_over_to_the_next_by_distance() {
        let mut full = node("a1", "a");
        full.load.cpu = 0.9;
        let mut map = map(vec![full, node("b1", "b"), node("c1", "c")]);
        let distances = [(region("b"), 80), (region("c"), 20)].into();
        map.regions.insert(region("a"), Region { weight: 1, distances });
        assert_eq!(names(&map, "a", &Fresh::default(), 1), ["c1"]);
    }

    #[test]
    fn fresh_choices_weigh_until_the_next_report_or_a_while() {
        let mut small = NodeRecord { reports: 1, ..node("a1", "a") };
        small.capacity.tracks = 2 * FRESH_TRACKS;
        let start = Instant::now();
        let mut fresh = Fresh::default();
        fresh.choose(&small, start);
        fresh.choose(&small, start);
        assert_eq!(fresh.load_of(&small, start).tracks, 2 * FRESH_TRACKS);
        assert!(names(&map(vec![small.clone()]), "a", &fresh, 1).is_empty());
        assert_eq!(fresh.load_of(&small, start + FRESH_FOR).tracks, 0);
        small.reports = 2;
        assert_eq!(fresh.load_of(&small, start).tracks, 0);
    }

    #[test]
    fn choices_bring_a_node_that_never_reports_behind_others_but_never_fill_it() {
        let (lone, other) = (node("a1", "a"), node("a2", "a"));
        let mut fresh = Fresh::default();
        for _ in 0..10_000 {
            fresh.choose(&lone, Instant::now());
        }
        assert_eq!(names(&map(vec![lone.clone()]), "a", &fresh, 1), ["a1"]);
        assert_eq!(names(&map(vec![lone, other]), "a", &fresh, 1), ["a2", "a1"]);
    }

    #[test]
    fn heavier_and_emptier_nodes_get_more() {
        let mut busy = node("busy", "a");
        busy.load.egress_bps = 800_000_000;
        let map = map(vec![busy, node("free1", "a"), node("free2", "a")]);
        let firsts: Vec<String> = (0..300).map(|seed| names(&map, "a", &Fresh::default(), seed).remove(0)).collect();
        assert_eq!(firsts.iter().filter(|name| *name == "busy").count(), 0, "never the worst of two");
        assert!(firsts.iter().filter(|name| *name == "free1").count() > 100);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(names(&map(vec![]), "a", &Fresh::default(), 1).is_empty());
    }

    fn any_node() -> impl Strategy<Value = NodeRecord> {
        (0u8..40, 0u8..3, any::<bool>(), 0u32..4, -0.5f32..1.5, 0u64..2_000_000_000, 0u64..10_000, 0u64..3).prop_map(
            |(id, at, draining, weight, cpu, egress_bps, tracks, capacity)| NodeRecord {
                state: if draining { NodeState::Draining } else { NodeState::Ready },
                weight,
                load: Load { cpu, egress_bps, tracks, ..Load::default() },
                capacity: Capacity { egress_bps: capacity * 1_000_000_000, tracks: capacity * 5_000 },
                ..node(&format!("n{id}"), &format!("r{at}"))
            },
        )
    }

    proptest! {
        #[test]
        fn only_nodes_that_take_new_streams_are_named_once_and_of_one_region(
            nodes in prop::collection::vec(any_node(), 0..40), seed: u64, unusable in 0u8..40,
        ) {
            let map = map(nodes);
            let unusable = format!("n{unusable}");
            let mut rng = StdRng::seed_from_u64(seed);
            let usable = |node: &NodeRecord| node.node.as_str() != unusable;
            let found = candidates(&map, &region("r0"), &Fresh::default(), usable, &mut rng, Instant::now());
            prop_assert!(found.len() <= MAX_CANDIDATES);
            for (index, node) in found.iter().enumerate() {
                prop_assert!(node.state == NodeState::Ready && usable(node) && node.weight > 0);
                prop_assert!(f64::from(node.load.cpu) < CPU_LIMIT && node.load.tracks < node.capacity.tracks);
                prop_assert_eq!(&node.region, &found[0].region);
                prop_assert!(found[..index].iter().all(|earlier| earlier.node != node.node));
            }
            let open = |node: &NodeRecord| node.state == NodeState::Ready && usable(node)
                && node.weight > 0 && headroom(node, &node.load) > 0.0;
            let home_open = map.nodes.values().any(|node| node.region == region("r0") && open(node));
            if home_open {
                prop_assert_eq!(&found[0].region, &region("r0"));
            }
            prop_assert_eq!(found.is_empty(), !map.nodes.values().any(|node| open(node)));
        }
    }
}
