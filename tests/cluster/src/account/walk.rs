//! One member's way through its room's log: what it was told is held against the order of the log and against the state it
//! knew. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::journal::{Happened, Joined, Journal};
use super::notice::{Notice, Place};
use super::view::View;

/// A run of the log that a member must know without holes: entries after `after` up to `through`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) epoch: Arc<str>,
    pub(super) after: u64,
    pub(super) through: u64,
}

/// What became of one member.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) uid: &'a str,
    /// What it was told, by place.
    pub(super) received: BTreeMap<Place, &'a Notice>,
    pub(super) spans: Vec<Span>,
    /// What it knows at the end; `None`: it is no member.
    pub(super) view: Option<View>,
    /// Snapshots it had to take over because it was not told what it missed: in the same epoch, and in another one.
    pub(super) resyncs: usize,
    pub(super) new_epochs: usize,
    pub(super) resumed: usize,
    /// Members and streams that a new epoch's snapshot lacked although nobody had taken them away.
    pub(super) lacking: usize,
    pub(super) violations: Vec<String>,
    /// Where it is.
    place: Option<Place>,
    /// A join is under way, or must be, for another epoch was told of: what comes is kept until its answer.
    holding: bool,
    kept: Vec<(&'a Place, &'a Notice)>,
    /// The state an answer gave, to be held against what was told up to there.
    due: Option<(Place, View)>,
}

impl<'a> Walk<'a> {
    pub(super) fn through(journal: &'a Journal) -> Self {
        let mut walk = Self {
            uid: &journal.uid,
            received: BTreeMap::new(),
            spans: Vec::new(),
            view: None,
            resyncs: 0,
            new_epochs: 0,
            resumed: 0,
            lacking: 0,
            violations: Vec::new(),
            place: None,
            holding: false,
            kept: Vec::new(),
            due: None,
        };
        for (_, happened) in &journal.entries {
            match happened {
                Happened::Joined(joined) => walk.joined(joined),
                Happened::Joining => walk.holding = true,
                Happened::Told(place, notice) => walk.came(place, notice),
                Happened::Recorded { mid, on, recording } => walk.recorded(mid, *on, recording),
                // What was kept is told again when it is back.
                Happened::Lost(_) => walk.kept.clear(),
                Happened::Unreadable(text) => walk.violation(&format!("unreadable: {text}")),
                Happened::Ended(_) | Happened::Left => walk.view = None,
                _ => {}
            }
        }
        walk.compare_due();
        walk
    }

    /// The last place it knows of.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// It is still there: it must know everything up to `head`, and does, if not more than its own entries are missing.
    pub(super) fn reaches(&mut self, head: u64) {
        if let Some(span) = self.spans.last_mut() {
            span.through = span.through.max(head);
        }
    }

