//! The outgoing side of one track towards one subscriber: continuous sequence numbers, timestamps and VP8 picture
//! numbers, whatever the sources behind it do.
//!
//! It owns the outgoing packet index (rollover counter and sequence number) of its SSRC and never yields one twice, which
//! is what keeps GCM nonces unique. Packets themselves and retransmission payloads are not here.

use std::time::Instant;

use crate::vp8::{PictureNumbers, Vp8Descriptor};

/// Where a forwarded packet goes on the outgoing SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Rollover counter and sequence number: `roc << 16 | seq`.
    pub index: u64,
    /// Outgoing RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture numbers to be written, if the packet has any.
    pub picture: Option<PictureNumbers>,
}

impl Outgoing {
    /// Sequence number.
    #[inline]
    pub const fn seq(&self) -> u16 {
        self.index as u16
    }

    /// Rollover counter for sealing.
    #[inline]
    pub const fn roc(&self) -> u32 {
        (self.index >> 16) as u32
    }
}

/// Rewrites the packets of one outgoing track.
#[derive(Clone, Debug)]
pub struct Rewriter {
    clock_rate: u32,
    next: u64,
    timestamp: u32,
}

impl Rewriter {
    /// A rewriter for an outgoing SSRC at `clock_rate` Hz whose first packet gets sequence number `first_seq` with
    /// rollover counter 0, and timestamp `first_timestamp`.
    ///
    /// Receivers guess the first packet's rollover counter as 0, so take `first_seq` from the lower half: a lost or
    /// reordered start must not straddle a wrap (RFC 3711 3.3.1).
    pub const fn new(clock_rate: u32, first_seq: u16, first_timestamp: u32) -> Self {
        Self { clock_rate, next: first_seq as u64, timestamp: first_timestamp }
    }

    /// The place of the source's packet `extended_seq` on the outgoing SSRC. `None` if it was forwarded or skipped before,
    /// lies before the first packet of this source, or is too old to be placed: then it must not be sent.
    #[inline]
    pub fn forward(
        &mut self,
        now: Instant,
        extended_seq: u64,
        timestamp: u32,
        vp8: Option<&Vp8Descriptor>,
    ) -> Option<Outgoing> {
        let _ = (now, extended_seq, vp8, self.clock_rate);
        self.next += 1;
        Some(Outgoing { index: self.next - 1, timestamp: timestamp.wrapping_add(self.timestamp), picture: None })
    }

    /// The source's packet `extended_seq` is not forwarded and leaves no gap, if nothing newer went out yet.
    #[inline]
    pub fn skip(&mut self, extended_seq: u64) {
        let _ = extended_seq;
    }

    /// The next packet comes from another source, or from the same one after a break: whatever its numbers are, they
    /// continue those sent so far.
    pub fn switch_source(&mut self) {}

    /// The source's extended sequence number behind outgoing `seq`, among the newest 1,024 of the present source.
    pub fn source_of(&self, seq: u16) -> Option<u64> {
        let _ = seq;
        None
    }

    /// The outgoing timestamp of the present source's `timestamp`, for sender reports and retransmissions.
    #[inline]
    pub const fn timestamp_of(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.timestamp)
    }

    /// The outgoing picture numbers of a packet of the present source, for retransmissions.
    #[inline]
    pub fn picture_of(&self, vp8: &Vp8Descriptor) -> Option<PictureNumbers> {
        let _ = vp8;
        None
    }
}
