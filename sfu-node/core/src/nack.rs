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
/// Requests for one packet. With the usual round trips that is one to two seconds, the longest a subscriber's jitter buffer
/// waits.
pub const MAX_TRIES: u8 = 10;
/// How long a packet may be overtaken before it counts as lost. Less asks for what is only reordered, more delays repair.
const REORDERING: Duration = Duration::from_millis(5);
/// Bounds on the time between two requests for the same packet: below, answers on the way would be asked for again, and the
/// measured round trip is the peer's word; above, repair comes too late to be of use.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// What [`NackTracker::poll`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NackPoll {
    /// A packet was given up since the last poll: only a keyframe can heal the picture.
    pub keyframe_needed: bool,
}

/// Missing packets of one received SSRC.
#[derive(Clone, Debug, Default)]
pub struct NackTracker {
    highest: Option<u64>,
    /// In ascending order of `seq`; at most [`MAX_MISSING`].
    missing: VecDeque<Missing>,
    keyframe_needed: bool,
    /// No packet is due before this; may be earlier than needed, since arrivals do not move it.
    next_due: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    tries: u8,
    due: Instant,
}

impl NackTracker {
    /// A tracker that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None, missing: VecDeque::new(), keyframe_needed: false, next_due: None }
    }

    /// Takes in a packet, original or retransmitted, by its extended sequence number.
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

    /// Drops all that is missing before `extended_seq`: a keyframe starts there.
    pub fn forget_before(&mut self, extended_seq: u64) {
        let kept_from = self.missing.partition_point(|missing| missing.seq < extended_seq);
        self.missing.drain(..kept_from);
        self.keyframe_needed = false;
    }

    /// Replaces the content of `out` by the numbers to be asked for now, oldest first, at most [`MAX_MISSING`].
    pub fn poll(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) -> NackPoll {
        out.clear();
        let poll = NackPoll { keyframe_needed: std::mem::take(&mut self.keyframe_needed) };
        if self.next_due.is_none_or(|due| due > now) {
            return poll;
        }
        let interval = rtt.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let before = self.missing.len();
        let mut next_due: Option<Instant> = None;
        self.missing.retain_mut(|missing| {
            if missing.due <= now {
                if missing.tries == MAX_TRIES {
                    return false;
                }
                missing.tries += 1;
                missing.due = now + interval;
                out.push(missing.seq as u16);
            }
            next_due = Some(next_due.map_or(missing.due, |due| due.min(missing.due)));
            true
        });
        self.next_due = next_due;
        NackPoll { keyframe_needed: poll.keyframe_needed || self.missing.len() < before }
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
            self.keyframe_needed = true;
            self.next_due = Some(now);
            return;
        }
        let due = now + REORDERING;
        self.missing.extend((from..to).map(|seq| Missing { seq, tries: 0, due }));
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    fn remove(&mut self, seq: u64) {
        if let Ok(at) = self.missing.binary_search_by_key(&seq, |missing| missing.seq) {
            self.missing.remove(at);
            if self.missing.is_empty() && !self.keyframe_needed {
                self.next_due = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 65_530;
    const RTT: Duration = Duration::from_millis(50);

    /// A tracker that has seen `START` and misses `count` packets behind it.
    fn missing(count: u64, now: Instant) -> NackTracker {
        let mut tracker = NackTracker::new();
        tracker.record(START, now);
        tracker.record(START + count + 1, now);
        tracker
    }

    fn polled(tracker: &mut NackTracker, now: Instant) -> (Vec<u16>, bool) {
        let mut out = vec![1, 2, 3];
        let poll = tracker.poll(now, RTT, &mut out);
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
        assert_eq!(tracker.poll_timeout(), Some(due + RTT));
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

    #[test]
    fn after_ten_tries_only_a_keyframe_helps() {
        let mut now = Instant::now();
        let mut tracker = missing(1, now);
        for attempt in 0..MAX_TRIES {
            now = tracker.poll_timeout().expect("still missing");
            assert_eq!(polled(&mut tracker, now), (vec![65_531], false), "attempt {attempt}");
        }
        now = tracker.poll_timeout().expect("still missing");
        assert_eq!(polled(&mut tracker, now), (vec![], true));
        assert_eq!(tracker.poll_timeout(), None);
        assert_eq!(polled(&mut tracker, now), (vec![], false), "said once");
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
    fn a_keyframe_ends_the_search_for_what_came_before() {
        let now = Instant::now();
        let mut tracker = missing(4, now);
        tracker.forget_before(START + 3);
        assert_eq!(polled(&mut tracker, now + REORDERING).0, [(START + 3) as u16, (START + 4) as u16]);
    }

    #[test]
    fn a_lying_round_trip_time_floods_nobody() {
        let now = Instant::now();
        let mut tracker = missing(1, now);
        let due = now + REORDERING;
        tracker.poll(due, Duration::ZERO, &mut Vec::new());
        assert_eq!(tracker.poll_timeout(), Some(due + MIN_INTERVAL));
        tracker.poll(due + MIN_INTERVAL, Duration::from_secs(100), &mut Vec::new());
        assert_eq!(tracker.poll_timeout(), Some(due + MIN_INTERVAL + MAX_INTERVAL));
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
                tracker.poll(now, RTT, &mut out);
                prop_assert!(out.len() <= MAX_MISSING);
                let asked: Vec<_> = out.iter().map(|seq| crate::seq::nearest(highest, *seq)).collect();
                prop_assert!(asked.iter().all(|seq| !arrived.contains(seq)));
                prop_assert!(asked.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(tracker.missing() == 0 || tracker.poll_timeout().is_some());
            }
        }
    }
}
