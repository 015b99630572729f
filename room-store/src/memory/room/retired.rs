//! Ids of what a session has done lately, streams ended and broadcasts, so that doing one again is no error and does nothing.

use std::collections::VecDeque;

/// The last few ids, oldest first. Few enough that a walk is quicker than an index.
#[derive(Clone)]
pub(super) struct Retired<T>(VecDeque<T>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Retired<T> {
    pub(super) fn push(&mut self, id: T, most: usize) {
        self.0.push_back(id);
        while self.0.len() > most {
            self.0.pop_front();
        }
    }

    pub(super) fn contains(&self, id: &T) -> bool {
        self.0.contains(id)
    }
}
