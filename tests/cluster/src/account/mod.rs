//! The exact account of what a room's members were told, made from their journals alone.
//!
//! Within an epoch each member must have got every entry of the log exactly once and in order, but for those it caused itself; what
//! two members got at one place must be the same; nothing may be told that nobody did, and nobody may be put out who did not go.
//! Over a new epoch everybody's state must come right, and only broadcasts of those before it can be lost: they are counted. At the
//! end everybody's view must be the truth, which is what the clients did and not what any server says.
//!
//! It is no test of speed, and knows nothing of how the servers work.

mod broadcasts;
mod deeds;
mod journal;
mod notice;
#[cfg(test)]
mod tests;
mod view;
mod walk;

pub use journal::{Happened, Joined, Journal};
pub use notice::{Malformed, Notice, Place};
pub use view::{Stream, View};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use deeds::Deeds;
use serde_json::Value;
use walk::{Walk, difference};

/// What a scenario makes happen that would otherwise be a fault.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Members whose time may run out: they were killed, or cut for longer than their lease.
    pub expired: BTreeSet<String>,
    /// Streams (`mid`) that may end without their owners' doing: they were on a node that was killed or told to go.
    pub streams_lost: BTreeSet<String>,
    /// The store loses everything or its last writes: a new epoch may begin.
    pub store_lost: bool,
    /// Errors that clients may be answered from the fault on, by code.
    pub errors: BTreeSet<i64>,
}

impl Expected {
    /// Clients may be answered these errors.
    #[must_use]
    pub fn with_errors(mut self, codes: impl IntoIterator<Item = i64>) -> Self {
        self.errors.extend(codes);
        self
    }
}

/// What an account says.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// What must not be.
    pub violations: Vec<String>,
    /// Notifications that were got.
    pub notifications: usize,
    /// Entries of the log that were not told to those who caused them.
    pub own: usize,
    /// Lives of rooms' logs beyond the first of each.
    pub new_epochs: usize,
    /// Snapshots that members took over within an epoch.
    pub resyncs: usize,
    /// Joins that went on where they were.
    pub resumed: usize,
    /// Members and streams that the first snapshots of a new epoch lacked for a while.
    pub lacking: usize,
    /// Broadcasts that were carried out.
    pub said: usize,
    /// Of these, told to nobody: asked for before the last epoch, or by one who went on from a snapshot.
    pub lost_broadcasts: usize,
    /// Told in two epochs, having been asked for twice.
    pub repeated_broadcasts: usize,
    /// `peer-leave` told, by member.
    pub leaves: BTreeMap<String, usize>,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} notifications, {} own, {} resumed, {} resyncs, {} new epochs ({} lacking at first), {} broadcasts ({} lost, {} repeated)",
            self.notifications,
            self.own,
            self.resumed,
            self.resyncs,
            self.new_epochs,
            self.lacking,
            self.said,
            self.lost_broadcasts,
            self.repeated_broadcasts,
        )
    }
}

/// Makes the account of one room or of many.
pub fn audit(journals: &[Journal], expected: &Expected) -> Audit {
    let mut rooms: BTreeMap<Arc<str>, Vec<&Journal>> = BTreeMap::new();
    for journal in journals {
        rooms.entry(Arc::clone(&journal.room)).or_default().push(journal);
    }
    let mut audit = Audit::default();
    for (room, journals) in rooms {
        let before = audit.violations.len();
        Room::new(&journals, expected, &mut audit).check();
        for violation in &mut audit.violations[before..] {
            *violation = format!("{room}: {violation}");
        }
    }
    audit
}

/// The broadcast number that the rig puts into what its clients say.
pub fn number_of(data: &Value) -> Option<u64> {
    data["n"].as_u64()
}

