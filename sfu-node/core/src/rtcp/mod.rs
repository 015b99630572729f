//! RTCP (RFC 3550 6, RFC 4585, RFC 5104) without allocation: an iterator over a decrypted compound packet, and writers.
//!
//! What the packets mean for a track is not here; nor is their protection (see [`crate::srtp`]).

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{FirEntries, NackSeqs, ReportBlocks, RtcpError, RtcpItem, RtcpItems, Ssrcs, items};
pub use write::{write_fir, write_nack, write_pli, write_receiver_report, write_sdes_cname, write_sender_report};

use crate::clock::NtpTime;

/// Report blocks that one SR or RR holds at most.
pub const MAX_REPORT_BLOCKS: usize = 31;

pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const GOODBYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;
pub(crate) const FORMAT_NACK: u8 = 1;
pub(crate) const FORMAT_TWCC: u8 = 15;
pub(crate) const FORMAT_PLI: u8 = 1;
pub(crate) const FORMAT_FIR: u8 = 4;

/// Whether a datagram that is RTP or RTCP by its first byte is RTCP (RFC 5761 4): packet types 192..=223.
#[inline]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram.get(1), Some(192..=223))
}

/// A sender's times and counts (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP time of the report.
    pub ntp: NtpTime,
    /// RTP timestamp of the same instant.
    pub rtp_timestamp: u32,
    /// Packets sent so far, wrapping.
    pub packets: u32,
    /// Payload bytes sent so far, wrapping.
    pub octets: u32,
}

/// A report block (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source reported on.
    pub ssrc: u32,
    /// Packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost so far; negative with duplicates. 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Low 32 bits of the highest extended sequence number received.
    pub highest_seq: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; zero if none arrived.
    pub last_sr: u32,
    /// Time since that report arrived, in 1/65,536 s.
    pub delay_since_last_sr: u32,
}
