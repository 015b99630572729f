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
/// What a stream chosen for a node is taken to cost until the node's reports show it.
const FRESH_TRACKS: u64 = 4;
const FRESH_EGRESS_BPS: u64 = 4_000_000;
/// They do so after this: a report may have been measured before the choice, is a mean over a second, and a stream costs nothing before its
/// client is connected.
const SHOWN_AFTER: Duration = Duration::from_secs(2);
/// A choice is forgotten after this even without a report: nodes that never report (a list in the settings) would else
/// be last for ever.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// What choices leave of the room a node is known to have. They only bring it behind others: it says itself when it is full, while a
/// few hundred publishes, refused ones included, would shut everybody out of a lone node.
const LEFT_BY_CHOICES: f64 = 0.01;

/// What was chosen since nodes last reported their load.
#[derive(Debug, Default)]
pub struct Fresh {
    chosen: HashMap<NodeId, Choices>,
}

#[derive(Debug)]
struct Choices {
    /// The report that the first of them came after.
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
        if choices.are_shown_by(node, now) {
            *choices = fresh();
        }
        choices.count += 1;
    }

    /// The node's load, and what was chosen for it since it said so.
    fn load_of(&self, node: &NodeRecord, now: Instant) -> Load {
        let choices =
            self.chosen.get(&node.node).filter(|choices| !choices.are_shown_by(node, now) && choices.counts(now));
        let count = choices.map_or(0, |choices| choices.count);
        Load {
            tracks: node.load.tracks.saturating_add(count.saturating_mul(FRESH_TRACKS)),
            egress_bps: node.load.egress_bps.saturating_add(count.saturating_mul(FRESH_EGRESS_BPS)),
            ..node.load
        }
    }
}

impl Choices {
    fn are_shown_by(&self, node: &NodeRecord, now: Instant) -> bool {
        self.reports != node.reports && now.saturating_duration_since(self.since) >= SHOWN_AFTER
    }

    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < FRESH_FOR
    }
}

/// What a new stream needs.
pub struct Wanted<'a> {
    /// Where its client is.
    pub region: &'a RegionId,
    /// What the edge itself knows of a node: whether it may be used at all.
    pub usable: &'a dyn Fn(&NodeRecord) -> bool,
    /// Whether a node carries the stream's room, as far as the edge knows.
    pub carries: &'a dyn Fn(&NodeRecord) -> bool,
}

/// Whether anything is known to be in the region, or was said of it.
pub fn is_somewhere(map: &NodeMap, region: &RegionId) -> bool {
    map.regions.contains_key(region) || map.nodes.values().any(|node| node.region == *region)
}

/// Nodes for a new stream, best first, at most 16; none when nothing has room. Of the nearest region that has any: the choice, then
/// the room's own nodes, of which the store takes one rather than the choice, then the rest, which have most room for their weight.
///
/// The choice is made of two nodes drawn by weight × headroom: the one that has been given less of its share. So shares are kept by
/// weight, and a node that has just come up, or reported that it is idle, is not everybody's next.
pub fn candidates<'a>(
    map: &'a NodeMap,
    wanted: &Wanted<'_>,
    fresh: &Fresh,
    rng: &mut impl Rng,
    now: Instant,
) -> Vec<&'a NodeRecord> {
    let mut open: Vec<Open<'a>> = map
        .nodes
        .values()
        .filter(|node| node.state == NodeState::Ready && node.weight > 0 && (wanted.usable)(node))
        .map(|node| Open { node, room: room(node, fresh, now), carries: (wanted.carries)(node) })
        .filter(|open| open.room > 0.0)
        .collect();
    let Some(nearest) = nearest_region(map, wanted.region, &open, rng) else { return Vec::new() };
    open.retain(|open| open.node.region == nearest);
    let Some(choice) = choose(&open, rng) else { return Vec::new() };
    let choice = open.remove(choice);
    open.sort_by(Open::better_first);
    std::iter::once(choice).chain(open).take(MAX_CANDIDATES).map(|open| open.node).collect()
}

/// A node that takes new streams.
struct Open<'a> {
    node: &'a NodeRecord,
    /// Share of it that is free.
    room: f64,
    carries: bool,
}

