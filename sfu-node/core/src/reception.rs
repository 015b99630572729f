//! Reception statistics of one received SSRC (RFC 3550 A.3, A.8), and the report block made of them.
//!
//! Retransmissions are not to be recorded here: they arrive on an SSRC of their own (RFC 4588).

use std::time::Instant;

use crate::{clock::NtpTime, rtcp::ReportBlock};

/// Statistics of one received SSRC.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate: u32,
}

impl Reception {
    /// Statistics for timestamps of `clock_rate` Hz, empty.
    pub const fn new(clock_rate: u32) -> Self {
        Self { clock_rate }
    }

    /// Counts a packet that arrived at `now`.
    #[inline]
    pub fn record(&mut self, extended_seq: u64, timestamp: u32, now: Instant) {
        let _ = (extended_seq, timestamp, now, self.clock_rate);
    }

    /// Remembers a sender report of this SSRC that arrived at `now`, to be echoed in LSR and DLSR.
    pub fn record_sender_report(&mut self, ntp: NtpTime, now: Instant) {
        let _ = (ntp, now);
    }

    /// The report block for `ssrc`; starts a new interval of `fraction_lost`. `None` before the first packet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let _ = (ssrc, now);
        None
    }

    /// Packets recorded, duplicates included.
    pub const fn packets(&self) -> u64 {
        0
    }

    /// Packets expected but never recorded so far.
    pub const fn lost(&self) -> u64 {
        0
    }
}
