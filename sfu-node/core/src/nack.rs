//! What to ask a publisher to send again (generic NACK, RFC 4585 6.2.1), and when to ask for a keyframe instead.
//!
//! One tracker per received SSRC. Subscribers' NACKs are not handled here: they are answered from the publisher's ring.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Packets asked for at a time. More than this is no loss to be repaired but an outage, which a keyframe ends sooner; less
/// would give up on bursts that a retransmission heals.
pub const MAX_MISSING: usize = 512;
/// Requests for one packet. On a path that loses a third of all packets each way, ten leave three in a thousand unrepaired.
pub const MAX_TRIES: u8 = 10;
/// How long a packet is asked for: the longest a subscriber's jitter buffer waits, and about what a ring holds. At the usual
/// round trips the tries are used up by then; at long ones there are fewer.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How long a packet may be overtaken before it counts as lost. Less asks for what is only reordered, more delays repair.
const REORDERING: Duration = Duration::from_millis(5);
/// The round trip that is assumed until one was measured. Shorter repeats requests that are being answered, longer heals later.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(60);
/// Bounds of the round trip measured: below, answers on the way would be asked for again, and when to answer is the peer's
/// choice; above, one request is all that helps.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(20);
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);
/// The longest between two requests for a packet, unless the round trip is longer. Each request waits half as long again as the
/// one before: a path that has changed, or is full, is not asked ever more.
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// What [`NackTracker::poll`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NackPoll {
    /// A packet was given up since the last poll, and no keyframe has begun behind it: only another can heal the picture.
    pub keyframe_needed: bool,
}

/// Missing packets of one received SSRC.
#[derive(Clone, Debug, Default)]
pub struct NackTracker {
    highest: Option<u64>,
    /// In ascending order of `seq`; at most [`MAX_MISSING`].
    missing: VecDeque<Missing>,
    /// The newest packet that was given up since the last poll.
    given_up: Option<u64>,
    /// Where the newest keyframe begins.
    keyframe: Option<u64>,
    /// No packet is due before this; may be earlier than needed, since arrivals do not move it.
    next_due: Option<Instant>,
    /// From a request to its answer, smoothed.
    round_trip: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    tries: u8,
    due: Instant,
    /// When it was first asked for; before that, when it was first missed.
    since: Instant,
    /// Between the last request and the next one.
    interval: Duration,
}

impl NackTracker {
    /// A tracker that has seen nothing.
    pub const fn new() -> Self {
        Self {
            highest: None,
            missing: VecDeque::new(),
            given_up: None,
            keyframe: None,
            next_due: None,
            round_trip: None,
        }
    }

    /// Takes in a packet by its extended sequence number, whether or not it is of any use: what has arrived is not asked for.
    #[inline]
    pub fn record(&mut self, extended_seq: u64, now: Instant) {
        match self.highest {
            Some(highest) if extended_seq <= highest => {
                if !self.missing.is_empty() {
                    self.remove(extended_seq);
                }
            }
            Some(highest) => {
                if extended_seq > highest + 1 {
                    self.miss(highest + 1, extended_seq, now);
                }
                self.highest = Some(extended_seq);
            }
            None => self.highest = Some(extended_seq),
        }
    }

    /// Takes in a packet that came as a retransmission. The time since it was first asked for is at least a round trip; it is
    /// more when a request or an answer was lost, which is why longer times count for less.
    pub fn record_retransmission(&mut self, extended_seq: u64, now: Instant) {
        if let Some(missing) = self.remove(extended_seq) {
            if missing.tries > 0 {
                self.measure(now.saturating_duration_since(missing.since).clamp(MIN_ROUND_TRIP, MAX_ROUND_TRIP));
            }
        } else {
            self.record(extended_seq, now);
        }
    }

