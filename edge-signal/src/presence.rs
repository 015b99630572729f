//! Who is connected to this edge, by uid: how many sockets each has, how fast they ask together, and how they are told to look at
//! what was revoked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proto::ids::PeerId;
use tokio::sync::Notify;

use crate::rate::{Rate, SharedBucket};

/// How often it is remembered of uids without a socket that they asked for something a moment ago. Past it all of those are forgotten,
/// which only gives them their burst back.
const MAX_IDLE_PEERS: usize = 65_536;

/// The uids. Clones are the same.
#[derive(Clone)]
pub(crate) struct Presence {
    inner: Arc<Inner>,
}

struct Inner {
    most_sockets: usize,
    rate: Rate,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<PeerId, Peer>,
    /// Those that had no socket left, and when they can be forgotten unless they come again: what they asked for is paid then.
    idle: BinaryHeap<Reverse<(Instant, PeerId)>>,
}

struct Peer {
    sockets: usize,
    shared: Arc<Shared>,
}

/// What the sockets of a uid share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What they ask for together.
    pub(crate) requests: SharedBucket,
    /// Counts how often they were told to look.
    told: AtomicU64,
    tell: Notify,
}

/// A socket's place among its uid's. Dropping it makes room.
pub(crate) struct Present {
    presence: Presence,
    peer: PeerId,
    shared: Arc<Shared>,
    seen: u64,
}

/// The uid has as many sockets as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManySockets;

impl Presence {
    pub(crate) fn new(most_sockets: usize, rate: Rate) -> Self {
        Self { inner: Arc::new(Inner { most_sockets, rate, peers: Mutex::default() }) }
    }

    /// A further socket of `peer`.
    pub(crate) fn enter(&self, peer: &PeerId, now: Instant) -> Result<Present, TooManySockets> {
        let mut peers = self.peers();
        peers.forget_paid(now);
        let known = peers.known.entry(peer.clone()).or_insert_with(|| Peer {
            sockets: 0,
            shared: Arc::new(Shared::new(SharedBucket::new(self.inner.rate, now))),
        });
        if known.sockets >= self.inner.most_sockets {
            return Err(TooManySockets);
        }
        known.sockets += 1;
        let shared = Arc::clone(&known.shared);
        let seen = shared.told.load(Ordering::Acquire);
        Ok(Present { presence: self.clone(), peer: peer.clone(), shared, seen })
    }

    /// Has the sockets of `peer` look at what was revoked.
    pub(crate) fn tell(&self, peer: &PeerId) {
        if let Some(known) = self.peers().known.get(peer) {
            known.shared.tell();
        }
    }

    /// Has all sockets look.
    pub(crate) fn tell_all(&self) {
        for known in self.peers().known.values().filter(|known| known.sockets > 0) {
            known.shared.tell();
        }
    }

