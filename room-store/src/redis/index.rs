//! The index of rooms in which something may be due, and how many rooms are occupied, on a cluster: both are in other slots than the
//! room, so no step can keep them. A hint is written before the step, so that a crash between them leaves one that is too early, and
//! not none; and again after a step that made a room, in case its forgetting came between. What is wrong otherwise is put
//! right by the next refresh of the room, or by the next expiry.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use deadpool_redis::redis::{Value, cmd, from_redis_value};
use futures_util::future::try_join_all;
use proto::ids::RoomId;
use tokio::time::Instant;

use super::{
    keys::{BUCKETS, Keys, bucket_of, slot_of},
    node::{Command, Failure},
    router::Router,
    script::Scripts,
};

/// How long a count of rooms is good where it is far from the limit.
const COUNT_AGE: Duration = Duration::from_secs(5);

/// Far from the limit: by this part of it.
const MARGIN: usize = 20;

/// The index of a cluster.
pub(super) struct Index {
    pub(super) keys: Keys,
    pub(super) router: Router,
    pub(super) scripts: Arc<Scripts>,
    counted: Mutex<Option<(usize, Instant)>>,
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
        Self { keys, router, scripts, counted: Mutex::default() }
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
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).map_or(1, |(rooms, _)| rooms.max(1))
    }

    /// Whether there are as many rooms as there may be. Counted anew when the last count is old, or near the limit.
    pub(super) async fn is_full(&self, limit: usize, deadline: Instant) -> Result<bool, Failure> {
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted
            .is_some_and(|(rooms, at)| at.elapsed() < COUNT_AGE && rooms + limit / MARGIN < limit && limit > MARGIN)
        {
            return Ok(false);
        }
        let counts = (0..BUCKETS).map(async |number| {
            let key = self.keys.occupied(number);
            let command = cmd("SCARD").arg(&key).clone();
            let count = self.router.call(slot_of(&key), &Command::Plain(&command), deadline).await?;
            from_redis_value::<usize>(count).map_err(|_| Failure::Unknown)
        });
        let rooms = try_join_all(counts).await?.into_iter().sum();
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((rooms, Instant::now()));
        Ok(rooms >= limit)
    }
}
