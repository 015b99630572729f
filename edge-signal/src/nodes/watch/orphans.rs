//! Transports that a node has and no record names: the end of their streams was written to the store, and what was to be closed was lost
//! with the store's answer, or with the edge that got it. A node ends a transport by itself only when its client falls silent, and this
//! one's sends and hears on. So one is closed that two comparisons far enough apart have found without a record. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use proto::ids::RoomId;
use tokio::time::Instant;

/// Most that are remembered of one node: further ones are found again when those are closed.
const MAX_SUSPECTS: usize = 16_384;

/// What was found without a record, by room.
pub(super) struct Orphans {
    /// How far apart the two comparisons are at least.
    apart: Duration,
    rooms: BTreeMap<RoomId, Suspects>,
    count: usize,
}

struct Suspects {
    /// Transports, and when each was first found.
    since: BTreeMap<String, Instant>,
    /// When the room is to be compared again.
    due: Instant,
}

impl Orphans {
    /// `apart`: no living stream is without a record for longer.
    pub(super) fn new(apart: Duration) -> Self {
        Self { apart, rooms: BTreeMap::new(), count: 0 }
    }

    /// A comparison has found these transports of the room, and no others, without a record. Those that are to be closed. What was found
    /// before `seen_since`, when the store was last away or lost something, counts no more: edges put back what it has lost.
    pub(super) fn handle_compared(
        &mut self,
        room: &RoomId,
        found: BTreeSet<String>,
        seen_since: Option<Instant>,
        now: Instant,
    ) -> Vec<String> {
        let mut before = self.forget(room);
        let (mut since, mut orphans) = (BTreeMap::new(), Vec::new());
        for transport in found {
            match before.remove(&transport).filter(|first| seen_since.is_some_and(|seen| seen <= *first)) {
                Some(first) if now.duration_since(first) >= self.apart => orphans.push(transport),
                first if self.count + since.len() < MAX_SUSPECTS => _ = since.insert(transport, first.unwrap_or(now)),
                _ => {}
            }
        }
        if !since.is_empty() {
            self.count += since.len();
            self.rooms.insert(room.clone(), Suspects { since, due: now + self.apart });
        }
        orphans
    }

    /// Rooms that are to be compared again now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RoomId> {
        let due = self.rooms.iter_mut().filter(|(_, suspects)| suspects.due <= now);
        // Should it come to nothing, it is tried again.
        due.map(|(room, suspects)| {
            suspects.due = now + self.apart;
            room.clone()
        })
        .collect()
    }

    /// What was found in the room.
    pub(super) fn forget(&mut self, room: &RoomId) -> BTreeMap<String, Instant> {
        let since = self.rooms.remove(room).map(|suspects| suspects.since).unwrap_or_default();
        self.count -= since.len();
        since
    }
}

/// Comparisons that nothing asks for: each room in its turn, evenly spread over a round.
#[derive(Default)]
pub(super) struct Round {
    last: Option<RoomId>,
    /// What is due of the next, in rooms times ticks.
    owed: usize,
}

