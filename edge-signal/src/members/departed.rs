//! Sessions whose sockets closed here lately: their clients may come back within the grace, to whichever edge. Should the store lose
//! everything meanwhile, nobody else knows of them. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use proto::ids::{PeerId, RoomId, SessionId};
use room_store::{Actor, Assertion, Hold};
use tokio::time::Instant;

use super::Held;

/// Most sessions remembered. More come only when an edge loses all its clients at once, and then the rest is on the nodes.
const MAX_REMEMBERED: usize = 20_000;

/// They, until their grace ends.
#[derive(Default)]
pub(super) struct Departed(HashMap<(RoomId, PeerId), Left>);

struct Left {
    hold: Hold,
    held: Held,
    until: Instant,
}

impl Left {
    fn assertion(&self) -> Assertion {
        Assertion {
            hold: self.hold.clone(),
            publications: self.held.publications(),
            subscriptions: self.held.subscriptions(),
        }
    }
}

impl Departed {
    /// A socket closed.
    pub(super) fn add(&mut self, room: &RoomId, hold: Hold, held: Held, now: Instant, grace: Duration) {
        if self.0.len() >= MAX_REMEMBERED {
            self.forget_old(now);
        }
        if self.0.len() < MAX_REMEMBERED {
            self.0.insert((room.clone(), hold.peer.clone()), Left { hold, held, until: now + grace });
        }
    }

    /// The peer is there again.
    pub(super) fn remove(&mut self, room: &RoomId, peer: &PeerId) {
        if !self.0.is_empty() {
            self.0.remove(&(room.clone(), peer.clone()));
        }
    }

    /// The session does not come back. What it has, if it is remembered.
    pub(super) fn take(&mut self, actor: &Actor) -> Option<Held> {
        let Entry::Occupied(left) = self.0.entry((actor.room.clone(), actor.peer.clone())) else { return None };
        (left.get().hold.session == actor.session).then(|| left.remove().held)
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, left| left.until > now);
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
    }

    /// Those whose grace has not ended, by room.
    pub(super) fn assertions(&self, now: Instant) -> HashMap<RoomId, Vec<Assertion>> {
        let mut rooms: HashMap<RoomId, Vec<Assertion>> = HashMap::new();
        for ((room, _), left) in self.0.iter().filter(|(_, left)| left.until > now) {
            rooms.entry(room.clone()).or_default().push(left.assertion());
        }
        rooms
    }

    /// A session whose grace has not ended.
    pub(super) fn session(&self, room: &RoomId, peer: &PeerId, session: &SessionId, now: Instant) -> Option<Assertion> {
        let left = self.0.get(&(room.clone(), peer.clone()))?;
        (left.hold.session == *session && left.until > now).then(|| left.assertion())
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
        departed.add(&room, hold("ann"), Held::default(), now, GRACE);
        departed.add(&room, hold("bob"), Held::default(), now, GRACE);
        departed.remove(&room, &"bob".parse().expect("valid"));
        let names = |at| -> Vec<String> {
            let all = departed.assertions(at).into_values().flatten();
            all.map(|assertion| assertion.hold.peer.to_string()).collect()
        };
        assert_eq!(names(now), ["ann"]);
        assert_eq!(names(now + GRACE), [""; 0]);
    }

    #[test]
    fn no_more_are_remembered_than_a_bound() {
        let (mut departed, room, now): (_, RoomId, _) =
            (Departed::default(), "r".parse().expect("valid"), Instant::now());
        for number in 0..MAX_REMEMBERED + 5 {
            departed.add(&room, hold(&format!("p{number}")), Held::default(), now, GRACE);
        }
        assert_eq!(departed.0.len(), MAX_REMEMBERED);
        departed.add(&room, hold("later"), Held::default(), now + GRACE, GRACE);
        assert_eq!(departed.0.len(), 1);
    }
}
