//! Whether the streams of a node are lost, by what came of asking it: a pure judge of the node's starts that records name. It
//! asks nobody, and reads no clock.
//!
//! ```text
//!                    refused twice, 200 ms apart ──────▶ accused: dead unless the directory says that it lives
//! noted by a record ─┤ the node answers as another start ─▶ accused
//!                    lease gone, and silent for 3 s ───▶ dead
//! ```
//!
//! Evidence counts for a start only when it was gathered after a record of it was seen: what a node that is just coming up refused
//! says nothing of the streams it takes a moment later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::ids::BootId;
use tokio::time::Instant;

/// Two refusals this far apart are not a node in the middle of a restart of its listener.
pub(super) const REFUSED_FOR: Duration = Duration::from_millis(200);
/// How long a node without a lease must not answer before it counts as dead.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(3);
/// How long a directory that has the accused's lease, and is there, may be unable to ask it before it counts as one that cannot be
/// asked at all: etcd has a new leader within two seconds or so. More: what is on a node that died while etcd has no majority is
/// missed for longer.
pub(super) const ASKED_AGAIN_FOR: Duration = Duration::from_secs(15);
/// Starts of one node that are looked at together, and those remembered as dead: each is a restart whose streams are still in
/// records. Further ones come up again with the next look at the records.
const MAX_STARTS: usize = 16;

/// What the directory knows of a node's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lease {
    /// It has none.
    Gone,
    /// Its entry is there; of this start, where the directory knows it.
    Held(Option<BootId>),
}

impl Lease {
    /// Whether it may be this start's.
    pub(super) fn covers(&self, boot: &BootId) -> bool {
        match self {
            Self::Gone => false,
            Self::Held(holder) => holder.as_ref().is_none_or(|holder| holder == boot),
        }
    }
}

/// How a question was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection was refused: nothing listens there, or a firewall says so.
    Refused,
    /// Anything else.
    Silent,
}

/// What is known of one start.
#[derive(Debug)]
struct Evidence {
    /// When a record of it was first seen.
    noted: Instant,
    silent_since: Option<Instant>,
    refused_since: Option<Instant>,
    /// Since when it has been accused, and nobody could say whether it lives who should be able to.
    unanswered_since: Option<Instant>,
}

impl Evidence {
    fn new(noted: Instant) -> Self {
        Self { noted, silent_since: None, refused_since: None, unanswered_since: None }
    }
}

/// Judges one node.
#[derive(Debug, Default)]
pub(super) struct Judge {
    starts: BTreeMap<BootId, Evidence>,
    /// Those it has found dead: records may still name them.
    dead: VecDeque<BootId>,
}

impl Judge {
    /// A record names this start. Whether it was found dead before.
    pub(super) fn note(&mut self, boot: &BootId, now: Instant) -> bool {
        if self.dead.contains(boot) {
            return true;
        }
        if self.starts.len() < MAX_STARTS {
            self.starts.entry(boot.clone()).or_insert_with(|| Evidence::new(now));
        }
        false
    }

    /// The node said, to a question asked at `asked`, that it is this start. The others are accused: these. Mostly they are dead; but
    /// where a node was moved, the old process and the new one may both run for a while, and this edge may know the wrong one.
    pub(super) fn handle_answer(&mut self, boot: &BootId, asked: Instant) -> Vec<BootId> {
        self.starts.insert(boot.clone(), Evidence::new(asked));
        self.dead.retain(|dead| dead != boot);
        let others = self.starts.iter().filter(|(other, evidence)| *other != boot && evidence.noted <= asked);
        others.map(|(other, _)| other.clone()).collect()
    }

    /// A question asked at `asked` was not answered.
    pub(super) fn handle_failure(&mut self, failure: Failure, asked: Instant) {
        for evidence in self.starts.values_mut().filter(|evidence| evidence.noted <= asked) {
            evidence.silent_since.get_or_insert(asked);
            evidence.refused_since = (failure == Failure::Refused).then(|| evidence.refused_since.unwrap_or(asked));
        }
    }

    /// Those that refused for long enough: dead, unless the directory knows better.
    pub(super) fn accused(&self, now: Instant) -> Vec<BootId> {
        let refused = |evidence: &Evidence| longer(evidence.refused_since, REFUSED_FOR, now);
        self.starts.iter().filter(|(_, evidence)| refused(evidence)).map(|(boot, _)| boot.clone()).collect()
    }

