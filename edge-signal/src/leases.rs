//! Keeps this edge's sessions in the store: refreshes the leases of all its rooms, many at once and spread over time; and puts
//! everything back when the store has lost it. Which sessions and streams those are is `members`' and `rooms`'.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::{EdgeId, RoomId};
use rand::seq::SliceRandom as _;
use room_store::{Hold, Life, LossReason, RoomStore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::revival::Revival;
use crate::rooms::Rooms;
use crate::sight::Sight;

/// How often leases are refreshed, as a share of the ttl: three of them may fail before a session is due.
const REFRESHES_PER_TTL: u32 = 4;
/// Most time between two refreshes: they also show where the log is.
pub(crate) const MAX_REFRESH: Duration = Duration::from_secs(10);
/// Fewest rooms refreshed at once: fewer are not worth a round trip of their own.
const FEW: usize = 32;
/// Least pause between two lots of rooms. Lots are as small as that allows: clients' requests wait behind one in the store.
const TICK: Duration = Duration::from_millis(25);
/// Rooms refreshed in one call, which has some of them under way at once: so many that a store that takes half a second for each still
/// refreshes hundreds in a second, and not so many that clients' requests would wait behind them.
const BATCH: usize = 512;
/// Rooms put back at once: each is a call of its own, with all that is in the room.
const ROOMS_PUT_BACK: usize = 32;
/// Most pause before an edge puts back its rooms, so that several do not all begin at the same moment.
const JITTER: Duration = Duration::from_millis(200);
/// Mean pause before a room that could not be put back is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// Keeps sessions in the store.
pub(crate) struct Leases {
    pub(crate) edge: EdgeId,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) rooms: Rooms,
    pub(crate) sight: watch::Receiver<Sight>,
    pub(crate) metrics: EdgeMetrics,
    /// The life of the store in which everything held here is known to be.
    pub(crate) whole: watch::Sender<Option<Life>>,
    pub(crate) revival: Revival,
}

