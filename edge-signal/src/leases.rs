//! Keeps this edge's sessions in the store: refreshes the leases of all its rooms, many of them in one round trip and spread over
//! time; and puts everything back when the store has lost it. Which sessions and streams those are is `members`' and `rooms`'.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::{EdgeId, RoomId};
use rand::seq::SliceRandom as _;
use room_store::{Life, LossReason, RoomStore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::rooms::Rooms;
use crate::sight::Sight;

/// How often leases are refreshed, as a share of the ttl: three of them may fail before a session is due.
const REFRESHES_PER_TTL: u32 = 4;
/// Most time between two refreshes: they also show where the log is.
const MAX_REFRESH: Duration = Duration::from_secs(10);
/// How often some of the rooms are refreshed. More often: smaller round trips, and more of them.
const TICK: Duration = Duration::from_millis(250);
/// Rooms refreshed in one call.
const BATCH: usize = 256;
/// Calls at once. A store that takes half a second for each still refreshes thousands of rooms a second.
const CALLS: usize = 4;
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
}

impl Leases {
    /// Until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut sight = self.sight.clone();
        let keep = async {
            loop {
                let seen = sight.wait_for(|sight| sight.life().is_some()).await.map(|sight| sight.life());
                let Ok(Some(life)) = seen else { return };
                self.begin_life(life).await;
                // Until it is lost, or another.
                tokio::select! {
                    () = self.refresh_on() => {}
                    changed = sight.wait_for(|sight| sight.life() != Some(life)) => if changed.is_err() { return },
                }
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    /// The store is seen, for the first time, again, or in another life.
    async fn begin_life(&mut self, life: Life) {
        let before = *self.whole.borrow();
        if before.is_some_and(|before| before != life) {
            sleep(JITTER.mul_f64(rand::random())).await;
            self.put_all_back().await;
        }
        if self.sight.borrow().life() == Some(life) {
            self.whole.send_replace(Some(life));
        }
    }

    async fn put_all_back(&self) {
        let rooms = self.shuffled();
        tracing::warn!(rooms = rooms.len(), "putting back what the store has lost");
        stream::iter(rooms).for_each_concurrent(ROOMS_PUT_BACK, |room| async move { self.insist_on(&room).await }).await;
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
            self.refresh_round(ends).await;
            sleep_until(ends).await;
            time = interval.mul_f64(rand::random_range(0.75..1.0));
        }
    }

    /// Every room that is open now, a part of them at each tick.
    async fn refresh_round(&self, ends: Instant) {
        let mut rooms: VecDeque<RoomId> = self.shuffled().into();
        while !rooms.is_empty() {
            let tick = Instant::now() + TICK;
            let ticks = ends.saturating_duration_since(Instant::now()).as_millis() / TICK.as_millis();
            let now = rooms.len().div_ceil(usize::try_from(ticks).unwrap_or(usize::MAX).max(1));
            let few: Vec<RoomId> = rooms.drain(..now).collect();
            let batches = stream::iter(few.chunks(BATCH).map(<[RoomId]>::to_vec).collect::<Vec<_>>());
            batches.for_each_concurrent(CALLS, |batch| self.refresh(batch)).await;
            if !rooms.is_empty() {
                sleep_until(tick).await;
            }
        }
    }

    async fn refresh(&self, rooms: Vec<RoomId>) {
        let with_holds = |room: RoomId| {
            let holds = self.members.take_touched(&room);
            (room, holds)
        };
        let asked: Vec<_> = rooms.into_iter().map(with_holds).collect();
        let answers = self.store.refresh_many(&self.edge, asked.clone()).await;
        for ((room, holds), answer) in asked.into_iter().zip(answers) {
            match answer {
                Ok(mut refreshed) => {
                    self.metrics.leases_refreshed.increment((holds.len() - refreshed.lost.len().min(holds.len())) as u64);
                    let before = refreshed.lost.len();
                    refreshed.lost.retain(|(_, reason)| *reason != LossReason::Gone);
                    if refreshed.lost.len() < before {
                        self.restore(&room).await;
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
    }

    /// Sessions that are alive on our sockets are gone from the store: it has lost them, or others took them for dead.
    async fn restore(&self, room: &RoomId) {
        tracing::warn!(%room, "the store does not know sessions that are alive here: they are put back");
        if let Err(error) = self.rooms.put_back(room).await {
            tracing::debug!(%room, %error, "the room cannot be put back yet");
        }
    }

    fn shuffled(&self) -> Vec<RoomId> {
        let mut rooms = self.rooms.all();
        rooms.shuffle(&mut rand::rng());
        rooms
    }
}