    /// The accused lives: what it refused counts no more.
    pub(super) fn acquit(&mut self, boot: &BootId) {
        if let Some(evidence) = self.starts.get_mut(boot) {
            evidence.refused_since = None;
            evidence.unanswered_since = None;
        }
    }

    /// The accused could not be asked whether it lives, though its lease says that it might; whether it has to be done without.
    pub(super) fn handle_no_word(&mut self, boot: &BootId, now: Instant) -> bool {
        let Some(evidence) = self.starts.get_mut(boot) else { return false };
        evidence.unanswered_since.get_or_insert(now);
        longer(evidence.unanswered_since, ASKED_AGAIN_FOR, now)
    }

    /// The accused is dead.
    pub(super) fn convict(&mut self, boot: &BootId) -> Vec<BootId> {
        self.condemn(|accused, _| accused == boot)
    }

    /// Those that are dead because their lease is gone and they have been silent for long: these.
    pub(super) fn convict_silent(&mut self, lease: &Lease, now: Instant) -> Vec<BootId> {
        self.condemn(|boot, evidence| !lease.covers(boot) && longer(evidence.silent_since, SILENT_FOR, now))
    }

    /// Whether it has been silent so long that, but for its lease, something would have to be done.
    pub(super) fn is_cut_off(&self, now: Instant) -> bool {
        self.starts.values().any(|evidence| longer(evidence.silent_since, SILENT_FOR, now))
    }

    /// Those found dead whose records may still be there.
    pub(super) fn dead(&self) -> Vec<BootId> {
        self.dead.iter().cloned().collect()
    }

    fn condemn(&mut self, is_dead: impl Fn(&BootId, &Evidence) -> bool) -> Vec<BootId> {
        let dead: Vec<BootId> =
            self.starts.extract_if(.., |boot, evidence| is_dead(boot, evidence)).map(|(boot, _)| boot).collect();
        self.dead.extend(dead.iter().cloned());
        let too_many = self.dead.len().saturating_sub(MAX_STARTS);
        self.dead.drain(..too_many);
        dead
    }
}

