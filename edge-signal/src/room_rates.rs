//! How fast each room is told something through this edge, by all of its members together: what one of them says costs work for
//! every other. A room that is silent costs nothing here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::RoomId;

use crate::rate::{Rate, TokenBucket};

/// Rooms looked through at a time for those that have been silent long enough to be forgotten: as many have been added since the
/// last time, so that it costs each addition the same.
const MIN_SWEPT: usize = 1_024;

/// A bucket for each room in which something was said lately.
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = state.buckets.get_mut(room) {
            return bucket.take(cost, now);
        }
        if state.buckets.len() >= state.sweep_at {
            state.buckets.retain(|_, bucket| !bucket.is_full(now));
            state.sweep_at = (2 * state.buckets.len()).max(MIN_SWEPT);
        }
        let mut bucket = TokenBucket::new(self.rate, now);
        let taken = bucket.take(cost, now);
        state.buckets.insert(room.clone(), bucket);
        taken
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