impl Leases {
    /// Until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut sight = self.sight.clone();
        let keep = async {
            let mut revived = None;
            loop {
                let seen = sight.wait_for(|sight| sight.life().is_some()).await.map(|sight| sight.life());
                let Ok(Some(life)) = seen else { return };
                // Until it is lost, or another. A room that cannot be put back keeps no other's leases from being refreshed.
                tokio::select! {
                    ((), ()) = async { tokio::join!(self.refresh_on(), self.live(life, &mut revived)) } => {}
                    changed = sight.wait_for(|sight| sight.life() != Some(life)) => if changed.is_err() { return },
                }
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    /// The store is seen, for the first time, again, or in another life. `revived`: the life in which members without a socket are known
    /// to have been put back; that can be another than the one in which those on sockets are.
    async fn live(&self, life: Life, revived: &mut Option<Life>) {
        self.begin_life(life).await;
        let mut since = self.seen_since();
        match *revived {
            Some(before) if before != life => self.revival.run().await,
            Some(_) => self.revival.run_after_break().await,
            None => {}
        }
        *revived = Some(life);
        // A store that was away for less than two looks may have come back without its last writes.
        let mut sight = self.sight.clone();
        while sight.wait_for(|sight| sight.since() != since).await.is_ok() {
            since = self.seen_since();
            self.revival.run_after_break().await;
        }
    }

    fn seen_since(&self) -> Option<Instant> {
        self.sight.borrow().since()
    }

    async fn begin_life(&self, life: Life) {
        if self.whole.borrow().is_some_and(|before| before != life) {
            sleep(JITTER.mul_f64(rand::random())).await;
            self.put_all_back().await;
            // What was put back may have ended on its node while there was nobody to write it down.
            self.rooms.compare_with_nodes();
        }
        if self.sight.borrow().life() == Some(life) {
            self.whole.send_replace(Some(life));
        }
    }

    async fn put_all_back(&self) {
        let rooms = self.shuffled();
        tracing::warn!(rooms = rooms.len(), "putting back what the store has lost");
        stream::iter(rooms)
            .for_each_concurrent(ROOMS_PUT_BACK, |room| async move { self.insist_on(&room).await })
            .await;
    }

    /// Until it is done, or the store is lost again: then the next time is for this room, too.
    async fn insist_on(&self, room: &RoomId) {
        while let Err(error) = self.rooms.put_back(room).await {
            tracing::debug!(%room, %error, "the room cannot be put back yet");
            if self.sight.borrow().life().is_none() {
                return;
            }
            sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    /// Round after round, each room once in each.
    async fn refresh_on(&self) {
        let interval = (self.store.settings().ttl / REFRESHES_PER_TTL).min(MAX_REFRESH);
        // After an outage leases are short: the first round is a quick one.
        let mut time = interval / 4;
        loop {
            let ends = Instant::now() + time;
            self.members.forget_departed(Instant::now());
            self.refresh_round(ends).await;
            sleep_until(ends).await;
            time = interval.mul_f64(rand::random_range(0.75..1.0));
        }
    }

    /// Every room that is open now, lot by lot.
    async fn refresh_round(&self, ends: Instant) {
        let mut rooms: VecDeque<RoomId> = self.shuffled().into();
        let mut took = Duration::ZERO;
        while !rooms.is_empty() {
            let begun = Instant::now();
            let lot = Lot::of(rooms.len(), ends.saturating_duration_since(begun), took);
            let few: Vec<RoomId> = rooms.drain(..lot.rooms).collect();
            for batch in few.chunks(BATCH) {
                self.refresh(batch).await;
            }
            took = begun.elapsed();
            if !rooms.is_empty() {
                sleep_until(begun + lot.time).await;
            }
        }
    }

    async fn refresh(&self, rooms: &[RoomId]) {
        let with_holds = |room: &RoomId| (room.clone(), self.members.take_touched(room));
        let asked: Vec<_> = rooms.iter().map(with_holds).collect();
        let answers = self.store.refresh_many(&self.edge, asked.clone()).await;
        let mut missing = Vec::new();
        for ((room, holds), answer) in asked.into_iter().zip(answers) {
            match answer {
                Ok(mut refreshed) => {
                    self.metrics
                        .leases_refreshed
                        .increment((holds.len() - refreshed.lost.len().min(holds.len())) as u64);
                    // One that has asked to leave is gone because it did.
                    let is_missed = |(hold, reason): &mut (Hold, LossReason)| {
                        *reason == LossReason::Gone && !self.members.is_leaving(&room, hold)
                    };
                    let missed = refreshed.lost.extract_if(.., is_missed).count();
                    if missed > 0 || refreshed.head.is_none() {
                        missing.push(room.clone());
                    }
                    self.rooms.refreshed(&room, refreshed);
                    self.rooms.mind_nodes(&room);
                }
                Err(error) => {
                    tracing::debug!(%room, %error, "leases cannot be refreshed");
                    self.members.touch_again(&room, &holds);
                }
            }
        }
        let restored = missing.iter().map(|room| self.restore(room));
        stream::iter(restored).for_each_concurrent(ROOMS_PUT_BACK, |restored| restored).await;
    }

    /// Sessions that are alive on our sockets are gone from the store, or the whole room is: it has lost them, or others took them for
    /// dead.
    async fn restore(&self, room: &RoomId) {
        // Where it has lost everything, all rooms are being put back anyway.
        let is_whole = *self.whole.borrow() == self.sight.borrow().life();
        if !is_whole || self.members.assertions(room).is_empty() {
            return;
        }
        tracing::info!(%room, "the store does not know sessions that are alive here: they are put back");
        match self.rooms.put_back(room).await {
            Ok(()) => self.rooms.compare_later(room),
            Err(error) => tracing::debug!(%room, %error, "the room cannot be put back yet"),
        }
    }

    fn shuffled(&self) -> Vec<RoomId> {
        let mut rooms = self.rooms.all();
        rooms.shuffle(&mut rand::rng());
        rooms
    }
}

/// Some of the rooms that are left in a round.
#[derive(Debug, PartialEq, Eq)]
struct Lot {
    rooms: usize,
    /// From its beginning to the next one's.
    time: Duration,
}

impl Lot {
    /// The next of so many rooms, at least one, for which there is so much time, where the last lot `took` so long: a store that is slow
    /// has larger ones.
    fn of(rooms: usize, left: Duration, took: Duration) -> Self {
        let lots = left.as_nanos() / took.max(TICK).as_nanos();
        let lots = usize::try_from(lots).unwrap_or(usize::MAX).max(1);
        let now = rooms.div_ceil(lots).max(FEW).min(rooms);
        Self { rooms: now, time: left.mul_f64(now as f64 / rooms as f64) }
    }
}

#[cfg(test)]
mod tests {
    use room_store::contract::{Fault, FaultyRooms};
    use room_store::{Actor, Attachment, MemoryRooms, RoomSettings};

    use super::*;
    use crate::rooms::tests::{Player, Side};

    const ROOMS: usize = 600;

    /// An edge with a member in each of many rooms, which keeps their leases.
    async fn busy_edge(store: &MemoryRooms) -> (Side, Vec<Player>) {
        keep_leases(Side::new("one", store), store).await
    }

    async fn keep_leases(side: Side, store: &MemoryRooms) -> (Side, Vec<Player>) {
        keep_leases_of(side, ROOMS, Arc::new(store.clone())).await
    }

    async fn keep_leases_of(mut side: Side, rooms: usize, shared: Arc<dyn RoomStore>) -> (Side, Vec<Player>) {
        let mut players = Vec::new();
        for number in 0..rooms {
            players.push(side.join_in(&room(number), "ann", number as u64).await);
        }
        let metrics = EdgeMetrics::register();
        let leases = Leases {
            edge: side.edge.clone(),
            store: Arc::clone(&shared),
            members: Arc::clone(&side.members),
            rooms: side.rooms.clone(),
            sight: side.sight.clone(),
            metrics,
            whole: watch::Sender::new(None),
            revival: Revival::new(&shared, &side.members, &side.nodes, &side.rooms),
        };
        tokio::spawn(leases.run(side.shutdown.clone()));
        let lookout = side.lookout.take().expect("nobody runs it yet");
        tokio::spawn(lookout.run(side.shutdown.clone()));
        (side, players)
    }

    fn room(number: usize) -> RoomId {
        format!("room{number}").parse().expect("valid")
    }

    async fn alive_for(side: &Side, players: &[Player], time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for player in players {
                side.members.touch(&player.actor.room, player.connection);
            }
            sleep(Duration::from_secs(5)).await;
        }
    }

    /// How many sessions end now.
    async fn expired(store: &MemoryRooms) -> usize {
        let mut expired = 0;
        for room in store.due_rooms(usize::MAX).await.expect("answered") {
            expired += store.expire_due(&room, usize::MAX).await.expect("answered").peers.len();
        }
        expired
    }

    #[test]
    fn rooms_are_refreshed_in_small_lots_for_as_long_as_there_is_time() {
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        let lot = |rooms, left, took| {
            let Lot { rooms, time } = Lot::of(rooms, left, took);
            (rooms, time.as_millis())
        };
        assert_eq!(lot(10_000, 10 * second, none), (32, 32), "no smaller, and spread over the time");
        assert_eq!(lot(40_000, 10 * second, none), (100, 25));
        assert_eq!(lot(64, 10 * second, none), (32, 5_000));
        assert_eq!(lot(3, 10 * second, none), (3, 10_000), "no more than there are");
        assert_eq!(lot(10_000, 10 * second, second / 2), (500, 500), "a slow store has larger ones");
        assert_eq!(lot(10_000, none, second / 2), (10_000, 0), "all that is late at once");
    }

    #[tokio::test(start_paused = true)]
    async fn leases_of_many_rooms_are_refreshed_in_time() {
        let store = MemoryRooms::new(RoomSettings::default());
        let ttl = store.settings().ttl;
        let (side, players) = busy_edge(&store).await;
        alive_for(&side, &players, ttl * 3).await;
        assert_eq!(expired(&store).await, 0);
        sleep(ttl * 2).await;
        assert_eq!(expired(&store).await, ROOMS, "of nobody was anything heard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_lost_everything_is_filled_again_soon() {
        let store = MemoryRooms::new(RoomSettings::default());
        let (side, players) = busy_edge(&store).await;
        alive_for(&side, &players, Duration::from_secs(10)).await;
        store.forget_everything();
        sleep(Duration::from_secs(2)).await;
        for player in &players {
            let snapshot = store.snapshot(&player.actor.room).await.expect("answered").expect("the room is there");
            assert_eq!(snapshot.members.len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_that_cannot_be_put_back_keep_no_leases_from_being_refreshed() {
        let store = MemoryRooms::new(RoomSettings::default());
        let ttl = store.settings().ttl;
        let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
        let side = Side::through("one", &store, Arc::new(in_the_way.clone()));
        let (side, players) = keep_leases(side, &store).await;
        alive_for(&side, &players, Duration::from_secs(10)).await;
        in_the_way.fail_all(Some(Fault::LostRequest));
        let kept = store.checkpoint();
        store.forget_everything();
        // Another life, in which all the same everybody is there.
        store.restore(kept);
        alive_for(&side, &players, ttl * 2).await;
        assert_eq!(expired(&store).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_that_take_long_to_be_put_back_keep_no_leases_from_being_refreshed() {
        let store = MemoryRooms::new(RoomSettings::default());
        let ttl = store.settings().ttl;
        let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
        let side = Side::through("one", &store, Arc::new(in_the_way.clone()));
        let (side, players) = keep_leases(side, &store).await;
        alive_for(&side, &players, Duration::from_secs(10)).await;
        in_the_way.fail_all(Some(Fault::Late(Duration::from_secs(2))));
        store.forget_everything();
        let end = Instant::now() + ttl * 3;
        while Instant::now() < end {
            alive_for(&side, &players, Duration::from_secs(5)).await;
            assert_eq!(expired(&store).await, 0);
        }
        for player in &players {
            let snapshot = store.snapshot(&player.actor.room).await.expect("answered").expect("the room is there");
            assert_eq!(snapshot.members.len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_between_two_sockets_is_put_back_without_one() {
        let store = MemoryRooms::new(RoomSettings::default());
        let (side, mut players) = busy_edge(&store).await;
        alive_for(&side, &players, Duration::from_secs(10)).await;
        let gone = players.swap_remove(0);
        side.members.depart(&gone.actor, gone.connection, gone.following.place());
        store.forget_everything();
        sleep(Duration::from_secs(4)).await;
        let snapshot = store.snapshot(&gone.actor.room).await.expect("answered").expect("the room is there");
        assert_eq!(snapshot.members.len(), 1);
        // Its grace, not a ttl: nobody is attached.
        sleep(store.settings().grace).await;
        let expired = store.expire_due(&gone.actor.room, usize::MAX).await.expect("answered");
        assert_eq!(expired.peers, [gone.actor.peer]);
    }

    /// Its socket closes, and nobody else is in its room here.
    async fn part(side: &Side, store: &MemoryRooms, player: Player) -> Actor {
        let Player { actor, connection, following, .. } = player;
        side.members.depart(&actor, connection, following.place());
        let attachment = Attachment { edge: side.edge.clone(), connection };
        store.socket_closed(actor.clone(), attachment, false).await.expect("answered");
        actor
    }

    async fn is_member(store: &MemoryRooms, actor: &Actor) -> bool {
        let snapshot = store.snapshot(&actor.room).await.expect("answered");
        snapshot.is_some_and(|snapshot| snapshot.members.iter().any(|member| member.peer == actor.peer))
    }

    /// The store has lost everything, and the one of two members who is on a socket has just been put back. The other one comes last.
    async fn half_put_back(side: Side, store: &MemoryRooms, way: Arc<dyn RoomStore>) -> (Side, Vec<Player>, Actor) {
        let (side, mut players) = keep_leases_of(side, 2, way).await;
        alive_for(&side, &players, Duration::from_secs(5)).await;
        let gone = part(&side, store, players.remove(0)).await;
        store.forget_everything();
        while !is_member(store, &players[0].actor).await {
            sleep(Duration::from_millis(10)).await;
        }
        (side, players, gone)
    }

    /// The store stands still as soon as those on sockets have been put back; whether this edge notices that, or only who puts back.
    async fn is_put_back_after_all(is_noticed: bool) {
        let store = MemoryRooms::new(RoomSettings::default());
        let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
        let way: Arc<dyn RoomStore> = Arc::new(in_the_way.clone());
        let seen = if is_noticed { Arc::clone(&way) } else { Arc::new(store.clone()) };
        let side = Side::seeing("one", &store, Arc::clone(&way), seen);
        let (_side, _players, gone) = half_put_back(side, &store, way).await;
        in_the_way.fail_all(Some(Fault::LostRequest));
        sleep(Duration::from_secs(8)).await;
        assert!(!is_member(&store, &gone).await);
        in_the_way.fail_all(None);
        sleep(Duration::from_secs(4)).await;
        assert!(is_member(&store, &gone).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_without_a_socket_who_cannot_be_put_back_at_once_is_put_back_later() {
        is_put_back_after_all(false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_lost_while_members_without_a_socket_are_put_back_gets_them_when_it_is_seen_again() {
        is_put_back_after_all(true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_whose_being_put_back_was_not_answered_has_no_socket_all_the_same() {
        let store = MemoryRooms::new(RoomSettings::default());
        let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
        let way: Arc<dyn RoomStore> = Arc::new(in_the_way.clone());
        let side = Side::seeing("one", &store, Arc::clone(&way), Arc::new(store.clone()));
        let (side, players, gone) = half_put_back(side, &store, way).await;
        in_the_way.fail_calls("reassert", Some(Fault::LostReply));
        while !is_member(&store, &gone).await {
            sleep(Duration::from_millis(10)).await;
        }
        in_the_way.fail_calls("reassert", None);
        sleep(Duration::from_secs(2)).await;
        alive_for(&side, &players, store.settings().grace).await;
        let expired = store.expire_due(&gone.room, usize::MAX).await.expect("answered");
        assert_eq!(expired.peers, [gone.peer], "after its grace, not after a ttl");
    }

    /// One look at the store fails.
    async fn break_sight(side: &Side, looks: &FaultyRooms) {
        let mut sight = side.sight.clone();
        let since = sight.borrow().since();
        looks.fail_calls("ping", Some(Fault::Unavailable));
        sight.wait_for(|sight| sight.since() != since).await.expect("somebody looks");
        looks.fail_calls("ping", None);
    }

    /// A member, and what is in the way of looks at the store.
    async fn with_breaks(store: &MemoryRooms) -> (Side, Player, FaultyRooms) {
        let in_the_way = FaultyRooms::new(Arc::new(store.clone()));
        let way: Arc<dyn RoomStore> = Arc::new(store.clone());
        let side = Side::seeing("one", store, Arc::clone(&way), Arc::new(in_the_way.clone()));
        let (side, mut players) = keep_leases_of(side, 1, way).await;
        alive_for(&side, &players, Duration::from_secs(5)).await;
        (side, players.remove(0), in_the_way)
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_between_two_sockets_whom_the_store_lost_in_a_break_is_put_back() {
        let store = MemoryRooms::new(RoomSettings::default());
        let before = store.checkpoint();
        let (side, player, looks) = with_breaks(&store).await;
        let gone = part(&side, &store, player).await;
        store.restore(before);
        break_sight(&side, &looks).await;
        sleep(Duration::from_secs(4)).await;
        assert!(is_member(&store, &gone).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_between_two_sockets_who_has_left_elsewhere_is_not_put_back_after_a_break() {
        let store = MemoryRooms::new(RoomSettings::default());
        let (side, player, looks) = with_breaks(&store).await;
        let gone = part(&side, &store, player).await;
        // Until nobody here follows its room any more, and hears of that.
        sleep(Duration::from_secs(1)).await;
        store.leave(gone.clone(), None).await.expect("left");
        break_sight(&side, &looks).await;
        sleep(Duration::from_secs(4)).await;
        assert!(!is_member(&store, &gone).await);
    }
}