impl Open<'_> {
    /// How often it is drawn, compared with others.
    fn chance(&self) -> f64 {
        f64::from(self.node.weight) * self.room
    }

    /// How much of it is used, for its weight.
    fn used(&self) -> f64 {
        (1.0 - self.room) / f64::from(self.node.weight)
    }

    fn better_first(a: &Self, b: &Self) -> Ordering {
        let by_room = || b.chance().total_cmp(&a.chance());
        b.carries.cmp(&a.carries).then_with(by_room).then_with(|| a.node.node.cmp(&b.node.node))
    }
}

/// The better of two that are drawn; of equals the first.
fn choose(open: &[Open<'_>], rng: &mut impl Rng) -> Option<usize> {
    let first = draw(open, rng)?;
    let second = draw(open, rng)?;
    Some(if open[second].used() < open[first].used() { second } else { first })
}

fn draw(open: &[Open<'_>], rng: &mut impl Rng) -> Option<usize> {
    let mut point = rng.random::<f64>() * open.iter().map(Open::chance).sum::<f64>();
    let drawn = open.iter().position(|open| {
        point -= open.chance();
        point < 0.0
    });
    // What rounding leaves falls to the last.
    drawn.or(open.len().checked_sub(1))
}

/// What is left of the node with what was chosen lately; 0 or less: nothing new.
fn room(node: &NodeRecord, fresh: &Fresh, now: Instant) -> f64 {
    headroom(node, &fresh.load_of(node, now)).max(headroom(node, &node.load) * LEFT_BY_CHOICES)
}

/// Share of the node that is free, by whatever is scarcest; 0 or less: nothing new.
fn headroom(node: &NodeRecord, load: &Load) -> f64 {
    let free = |used: f64, limit: f64| if limit > 0.0 { 1.0 - used / limit } else { 0.0 };
    let cpu = free(f64::from(load.cpu), CPU_LIMIT);
    let egress = free(load.egress_bps as f64, node.capacity.egress_bps as f64 * EGRESS_LIMIT);
    let tracks = free(load.tracks as f64, node.capacity.tracks as f64);
    // As the node judges itself, by what only it can see: packets that wait, memory.
    let calm = 1.0 - f64::from(load.pressure);
    let least = cpu.min(egress).min(tracks).min(calm);
    // A load that is no number is no reason to choose a node.
    if cpu.is_nan() || calm.is_nan() { 0.0 } else { least }
}

/// The region, among those that have room, at the least distance; of several, one by chance and weight. One of weight 0 takes its own
/// clients only.
fn nearest_region(map: &NodeMap, home: &RegionId, open: &[Open<'_>], rng: &mut impl Rng) -> Option<RegionId> {
    let distance = |region: &RegionId| match map.regions.get(home) {
        _ if region == home => 0,
        Some(known) => known.distances.get(region).map_or(u64::MAX, |&distance| u64::from(distance) + 1),
        None => u64::MAX,
    };
    let weight = |region: &RegionId| match map.regions.get(region) {
        Some(known) if region != home => u64::from(known.weight),
        Some(_) | None => 1,
    };
    let mut regions: Vec<&RegionId> =
        open.iter().map(|open| &open.node.region).filter(|region| weight(region) > 0).collect();
    let least = regions.iter().map(|region| distance(region)).min()?;
    regions.retain(|region| distance(region) == least);
    regions.sort();
    regions.dedup();
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
        NodeMap { nodes, ..NodeMap::default() }
    }

    fn names(map: &NodeMap, at: &str, fresh: &Fresh, seed: u64) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let wanted = Wanted { region: &region(at), usable: &|_| true, carries: &|_| false };
        let found = candidates(map, &wanted, fresh, &mut rng, Instant::now());
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
    fn a_node_under_pressure_gets_less_and_an_overloaded_one_nothing() {
        let pressed = |id: &str, pressure| {
            let mut node = node(id, "a");
            node.load.pressure = pressure;
            node
        };
        let both = map(vec![pressed("a1", 0.9), node("a2", "a")]);
        let firsts = shares(&both, false);
        assert!(firsts["a1"] < 0.1 && firsts["a1"] > 0.0, "{firsts:?}");
        assert_eq!(names(&map(vec![pressed("a1", 1.0), node("a2", "a")]), "a", &Fresh::default(), 1), ["a2"]);
        for pressure in [1.0, 3.0, f32::NAN] {
            assert!(names(&map(vec![pressed("a1", pressure)]), "a", &Fresh::default(), 1).is_empty(), "{pressure}");
        }
    }

    #[test]
    fn fresh_choices_weigh_until_a_report_can_show_them_or_a_while() {
        let mut small = NodeRecord { reports: 1, ..node("a1", "a") };
        small.capacity.tracks = 2 * FRESH_TRACKS;
        let start = Instant::now();
        let mut fresh = Fresh::default();
        fresh.choose(&small, start);
        fresh.choose(&small, start);
        assert_eq!(fresh.load_of(&small, start).tracks, 2 * FRESH_TRACKS);
        assert_eq!(names(&map(vec![small.clone()]), "a", &fresh, 1), ["a1"], "it says itself when it is full");
        assert_eq!(fresh.load_of(&small, start + FRESH_FOR).tracks, 0);
        small.reports = 2;
        assert_eq!(fresh.load_of(&small, start).tracks, 2 * FRESH_TRACKS, "no report can show it yet");
        assert_eq!(fresh.load_of(&small, start + SHOWN_AFTER).tracks, 0);
    }

    #[test]
    fn choices_bring_a_node_behind_others_but_never_fill_it() {
        for reports in [0, 1] {
            let reporting = |id| NodeRecord { reports, ..node(id, "a") };
            never_filled(reporting("a1"), reporting("a2"));
        }
    }

    fn never_filled(lone: NodeRecord, other: NodeRecord) {
        let mut fresh = Fresh::default();
        for _ in 0..10_000 {
            fresh.choose(&lone, Instant::now());
        }
        assert_eq!(names(&map(vec![lone.clone()]), "a", &fresh, 1), ["a1"]);
        let both = map(vec![lone, other]);
        let firsts = (0..100).filter(|&seed| names(&both, "a", &fresh, seed)[0] == "a2").count();
        assert!(firsts > 95, "{firsts}");
    }

    /// How often each node is first of 10,000 choices, by name; `told`: each is counted against its node, as an edge does.
    fn shares(map: &NodeMap, told: bool) -> BTreeMap<String, f64> {
        const CHOICES: u32 = 10_000;
        let (mut fresh, mut firsts, mut rng) = (Fresh::default(), BTreeMap::new(), StdRng::seed_from_u64(7));
        let (home, now) = (region("a"), Instant::now());
        let wanted = Wanted { region: &home, usable: &|_| true, carries: &|_| false };
        for _ in 0..CHOICES {
            let first = candidates(map, &wanted, &fresh, &mut rng, now)[0];
            *firsts.entry(first.node.to_string()).or_insert(0.0) += 1.0 / f64::from(CHOICES);
            if told {
                fresh.choose(first, now);
            }
        }
        firsts
    }

    fn weighted(weights: &[u32]) -> NodeMap {
        let capacity = Capacity { egress_bps: u64::MAX, tracks: 10_000_000 };
        let record = |(index, &weight)| NodeRecord { weight, capacity, reports: 1, ..node(&format!("n{index}"), "a") };
        map(weights.iter().enumerate().map(record).collect())
    }

    /// χ² of 10,000 choices against what the weights say; 5 nodes, 4 degrees of freedom: above 18.47 once in a thousand.
    fn chi_squared(shares: &BTreeMap<String, f64>, weights: &[u32]) -> f64 {
        let all = f64::from(weights.iter().sum::<u32>());
        let expected = |index: usize| 10_000.0 * f64::from(weights[index]) / all;
        let got = |index: usize| 10_000.0 * shares.get(&format!("n{index}")).copied().unwrap_or_default();
        (0..weights.len()).map(|index| (got(index) - expected(index)).powi(2) / expected(index)).sum()
    }

    #[test]
    fn nodes_get_their_share_by_weight_whether_their_choices_count_or_not() {
        let weights = [1, 2, 3, 4, 10];
        for told in [false, true] {
            let shares = shares(&weighted(&weights), told);
            assert!(chi_squared(&shares, &weights) < 18.47, "{told}: {shares:?}");
        }
    }

    #[test]
    fn a_node_that_has_just_reported_to_be_idle_is_not_everybodys_next() {
        let mut nodes: Vec<NodeRecord> = (0..10).map(|number| node(&format!("n{number}"), "a")).collect();
        for record in &mut nodes[1..] {
            record.load.cpu = 0.5;
            record.reports = 1;
        }
        nodes[0].reports = 1;
        let map = map(nodes);
        // Without any news of what was chosen, as many edges choose within one moment.
        let idle = shares(&map, false)["n0"];
        assert!(idle > 0.1, "it gets more than its share: {idle}");
        assert!(idle < 0.5, "two draws out of ten, not all: {idle}");
    }

    #[test]
    fn of_two_drawn_the_one_with_less_of_its_share_is_chosen() {
        let mut busy = node("busy", "a");
        busy.load.egress_bps = 600_000_000;
        let shares = shares(&map(vec![busy, node("free1", "a"), node("free2", "a")]), false);
        assert!(shares["busy"] < 0.1, "only when it is drawn twice: {shares:?}");
        assert!((shares["free1"] - shares["free2"]).abs() < 0.05, "{shares:?}");
    }

    #[test]
    fn the_rooms_own_nodes_come_right_after_the_choice_wherever_they_stand() {
        let mut nodes: Vec<NodeRecord> = (0..50).map(|number| node(&format!("n{number:02}"), "a")).collect();
        nodes[49].load.cpu = 0.8;
        let map = map(nodes);
        let carries = |node: &NodeRecord| node.node.as_str() == "n49";
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let wanted = Wanted { region: &region("a"), usable: &|_| true, carries: &carries };
            let found = candidates(&map, &wanted, &Fresh::default(), &mut rng, Instant::now());
            assert_eq!(found.len(), MAX_CANDIDATES);
            assert!(found[..2].iter().any(|node| carries(node)), "{found:?}");
        }
    }

    /// How often each region is chosen of 10,000 times for a client of region `a`, which has no nodes; weights are those of `r0`, `r1`, ….
    fn chosen_regions(weights: &[u32]) -> Vec<f64> {
        let regions = || (0..weights.len()).map(|index| format!("r{index}"));
        let mut map = map(regions().map(|name| node(&format!("n-{name}"), &name)).collect());
        let known = |weight: &u32| Region { weight: *weight, distances: BTreeMap::new() };
        map.regions = regions().map(|name| region(&name)).zip(weights.iter().map(known)).collect();
        let distances = regions().map(|name| (region(&name), 7)).collect();
        map.regions.insert(region("a"), Region { weight: 0, distances });
        let mut counts = vec![0.0; weights.len()];
        for seed in 0..10_000 {
            let chosen = names(&map, "a", &Fresh::default(), seed);
            counts[regions().position(|name| chosen == [format!("n-{name}")]).expect("one of them")] += 1.0;
        }
        counts
    }

    #[test]
    fn of_regions_equally_far_each_gets_its_share_by_weight_and_one_of_weight_0_nothing() {
        let weights = [1, 2, 0, 5];
        let counts = chosen_regions(&weights);
        assert!(counts[2].abs() < 0.5, "{counts:?}");
        let chi_squared: f64 = [0, 1, 3]
            .map(|index| {
                let expected = 10_000.0 * f64::from(weights[index]) / 8.0;
                (counts[index] - expected).powi(2) / expected
            })
            .iter()
            .sum();
        // 2 degrees of freedom: above 13.82 once in a thousand.
        assert!(chi_squared < 13.82, "{chi_squared}: {counts:?}");
    }

    #[test]
    fn a_region_of_weight_0_still_serves_its_own_and_is_nobody_elses_last_resort() {
        let mut map = map(vec![node("a1", "a")]);
        map.regions.insert(region("a"), Region { weight: 0, distances: BTreeMap::new() });
        assert_eq!(names(&map, "a", &Fresh::default(), 1), ["a1"]);
        assert!(names(&map, "b", &Fresh::default(), 1).is_empty());
    }

    #[test]
    fn a_region_nobody_knows_is_nowhere() {
        let mut map = map(vec![node("a1", "a")]);
        map.regions.insert(region("b"), Region::default());
        assert!(is_somewhere(&map, &region("a")) && is_somewhere(&map, &region("b")));
        assert!(!is_somewhere(&map, &region("c")));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(names(&map(vec![]), "a", &Fresh::default(), 1).is_empty());
    }

    fn any_node() -> impl Strategy<Value = NodeRecord> {
        let load = (-0.5f32..1.5, -0.5f32..1.5, 0u64..2_000_000_000, 0u64..10_000).prop_map(
            |(cpu, pressure, egress_bps, tracks)| Load { cpu, pressure, egress_bps, tracks, ..Load::default() },
        );
        (0u8..40, 0u8..3, any::<bool>(), 0u32..4, load, 0u64..3).prop_map(
            |(id, at, draining, weight, load, capacity)| NodeRecord {
                state: if draining { NodeState::Draining } else { NodeState::Ready },
                weight,
                load,
                capacity: Capacity { egress_bps: capacity * 1_000_000_000, tracks: capacity * 5_000 },
                ..node(&format!("n{id}"), &format!("r{at}"))
            },
        )
    }

    proptest! {
        #[test]
        fn no_region_that_has_room_is_nearer_than_the_one_chosen(
            nodes in prop::collection::vec(any_node(), 0..20), seed: u64,
            distances in prop::collection::btree_map((0u8..3).prop_map(|at| region(&format!("r{at}"))), 0u32..4, 0..3),
            weights in prop::collection::btree_map((0u8..3).prop_map(|at| region(&format!("r{at}"))), 0u32..3, 0..3),
        ) {
            let mut map = map(nodes);
            let home = region("r0");
            let known = |weight| Region { weight, distances: BTreeMap::new() };
            map.regions = weights.iter().map(|(name, &weight)| (name.clone(), known(weight))).collect();
            map.regions.entry(home.clone()).or_default().distances.clone_from(&distances);
            let far = |at: &RegionId| if *at == home { -1 } else { distances.get(at).map_or(i64::MAX, |&far| far.into()) };
            let takes = |at: &RegionId| *at == home || weights.get(at) != Some(&0);
            let open = |node: &NodeRecord| node.state == NodeState::Ready && node.weight > 0
                && headroom(node, &node.load) > 0.0 && takes(&node.region);
            let least = map.nodes.values().filter(|node| open(node)).map(|node| far(&node.region)).min();
            let mut rng = StdRng::seed_from_u64(seed);
            let wanted = Wanted { region: &home, usable: &|_| true, carries: &|_| false };
            let found = candidates(&map, &wanted, &Fresh::default(), &mut rng, Instant::now());
            prop_assert_eq!(found.first().map(|node| far(&node.region)), least);
        }
    }

    proptest! {
        #[test]
        fn only_nodes_that_take_new_streams_are_named_once_and_of_one_region(
            nodes in prop::collection::vec(any_node(), 0..40), seed: u64, unusable in 0u8..40,
            carrying in prop::collection::vec((0u8..40).prop_map(|id| format!("n{id}")), 0..8),
        ) {
            let map = map(nodes);
            let unusable = format!("n{unusable}");
            let mut rng = StdRng::seed_from_u64(seed);
            let usable = |node: &NodeRecord| node.node.as_str() != unusable;
            let carries = |node: &NodeRecord| carrying.contains(&node.node.to_string());
            let wanted = Wanted { region: &region("r0"), usable: &usable, carries: &carries };
            let found = candidates(&map, &wanted, &Fresh::default(), &mut rng, Instant::now());
            prop_assert!(found.len() <= MAX_CANDIDATES);
            for (index, node) in found.iter().enumerate() {
                prop_assert!(node.state == NodeState::Ready && usable(node) && node.weight > 0);
                prop_assert!(f64::from(node.load.cpu) < CPU_LIMIT && node.load.tracks < node.capacity.tracks);
                prop_assert!(node.load.pressure < 1.0);
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
            // Stickiness: the room's own node is among those the store looks at, however many others there are.
            if let Some(chosen) = found.first() {
                for node in map.nodes.values().filter(|node| node.region == chosen.region && open(node) && carries(node)) {
                    prop_assert!(found.iter().any(|named| named.node == node.node));
                }
            }
        }
    }
}
