//! The paths that a client has proven, and which of them is sent to.
//!
//! The client chooses, and we have to find out what: a lite agent checks nothing itself. What the client says decides in this order:
//!
//! 1. What it sends. Media, reports or the end of its handshake on another path, while nothing but checks comes on the selected
//!    one: it has moved there.
//! 2. What it nominates, if it nominates what it has chosen. Some do; some nominate every path that they try (RFC 5245, section
//!    8.1.1.2: Firefox), and then keep one of them without saying which.
//! 3. Where it checks, once the selected path is silent: its interface is gone, or a NAT has given it another address.
//!
//! All but an ICE restart leaves a path alone that the client is heard from. So neither two paths that both live nor checks that
//! somebody else repeats from elsewhere move anything. Why it is so: `docs/decisions/0006-which-path-is-sent-to.md`.

use std::time::{Duration, Instant};

use super::CONSENT_TIMEOUT;
use crate::CandidatePair;

/// Proven paths that are remembered per peer. A client has a few interfaces in two address families, times the node's own addresses,
/// times a NAT rebinding; an authenticated client that roams more evicts its own oldest path.
const MAX_PATHS: usize = 16;

/// How long the selected path has to be without what counts more before something else counts. More than the delays of two paths
/// differ by, so that what was on its way does not move back a client that has moved on.
const QUIET: Duration = Duration::from_secs(1);

/// How long nothing at all came on a path that is given up for one that is only checked. Firefox checks the path that it uses every
/// 4.5 to 5.3 s, and may have nothing else to send.
const SILENT: Duration = Duration::from_secs(6);

#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Most recently checked last.
    proven: Vec<Path>,
    selected: Option<Selected>,
    nominates: Option<Nominates>,
    /// The selected path was chosen before an ICE restart.
    outdated: bool,
}

/// A proven path.
#[derive(Clone, Copy, Debug)]
struct Path {
    pair: CandidatePair,
    /// When the last valid check came from there.
    checked: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Selected {
    pair: CandidatePair,
    /// When the client last sent anything but checks from there, or when it was selected.
    spoke: Instant,
}

/// What a client nominates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nominates {
    /// What it has checked before and chosen (RFC 8445, section 8.1.1).
    Chosen,
    /// All it tries.
    All,
}

/// What a check had to make room for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) is_new: bool,
    pub(super) evicted: Option<CandidatePair>,
}

impl Paths {
    /// A valid check came from `from`, with the current credentials or with replaced ones that still count.
    pub(super) fn check(&mut self, now: Instant, from: CandidatePair, use_candidate: bool, is_current: bool) -> Proven {
        // Who nominates with the first check of all does so with every path's.
        let nominates = *self.nominates.get_or_insert(if use_candidate { Nominates::All } else { Nominates::Chosen });
        let proven = self.prove(now, from);
        let renews = self.outdated && use_candidate && is_current;
        let selects = match &self.selected {
            None => use_candidate,
            Some(_) if renews => true,
            Some(selected) => {
                let enough = if use_candidate && nominates == Nominates::Chosen { QUIET } else { SILENT };
                selected.pair != from && now >= self.heard(selected) + enough
            }
        };
        if selects {
            self.select(now, from);
        }
        self.outdated &= !renews;
        proven
    }

    fn prove(&mut self, now: Instant, from: CandidatePair) -> Proven {
        let known = self.proven.iter().position(|path| path.pair == from);
        let mut evicted = None;
        if let Some(known) = known {
            self.proven.remove(known);
        } else if self.proven.len() == MAX_PATHS {
            let oldest = self.proven.iter().position(|path| Some(path.pair) != self.selected());
            evicted = oldest.map(|oldest| self.proven.remove(oldest).pair);
        }
        self.proven.push(Path { pair: from, checked: now });
        Proven { is_new: known.is_none(), evicted }
    }

    /// When anything last came on the selected path.
    fn heard(&self, selected: &Selected) -> Instant {
        let checked = self.proven.iter().find(|path| path.pair == selected.pair).map(|path| path.checked);
        checked.map_or(selected.spoke, |checked| checked.max(selected.spoke))
    }

    /// Something authentic and new that is no check came from `from`. Called for every packet.
    #[inline]
    pub(super) fn speak(&mut self, now: Instant, from: CandidatePair) {
        match &mut self.selected {
            Some(selected) if selected.pair == from => selected.spoke = now,
            _ => self.speak_elsewhere(now, from),
        }
    }

    #[cold]
    fn speak_elsewhere(&mut self, now: Instant, from: CandidatePair) {
        if self.selected.is_none_or(|selected| now >= selected.spoke + QUIET) {
            self.select(now, from);
        }
    }

    /// Selects a path, if it is a proven one.
    pub(super) fn select(&mut self, now: Instant, pair: CandidatePair) {
        if self.contains(pair) {
            self.selected = Some(Selected { pair, spoke: now });
        }
    }

    /// After an ICE restart the first nomination with its credentials selects, wherever the client is heard from.
    pub(super) fn outdate(&mut self) {
        self.outdated = true;
    }

    pub(super) fn selected(&self) -> Option<CandidatePair> {
        self.selected.map(|selected| selected.pair)
    }

    /// Where to send: the selected path, or while there is none the one that was checked last.
    pub(super) fn current(&self) -> Option<CandidatePair> {
        self.selected().or_else(|| self.proven.last().map(|path| path.pair))
    }

    pub(super) fn contains(&self, pair: CandidatePair) -> bool {
        self.proven.iter().any(|path| path.pair == pair)
    }

    pub(super) fn pairs(&self) -> impl ExactSizeIterator<Item = CandidatePair> {
        self.proven.iter().map(|path| path.pair)
    }

    /// When [`Self::expire`] will have something to give.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.proven.first().map(|path| path.checked + CONSENT_TIMEOUT)
    }

    /// Forgets a path that was not checked for so long that nothing may be sent there any more. If it was the selected one, the one
    /// that was checked last takes its place.
    pub(super) fn expire(&mut self, now: Instant) -> Option<CandidatePair> {
        self.deadline().filter(|deadline| now >= *deadline)?;
        let expired = self.proven.remove(0).pair;
        if self.selected.take_if(|selected| selected.pair == expired).is_some() {
            self.selected = self.proven.last().map(|path| Selected { pair: path.pair, spoke: now });
        }
        Some(expired)
    }
}
