//! How fast each room is told something through this edge, by all of its members together: what one of them says, and that one comes,
//! costs work for every other. A room that is silent costs nothing here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::RoomId;

use crate::rate::{Rate, TokenBucket};
use crate::settings::LimitSettings;

/// Rooms looked through at a time for those that have been silent long enough to be forgotten: as many have been added since the
/// last time, so that it costs each addition the same.
const MIN_SWEPT: usize = 1_024;

/// What is counted for each room.
#[derive(Debug)]
pub(crate) struct RoomLimits {
    /// What is said in it, and the streams that come and go.
    pub(crate) messages: RoomRates,
    /// Bytes of broadcasts: a few large ones are more than waits for a client on a slow link.
    pub(crate) broadcast_bytes: RoomRates,
    /// Joins, each with the leave that follows it.
    pub(crate) joins: RoomRates,
}

impl RoomLimits {
    pub(crate) fn new(settings: &LimitSettings) -> Self {
        // The rest of what may wait for a client is for what else it is told. Where more is let through, no less than in a moment: tasks
        // that say something at the same time do not come to the bucket in the order of their clocks.
        let moment = settings.room_broadcast_bytes / 10;
        let at_once = u32::try_from(settings.queued_bytes / 2).unwrap_or(u32::MAX).max(moment);
        // A room may come (back) as a whole; and where it is small, the next may come as soon as somebody has left.
        let as_a_whole = u32::try_from(settings.members_per_room).unwrap_or(u32::MAX).max(settings.room_join_rate);
        let joins_at_once = settings.room_join_burst.unwrap_or(as_a_whole);
        Self {
            messages: RoomRates::new(Rate::new(settings.room_message_rate, settings.room_message_burst)),
            broadcast_bytes: RoomRates::new(Rate::new(settings.room_broadcast_bytes, at_once)),
            joins: RoomRates::new(Rate::new(settings.room_join_rate, joins_at_once)),
        }
    }
}

/// A bucket for each room in which something happened lately.
#[derive(Debug)]
pub(crate) struct RoomRates {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<RoomId, TokenBucket>,
    /// How many may be there before the silent ones are forgotten.
    sweep_at: usize,
}

impl RoomRates {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new(State { buckets: HashMap::new(), sweep_at: MIN_SWEPT }) }
    }

    /// As [`TokenBucket::take`].
    pub(crate) fn take(&self, room: &RoomId, cost: u32, now: Instant) -> Result<(), Duration> {
        self.with_bucket(room, now, |bucket| bucket.take(cost, now))
    }

    /// As [`TokenBucket::charge`].
    pub(crate) fn charge(&self, room: &RoomId, cost: u32, now: Instant) {
        self.with_bucket(room, now, |bucket| bucket.charge(cost, now));
    }

    fn with_bucket<T>(&self, room: &RoomId, now: Instant, act: impl FnOnce(&mut TokenBucket) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = state.buckets.get_mut(room) {
            return act(bucket);
        }
        if state.buckets.len() >= state.sweep_at {
            state.buckets.retain(|_, bucket| !bucket.is_full(now));
            state.sweep_at = (2 * state.buckets.len()).max(MIN_SWEPT);
        }
        let mut bucket = TokenBucket::new(self.rate, now);
        let done = act(&mut bucket);
        state.buckets.insert(room.clone(), bucket);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> RoomId {
        format!("r{number}").parse().expect("valid")
    }

    #[test]
    fn each_room_has_its_own() {
        let (rates, now) = (RoomRates::new(Rate::new(10, 2)), Instant::now());
        assert_eq!([rates.take(&room(1), 1, now), rates.take(&room(1), 1, now)], [Ok(()), Ok(())]);
        assert_eq!(rates.take(&room(1), 1, now), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(&room(2), 1, now), Ok(()));
        assert_eq!(rates.take(&room(1), 1, now + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn by_the_default_limits_a_full_room_may_come_at_once_and_half_of_what_may_wait_for_a_client_be_said() {
        let settings = LimitSettings::default();
        let (limits, now) = (RoomLimits::new(&settings), Instant::now());
        for _ in 0..settings.members_per_room {
            assert_eq!(limits.joins.take(&room(1), 1, now), Ok(()));
        }
        assert!(limits.joins.take(&room(1), 1, now).is_err());
        assert!(limits.joins.take(&room(1), 1, now + Duration::from_secs(1)).is_ok());
        assert_eq!(limits.broadcast_bytes.take(&room(1), 256 * 1024, now), Ok(()));
        assert_eq!(settings.queued_bytes, 2 * 256 * 1024);
        assert!(limits.broadcast_bytes.take(&room(1), 1_000, now).is_err());
    }

    #[test]
    fn where_much_is_let_through_a_clock_that_is_a_little_behind_refuses_nothing() {
        let settings = LimitSettings { room_broadcast_bytes: 1_000_000_000, ..LimitSettings::default() };
        let (limits, now) = (RoomLimits::new(&settings), Instant::now());
        assert_eq!(limits.broadcast_bytes.take(&room(1), 400, now + Duration::from_millis(20)), Ok(()));
        assert_eq!(limits.broadcast_bytes.take(&room(1), 400, now), Ok(()));
    }

    #[test]
    fn in_a_room_for_few_no_fewer_may_come_and_go() {
        let (limits, now) =
            (RoomLimits::new(&LimitSettings { members_per_room: 2, ..LimitSettings::default() }), Instant::now());
        for _ in 0..LimitSettings::default().room_join_rate {
            assert_eq!(limits.joins.take(&room(1), 1, now), Ok(()));
        }
        assert!(limits.joins.take(&room(1), 1, now).is_err());
    }

    #[test]
    fn silent_rooms_are_forgotten_and_loud_ones_are_not() {
        let (rates, mut now) = (RoomRates::new(Rate::new(10, 2)), Instant::now());
        for number in 0..50 * MIN_SWEPT {
            rates.take(&room(number), 1, now).expect("full");
            now += Duration::from_millis(1);
        }
        assert!(rates.state.lock().expect("not poisoned").buckets.len() <= 2 * MIN_SWEPT);
        let (rates, now) = (RoomRates::new(Rate::new(10, 2)), Instant::now());
        rates.take(&room(0), 2, now).expect("full");
        for number in 1..4 * MIN_SWEPT {
            rates.take(&room(number), 1, now).expect("full");
        }
        assert!(rates.take(&room(0), 1, now).is_err());
    }
}