    fn leave(&self, peer: &PeerId, now: Instant) {
        let mut peers = self.peers();
        let Some(known) = peers.known.get_mut(peer) else { return };
        known.sockets = known.sockets.saturating_sub(1);
        if known.sockets == 0 {
            // How fast it asked is to be remembered; that it was there is not.
            let paid = known.shared.requests.full_at();
            peers.idle.push(Reverse((paid, peer.clone())));
            peers.forget_paid(now);
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Counters stay usable whatever a panicking holder did: each change is a single step.
        self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Forgets those without a socket that have nothing left to pay.
    fn forget_paid(&mut self, now: Instant) {
        if self.idle.len() > MAX_IDLE_PEERS {
            self.idle = BinaryHeap::new();
            self.known.retain(|_, known| known.sockets > 0);
        }
        while let Some(Reverse((paid, _))) = self.idle.peek()
            && *paid <= now
            && let Some(Reverse((_, peer))) = self.idle.pop()
        {
            // Since then it may have come, and even gone again with more to pay.
            let is_idle = |known: &Peer| known.sockets == 0 && known.shared.requests.full_at() <= now;
            if self.known.get(&peer).is_some_and(is_idle) {
                self.known.remove(&peer);
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(requests: SharedBucket) -> Self {
        Self { requests, told: AtomicU64::new(0), tell: Notify::new() }
    }

    fn tell(&self) {
        self.told.fetch_add(1, Ordering::AcqRel);
        self.tell.notify_waiters();
    }
}

impl Present {
    /// What it shares with the uid's other sockets.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until it is told to look at what was revoked. Safe to drop and call again: nothing told is missed.
    pub(crate) async fn told(&mut self) {
        loop {
            // Hears from here on, so that nothing falls between the look and the wait.
            let telling = self.shared.tell.notified();
            let told = self.shared.told.load(Ordering::Acquire);
            if told != self.seen {
                self.seen = told;
                return;
            }
            telling.await;
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.presence.leave(&self.peer, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).expect("valid")
    }

    fn presence(most_sockets: usize) -> Presence {
        Presence::new(most_sockets, Rate::new(1, 2))
    }

    #[test]
    fn a_uid_has_so_many_sockets_and_no_more_until_one_is_gone() {
        let (presence, now) = (presence(2), Instant::now());
        let one = presence.enter(&peer("ann"), now).expect("room");
        let _two = presence.enter(&peer("ann"), now).expect("room");
        assert!(presence.enter(&peer("ann"), now).is_err());
        assert!(presence.enter(&peer("bob"), now).is_ok());
        drop(one);
        assert!(presence.enter(&peer("ann"), now).is_ok());
    }

    #[test]
    fn sockets_of_one_uid_ask_from_one_bucket_and_coming_again_does_not_fill_it() {
        let (presence, now) = (presence(2), Instant::now());
        let one = presence.enter(&peer("ann"), now).expect("room");
        let two = presence.enter(&peer("ann"), now).expect("room");
        assert_eq!(one.shared().requests.take(1, now), Ok(()));
        assert_eq!(two.shared().requests.take(1, now), Ok(()));
        assert_eq!(one.shared().requests.take(1, now), Err(Duration::from_secs(1)));
        drop((one, two));
        let again = presence.enter(&peer("ann"), now).expect("room");
        assert!(again.shared().requests.take(1, now).is_err());
    }

    #[test]
    fn who_did_not_ask_too_fast_is_forgotten_at_once() {
        let presence = presence(1);
        drop(presence.enter(&peer("ann"), Instant::now()).expect("room"));
        assert!(presence.peers().known.is_empty() && presence.peers().idle.is_empty());
    }

    #[test]
    fn who_asked_is_forgotten_when_that_is_paid_and_nobody_is_there() {
        let (presence, now) = (presence(2), Instant::now() + Duration::from_hours(1));
        let present = presence.enter(&peer("ann"), now).expect("room");
        present.shared().requests.take(1, now).expect("full");
        drop(present);
        let again = presence.enter(&peer("ann"), now).expect("room");
        assert!(again.shared().requests.take(1, now).is_ok() && again.shared().requests.take(1, now).is_err());
        let later = now + Duration::from_secs(1);
        drop(presence.enter(&peer("bob"), later).expect("room"));
        assert!(presence.peers().known.contains_key(&peer("ann")), "it is there");
        drop(again);
        assert!(presence.peers().known.contains_key(&peer("ann")), "it has to pay");
        let paid = later + Duration::from_secs(1);
        let _bob = presence.enter(&peer("bob"), paid).expect("room");
        let peers = presence.peers();
        assert!(!peers.known.contains_key(&peer("ann")) && peers.idle.is_empty());
    }

    #[test]
    fn remembered_uids_are_bounded() {
        let (presence, now) = (presence(1), Instant::now() + Duration::from_hours(1));
        for n in 0..MAX_IDLE_PEERS + 10 {
            let present = presence.enter(&peer(&n.to_string()), now).expect("room");
            present.shared().requests.take(1, now).expect("full");
        }
        assert!(presence.peers().known.len() <= MAX_IDLE_PEERS + 1);
        assert!(presence.peers().idle.len() <= MAX_IDLE_PEERS + 1);
    }

    #[tokio::test]
    async fn what_was_told_is_heard_once_by_every_socket_of_the_uid_whenever_it_listens() {
        let (presence, now) = (presence(2), Instant::now());
        let mut one = presence.enter(&peer("ann"), now).expect("room");
        let mut two = presence.enter(&peer("ann"), now).expect("room");
        let mut other = presence.enter(&peer("bob"), now).expect("room");
        presence.tell(&peer("ann"));
        presence.tell(&peer("ann"));
        assert!(one.told().now_or_never().is_some() && one.told().now_or_never().is_none());
        assert!(other.told().now_or_never().is_none());
        presence.tell_all();
        for present in [&mut one, &mut two, &mut other] {
            assert!(present.told().now_or_never().is_some());
        }
        tokio::join!(one.told(), async { presence.tell(&peer("ann")) });
    }
}