fn longer(since: Option<Instant>, than: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn boot(number: u64) -> BootId {
        BootId::of(number)
    }

    /// A judge that has seen a record of start 1, and when.
    fn judge() -> (Judge, Instant) {
        let (mut judge, start) = (Judge::default(), Instant::now());
        judge.note(&boot(1), start);
        (judge, start)
    }

    const HELD: Lease = Lease::Held(None);

    #[test]
    fn a_node_is_accused_when_it_refuses_twice_some_time_apart() {
        let (mut judge, start) = judge();
        judge.handle_failure(Failure::Refused, start);
        assert!(judge.accused(start).is_empty());
        judge.handle_failure(Failure::Refused, start + REFUSED_FOR - MS);
        assert!(judge.accused(start + REFUSED_FOR - MS).is_empty());
        judge.handle_failure(Failure::Refused, start + REFUSED_FOR);
        assert_eq!(judge.accused(start + REFUSED_FOR), [boot(1)]);
    }

    #[test]
    fn a_refusal_in_between_something_else_does_not_count() {
        let (mut judge, start) = judge();
        judge.handle_failure(Failure::Refused, start);
        judge.handle_failure(Failure::Silent, start + REFUSED_FOR);
        assert!(judge.accused(start + 2 * REFUSED_FOR).is_empty());
        judge.handle_failure(Failure::Refused, start + 2 * REFUSED_FOR);
        assert!(judge.accused(start + 2 * REFUSED_FOR).is_empty());
    }

    #[test]
    fn who_is_acquitted_has_to_refuse_twice_more() {
        let (mut judge, start) = judge();
        judge.handle_failure(Failure::Refused, start);
        judge.handle_failure(Failure::Refused, start + REFUSED_FOR);
        judge.acquit(&boot(1));
        judge.handle_failure(Failure::Refused, start + 2 * REFUSED_FOR);
        assert!(judge.accused(start + 2 * REFUSED_FOR).is_empty());
        judge.handle_failure(Failure::Refused, start + 3 * REFUSED_FOR);
        assert_eq!(judge.accused(start + 3 * REFUSED_FOR), [boot(1)]);
        assert_eq!(judge.convict(&boot(1)), [boot(1)]);
        assert!(judge.accused(start + 3 * REFUSED_FOR).is_empty(), "once");
    }

    #[test]
    fn who_cannot_be_asked_for_a_moment_is_asked_again_and_not_for_ever() {
        let (mut judge, start) = judge();
        assert!(!judge.handle_no_word(&boot(1), start));
        assert!(!judge.handle_no_word(&boot(1), start + ASKED_AGAIN_FOR - MS));
        assert!(judge.handle_no_word(&boot(1), start + ASKED_AGAIN_FOR));
        judge.acquit(&boot(1));
        assert!(!judge.handle_no_word(&boot(1), start + ASKED_AGAIN_FOR), "the time begins anew");
        judge.handle_answer(&boot(1), start + ASKED_AGAIN_FOR);
        assert!(!judge.handle_no_word(&boot(1), start + 2 * ASKED_AGAIN_FOR));
        assert!(!judge.handle_no_word(&boot(9), start), "of this no record is known");
    }

    #[test]
    fn a_silent_node_is_dead_only_without_its_lease() {
        let (mut judge, start) = judge();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            judge.handle_failure(Failure::Silent, now);
            assert!(judge.convict_silent(&HELD, now).is_empty());
            assert!(judge.convict_silent(&Lease::Held(Some(boot(1))), now).is_empty());
        }
        assert!(judge.is_cut_off(start + SILENT_FOR));
        assert_eq!(judge.convict_silent(&Lease::Gone, start + Duration::from_mins(1)), [boot(1)]);
    }

    #[test]
    fn silence_must_last_and_an_answer_ends_it() {
        let (mut judge, start) = judge();
        judge.handle_failure(Failure::Silent, start);
        assert!(judge.convict_silent(&Lease::Gone, start + SILENT_FOR - MS).is_empty());
        assert!(judge.handle_answer(&boot(1), start + MS).is_empty());
        assert!(judge.convict_silent(&Lease::Gone, start + SILENT_FOR).is_empty());
        judge.handle_failure(Failure::Silent, start + 2 * MS);
        assert_eq!(judge.convict_silent(&Lease::Gone, start + SILENT_FOR + 2 * MS), [boot(1)]);
    }

    #[test]
    fn a_lease_of_the_next_start_does_not_keep_the_one_before() {
        let (mut judge, start) = judge();
        judge.handle_failure(Failure::Silent, start);
        let lease = Lease::Held(Some(boot(2)));
        assert_eq!(judge.convict_silent(&lease, start + SILENT_FOR), [boot(1)]);
    }

    #[test]
    fn a_node_that_answers_as_another_start_accuses_the_earlier_ones() {
        let (mut judge, start) = judge();
        judge.note(&boot(2), start);
        assert_eq!(judge.handle_answer(&boot(3), start + MS), [boot(1), boot(2)]);
        assert_eq!(judge.convict(&boot(1)), [boot(1)]);
        assert_eq!(judge.handle_answer(&boot(3), start + 2 * MS), [boot(2)], "as long as it is not known to be dead");
        judge.convict(&boot(2));
        assert_eq!(judge.dead(), [boot(1), boot(2)]);
        assert!(judge.handle_answer(&boot(3), start + 3 * MS).is_empty());
        assert!(judge.note(&boot(2), start + MS), "known to be dead");
        assert!(!judge.note(&boot(3), start + MS));
    }

    #[test]
    fn what_was_asked_before_a_record_was_seen_says_nothing_of_it() {
        let (mut judge, start) = judge();
        let later = start + Duration::from_secs(1);
        judge.note(&boot(2), later);
        judge.handle_failure(Failure::Refused, start);
        judge.handle_failure(Failure::Refused, later - MS);
        assert_eq!(judge.accused(later), [boot(1)]);
        assert_eq!(judge.handle_answer(&boot(3), later - MS), [boot(1)], "start 2 may have come after the answer");
        assert_eq!(judge.handle_answer(&boot(3), later), [boot(1), boot(2)]);
    }

    #[test]
    fn starts_looked_at_are_bounded() {
        let (mut judge, start) = judge();
        for number in 0..1_000 {
            judge.note(&boot(number), start);
        }
        let accused = judge.handle_answer(&boot(5_000), start);
        assert_eq!(accused.len(), MAX_STARTS);
        for boot in accused.iter().chain(&[boot(5_000)]) {
            judge.convict(boot);
        }
        assert_eq!(judge.dead().len(), MAX_STARTS);
    }
}