    /// A keyframe begins with this packet. What is missing before it is still asked for, for those whose buffers wait, but
    /// giving it up needs no other keyframe.
    #[inline]
    pub fn keyframe_at(&mut self, extended_seq: u64) {
        self.keyframe = self.keyframe.max(Some(extended_seq));
    }

    /// Replaces the content of `out` by the numbers to be asked for now, oldest first, at most [`MAX_MISSING`].
    pub fn poll(&mut self, now: Instant, out: &mut Vec<u16>) -> NackPoll {
        out.clear();
        if self.next_due.is_some_and(|due| due <= now) {
            self.poll_missing(now, out);
        }
        let given_up = self.given_up.take();
        NackPoll { keyframe_needed: given_up > self.keyframe }
    }

    fn poll_missing(&mut self, now: Instant, out: &mut Vec<u16>) {
        // A quarter more than the average, so that most answers are there before they are asked for again.
        let round_trip = self.round_trip.map_or(INITIAL_ROUND_TRIP, |round_trip| round_trip + round_trip / 4);
        let mut next_due: Option<Instant> = None;
        self.missing.retain_mut(|missing| {
            if missing.due <= now {
                if missing.tries == MAX_TRIES || (missing.tries > 0 && now >= missing.since + GIVE_UP) {
                    self.given_up = self.given_up.max(Some(missing.seq));
                    return false;
                }
                if missing.tries == 0 {
                    missing.since = now;
                    missing.interval = round_trip;
                } else {
                    missing.interval = (missing.interval * 3 / 2).min(MAX_INTERVAL.max(round_trip));
                }
                missing.tries += 1;
                missing.due = now + missing.interval;
                out.push(missing.seq as u16);
            }
            next_due = Some(next_due.map_or(missing.due, |due| due.min(missing.due)));
            true
        });
        self.next_due = next_due;
    }

