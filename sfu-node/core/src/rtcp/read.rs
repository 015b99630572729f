//! Reading a compound packet.

use thiserror::Error;

use super::{
    FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, FORMAT_TWCC, GOODBYE, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock,
    SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK,
};
use crate::clock::NtpTime;

/// Bytes of a report block.
pub(super) const BLOCK_LEN: usize = 24;

/// Why a compound packet could not be read on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RtcpError {
    /// A packet ends before its own fields or length say.
    #[error("RTCP packet of type {0} is cut short")]
    TooShort(u8),
    /// The version field is not 2.
    #[error("RTCP version {0} instead of 2")]
    Version(u8),
    /// Padding that is longer than the packet, or zero.
    #[error("bad RTCP padding")]
    Padding,
}

/// One packet of a compound.
#[derive(Clone, Debug)]
pub enum RtcpItem<'a> {
    /// SR.
    SenderReport {
        /// Who reports.
        ssrc: u32,
        /// Its own times and counts.
        info: SenderInfo,
        /// What it receives.
        blocks: ReportBlocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// What it receives.
        blocks: ReportBlocks<'a>,
    },
    /// Generic NACK.
    Nack {
        /// Who asks.
        sender: u32,
        /// The source asked for.
        media: u32,
        /// Sequence numbers asked for, up to 17 per four bytes: the consumer bounds what it answers.
        lost: NackSeqs<'a>,
    },
    /// Picture loss indication.
    Pli {
        /// Who asks.
        sender: u32,
        /// The source asked for.
        media: u32,
    },
    /// Full intra request.
    Fir {
        /// Who asks.
        sender: u32,
        /// The sources asked for.
        entries: FirEntries<'a>,
    },
    /// BYE.
    Bye {
        /// The sources that leave.
        ssrcs: Ssrcs<'a>,
    },
    /// Transport-wide congestion control feedback.
    Twcc {
        /// Who reports.
        sender: u32,
        /// A source of the reported transport.
        media: u32,
        /// The rest: base sequence number, status count, reference time, packet count, chunks and deltas.
        feedback: &'a [u8],
    },
    /// Source description, unread.
    Sdes,
    /// Anything else, unread.
    Other {
        /// Packet type.
        packet_type: u8,
        /// The five bits beside the version: count or format.
        format: u8,
    },
}

/// Iterator over the packets of a compound; after an error it ends.
#[derive(Clone, Debug)]
pub struct RtcpItems<'a> {
    rest: &'a [u8],
}

/// Reads a decrypted compound packet, reduced-size ones (RFC 5506) included.
pub const fn items(compound: &[u8]) -> RtcpItems<'_> {
    RtcpItems { rest: compound }
}

impl<'a> Iterator for RtcpItems<'a> {
    type Item = Result<RtcpItem<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = split_packet(self.rest).and_then(|(packet, rest)| {
            self.rest = rest;
            read_packet(&packet)
        });
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

/// A packet cut out of its compound, padding removed.
struct Packet<'a> {
    kind: u8,
    format: u8,
    body: &'a [u8],
}

fn split_packet(compound: &[u8]) -> Result<(Packet<'_>, &[u8]), RtcpError> {
    let Some((&[first, packet_type, l0, l1], _)) = compound.split_first_chunk() else {
        return Err(RtcpError::TooShort(compound.get(1).copied().unwrap_or_default()));
    };
    if first >> 6 != 2 {
        return Err(RtcpError::Version(first >> 6));
    }
    let len = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
    let (packet, rest) = compound.split_at_checked(len).ok_or(RtcpError::TooShort(packet_type))?;
    let mut body = &packet[4..];
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(RtcpError::Padding)?);
        // Whole words by the standard, but browsers pad transport-wide feedback by single bytes.
        if padding == 0 || padding > body.len() {
            return Err(RtcpError::Padding);
        }
        body = &body[..body.len() - padding];
    }
    Ok((Packet { kind: packet_type, format: first & 0x1f, body }, rest))
}

