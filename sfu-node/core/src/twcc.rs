//! Transport-wide feedback to a publisher (draft-holmer-rmcat-transport-wide-cc-extensions-01): arrival times in,
//! feedback packets out.
//!
//! Reading such feedback and estimating bandwidth from it are not here.

use std::time::Instant;

/// Arrival times of one transport's packets since the last feedback.
#[derive(Clone, Debug)]
pub struct TwccRecorder {
    epoch: Instant,
}

impl TwccRecorder {
    /// A recorder whose reference time starts at `now`.
    pub const fn new(now: Instant) -> Self {
        Self { epoch: now }
    }

    /// Notes that the packet with transport-wide number `seq` arrived at `now`.
    #[inline]
    pub fn record(&mut self, seq: u16, now: Instant) {
        let _ = (seq, now, self.epoch);
    }

    /// Writes one feedback packet for what arrived since the last one and returns its length; `None` when there is
    /// nothing (more) to report. Call again until `None`: what does not fit into `buf` goes into the next packet.
    pub fn write_feedback(&mut self, sender_ssrc: u32, media_ssrc: u32, buf: &mut [u8]) -> Option<usize> {
        let _ = (sender_ssrc, media_ssrc, buf);
        None
    }

    /// Whether [`Self::write_feedback`] would write something.
    pub const fn has_feedback(&self) -> bool {
        false
    }
}