/// One room's account.
struct Room<'a, 'b> {
    expected: &'a Expected,
    walks: Vec<Walk<'a>>,
    deeds: BTreeMap<&'a str, Deeds>,
    /// All that anybody was told.
    log: BTreeMap<Place, &'a Notice>,
    /// The epoch that those who are there at the end are in.
    last_epoch: Option<Arc<str>>,
    /// Entries that only one member should know of and was not told: its own, with nobody else there. By member and epoch.
    unseen: BTreeMap<(&'a str, Arc<str>), usize>,
    audit: &'b mut Audit,
}

impl<'a, 'b> Room<'a, 'b> {
    fn new(journals: &[&'a Journal], expected: &'a Expected, audit: &'b mut Audit) -> Self {
        let walks = journals.iter().map(|journal| Walk::through(journal)).collect();
        let deeds = journals.iter().map(|journal| (&*journal.uid, Deeds::of(journal))).collect();
        Self { expected, walks, deeds, log: BTreeMap::new(), last_epoch: None, unseen: BTreeMap::new(), audit }
    }

    fn check(&mut self) {
        self.merge();
        self.check_ends();
        self.check_holes();
        self.check_causes();
        self.check_broadcasts();
        self.check_views();
    }

    fn violation(&mut self, what: String) {
        self.audit.violations.push(what);
    }

    /// What everybody was told makes one log, or two members were told different things.
    fn merge(&mut self) {
        for walk in &mut self.walks {
            self.audit.violations.append(&mut walk.violations);
            self.audit.notifications += walk.received.len();
            self.audit.resyncs += walk.resyncs;
            self.audit.resumed += walk.resumed;
            self.audit.lacking += walk.lacking;
            for (place, notice) in &walk.received {
                let other = self.log.entry(place.clone()).or_insert(notice);
                if *other != *notice {
                    let what = format!("{}: at {place} it was told {notice:?}, others {other:?}", walk.uid);
                    self.audit.violations.push(what);
                }
            }
        }
        let epochs: BTreeSet<&Arc<str>> =
            self.walks.iter().flat_map(|walk| walk.spans.iter().map(|span| &span.epoch)).collect();
        let new_epochs = epochs.len().saturating_sub(1);
        self.audit.new_epochs += new_epochs;
        if new_epochs > 0 && !self.expected.store_lost {
            self.violation(format!("{new_epochs} new epochs although the store lost nothing"));
        }
    }

    /// Whoever is there at the end is in the same epoch, and must know all of it.
    fn check_ends(&mut self) {
        let present: Vec<&str> = self.deeds.iter().filter(|(_, deeds)| deeds.present).map(|(uid, _)| *uid).collect();
        let is_present = |walk: &&mut Walk<'_>| present.contains(&walk.uid);
        let places = self.walks.iter().filter(|walk| present.contains(&walk.uid)).filter_map(Walk::place);
        let epochs: BTreeSet<Arc<str>> = places.map(|place| Arc::clone(&place.epoch)).collect();
        if epochs.len() > 1 {
            return self.violation(format!("members are in different epochs at the end: {epochs:?}"));
        }
        let Some(epoch) = epochs.first() else { return };
        let told = self.log.keys().filter(|place| place.epoch == *epoch).map(|place| place.seq);
        let joined =
            self.walks.iter().flat_map(|walk| &walk.spans).filter(|span| span.epoch == *epoch).map(|span| span.after);
        let head = told.chain(joined).max().unwrap_or(0);
        self.walks.iter_mut().filter(is_present).for_each(|walk| walk.reaches(head));
        self.last_epoch = Some(Arc::clone(epoch));
    }

    /// What a member was not told it did itself.
    fn check_holes(&mut self) {
        let mut violations = Vec::new();
        let mut nobodys: BTreeMap<Place, Vec<&'a str>> = BTreeMap::new();
        let mut own = 0;
        for walk in &self.walks {
            for hole in walk.holes() {
                match self.log.get(&hole) {
                    Some(notice) if self.is_own_of(walk.uid, notice) => own += 1,
                    Some(notice) => violations.push(format!("{}: was not told {hole}: {notice:?}", walk.uid)),
                    None => nobodys.entry(hole).or_default().push(walk.uid),
                }
            }
        }
        self.audit.own += own;
        for (place, lacking) in nobodys {
            if let [alone] = lacking[..] {
                *self.unseen.entry((alone, place.epoch)).or_default() += 1;
                self.audit.own += 1;
            } else {
                violations.push(format!("nobody was told {place}, not even one of {lacking:?} who did not cause it"));
            }
        }
        self.audit.violations.append(&mut violations);
    }

    /// Whether the member caused it. A recording does not say who asked for it.
    fn is_own_of(&self, uid: &str, notice: &Notice) -> bool {
        match notice {
            Notice::Recording { on, recording, .. } => {
                let asked = (recording.clone(), *on);
                self.deeds.get(uid).is_some_and(|deeds| deeds.recorded.contains(&asked))
            }
            notice => notice.is_own_of(uid),
        }
    }

    /// Of each stream, what those who are there at the end know to be recorded: all of them the same.
    fn recordings(&self, violations: &mut Vec<String>) -> BTreeMap<String, Option<String>> {
        let mut agreed: BTreeMap<String, (&str, Option<String>)> = BTreeMap::new();
        for walk in self.walks.iter().filter(|walk| self.deeds.get(walk.uid).is_some_and(|deeds| deeds.present)) {
            for (mid, stream) in walk.view.iter().flat_map(|view| &view.streams) {
                let (first, recording) =
                    agreed.entry(mid.clone()).or_insert_with(|| (walk.uid, stream.recording.clone()));
                if *recording != stream.recording {
                    let what = format!(
                        "{mid} is recorded as {recording:?} for {first}, as {:?} for {}",
                        stream.recording, walk.uid
                    );
                    violations.push(what);
                }
            }
        }
        agreed.into_iter().map(|(mid, (_, recording))| (mid, recording)).collect()
    }

    /// Nobody is put out who did not go, no stream ends that nobody ended, nothing comes into being by itself.
    fn check_causes(&mut self) {
        let mut violations = Vec::new();
        for (place, notice) in &self.log {
            let Some(deeds) = self.deeds.get(notice.uid()) else {
                violations.push(format!("{place} tells of somebody who never came: {notice:?}"));
                continue;
            };
            let may_go = deeds.left || self.expected.expired.contains(notice.uid());
            let allowed = match notice {
                Notice::PeerLeave { uid } => {
                    *self.audit.leaves.entry(uid.clone()).or_default() += 1;
                    may_go
                }
                Notice::StreamRemove { mid, .. } => {
                    may_go || self.expected.streams_lost.contains(mid) || deeds.withdrawn.contains(mid)
                }
                _ => true,
            };
            if !allowed {
                violations.push(format!("{place} was done by nobody: {notice:?}"));
            }
        }
        self.audit.violations.append(&mut violations);
    }

    /// At the end everybody who is there knows who else is there, and what they publish.
    fn check_views(&mut self) {
        let mut violations = Vec::new();
        let recordings = self.recordings(&mut violations);
        for walk in &self.walks {
            if !self.deeds.get(walk.uid).is_some_and(|deeds| deeds.present) {
                continue;
            }
            let mut truth = View::default();
            for (uid, deeds) in self.deeds.iter().filter(|(uid, deeds)| **uid != walk.uid && deeds.present) {
                truth.members.insert((*uid).to_owned());
                let streams = deeds.streams.iter();
                truth.streams.extend(streams.map(|(mid, minfo)| {
                    let recording = recordings.get(mid).cloned().flatten();
                    (mid.clone(), Stream { uid: (*uid).to_owned(), minfo: minfo.clone(), recording })
                }));
            }
            let known = walk.view.clone().unwrap_or_default();
            if let Some(difference) = difference(&known, &truth) {
                violations.push(format!("{} at the end {difference}", walk.uid));
            }
        }
        self.audit.violations.append(&mut violations);
    }
}

/// What a member would say differs between what it knows and the truth, for messages while something is waited for.
pub fn differs(known: &View, truth: &View) -> Option<String> {
    difference(known, truth)
}