    /// When [`Self::poll`] next has something to say; `None` while nothing is missing. May come early, never late.
    #[inline]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_due
    }

    /// How many packets are being asked for.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    #[cold]
    fn miss(&mut self, from: u64, to: u64, now: Instant) {
        if to - from > (MAX_MISSING - self.missing.len()) as u64 {
            self.missing.clear();
            self.given_up = Some(to - 1);
            self.next_due = Some(now);
            return;
        }
        let due = now + REORDERING;
        let missing = |seq| Missing { seq, tries: 0, due, since: now, interval: Duration::ZERO };
        self.missing.extend((from..to).map(missing));
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    fn remove(&mut self, seq: u64) -> Option<Missing> {
        let at = self.missing.binary_search_by_key(&seq, |missing| missing.seq).ok()?;
        let removed = self.missing.remove(at);
        if self.missing.is_empty() && self.given_up.is_none() {
            self.next_due = None;
        }
        removed
    }

    fn measure(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(known) if sample < known => (known * 3 + sample) / 4,
            Some(known) => (known * 7 + sample) / 8,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 65_530;

    /// A tracker that has seen `START` and misses `count` packets behind it.
    fn missing(count: u64, now: Instant) -> NackTracker {
        let mut tracker = NackTracker::new();
        tracker.record(START, now);
        tracker.record(START + count + 1, now);
        tracker
    }

    fn polled(tracker: &mut NackTracker, now: Instant) -> (Vec<u16>, bool) {
        let mut out = vec![1, 2, 3];
        let poll = tracker.poll(now, &mut out);
        (out, poll.keyframe_needed)
    }

    #[test]
    fn a_complete_stream_asks_for_nothing() {
        let (mut tracker, now) = (NackTracker::new(), Instant::now());
        for seq in 0..100 {
            tracker.record(START + seq, now);
        }
        assert_eq!(tracker.poll_timeout(), None);
        assert_eq!(polled(&mut tracker, now), (vec![], false));
    }

    #[test]
    fn a_gap_is_asked_for_once_reordering_is_ruled_out() {
        let now = Instant::now();
        let mut tracker = missing(8, now);
        assert_eq!(polled(&mut tracker, now), (vec![], false));
        let due = tracker.poll_timeout().expect("packets are missing");
        assert_eq!(due, now + REORDERING);
        let seqs = vec![65_531, 65_532, 65_533, 65_534, 65_535, 0, 1, 2];
        assert_eq!(polled(&mut tracker, due), (seqs, false));
        assert_eq!(tracker.poll_timeout(), Some(due + INITIAL_ROUND_TRIP));
        assert_eq!(polled(&mut tracker, due), (vec![], false), "asked already");
    }

    #[test]
    fn what_arrives_is_not_asked_for_again() {
        let now = Instant::now();
        let mut tracker = missing(3, now);
        tracker.record(START + 2, now);
        let due = now + REORDERING;
        assert_eq!(polled(&mut tracker, due).0, [(START + 1) as u16, (START + 3) as u16]);
        tracker.record(START + 1, due);
        tracker.record(START + 3, due);
        tracker.record(START + 3, due);
        assert_eq!((tracker.missing(), tracker.poll_timeout()), (0, None));
    }

    /// Asks for the only missing packet until it is given up; gives the times of the requests, and whether a keyframe is needed.
    fn given_up(tracker: &mut NackTracker) -> (Vec<Instant>, bool) {
        let mut asked = Vec::new();
        loop {
            let now = tracker.poll_timeout().expect("still missing");
            let (seqs, keyframe_needed) = polled(tracker, now);
            if seqs.is_empty() {
                assert_eq!(tracker.poll_timeout(), None);
                assert_eq!(polled(tracker, now), (vec![], false), "said once");
                asked.push(now);
                return (asked, keyframe_needed);
            }
            assert!(!keyframe_needed);
            asked.push(now);
        }
    }

    #[test]
    fn after_ten_tries_in_two_seconds_only_a_keyframe_helps() {
        let now = Instant::now();
        let (mut asked, keyframe_needed) = given_up(&mut missing(1, now));
        let given_up = asked.pop().expect("the end") - now;
        assert!(keyframe_needed);
        assert_eq!(asked.len(), usize::from(MAX_TRIES));
        assert!((1_500..=2_000).contains(&given_up.as_millis()), "{given_up:?}");
        let waits: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(waits[..4], [60, 90, 135, 202]);
        assert!(waits[4..].iter().all(|wait| *wait == 250), "{waits:?}");
    }

    #[test]
    fn a_slow_path_is_asked_less_often_for_as_long() {
        let now = Instant::now();
        let mut tracker = missing(1, now);
        polled(&mut tracker, now + REORDERING);
        tracker.record_retransmission(START + 1, now + REORDERING + Duration::from_millis(800));
        tracker.record(START + 4, now);
        let (mut asked, keyframe_needed) = given_up(&mut tracker);
        assert_eq!(asked.pop(), Some(now + REORDERING + GIVE_UP));
        let waits: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!((waits, keyframe_needed), (vec![1_000], true));
    }

    #[test]
    fn the_round_trip_is_measured_from_the_first_request_to_its_answer() {
        let mut now = Instant::now();
        let mut tracker = NackTracker::new();
        tracker.record(START, now);
        let mut interval_after = |answer: u64| {
            let highest = tracker.highest.expect("seen");
            tracker.record(highest + 2, now);
            now += REORDERING;
            assert_eq!(polled(&mut tracker, now).0.len(), 1);
            let interval = tracker.poll_timeout().expect("missing") - now;
            now += Duration::from_millis(answer);
            tracker.record_retransmission(highest + 1, now);
            assert_eq!(tracker.missing(), 0);
            interval.as_millis()
        };
        assert_eq!(interval_after(200), 60, "assumed");
        assert_eq!(interval_after(200), 250);
        for _ in 0..20 {
            interval_after(100);
        }
        let settled = interval_after(300);
        assert!((125..=128).contains(&settled), "{settled}");
        let after_an_outlier = interval_after(100);
        assert!((155..=160).contains(&after_an_outlier), "{after_an_outlier}");
    }

    #[test]
    fn what_was_only_overtaken_says_nothing_of_the_round_trip() {
        let now = Instant::now();
        let mut tracker = missing(1, now);
        polled(&mut tracker, now + REORDERING);
        tracker.record(START + 1, now + REORDERING);
        tracker.record(START + 4, now);
        let due = tracker.poll_timeout().expect("missing");
        polled(&mut tracker, due);
        assert_eq!(tracker.poll_timeout(), Some(due + INITIAL_ROUND_TRIP));
    }

    #[test]
    fn an_outage_asks_for_a_keyframe_at_once() {
        let now = Instant::now();
        let mut tracker = missing(MAX_MISSING as u64, now);
        assert_eq!(tracker.missing(), MAX_MISSING);
        tracker.record(START + MAX_MISSING as u64 + 3, now);
        assert_eq!((tracker.missing(), tracker.poll_timeout()), (0, Some(now)));
        assert_eq!(polled(&mut tracker, now), (vec![], true));
        assert_eq!(tracker.poll_timeout(), None);
        assert_eq!(missing(1 << 40, now).missing(), 0, "no work in proportion to the gap");
    }

    #[test]
    fn what_a_keyframe_came_behind_is_asked_for_but_never_needs_another() {
        let now = Instant::now();
        let mut tracker = missing(1, now);
        tracker.keyframe_at(START + 2);
        let (asked, keyframe_needed) = given_up(&mut tracker);
        assert_eq!((asked.len(), keyframe_needed), (1 + usize::from(MAX_TRIES), false));
        let mut tracker = missing(1, now);
        tracker.keyframe_at(START);
        assert!(given_up(&mut tracker).1, "lost out of the keyframe itself");
        let mut tracker = missing(MAX_MISSING as u64 + 1, now);
        tracker.keyframe_at(START + MAX_MISSING as u64 + 2);
        assert_eq!(polled(&mut tracker, now), (vec![], false), "an outage that a keyframe ends");
    }

    #[test]
    fn an_answer_at_a_time_of_the_peers_choice_floods_nobody_and_silences_nobody() {
        for (answered, interval) in [(Duration::ZERO, MIN_ROUND_TRIP), (Duration::from_secs(100), MAX_ROUND_TRIP)] {
            let now = Instant::now();
            let mut tracker = missing(1, now);
            polled(&mut tracker, now + REORDERING);
            tracker.record_retransmission(START + 1, now + REORDERING + answered);
            tracker.record(START + 4, now);
            let due = tracker.poll_timeout().expect("missing");
            polled(&mut tracker, due);
            assert_eq!(tracker.poll_timeout(), Some(due + interval + interval / 4));
        }
    }

    proptest! {
        /// Never more than the bound, never the same packet twice in a poll, always in order, and never one that arrived.
        #[test]
        fn requests_are_bounded_and_in_order(steps in prop::collection::vec((-600_i64..600, 0_u64..40), 1..200)) {
            let mut now = Instant::now();
            let mut tracker = NackTracker::new();
            let mut arrived = std::collections::HashSet::new();
            let mut highest = 1_u64 << 20;
            let mut out = Vec::new();
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                let seq = highest.saturating_add_signed(step);
                highest = highest.max(seq);
                arrived.insert(seq);
                tracker.record(seq, now);
                prop_assert!(tracker.missing() <= MAX_MISSING);
                tracker.poll(now, &mut out);
                prop_assert!(out.len() <= MAX_MISSING);
                let asked: Vec<_> = out.iter().map(|seq| crate::seq::nearest(highest, *seq)).collect();
                prop_assert!(asked.iter().all(|seq| !arrived.contains(seq)));
                prop_assert!(asked.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(tracker.missing() == 0 || tracker.poll_timeout().is_some());
            }
        }
    }
}
