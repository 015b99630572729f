//! The schema's keys. All of one room share a hash tag, so that they are in one slot of a cluster; the index of due rooms has 64 of
//! its own, each with a `/`, which no rid may hold: who names a room names no part of the index. What is under them is said in the
//! scripts. The number in them is the schema's version: another one finds nothing of this, and harms nothing of it.

use proto::ids::{PeerId, RoomId};

/// Parts of the index of due rooms. More: sets are smaller, and shared more evenly by a cluster's masters; less: fewer are asked.
pub(super) const BUCKETS: usize = 64;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// A slot of a cluster. A single server has them, too, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u16);

/// What every key begins with.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
    /// Channels are not a database's own, as keys are: they have to differ by name.
    feed: String,
}

impl Keys {
    /// Keys of this version of the schema, in this database of the server.
    pub(super) fn new(database: i64) -> Self {
        Self::under("sluice", database)
    }

    /// The same under another name.
    pub(super) fn under(name: &str, database: i64) -> Self {
        let feed = if database == 0 { "feed".to_owned() } else { format!("feed:{database}") };
        Self { prefix: format!("{name}:2:"), feed }
    }

    fn of(&self, room: &RoomId, part: &str) -> String {
        format!("{}{{{room}}}:{part}", self.prefix)
    }

    /// The room's own, in the order in which scripts expect them.
    pub(super) fn room(&self, room: &RoomId) -> Vec<String> {
        let parts = ["room", "members", "names", "due", "pubs", "subs", "log", "carriers", "said", "ended", &self.feed];
        parts.iter().map(|part| self.of(room, part)).collect()
    }

    /// What a peer's requests in the room have done.
    pub(super) fn ops(&self, room: &RoomId, peer: &PeerId) -> [String; 3] {
        ["ops", "requests", "broadcasts"].map(|part| format!("{}:{peer}", self.of(room, part)))
    }

    /// Where the room's events are published.
    pub(super) fn feed(&self, room: &RoomId) -> String {
        self.of(room, &self.feed)
    }

    /// The room whose events these are.
    pub(super) fn room_of_feed(&self, channel: &str) -> Option<RoomId> {
        let room =
            channel.strip_prefix(&self.prefix)?.strip_prefix('{')?.strip_suffix(&self.feed)?.strip_suffix("}:")?;
        RoomId::new(room).ok()
    }

    fn of_part(&self, number: usize, what: &str) -> String {
        format!("{}{{exp/{number}}}:{what}", self.prefix)
    }

    /// A part of the index of due rooms.
    pub(super) fn bucket(&self, number: usize) -> String {
        self.of_part(number, "due")
    }

    /// The occupied rooms of a part, where they can't be counted with each step.
    pub(super) fn occupied(&self, number: usize) -> String {
        self.of_part(number, "occupied")
    }

    /// How many rooms are occupied, and how many bytes their logs hold, where each step can count them.
    pub(super) fn totals(&self) -> String {
        format!("{}totals", self.prefix)
    }

    /// The life of what is in the part's slot.
    pub(super) fn life(&self, number: usize) -> String {
        self.of_part(number, "life")
    }
}

/// The part of the index a room is in: the same for every edge, whatever it is built of.
pub(super) fn bucket_of(room: &RoomId) -> usize {
    usize::from(crc16(room.as_str().as_bytes())) % BUCKETS
}

/// The slot of a key (Redis Cluster specification, "Keys hash tags").
pub(super) fn slot_of(key: &str) -> Slot {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    Slot(crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), Slot(12182));
        assert_eq!(slot_of("{foo}.bar"), slot_of("foo"));
        assert_eq!(slot_of("foo{}{bar}"), Slot(crc16(b"foo{}{bar}") % SLOTS));
    }

    #[test]
    fn no_room_and_no_peer_is_named_so_that_it_has_a_key_of_something_else() {
        let names = (0..BUCKETS)
            .flat_map(|number| [format!("exp:{number}"), format!("exp:{number}:due"), format!("exp{number}")]);
        let names = names.chain(
            ["totals", ":totals", "exp", ":", "a:due", "feed", "ops:a", "x".repeat(128).as_str()].map(str::to_owned),
        );
        let names: Vec<String> = names.collect();
        for keys in [Keys::new(0), Keys::new(3), Keys::under("sluice:2", 0)] {
            let mut all = BTreeSet::from([keys.totals()]);
            for number in 0..BUCKETS {
                for key in [keys.bucket(number), keys.occupied(number), keys.life(number)] {
                    assert!(all.insert(key.clone()), "{key}");
                }
            }
            for room in names.iter().map(|name| RoomId::new(name.as_str()).expect("valid")) {
                // The last is a channel.
                let own = keys.room(&room).into_iter();
                let peers = ["due", "a", "a:due", ":"].map(|uid| PeerId::new(uid).expect("valid"));
                for key in own.chain(peers.iter().flat_map(|peer| keys.ops(&room, peer))) {
                    assert!(all.insert(key.clone()), "{key}");
                }
            }
        }
        for tag in ["exp/0", "a}:due{b", "{"] {
            assert!(RoomId::new(tag).is_err(), "what keeps them apart: {tag}");
        }
    }

    #[test]
    fn every_master_of_an_evenly_spread_cluster_has_a_part_of_the_index() {
        let slots: Vec<usize> =
            (0..BUCKETS).map(|number| usize::from(slot_of(&Keys::new(0).bucket(number)).0)).collect();
        for masters in 3..=20 {
            let with_a_part: BTreeSet<usize> = slots.iter().map(|slot| slot * masters / usize::from(SLOTS)).collect();
            assert_eq!(with_a_part.len(), masters);
        }
    }

    #[test]
    fn all_keys_of_a_room_are_in_one_slot() {
        let (room, peer) = (RoomId::new("a 会议").expect("valid"), PeerId::new("p").expect("valid"));
        let keys = Keys::new(3);
        let all = keys.room(&room).into_iter().chain(keys.ops(&room, &peer)).chain([keys.feed(&room)]);
        assert_eq!(all.map(|key| slot_of(&key)).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(keys.room_of_feed(&keys.feed(&room)), Some(room));
        assert_eq!(slot_of(&keys.bucket(3)), slot_of(&keys.occupied(3)));
    }
}
