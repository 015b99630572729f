//! Broadcasts of this edge's members that its room has not told yet: when the store loses its log, those that were accepted and never
//! told are lost, and counted. Pure.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use room_store::EntryId;

/// Broadcasts of one room followed at once. A room that has more under way is not counted exactly, and stays usable.
const MAX_FOLLOWED: usize = 4_096;

/// Broadcasts under way, and whether their senders were told that they are accepted.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<HashMap<EntryId, bool>>);

impl Said {
    /// The store is about to be asked.
    pub(super) fn begin(&self, entry: EntryId) {
        let mut said = self.lock();
        if said.len() < MAX_FOLLOWED {
            said.insert(entry, false);
        }
    }

    /// The store has answered. What it did not accept nobody counts on.
    pub(super) fn answered(&self, entry: EntryId, accepted: bool) {
        let mut said = self.lock();
        if accepted {
            if let Some(answered) = said.get_mut(&entry) {
                *answered = true;
            }
        } else {
            said.remove(&entry);
        }
        Self::shrink(&mut said);
    }

    /// The room's log has it.
    pub(super) fn told(&self, entry: EntryId) {
        let mut said = self.lock();
        said.remove(&entry);
        Self::shrink(&mut said);
    }

    /// Those that were accepted and not told so far.
    pub(super) fn accepted(&self) -> Vec<EntryId> {
        self.lock().iter().filter(|(_, accepted)| **accepted).map(|(entry, _)| *entry).collect()
    }

    /// The log that these were written to is gone, and all that the next one has was told: how many are lost with it.
    pub(super) fn lost(&self, accepted: &[EntryId]) -> usize {
        let mut said = self.lock();
        let lost = accepted.iter().filter(|entry| said.remove(entry).is_some()).count();
        Self::shrink(&mut said);
        lost
    }

    /// Most rooms are silent, and there are many.
    fn shrink(said: &mut HashMap<EntryId, bool>) {
        if said.is_empty() && said.capacity() > 0 {
            *said = HashMap::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntryId, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_accepted_and_never_told_is_lost() {
        let said = Said::default();
        let [told, lost, refused, open, told_anew] = [1, 2, 3, 4, 5].map(EntryId);
        for entry in [told, lost, refused, open, told_anew] {
            said.begin(entry);
        }
        said.told(told);
        said.answered(told, true);
        said.answered(lost, true);
        said.answered(told_anew, true);
        said.answered(refused, false);
        let accepted = said.accepted();
        said.answered(open, true);
        said.told(told_anew);
        assert_eq!(said.lost(&accepted), 1);
        assert_eq!(said.lost(&accepted), 0, "counted once");
        assert_eq!(said.accepted(), [open]);
    }
}