fn read_packet<'a>(packet: &Packet<'a>) -> Result<RtcpItem<'a>, RtcpError> {
    let mut fields = Fields { rest: packet.body, packet_type: packet.kind };
    Ok(match (packet.kind, packet.format) {
        (SENDER_REPORT, count) => RtcpItem::SenderReport {
            ssrc: fields.u32()?,
            info: SenderInfo {
                ntp: NtpTime((u64::from(fields.u32()?) << 32) | u64::from(fields.u32()?)),
                rtp_timestamp: fields.u32()?,
                packets: fields.u32()?,
                octets: fields.u32()?,
            },
            blocks: ReportBlocks(fields.chunks(usize::from(count))?),
        },
        (RECEIVER_REPORT, count) => {
            RtcpItem::ReceiverReport { ssrc: fields.u32()?, blocks: ReportBlocks(fields.chunks(usize::from(count))?) }
        }
        (SOURCE_DESCRIPTION, _) => RtcpItem::Sdes,
        (GOODBYE, count) => RtcpItem::Bye { ssrcs: Ssrcs(fields.chunks(usize::from(count))?) },
        (TRANSPORT_FEEDBACK, FORMAT_NACK) => RtcpItem::Nack {
            sender: fields.u32()?,
            media: fields.u32()?,
            lost: NackSeqs { entries: fields.all_chunks(), base: 0, mask: 0 },
        },
        (TRANSPORT_FEEDBACK, FORMAT_TWCC) => {
            let (sender, media) = (fields.u32()?, fields.u32()?);
            // Base, count, reference time and packet count are always there.
            if fields.rest.len() < 8 {
                return Err(RtcpError::TooShort(packet.kind));
            }
            RtcpItem::Twcc { sender, media, feedback: fields.rest }
        }
        (PAYLOAD_FEEDBACK, FORMAT_PLI) => RtcpItem::Pli { sender: fields.u32()?, media: fields.u32()? },
        (PAYLOAD_FEEDBACK, FORMAT_FIR) => {
            let sender = fields.u32()?;
            // The media source of the common header is unused (RFC 5104 4.3.1.2).
            fields.u32()?;
            RtcpItem::Fir { sender, entries: FirEntries(fields.all_chunks()) }
        }
        (packet_type, format) => RtcpItem::Other { packet_type, format },
    })
}

struct Fields<'a> {
    rest: &'a [u8],
    packet_type: u8,
}

impl<'a> Fields<'a> {
    fn u32(&mut self) -> Result<u32, RtcpError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(RtcpError::TooShort(self.packet_type))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*field))
    }

    /// The next `count` chunks of `N` bytes.
    fn chunks<const N: usize>(&self, count: usize) -> Result<std::slice::Iter<'a, [u8; N]>, RtcpError> {
        let chunks = self.rest.get(..count * N).ok_or(RtcpError::TooShort(self.packet_type))?;
        Ok(chunks.as_chunks().0.iter())
    }

    /// All whole chunks of `N` bytes left.
    fn all_chunks<const N: usize>(&self) -> std::slice::Iter<'a, [u8; N]> {
        self.rest.as_chunks().0.iter()
    }
}

/// Iterator over report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a>(std::slice::Iter<'a, [u8; BLOCK_LEN]>);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let block = self.0.next()?;
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        Some(ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            // Sign-extends the low 24 bits.
            cumulative_lost: (word(4) << 8) as i32 >> 8,
            highest_seq: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        })
    }
}

/// Iterator over the sequence numbers of a generic NACK, in the order of the packet.
#[derive(Clone, Debug)]
pub struct NackSeqs<'a> {
    entries: std::slice::Iter<'a, [u8; 4]>,
    base: u16,
    /// Numbers still to come of the present entry: bit `n` stands for `base + n + 1`.
    mask: u16,
}

impl Iterator for NackSeqs<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.mask != 0 {
            let step = self.mask.trailing_zeros() as u16;
            self.mask &= self.mask - 1;
            return Some(self.base.wrapping_add(step + 1));
        }
        let &[b0, b1, m0, m1] = self.entries.next()?;
        self.base = u16::from_be_bytes([b0, b1]);
        self.mask = u16::from_be_bytes([m0, m1]);
        Some(self.base)
    }
}

/// Iterator over the `(ssrc, command sequence number)` of a full intra request.
#[derive(Clone, Debug)]
pub struct FirEntries<'a>(std::slice::Iter<'a, [u8; 8]>);

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let entry = self.0.next()?;
        Some((u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]), entry[4]))
    }
}

/// Iterator over sources.
#[derive(Clone, Debug)]
pub struct Ssrcs<'a>(std::slice::Iter<'a, [u8; 4]>);

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.next().map(|ssrc| u32::from_be_bytes(*ssrc))
    }
}
