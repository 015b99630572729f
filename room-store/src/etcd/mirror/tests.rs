use std::time::UNIX_EPOCH;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    edges::EdgeRecord,
    nodes::{Capacity, Load, NodeState},
};

const TIME: SystemTime = UNIX_EPOCH;
const HOLD: Duration = Duration::from_secs(8);

/// A node's value, just said.
fn of_node(record: &NodeRecord) -> String {
    values::of_node(record, Duration::ZERO)
}

struct World {
    mirror: Mirror,
    keys: Keys,
    now: Instant,
    /// Etcd's entries and the revision each is there since.
    entries: BTreeMap<String, (String, i64)>,
    revision: i64,
}

impl World {
    fn new() -> Self {
        let keys = Keys::new("/sluice");
        let (mirror, now) = (Mirror::new(keys.clone()), Instant::now());
        Self { mirror, keys, now, entries: BTreeMap::new(), revision: 1 }
    }

    /// Writes without a word to the mirror.
    fn write(&mut self, key: &str, value: &str) {
        self.revision += 1;
        let created = self.entries.get(key).map_or(self.revision, |(_, created)| *created);
        self.entries.insert(key.to_owned(), (value.to_owned(), created));
    }

    fn put(&mut self, key: &str, value: &str) {
        self.write(key, value);
        let created = self.entries[key].1;
        self.mirror.put(Entry { key: key.as_bytes(), value: value.as_bytes(), created });
    }

    fn put_node(&mut self, region: &str, node: &str, weight: u32) {
        let record = record(region, node, weight);
        self.put(&self.keys.node(&record.region, &record.node), &of_node(&record));
    }

    fn delete(&mut self, key: &str) {
        self.entries.remove(key);
        self.mirror.delete(key.as_bytes(), self.now);
    }

    fn reload(&mut self) -> Vec<(Revoked, RevokedTimes)> {
        let entries = self.entries.iter();
        let entries = entries.map(|(key, (value, created))| Entry {
            key: key.as_bytes(),
            value: value.as_bytes(),
            created: *created,
        });
        self.mirror.reload(entries, self.now, TIME)
    }

    fn settle_after(&mut self, after: Duration) {
        self.now += after;
        self.mirror.settle(self.now, TIME);
    }

    fn back_from_an_outage(&mut self) {
        self.mirror.hold_until(self.now + HOLD);
    }

    /// Nodes as shown, with region and weight.
    fn nodes(&self) -> Vec<(String, String, u32)> {
        let nodes = self.mirror.nodes.nodes.values();
        nodes.map(|node| (node.node.to_string(), node.region.to_string(), node.weight)).collect()
    }

    fn names(&self) -> Vec<String> {
        self.nodes().into_iter().map(|(name, ..)| name).collect()
    }
}

fn record(region: &str, node: &str, weight: u32) -> NodeRecord {
    NodeRecord {
        node: node.parse().expect("valid"),
        boot: None,
        region: region.parse().expect("valid"),
        address: "http://192.0.2.1:7000".to_owned(),
        weight,
        capacity: Capacity::default(),
        state: NodeState::Ready,
        load: Load::default(),
        reports: 0,
        version: String::new(),
    }
}

fn times(at: u64, until: u64) -> RevokedTimes {
    RevokedTimes { at: TIME + Duration::from_secs(at), until: TIME + Duration::from_secs(until) }
}

fn token(id: &str) -> Revoked {
    Revoked::Token(id.to_owned())
}

#[test]
fn nodes_come_change_and_go_with_their_entries() {
    let mut world = World::new();
    world.put_node("eu", "a", 1);
    world.put_node("eu", "b", 1);
    world.put_node("eu", "a", 2);
    assert_eq!(world.nodes()[0], ("a".to_owned(), "eu".to_owned(), 2));
    world.delete("/sluice/nodes/eu/a");
    assert_eq!(world.names(), ["b"]);
    world.delete("/sluice/nodes/eu/never");
    assert!(
        world.mirror.has_node(&"b".parse().expect("valid")) && !world.mirror.has_node(&"a".parse().expect("valid"))
    );
}

#[test]
fn after_an_outage_nodes_that_are_gone_are_held_until_they_had_time_to_come_back() {
    let mut world = World::new();
    for node in ["back", "dead", "stays"] {
        world.put_node("eu", node, 1);
    }
    world.back_from_an_outage();
    world.delete("/sluice/nodes/eu/back");
    world.delete("/sluice/nodes/eu/dead");
    assert_eq!(world.names(), ["back", "dead", "stays"]);
    assert!(!world.mirror.has_node(&"dead".parse().expect("valid")), "held is not there");
    world.settle_after(HOLD / 2);
    world.put_node("eu", "back", 1);
    world.settle_after(HOLD / 4);
    assert_eq!(world.names(), ["back", "dead", "stays"]);
    world.settle_after(HOLD / 4);
    assert_eq!(world.names(), ["back", "stays"]);
    world.delete("/sluice/nodes/eu/stays");
    assert_eq!(world.names(), ["back"], "later ones go at once");
}

