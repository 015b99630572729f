//! The index of rooms in which something may be due, and how many rooms are occupied, on a cluster: both are in other slots than the
//! room, so no step can keep them. A hint is written before the step, so that a crash between them leaves one that is too early, and
//! not none; and again after a step that made a room, in case its forgetting came between. What is wrong otherwise is put
//! right by the next refresh of the room, or by the next expiry.
//!
//! A master that is away takes parts of the index with it, but stops no rooms that others have: what cannot be counted is as it was last,
//! and a hint that cannot be written is owed to its part until that is back. `parts` knows which are away.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_redis::redis::{Value, cmd, from_redis_value};
use futures_util::future::{join, join_all};
use proto::ids::RoomId;
use tokio::time::Instant;

use super::{
    keys::{BUCKETS, Keys, bucket_of, slot_of},
    node::{Command, Failure},
    owed::Owed,
    parts::Parts,
    router::{CALL, Router},
    script::Scripts,
};
use crate::{error::StoreError, store::Life};

/// How long a count of rooms is good where it is far from the limit.
const COUNT_AGE: Duration = Duration::from_secs(5);

/// Far from the limit: by this part of it.
const MARGIN: usize = 20;

/// How long a join waits for a part's count before the last one has to do.
const COUNT: Duration = Duration::from_secs(1);

/// Hints paid in one look.
const PAID_AT_ONCE: usize = 256;

/// The index of a cluster.
pub(super) struct Index {
    pub(super) keys: Keys,
    pub(super) router: Router,
    pub(super) scripts: Arc<Scripts>,
    counted: Mutex<Counted>,
    parts: Mutex<Parts>,
    owed: Mutex<Owed>,
}

/// Occupied rooms.
struct Counted {
    /// As each part said last.
    parts: [usize; BUCKETS],
    at: Option<Instant>,
}

/// Whether a room is known to be occupied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupied {
    Yes,
    No,
    Unknown,
}

impl Occupied {
    fn text(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Yes => "1",
            Self::No => "0",
            Self::Unknown => "",
        })
    }
}

impl Index {
    pub(super) fn new(keys: Keys, router: Router, scripts: Arc<Scripts>) -> Self {
        let counted = Mutex::new(Counted { parts: [0; BUCKETS], at: None });
        Self { keys, router, scripts, counted, parts: Mutex::default(), owed: Mutex::default() }
    }

    /// Looks at all parts. The life of all together; fails only where none answers. What is owed to those that answered the last look
    /// is paid meanwhile.
    pub(super) async fn look(&self, offset: &str) -> Result<Life, StoreError> {
        let looks = join_all((0..BUCKETS).map(|number| self.life_of(number)));
        let (looks, ()) = join(looks, self.pay(offset)).await;
        let failure = looks.iter().find_map(|look| look.as_ref().err().cloned());
        let lives: Vec<Option<u64>> = looks.into_iter().map(Result::ok).collect();
        let (was_away, life, away) = {
            let mut parts = self.parts();
            let was_away = parts.away_since().is_some();
            (was_away, parts.handle_look(&lives, Instant::now()), lives.iter().filter(|life| life.is_none()).count())
        };
        let Some(life) = life else { return Err(failure.map_or(StoreError::Unavailable, StoreError::from)) };
        match (was_away, away) {
            (false, 1..) => tracing::warn!(
                parts = away,
                of = BUCKETS,
                "a part of the Redis Cluster is out of reach: requests for its rooms fail, and nobody is expired in any"
            ),
            (true, 0) => tracing::info!("all of the Redis Cluster is seen again"),
            _ => {}
        }
        Ok(life)
    }

    async fn life_of(&self, part: usize) -> Result<u64, Failure> {
        life_at(&self.router, &self.keys.life(part)).await
    }

    /// Since when some of its parts are away while others answer.
    pub(super) fn away_since(&self) -> Option<Instant> {
        self.parts().away_since()
    }

