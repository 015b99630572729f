//! What a client did itself, as its journal has it: the only causes there may be for what a room is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::journal::{Happened, Journal};

/// What a client itself did, summed up.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) present: bool,
    pub(super) left: bool,
    pub(super) asked: BTreeMap<u64, usize>,
    /// The epoch it was in when it first asked for that.
    pub(super) asked_in: BTreeMap<u64, Arc<str>>,
    pub(super) said: BTreeSet<u64>,
    pub(super) streams: BTreeMap<String, Value>,
    pub(super) withdrawn: BTreeSet<String>,
    /// Recordings it has begun or ended.
    pub(super) recorded: BTreeSet<(String, bool)>,
}

impl Deeds {
    pub(super) fn of(journal: &Journal) -> Self {
        let (mut deeds, mut epoch) = (Self::default(), None);
        for (_, happened) in &journal.entries {
            match happened {
                Happened::Joined(joined) => {
                    deeds.present = true;
                    epoch = Some(&joined.place.epoch);
                }
                Happened::Lost(_) | Happened::Ended(_) => deeds.present = false,
                Happened::Left => (deeds.present, deeds.left) = (false, true),
                Happened::Says(n) | Happened::Repeats(n) => {
                    *deeds.asked.entry(*n).or_default() += 1;
                    if let Some(epoch) = epoch {
                        deeds.asked_in.entry(*n).or_insert_with(|| Arc::clone(epoch));
                    }
                }
                Happened::Said(n) => _ = deeds.said.insert(*n),
                Happened::Published { mid, minfo } | Happened::Changed { mid, minfo } => {
                    deeds.streams.insert(mid.clone(), minfo.clone());
                }
                Happened::Withdrawn(mid) => {
                    deeds.streams.remove(mid);
                    deeds.withdrawn.insert(mid.clone());
                }
                Happened::Recorded { on, recording, .. } => _ = deeds.recorded.insert((recording.clone(), *on)),
                // No deed: what comes of it must have another cause.
                Happened::Missed(mid) => _ = deeds.streams.remove(mid),
                Happened::Joining
                | Happened::Refused(..)
                | Happened::TurnedAway(_)
                | Happened::Told(..)
                | Happened::Unwanted(_)
                | Happened::Unreadable(_)
                | Happened::GaveUp(..) => {}
            }
        }
        deeds
    }
}