impl Round {
    /// The rooms whose turn has come with this tick, of so many in a round.
    pub(super) fn tick(&mut self, rooms: &BTreeSet<RoomId>, ticks: usize) -> Vec<RoomId> {
        self.owed += rooms.len();
        let count = self.owed / ticks;
        self.owed %= ticks;
        let from = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = rooms.range::<RoomId, _>((from, Bound::Unbounded));
        let turns: Vec<RoomId> = after.chain(rooms).take(count.min(rooms.len())).cloned().collect();
        if let Some(last) = turns.last() {
            self.last = Some(last.clone());
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_mins(1);
    const MOMENT: Duration = Duration::from_millis(1);

    fn room(name: &str) -> RoomId {
        name.parse().expect("valid")
    }

    fn found<const N: usize>(transports: [&str; N]) -> BTreeSet<String> {
        transports.map(str::to_owned).into()
    }

    #[test]
    fn what_two_comparisons_far_enough_apart_find_without_a_record_is_closed_once() {
        let (mut orphans, start, room) = (Orphans::new(APART), Instant::now(), room("r"));
        assert!(orphans.handle_compared(&room, found(["a", "b"]), Some(start), start).is_empty());
        assert!(orphans.handle_compared(&room, found(["a", "b", "c"]), Some(start), start + APART - MOMENT).is_empty());
        assert_eq!(orphans.handle_compared(&room, found(["a", "b", "c"]), Some(start), start + APART), ["a", "b"]);
        assert!(
            orphans.handle_compared(&room, found(["c"]), Some(start), start + APART).is_empty(),
            "it was found later"
        );
        assert_eq!(orphans.handle_compared(&room, found(["c"]), Some(start), start + 2 * APART), ["c"]);
        assert!(orphans.rooms.is_empty() && orphans.count == 0);
    }

    #[test]
    fn what_had_a_record_in_between_begins_anew() {
        let (mut orphans, start, room) = (Orphans::new(APART), Instant::now(), room("r"));
        assert!(orphans.handle_compared(&room, found(["a"]), Some(start), start).is_empty());
        assert!(orphans.handle_compared(&room, found([]), Some(start), start + APART / 2).is_empty(), "put back");
        assert!(orphans.handle_compared(&room, found(["a"]), Some(start), start + APART).is_empty());
        assert_eq!(orphans.handle_compared(&room, found(["a"]), Some(start), start + 2 * APART), ["a"]);
    }

    #[test]
    fn what_was_found_before_the_store_was_away_begins_anew() {
        let (mut orphans, start, room) = (Orphans::new(APART), Instant::now(), room("r"));
        let back = start + APART / 2;
        assert!(orphans.handle_compared(&room, found(["a"]), Some(start), start).is_empty());
        assert!(orphans.handle_compared(&room, found(["a"]), Some(back), start + APART).is_empty(), "not put back yet");
        assert!(orphans.handle_compared(&room, found(["a"]), None, start + 2 * APART).is_empty(), "away just now");
        let again = start + 3 * APART;
        assert!(orphans.handle_compared(&room, found(["a"]), Some(again), again).is_empty());
        assert_eq!(orphans.handle_compared(&room, found(["a"]), Some(again), again + APART), ["a"]);
    }

    #[test]
    fn a_room_with_suspects_is_due_until_it_was_compared_again() {
        let (mut orphans, start) = (Orphans::new(APART), Instant::now());
        orphans.handle_compared(&room("r"), found(["a"]), Some(start), start);
        orphans.handle_compared(&room("clean"), found([]), Some(start), start);
        assert!(orphans.take_due(start + APART - MOMENT).is_empty());
        assert_eq!(orphans.take_due(start + APART), [room("r")]);
        assert!(orphans.take_due(start + APART + MOMENT).is_empty(), "it is under way");
        assert_eq!(orphans.take_due(start + 2 * APART), [room("r")], "it came to nothing");
        orphans.forget(&room("r"));
        assert!(orphans.take_due(start + 9 * APART).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut orphans, start) = (Orphans::new(APART), Instant::now());
        let many = || (0..MAX_SUSPECTS + 10).map(|number| number.to_string()).collect();
        assert!(orphans.handle_compared(&room("a"), many(), Some(start), start).is_empty());
        assert!(orphans.handle_compared(&room("b"), found(["x"]), Some(start), start).is_empty());
        assert_eq!((orphans.count, orphans.rooms.len()), (MAX_SUSPECTS, 1));
        assert_eq!(orphans.handle_compared(&room("a"), many(), Some(start), start + APART).len(), MAX_SUSPECTS);
        assert_eq!(orphans.count, 10);
    }

    #[test]
    fn every_room_has_one_turn_in_a_round() {
        const TICKS: usize = 300;
        for count in [0, 1, 7, 299, 300, 301, 1_000] {
            let rooms: BTreeSet<RoomId> = (0..count).map(|number| room(&number.to_string())).collect();
            let mut round = Round::default();
            for _ in 0..2 {
                let turns: Vec<RoomId> = (0..TICKS).flat_map(|_| round.tick(&rooms, TICKS)).collect();
                assert_eq!((turns.len(), turns.into_iter().collect::<BTreeSet<_>>()), (count, rooms.clone()));
            }
        }
    }

    #[test]
    fn a_round_goes_on_where_rooms_come_and_go() {
        let mut rooms: BTreeSet<RoomId> = ["a", "b", "c"].map(room).into();
        let mut round = Round::default();
        assert_eq!(round.tick(&rooms, 3), [room("a")]);
        rooms.remove(&room("a"));
        rooms.insert(room("aa"));
        assert_eq!(round.tick(&rooms, 3), [room("aa")]);
        rooms.clear();
        assert!(round.tick(&rooms, 3).is_empty());
    }
}
