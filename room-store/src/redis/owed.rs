//! What parts of a cluster's index are to be told when they are back. Pure.

use std::collections::{HashMap, hash_map::Entry};

use proto::ids::RoomId;

use super::index::Occupied;

/// Hints owed, at most, each of some 100 bytes: for more rooms than an edge has by default. Of further ones nothing can be changed
/// while their part of the index is away.
const MOST: usize = 131_072;

/// Rooms of which something may be due that their part was not told of, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<RoomId, Occupied>);

impl Owed {
    /// Whether there is room for it.
    pub(super) fn add(&mut self, room: &RoomId, occupied: Occupied) -> bool {
        let is_full = self.0.len() >= MOST;
        match self.0.entry(room.clone()) {
            Entry::Occupied(mut known) if occupied != Occupied::Unknown => _ = known.insert(occupied),
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(vacant) => _ = vacant.insert(occupied),
        }
        true
    }

    /// The part was told what is so now. What was owed before is older: paid later, it would undo that.
    pub(super) fn forget(&mut self, room: &RoomId) {
        self.0.remove(room);
    }

    /// Some that can be paid.
    pub(super) fn payable(&self, most: usize, can_be: impl Fn(&RoomId) -> bool) -> Vec<(RoomId, Occupied)> {
        let payable = self.0.iter().filter(|(room, _)| can_be(room)).take(most);
        payable.map(|(room, occupied)| (room.clone(), *occupied)).collect()
    }

    /// This was paid. If more has become known of the room meanwhile, that is owed still.
    pub(super) fn handle_paid(&mut self, room: &RoomId, occupied: Occupied) {
        if self.0.get(room) == Some(&occupied) {
            self.0.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> RoomId {
        RoomId::new(format!("r{number}")).expect("valid")
    }

    fn all(owed: &Owed) -> Vec<(RoomId, Occupied)> {
        owed.payable(usize::MAX, |_| true)
    }

    #[test]
    fn the_last_that_is_known_of_a_room_is_owed() {
        let mut owed = Owed::default();
        for occupied in [Occupied::Unknown, Occupied::Yes, Occupied::No, Occupied::Unknown] {
            assert!(owed.add(&room(1), occupied));
        }
        assert_eq!(all(&owed), [(room(1), Occupied::No)]);
        assert!(owed.payable(usize::MAX, |_| false).is_empty());
        owed.handle_paid(&room(1), Occupied::Unknown);
        assert_eq!(all(&owed), [(room(1), Occupied::No)], "more became known meanwhile");
        owed.handle_paid(&room(1), Occupied::No);
        assert!(all(&owed).is_empty());
    }

    #[test]
    fn what_was_told_since_is_not_undone() {
        let mut owed = Owed::default();
        owed.add(&room(1), Occupied::No);
        owed.forget(&room(1));
        assert!(all(&owed).is_empty());
    }

    #[test]
    fn what_is_owed_is_bounded() {
        let mut owed = Owed::default();
        assert!((0..MOST).all(|number| owed.add(&room(number), Occupied::Unknown)));
        assert!(!owed.add(&room(MOST), Occupied::Yes));
        assert!(owed.add(&room(0), Occupied::Yes), "it is there already");
    }
}
