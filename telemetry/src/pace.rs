//! Lines about something that goes on and on: one in so long, with how many were kept back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When something may be said again.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Pace {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, said: Mutex::default() }
    }

    /// How many were kept back since the last one; `None`: this one is kept back, too.
    pub(crate) fn may_say(&self) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < self.every) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_soon_is_counted_and_told_with_the_next() {
        let pace = Pace::new(Duration::from_hours(1));
        assert_eq!(pace.may_say(), Some(0));
        assert_eq!((pace.may_say(), pace.may_say()), (None, None));
        let due = Pace { every: Duration::ZERO, ..pace };
        assert_eq!(due.may_say(), Some(2));
    }
}