#[test]
fn a_reading_after_an_outage_holds_what_it_does_not_find_and_any_other_does_not() {
    let mut world = World::new();
    world.put_node("eu", "a", 1);
    world.put_node("eu", "b", 1);
    world.entries.remove("/sluice/nodes/eu/a");
    world.back_from_an_outage();
    world.reload();
    assert_eq!(world.names(), ["a", "b"]);
    world.settle_after(HOLD);
    assert_eq!(world.names(), ["b"]);
    world.entries.clear();
    world.reload();
    assert!(world.names().is_empty());
}

#[test]
fn of_two_entries_of_one_node_the_younger_that_is_there_is_shown() {
    let mut world = World::new();
    world.put_node("eu", "a", 1);
    world.put_node("us", "a", 2);
    world.put_node("eu", "a", 3);
    assert_eq!(world.nodes(), [("a".to_owned(), "us".to_owned(), 2)]);
    world.back_from_an_outage();
    world.delete("/sluice/nodes/us/a");
    assert_eq!(world.nodes(), [("a".to_owned(), "eu".to_owned(), 3)], "rather than one that is held");
}

#[test]
fn nothing_is_shown_anew_that_has_not_changed() {
    let mut world = World::new();
    world.put_node("eu", "a", 1);
    world.put("/sluice/regions/eu", "{}");
    world.mirror.revoke(token("t"), times(1, 100));
    let first = world.mirror.take_changed();
    assert!(first.nodes.is_some() && first.edges.is_none() && first.revoked.is_some());
    world.put_node("eu", "a", 1);
    world.put("/sluice/regions/eu", "{}");
    world.mirror.revoke(token("t"), times(1, 100));
    world.settle_after(HOLD);
    let again = world.mirror.take_changed();
    assert!(again.nodes.is_none() && again.edges.is_none() && again.revoked.is_none());
}

#[test]
fn what_nodes_once_registered_as_is_what_the_last_reading_found_and_is_not_chosen_from() {
    let mut world = World::new();
    let at =
        |world: &World, region: &str| world.keys.once(&region.parse().expect("valid"), &"n".parse().expect("valid"));
    let (eu, us) = (at(&world, "eu"), at(&world, "us"));
    world.put(&eu, &of_node(&record("eu", "n", 1)));
    world.put(&us, &of_node(&record("us", "n", 2)));
    world.delete(&eu);
    let map = world.mirror.take_changed().nodes.expect("changed");
    assert_eq!(
        (map.nodes.len(), map.once["n"].region.as_str()),
        (0, "us"),
        "the end of the older says nothing of the other"
    );
    world.entries.remove(&us);
    world.reload();
    assert!(world.mirror.take_changed().nodes.expect("changed").once.is_empty());
}

