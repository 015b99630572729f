//! Ends sessions that are due. Every edge does so; the store makes each end happen once.

use std::sync::Arc;
use std::time::Duration;

use room_store::{Life, Released, RoomStore, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::nodes::Nodes;
use crate::sight::Lookout;

/// Mean pause between two sweeps: how late an expiry can be, beside the lease itself.
const INTERVAL: Duration = Duration::from_secs(1);
/// Rooms asked for at once.
const MAX_ROOMS: usize = 1_024;
/// Log entries written of one room at once: those who follow it can still read on from where they are, as its log keeps some more.
const MAX_ENTRIES: usize = 256;
/// How long a look at the store's clocks is good: somebody who sets one forward just after it ends the sessions of this long a sweep.
const LOOK_AGE: Duration = Duration::from_millis(100);
/// Mean pause between two parts of a sweep: others get their turn, and followers read what was written.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends due sessions.
pub(crate) struct Sweeper {
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) nodes: Nodes,
    pub(crate) lookout: Lookout,
    /// The life of the store in which all that this edge holds is known to be.
    pub(crate) whole: watch::Receiver<Option<Life>>,
    /// The store is this process' own: it cannot have been out of reach or reset while sessions went unrefreshed.
    pub(crate) own_store: bool,
}

impl Sweeper {
    /// Until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(INTERVAL.mul_f64(rand::random_range(0.5..1.5))) => {}
            }
            let may_go_on = || self.may_sweep(Instant::now());
            let close = |released: &Released| self.nodes.close(released);
            let look_at_clocks = || self.look_at_clocks();
            shutdown.run_until_cancelled(sweep(&*self.store, may_go_on, look_at_clocks, close)).await;
        }
    }

    /// A clock that was set forward since it was last looked at makes everybody due.
    async fn look_at_clocks(&self) -> bool {
        self.own_store || self.lookout.look_at_clocks().await
    }

    /// Whoever is alive has had time to say so: the store was seen for a whole ttl, in one life, and holds what is held here.
    fn may_sweep(&self, now: Instant) -> bool {
        let sight = self.lookout.sight();
        let seen = sight.life().is_some() && sight.life() == *self.whole.borrow();
        self.own_store || (seen && sight.seen_for(now) >= self.store.settings().ttl)
    }
}

