//! What became of all that members said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::notice::{Notice, Place};
use super::{Room, number_of};

impl Room<'_, '_> {
    /// Each broadcast is told once, and only those that somebody asked for.
    pub(super) fn check_broadcasts(&mut self) {
        let mut places: BTreeMap<(&str, u64), Vec<&Place>> = BTreeMap::new();
        let mut violations = Vec::new();
        for (place, notice) in &self.log {
            let Notice::Broadcast { uid, data } = notice else { continue };
            let number = number_of(data);
            let asked = number.and_then(|n| self.deeds.get(uid.as_str())?.asked.get(&n));
            match (number, asked) {
                (Some(number), Some(_)) => places.entry((uid, number)).or_default().push(place),
                _ => violations.push(format!("{place}: {uid} never said {data}")),
            }
        }
        for (uid, deeds) in &self.deeds {
            self.audit.said += deeds.said.len();
            let mut untold = Vec::new();
            for (number, asked) in &deeds.asked {
                let told = places.remove(&(*uid, *number)).unwrap_or_default();
                let epochs: BTreeSet<&Arc<str>> = told.iter().map(|place| &place.epoch).collect();
                if told.len() > epochs.len() || (told.len() > 1 && *asked == 1) {
                    violations.push(format!("{uid} said {number} once, and it was told at {told:?}"));
                } else if told.len() > 1 {
                    self.audit.repeated_broadcasts += 1;
                } else if told.is_empty() && deeds.said.contains(number) {
                    untold.push(*number);
                }
            }
            let lost = untold.len().saturating_sub(self.unseen.get(uid).copied().unwrap_or(0));
            if lost > 0 && self.may_be_lost(uid) {
                self.audit.lost_broadcasts += lost;
            } else if lost > 0 {
                violations.push(format!("{uid} said {untold:?}, and nobody was told"));
            }
        }
        self.audit.violations.append(&mut violations);
    }

    /// A broadcast can be lost with the end of an epoch, and one whose place its sender does not know either, for it went on from a
    /// snapshot, may have been made with nobody else there.
    fn may_be_lost(&self, uid: &str) -> bool {
        let spans = self.walks.iter().flat_map(|walk| &walk.spans);
        let epochs: BTreeSet<&Arc<str>> = spans.map(|span| &span.epoch).collect();
        epochs.len() > 1 || self.walks.iter().any(|walk| walk.uid == uid && walk.spans.len() > 1)
    }
}
