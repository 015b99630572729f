//! Sessions whose sockets closed here lately: their clients may come back within the grace, to whichever edge. Should the store lose
//! them meanwhile, nobody else knows of them. Pure.

use std::collections::HashMap;
use std::time::Duration;

use proto::ids::{PeerId, RoomId, SessionId};
use room_store::{Actor, Assertion, Head, Hold};
use tokio::time::Instant;

use super::Held;

/// Most sessions remembered. More come only when an edge loses all its clients at once, and then the rest is on the nodes.
const MAX_REMEMBERED: usize = 20_000;

/// They, until their grace ends.
#[derive(Default)]
pub(super) struct Departed {
    rooms: HashMap<RoomId, HashMap<PeerId, Left>>,
    count: usize,
}

/// A session between two sockets.
#[derive(Debug)]
pub(crate) struct Away {
    /// To put it back.
    pub(crate) assertion: Assertion,
    /// Where its room's log was when its socket closed. A store that still has this entry has ended the session, if it does not have
    /// it, and not lost it.
    pub(crate) place: Option<Head>,
}

struct Left {
    hold: Hold,
    held: Held,
    place: Option<Head>,
    until: Instant,
}

impl Left {
    fn away(&self) -> Away {
        let assertion = Assertion {
            hold: self.hold.clone(),
            publications: self.held.publications(),
            subscriptions: self.held.subscriptions(),
        };
        Away { assertion, place: self.place }
    }
}

impl Departed {
    /// A socket closed, at this time and this place of the room's log.
    pub(super) fn add(
        &mut self,
        room: &RoomId,
        hold: Hold,
        held: Held,
        place: Option<Head>,
        now: Instant,
        grace: Duration,
    ) {
        if self.count >= MAX_REMEMBERED {
            self.forget_old(now);
        }
        if self.count < MAX_REMEMBERED {
            let left = Left { hold, held, place, until: now + grace };
            let peers = self.rooms.entry(room.clone()).or_default();
            self.count += usize::from(peers.insert(left.hold.peer.clone(), left).is_none());
        }
    }

    /// The peer is there again.
    pub(super) fn remove(&mut self, room: &RoomId, peer: &PeerId) {
        self.remove_if(room, peer, |_| true);
    }

    /// The session does not come back. What it has, if it is remembered.
    pub(super) fn take(&mut self, actor: &Actor) -> Option<Held> {
        self.remove_if(&actor.room, &actor.peer, |hold| hold.session == actor.session).map(|left| left.held)
    }

    fn remove_if(&mut self, room: &RoomId, peer: &PeerId, is_meant: impl Fn(&Hold) -> bool) -> Option<Left> {
        let peers = self.rooms.get_mut(room)?;
        let left = peers.get(peer).is_some_and(|left| is_meant(&left.hold)).then(|| peers.remove(peer)).flatten()?;
        self.count -= 1;
        if peers.is_empty() {
            self.rooms.remove(room);
        }
        Some(left)
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.rooms.retain(|_, peers| {
            peers.retain(|_, left| left.until > now);
            !peers.is_empty()
        });
        self.count = self.rooms.values().map(HashMap::len).sum();
        if self.rooms.is_empty() {
            self.rooms.shrink_to_fit();
        }
    }

    /// Rooms of those whose grace has not ended.
    pub(super) fn rooms(&self, now: Instant) -> Vec<RoomId> {
        let is_any_away = |peers: &HashMap<_, Left>| peers.values().any(|left| left.until > now);
        self.rooms.iter().filter(|(_, peers)| is_any_away(peers)).map(|(room, _)| room.clone()).collect()
    }

    /// Those of a room whose grace has not ended.
    pub(super) fn of_room(&self, room: &RoomId, now: Instant) -> Vec<Away> {
        let peers = self.rooms.get(room).into_iter().flat_map(HashMap::values);
        peers.filter(|left| left.until > now).map(Left::away).collect()
    }

    /// A session whose grace has not ended.
    pub(super) fn session(&self, room: &RoomId, peer: &PeerId, session: &SessionId, now: Instant) -> Option<Away> {
        let left = self.rooms.get(room)?.get(peer)?;
        (left.hold.session == *session && left.until > now).then(|| left.away())
    }
}

#[cfg(test)]
mod tests {
    use room_store::ConnectionId;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn hold(name: &str) -> Hold {
        Hold { peer: name.parse().expect("valid"), session: SessionId::of(1), connection: ConnectionId(1) }
    }

    #[test]
    fn who_left_is_remembered_for_the_grace_or_until_it_is_back() {
        let (mut departed, room, now): (_, RoomId, _) =
            (Departed::default(), "r".parse().expect("valid"), Instant::now());
        departed.add(&room, hold("ann"), Held::default(), None, now, GRACE);
        departed.add(&room, hold("bob"), Held::default(), None, now, GRACE);
        departed.remove(&room, &"bob".parse().expect("valid"));
        let names = |at| -> Vec<String> {
            departed.of_room(&room, at).iter().map(|away| away.assertion.hold.peer.to_string()).collect()
        };
        assert_eq!(names(now), ["ann"]);
        assert_eq!(departed.rooms(now), std::slice::from_ref(&room));
        assert_eq!(names(now + GRACE), [""; 0]);
        assert_eq!(departed.rooms(now + GRACE), []);
    }

    #[test]
    fn no_more_are_remembered_than_a_bound() {
        let (mut departed, room, now): (_, RoomId, _) =
            (Departed::default(), "r".parse().expect("valid"), Instant::now());
        for number in 0..MAX_REMEMBERED + 5 {
            departed.add(&room, hold(&format!("p{number}")), Held::default(), None, now, GRACE);
        }
        assert_eq!(departed.count, MAX_REMEMBERED);
        departed.add(&room, hold("later"), Held::default(), None, now + GRACE, GRACE);
        assert_eq!((departed.count, departed.rooms[&room].len()), (1, 1));
    }
}