/// Ends all that is due, part by part, for as long as it may: a sweep can outlast what allowed it. Nothing is ended without a look at
/// the clocks that say it is due, shortly before.
async fn sweep<F: Future<Output = bool>>(
    store: &dyn RoomStore,
    may_go_on: impl Fn() -> bool,
    look_at_clocks: impl Fn() -> F,
    close: impl Fn(&Released),
) {
    while may_go_on() {
        let Ok(rooms) = store.due_rooms(MAX_ROOMS).await else { return };
        let mut more = rooms.len() >= MAX_ROOMS;
        let mut looked: Option<Instant> = None;
        for room in rooms {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGE) {
                if !look_at_clocks().await {
                    return;
                }
                looked = Some(Instant::now());
            }
            if !may_go_on() {
                return;
            }
            match store.expire_due(&room, MAX_ENTRIES).await {
                Ok(expired) => {
                    if !expired.peers.is_empty() {
                        tracing::info!(%room, peers = expired.peers.len(), "sessions expired");
                    }
                    close(&expired.released);
                    more |= expired.more;
                }
                Err(StoreError::Unavailable) => {
                    return tracing::warn!("due sessions cannot be ended: the store is away");
                }
                // A room that cannot be read keeps nobody in the others.
                Err(error) => tracing::warn!(%room, %error, "due sessions cannot be ended"),
            }
        }
        if !more {
            return;
        }
        sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proto::ids::{PeerId, RoomId, SessionId};
    use room_store::contract::{Fault, FaultyRooms};
    use room_store::{
        Attachment, ConnectionId, Event, FeedItem, Follow, Follower, Head, Hold, Join, MemoryRooms, RoomEvent,
        RoomSettings,
    };

    use super::*;
    use crate::rooms::tests::{Player, Side};

    async fn join(store: &MemoryRooms, room: &str, peer: &str) -> Head {
        let join = Join {
            room: RoomId::new(room).expect("valid"),
            peer: PeerId::new(peer).expect("valid"),
            attachment: Attachment { edge: "edge-1".parse().expect("valid"), connection: ConnectionId(1) },
            resume: None,
            since: None,
            fresh: SessionId::of(1),
            op: None,
        };
        let joined = store.join(join).await.expect("joined");
        Head { position: joined.position, id: joined.head }
    }

    #[tokio::test(start_paused = true)]
    async fn one_sweep_comes_to_every_due_room() {
        let store = MemoryRooms::new(RoomSettings::default());
        for number in 0..3 * MAX_ROOMS {
            join(&store, &format!("r{number}"), "ann").await;
        }
        tokio::time::advance(store.settings().ttl).await;
        sweep(&store, || true, || ready(true), |_| {}).await;
        assert_eq!(store.due_rooms(1).await, Ok(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_cannot_be_ended_keeps_nobody_in_the_others() {
        const ROOMS: usize = 8;
        let store = MemoryRooms::new(RoomSettings::default());
        for number in 0..ROOMS {
            join(&store, &format!("r{number}"), "ann").await;
        }
        tokio::time::advance(store.settings().ttl).await;
        let faulty = FaultyRooms::new(Arc::new(store.clone()));
        let ended = AtomicUsize::new(0);
        // The one after the first.
        let close = |_: &Released| {
            if ended.fetch_add(1, Ordering::Relaxed) == 0 {
                faulty.inject(Fault::LostRequest);
            }
        };
        sweep(&faulty, || true, || ready(true), close).await;
        assert_eq!(ended.into_inner(), ROOMS - 1);
        assert_eq!(store.due_rooms(ROOMS).await.map(|due| due.len()), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_ends_when_it_may_not_go_on() {
        const MAY: usize = 3;
        let store = MemoryRooms::new(RoomSettings::default());
        for number in 0..2 * MAY {
            join(&store, &format!("r{number}"), "ann").await;
        }
        tokio::time::advance(store.settings().ttl).await;
        let ended = AtomicUsize::new(0);
        let close = |_: &Released| _ = ended.fetch_add(1, Ordering::Relaxed);
        sweep(&store, || ended.load(Ordering::Relaxed) < MAY, || ready(true), close).await;
        assert_eq!(ended.load(Ordering::Relaxed), MAY);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_follow_a_room_can_read_all_of_a_mass_expiry() {
        const MEMBERS: usize = 3_000;
        let store = MemoryRooms::new(RoomSettings::default());
        let room = RoomId::new("r").expect("valid");
        let mut head = None;
        for number in 0..MEMBERS {
            head = Some(join(&store, "r", &format!("p{number}")).await);
        }
        let mut feed = store.subscribe(&room).await.expect("subscribed");
        let mut follower = Follower::new(head.expect("joined"));
        let follow = async move {
            for left in 0..MEMBERS {
                let FeedItem::Event(event @ RoomEvent::Entry(_)) = feed.next().await.expect("open") else {
                    panic!("lagging after {left}");
                };
                follower.handle_item(FeedItem::Event(event));
                let Some(Follow::Deliver(entry)) = follower.poll() else { panic!("not in order") };
                assert!(matches!(entry.event, Event::PeerLeave(_)));
            }
        };
        let follow = tokio::spawn(follow);
        tokio::time::advance(store.settings().ttl).await;
        sweep(&store, || true, || ready(true), |_| {}).await;
        follow.await.expect("all was read");
    }

    /// A member whose lease is refreshed for so long, and whether it is one afterwards.
    async fn lives(store: &MemoryRooms, side: &Side, player: &Player, time: Duration) -> bool {
        let Player { actor, connection, .. } = player;
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(Duration::from_secs(5)).await;
            let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: *connection };
            store.refresh(&actor.room, &side.edge, vec![hold]).await.expect("answered");
        }
        let snapshot = store.snapshot(&actor.room).await.expect("answered");
        snapshot.is_some_and(|snapshot| !snapshot.members.is_empty())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_whose_clock_is_set_forward_loses_nobody_who_is_alive() {
        let store = MemoryRooms::new(RoomSettings::default());
        let ttl = store.settings().ttl;
        let mut side = Side::new("one", &store);
        let ann = side.join_in(&RoomId::new("r").expect("valid"), "ann", 1).await;
        let lookout = side.lookout.take().expect("nobody runs it yet");
        let life = store.ping().await.expect("there");
        let (_whole, known) = watch::channel(Some(life));
        let sweeper = Sweeper {
            store: Arc::new(store.clone()),
            nodes: side.nodes.clone(),
            lookout: lookout.clone(),
            whole: known,
            own_store: false,
        };
        tokio::spawn(sweeper.run(side.shutdown.clone()));
        let looks = tokio::spawn(lookout.run(side.shutdown.clone()));
        assert!(lives(&store, &side, &ann, ttl * 2).await, "by now it is swept");
        // A sweep can come before the next look.
        looks.abort();
        store.set_clock_forward(ttl * 3);
        assert!(lives(&store, &side, &ann, ttl * 3).await);
        sleep(ttl * 2).await;
        assert!(!lives(&store, &side, &ann, Duration::ZERO).await, "nothing was heard of it");
    }
}