    /// Whether all of it was there for so long. If not, sessions may be due only because nobody could refresh them.
    pub(super) fn is_whole_for(&self, time: Duration) -> bool {
        self.parts().are_whole_for(time, Instant::now())
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hint before a step. One that its part cannot be given is owed: the step leaves half of its time to it at most.
    pub(super) async fn hint_or_owe(
        &self,
        room: &RoomId,
        wait: Duration,
        offset: &str,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        if !self.parts().answers(bucket_of(room)) && self.owed().add(room, Occupied::Unknown) {
            return Ok(());
        }
        let now = Instant::now();
        let half = now + deadline.saturating_duration_since(now) / 2;
        match self.hint(room, wait, Occupied::Unknown, offset, half).await {
            Err(_) if !self.owed().add(room, Occupied::Unknown) => Err(StoreError::Unavailable),
            _ => Ok(()),
        }
    }

    /// A hint after a step, which nobody waits for longer than for a part that answers.
    pub(super) async fn tell_or_owe(
        &self,
        room: &RoomId,
        wait: Duration,
        occupied: Occupied,
        offset: &str,
        deadline: Instant,
    ) {
        let answers = self.parts().answers(bucket_of(room));
        if answers && self.hint(room, wait, occupied, offset, deadline).await.is_ok() {
            self.owed().forget(room);
        } else {
            self.owed().add(room, occupied);
        }
    }

    /// Gives parts that are back what they are owed, each hint as if something were due now: that is too early at worst.
    async fn pay(&self, offset: &str) {
        let payable: Vec<(RoomId, Occupied)> = {
            let (parts, owed) = (self.parts(), self.owed());
            owed.payable(PAID_AT_ONCE, |room| parts.answers(bucket_of(room)))
        };
        let deadline = Instant::now() + CALL;
        let paid = payable.iter().map(async |(room, occupied)| {
            let paid = self.hint(room, Duration::ZERO, *occupied, offset, deadline).await;
            paid.is_ok().then_some((room, *occupied))
        });
        let paid: Vec<_> = join_all(paid).await.into_iter().flatten().collect();
        let mut owed = self.owed();
        for (room, occupied) in paid {
            owed.handle_paid(room, occupied);
        }
    }

    /// Something of the room may be due after `wait`.
    pub(super) async fn hint(
        &self,
        room: &RoomId,
        wait: Duration,
        occupied: Occupied,
        offset: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let bucket = bucket_of(room);
        let keys = [self.keys.bucket(bucket), self.keys.occupied(bucket)];
        let micros = wait.as_micros().to_string();
        let arguments = [offset.into(), room.as_str().into(), micros.into(), occupied.text()];
        let command = Command::Script { script: &self.scripts.hint, keys: &keys, arguments: &arguments };
        self.router.call(slot_of(&keys[0]), &command, deadline).await.map(|_| ())
    }

    /// What the index says of the room; '' if nothing.
    pub(super) async fn seen(&self, room: &RoomId, deadline: Instant) -> Result<String, Failure> {
        let key = self.keys.bucket(bucket_of(room));
        let command = cmd("ZSCORE").arg(&key).arg(room.as_str()).clone();
        let score = self.router.call(slot_of(&key), &Command::Plain(&command), deadline).await?;
        Ok(match score {
            Value::Double(score) => format!("{score:.0}"),
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        })
    }

    /// After expiry: what is due next, `""` for a room that is gone, unless a hint came since it was `seen`.
    pub(super) async fn settle(
        &self,
        room: &RoomId,
        seen: &str,
        next: &str,
        occupied: Occupied,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let bucket = bucket_of(room);
        let keys = [self.keys.bucket(bucket), self.keys.occupied(bucket)];
        let arguments = [room.as_str().into(), seen.into(), next.into(), occupied.text()];
        let command = Command::Script { script: &self.scripts.settle, keys: &keys, arguments: &arguments };
        self.router.call(slot_of(&keys[0]), &command, deadline).await.map(|_| ())
    }

    /// How many rooms are occupied, as last counted; at least one.
    pub(super) fn rooms(&self) -> usize {
        self.counted().parts.iter().sum::<usize>().max(1)
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are as many rooms as there may be. Counted anew when the last count is old, or near the limit. A part that cannot
    /// be counted now has as many as it had.
    pub(super) async fn is_full(&self, limit: usize) -> bool {
        let (rooms, at) = (self.rooms(), self.counted().at);
        if at.is_some_and(|at| at.elapsed() < COUNT_AGE) && rooms + limit / MARGIN < limit && limit > MARGIN {
            return false;
        }
        let deadline = Instant::now() + COUNT;
        let counts = join_all((0..BUCKETS).map(|number| self.count(number, deadline))).await;
        let mut counted = self.counted();
        for (known, count) in counted.parts.iter_mut().zip(counts) {
            *known = count.unwrap_or(*known);
        }
        counted.at = Some(Instant::now());
        counted.parts.iter().sum::<usize>() >= limit
    }

    async fn count(&self, part: usize, deadline: Instant) -> Option<usize> {
        if !self.parts().answers(part) {
            return None;
        }
        let key = self.keys.occupied(part);
        let command = cmd("SCARD").arg(&key).clone();
        let count = self.router.call(slot_of(&key), &Command::Plain(&command), deadline).await.ok()?;
        from_redis_value(count).ok()
    }
}

/// The life that a key holds; a new one if it holds none.
pub(super) async fn life_at(router: &Router, key: &str) -> Result<u64, Failure> {
    let fresh = rand::random::<u64>();
    let command = cmd("SET").arg(key).arg(format!("{fresh:016x}")).arg("NX").arg("GET").clone();
    let answer = router.call(slot_of(key), &Command::Plain(&command), Instant::now() + CALL).await?;
    let known: Option<String> = from_redis_value(answer).map_err(|_| Failure::Unknown)?;
    let known = known.map(|text| u64::from_str_radix(&text, 16)).transpose().map_err(|_| Failure::Unknown)?;
    Ok(known.unwrap_or(fresh))
}