#[test]
fn edges_and_regions_are_what_the_last_reading_found() {
    let mut world = World::new();
    let edge = EdgeRecord {
        edge: "e".parse().expect("valid"),
        boot: "b".parse().expect("valid"),
        region: "eu".parse().expect("valid"),
        sees_store: true,
        takes_clients: true,
    };
    world.put("/sluice/edges/e", &values::of_edge(&edge));
    world.put("/sluice/regions/eu", r#"{"weight":7}"#);
    assert_eq!((world.mirror.edges.len(), world.mirror.nodes.regions["eu"].weight), (1, 7));
    world.back_from_an_outage();
    world.entries.clear();
    world.reload();
    assert!(world.mirror.edges.is_empty() && world.mirror.nodes.regions.is_empty());
}

#[test]
fn revocations_outlive_their_entries_and_those_that_etcd_lost_are_named() {
    let mut world = World::new();
    world.put(&world.keys.revoked(&token("kept")), &values::of_revoked(times(1, 100)));
    world.put(&world.keys.revoked(&token("lost")), &values::of_revoked(times(1, 100)));
    world.put(&world.keys.revoked(&token("nearly over")), &values::of_revoked(times(1, 4)));
    world.delete(&world.keys.revoked(&token("lost")));
    world.delete(&world.keys.revoked(&token("nearly over")));
    assert_eq!(world.mirror.revoked.0.len(), 3);
    assert_eq!(world.reload(), [(token("lost"), times(1, 100))]);
    world.mirror.settle(world.now, TIME + Duration::from_secs(4));
    assert_eq!(world.mirror.revoked.0.len(), 2);
    world.mirror.settle(world.now, TIME + Duration::from_secs(100));
    assert!(world.mirror.revoked.0.is_empty());
}

#[test]
fn of_two_revocations_of_one_the_later_times_count_in_any_order() {
    let (first, second) = (times(1, 100), times(50, 60));
    for order in [[first, second], [second, first]] {
        let mut world = World::new();
        for said in order {
            assert!(world.mirror.revoke(token("t"), said));
        }
        assert_eq!(world.mirror.revocation(&token("t")), Some(times(50, 100)));
    }
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut world = World::new();
    for index in 0..MAX_REVOCATIONS {
        assert!(world.mirror.revoke(token(&index.to_string()), times(1, 100)));
    }
    assert!(!world.mirror.revoke(token("one more"), times(1, 100)));
    assert!(world.mirror.revoke(token("0"), times(2, 100)), "a known one can be said again");
    for index in 0..=MAX_NODES {
        world.put_node("eu", &format!("n{index}"), 1);
    }
    for index in 0..=MAX_NAMESAKES {
        world.put_node(&format!("r{index}"), "n0", 1);
    }
    for index in 0..=MAX_REGIONS {
        world.put(&format!("/sluice/regions/r{index}"), "{}");
    }
    assert_eq!(world.mirror.nodes.nodes.len(), MAX_NODES);
    assert_eq!(world.mirror.entries[&NodeId::new("n0").expect("valid")].len(), MAX_NAMESAKES);
    assert_eq!(world.mirror.nodes.regions.len(), MAX_REGIONS);
}

#[test]
fn a_complaint_is_made_once_until_the_entry_is_good_and_of_a_bounded_number() {
    let mut world = World::new();
    world.put("/sluice/nodes/eu/a", "garbage");
    assert_eq!(world.mirror.complaints.len(), 1);
    world.put_node("eu", "a", 1);
    assert!(world.mirror.complaints.is_empty());
    world.put("/sluice/nodes/eu/a", "garbage");
    assert_eq!(world.names(), ["a"], "the last good value stays");
    for index in 0..2 * MAX_COMPLAINTS {
        world.put(&format!("/sluice/nodes/{index}"), "");
    }
    assert_eq!(world.mirror.complaints.len(), MAX_COMPLAINTS);
}

#[test]
fn answers_are_given_once() {
    let mut world = World::new();
    let boot: BootId = "b".parse().expect("valid");
    world.put("/sluice/answered/n/q", &values::of_answer(Some(&boot)));
    assert_eq!(world.mirror.take_answers(), [("q".to_owned(), Some(boot))]);
    assert!(world.mirror.take_answers().is_empty());
}

/// Some histories of etcd, with outages in which the mirror hears nothing: no living node is ever missing from the map for longer
/// than it is unknown, and in the end the map is what etcd has.
#[test]
fn whatever_happens_living_nodes_stay_and_dead_ones_go() {
    for seed in 0..300 {
        let (mut world, mut rng) = (World::new(), StdRng::seed_from_u64(seed));
        for _ in 0..60 {
            let (region, node) = (["eu", "us"][rng.random_range(0..2)], format!("n{}", rng.random_range(0..4)));
            let (key, weight) = (format!("/sluice/nodes/{region}/{node}"), rng.random_range(1..9));
            match rng.random_range(0..5) {
                0 | 1 => world.put_node(region, &node, weight),
                2 => world.delete(&key),
                3 => world.settle_after(HOLD / rng.random_range(1..5)),
                _ => {
                    for _ in 0..rng.random_range(0..4) {
                        let node = format!("n{}", rng.random_range(0..4));
                        let record = record(region, &node, weight);
                        world.write(&format!("/sluice/nodes/{region}/{node}"), &of_node(&record));
                        world.entries.remove(&format!("/sluice/nodes/{region}/n{}", rng.random_range(0..4)));
                    }
                    world.back_from_an_outage();
                    world.reload();
                }
            }
            let living = living(&world);
            assert!(
                living.iter().all(|node| world.nodes().contains(node)),
                "seed {seed}: {living:?} of {:?}",
                world.nodes()
            );
        }
        world.settle_after(HOLD);
        assert_eq!(world.nodes(), living(&world), "seed {seed}");
    }
}

/// The nodes etcd has, each as its youngest entry says.
fn living(world: &World) -> Vec<(String, String, u32)> {
    let mut youngest: BTreeMap<NodeId, (i64, NodeRecord)> = BTreeMap::new();
    for (key, (value, created)) in &world.entries {
        let Key::Node(region, node) = world.keys.parse(key.as_bytes()) else { continue };
        let record = values::node(region, node.clone(), value.as_bytes()).expect("good");
        if youngest.get(&node).is_none_or(|(other, _)| other < created) {
            youngest.insert(node, (*created, record));
        }
    }
    let nodes = youngest.into_values().map(|(_, record)| record);
    nodes.map(|record| (record.node.to_string(), record.region.to_string(), record.weight)).collect()
}