    /// Entries it must know and was not told.
    pub(super) fn holes(&self) -> impl Iterator<Item = Place> + '_ {
        let all = self
            .spans
            .iter()
            .flat_map(|span| (span.after + 1..=span.through).map(|seq| Place { epoch: Arc::clone(&span.epoch), seq }));
        all.filter(|place| !self.received.contains_key(place))
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(format!("{}: {what}", self.uid));
    }

    fn joined(&mut self, joined: &Joined) {
        let kept = std::mem::take(&mut self.kept);
        let former = self.place.as_ref().map(|place| Arc::clone(&place.epoch));
        self.holding = false;
        if joined.is_resumed() && self.view.is_some() {
            self.resumed += 1;
            if joined.since.as_ref() > Some(&joined.place) {
                self.violation(&format!("resumed at {}, before what it knew: {:?}", joined.place, joined.since));
            }
            self.due = Some((joined.place.clone(), joined.view.clone()));
        } else {
            if let (Some(view), Some(place)) = (&self.view, &self.place) {
                if place.epoch == joined.place.epoch {
                    self.resyncs += 1;
                } else {
                    self.new_epochs += 1;
                    self.lacking += view.members.difference(&joined.view.members).count();
                    self.lacking += view.streams.keys().filter(|mid| !joined.view.streams.contains_key(*mid)).count();
                }
            }
            self.due = None;
            self.view = Some(joined.view.clone());
            self.place = Some(joined.place.clone());
            let Place { epoch, seq } = joined.place.clone();
            self.spans.push(Span { epoch, after: seq, through: seq });
        }
        // Of what came while the answer was on its way, the answer's state may have some.
        let mut covered: Vec<(&Place, &Notice)> = Vec::new();
        for (place, notice) in kept {
            if Some(&place.epoch) == self.place.as_ref().map(|at| &at.epoch) && Some(place) > self.place.as_ref() {
                self.told(place, notice);
                continue;
            }
            // What differs after a loss is told at one place of the new epoch; apart from that, no place is told twice.
            let heals = former.as_ref() != Some(&place.epoch);
            let is_same = |at: &Place, other: &Notice| at == place && (!heals || other == notice);
            let known = self.received.get(place).is_some_and(|other| is_same(place, other));
            if known || covered.iter().any(|(at, other)| is_same(at, other)) {
                self.violation(&format!("told {place} twice, while it joined: {notice:?}"));
            }
            covered.push((place, notice));
        }
    }

    fn recorded(&mut self, mid: &str, on: bool, recording: &str) {
        if let Some(stream) = self.view.as_mut().and_then(|view| view.streams.get_mut(mid)) {
            stream.recording = on.then(|| recording.to_owned());
        }
    }

    fn came(&mut self, place: &'a Place, notice: &'a Notice) {
        self.holding |= self.place.as_ref().is_some_and(|known| known.epoch != place.epoch);
        if self.holding {
            self.kept.push((place, notice));
        } else {
            self.told(place, notice);
        }
    }

    fn told(&mut self, place: &'a Place, notice: &'a Notice) {
        let Some(known) = self.place.clone() else {
            return self.violation(&format!("told {place} before it was a member"));
        };
        if let Some(before) = self.received.insert(place.clone(), notice) {
            let same = if before == notice { "the same" } else { "something else" };
            return self.violation(&format!("told {place} twice, {same}: {notice:?}"));
        }
        if place.seq <= known.seq {
            return self.violation(&format!("told {place} after {known}: {notice:?}"));
        }
        if self.due.as_ref().is_some_and(|(due, _)| place > due) {
            self.compare_due();
        }
        self.place = Some(place.clone());
        if let Some(span) = self.spans.last_mut() {
            span.through = place.seq;
        }
        let applied = self.view.as_mut().map_or(Ok(()), |view| view.apply(self.uid, notice));
        if let Err(why) = applied {
            self.violation(&format!("{why} ({place}: {notice:?})"));
        }
    }

    /// A resumed member that has heard what it missed knows what the answer said.
    fn compare_due(&mut self) {
        let Some((place, expected)) = self.due.take() else { return };
        let Some(view) = &self.view else { return };
        if let Some(difference) = difference(view, &expected) {
            self.violation(&format!(
                "after what it missed up to {place} it knows another state than the answer: {difference}"
            ));
        }
    }
}

/// How what somebody knows differs from what is so.
pub(super) fn difference(known: &View, expected: &View) -> Option<String> {
    let mut all = Vec::new();
    let mut add = |what: &str, names: Vec<&String>| {
        if !names.is_empty() {
            all.push(format!("{what} {names:?}"));
        }
    };
    add("lacks members", expected.members.difference(&known.members).collect());
    add("has members", known.members.difference(&expected.members).collect());
    let (known, expected) = (&known.streams, &expected.streams);
    let mids = |one: &'_ BTreeMap<String, _>| one.keys().cloned().collect::<BTreeSet<String>>();
    add("lacks streams", mids(expected).difference(&mids(known)).collect::<Vec<_>>());
    add("has streams", mids(known).difference(&mids(expected)).collect::<Vec<_>>());
    let others = known.iter().filter(|(mid, stream)| expected.get(*mid).is_some_and(|other| other != *stream));
    add("has otherwise", others.map(|(mid, _)| mid).collect());
    (!all.is_empty()).then(|| all.join(", "))
}
