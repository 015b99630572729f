//! What became of all that members said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::deeds::Deeds;
use super::notice::{Notice, Place};
use super::{Room, number_of};

impl<'a> Room<'a, '_> {
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
            let (late, early): (Vec<u64>, Vec<u64>) =
                untold.into_iter().partition(|n| self.is_of_last_epoch(deeds, *n));
            let (unseen_late, unseen_early) = self.unseen_of(uid);
            let lost_late = late.len().saturating_sub(unseen_late);
            self.audit.lost_broadcasts += early.len().saturating_sub(unseen_early);
            if lost_late > 0 && self.went_on_from_a_snapshot(uid) {
                self.audit.lost_broadcasts += lost_late;
            } else if lost_late > 0 {
                violations.push(format!("{uid} said {late:?}, and nobody was told"));
            }
        }
        self.audit.violations.append(&mut violations);
    }

    /// It was asked for when its sender was in the last epoch already, so it is in no log but that one's. Whatever was asked for before
    /// can have been lost with the end of its epoch, when it was answered later, too: the answer may be that of a try before.
    fn is_of_last_epoch(&self, deeds: &Deeds, number: u64) -> bool {
        match (&self.last_epoch, deeds.asked_in.get(&number)) {
            (Some(last), Some(epoch)) => last == epoch,
            _ => true,
        }
    }

    /// Entries of the last epoch, and of those before it, that only this member should know of.
    fn unseen_of(&self, uid: &'a str) -> (usize, usize) {
        let own = self.unseen.iter().filter(|((alone, _), _)| *alone == uid);
        let (late, early): (Vec<_>, Vec<_>) = own.partition(|((_, epoch), _)| self.is_last(epoch));
        let sum = |entries: Vec<(&(&str, Arc<str>), &usize)>| entries.iter().map(|(_, count)| **count).sum();
        (sum(late), sum(early))
    }

    fn is_last(&self, epoch: &Arc<str>) -> bool {
        self.last_epoch.as_ref().is_none_or(|last| last == epoch)
    }

    /// Its sender does not know the place either of what it said between what it knew and the snapshot, which may have been made with
    /// nobody else there.
    fn went_on_from_a_snapshot(&self, uid: &str) -> bool {
        let own = self.walks.iter().filter(|walk| walk.uid == uid).flat_map(|walk| &walk.spans);
        own.filter(|span| self.is_last(&span.epoch)).count() > 1
    }
}
