//! Writing single packets. A compound is several of them one behind the other, a report first (RFC 3550 6.1).
//!
//! Every writer returns the length written, or `None` if the packet does not fit, then with `buf` in no defined state.

use super::{
    FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, MAX_REPORT_BLOCKS, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock,
    SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK, read::BLOCK_LEN,
};
use crate::seq::SeqNo;

/// Item type of the canonical name in SDES.
const CNAME: u8 = 1;
/// Longest SDES item (RFC 3550 6.5).
const MAX_CNAME_LEN: usize = 255;

/// Writes an SR with at most [`MAX_REPORT_BLOCKS`] blocks.
pub fn write_sender_report(buf: &mut [u8], ssrc: u32, info: &SenderInfo, blocks: &[ReportBlock]) -> Option<usize> {
    let mut packet = Packet::start(buf);
    packet.u32(ssrc)?;
    packet.bytes(&info.ntp.0.to_be_bytes())?;
    packet.u32(info.rtp_timestamp)?;
    packet.u32(info.packets)?;
    packet.u32(info.octets)?;
    packet.blocks(blocks)?;
    packet.finish(blocks.len() as u8, SENDER_REPORT)
}

/// Writes an RR with at most [`MAX_REPORT_BLOCKS`] blocks.
pub fn write_receiver_report(buf: &mut [u8], ssrc: u32, blocks: &[ReportBlock]) -> Option<usize> {
    let mut packet = Packet::start(buf);
    packet.u32(ssrc)?;
    packet.blocks(blocks)?;
    packet.finish(blocks.len() as u8, RECEIVER_REPORT)
}

/// Writes an SDES with the canonical name of one source; at most 255 bytes of it.
pub fn write_sdes_cname(buf: &mut [u8], ssrc: u32, cname: &str) -> Option<usize> {
    let name = cname.as_bytes();
    if name.len() > MAX_CNAME_LEN {
        return None;
    }
    let mut packet = Packet::start(buf);
    packet.u32(ssrc)?;
    packet.bytes(&[CNAME, name.len() as u8])?;
    packet.bytes(name)?;
    // At least one zero ends the list of items, and the chunk ends on a word.
    let zeros = 4 - packet.len % 4;
    packet.bytes(&[0; 4][..zeros])?;
    packet.finish(1, SOURCE_DESCRIPTION)
}

/// Writes a generic NACK for `seqs`, given in ascending (circular) order; numbers up to 16 apart share an entry. `None` also
/// for an empty list.
pub fn write_nack(buf: &mut [u8], sender: u32, media: u32, seqs: &[u16]) -> Option<usize> {
    let (&first, rest) = seqs.split_first()?;
    let mut packet = Packet::start(buf);
    packet.u32(sender)?;
    packet.u32(media)?;
    let (mut base, mut mask) = (SeqNo(first), 0_u16);
    for &seq in rest {
        match SeqNo(seq).distance_from(base) {
            0 => {}
            step @ 1..=16 => mask |= 1 << (step - 1),
            _ => {
                packet.nack_entry(base, mask)?;
                (base, mask) = (SeqNo(seq), 0);
            }
        }
    }
    packet.nack_entry(base, mask)?;
    packet.finish(FORMAT_NACK, TRANSPORT_FEEDBACK)
}

/// Writes a picture loss indication.
pub fn write_pli(buf: &mut [u8], sender: u32, media: u32) -> Option<usize> {
    let mut packet = Packet::start(buf);
    packet.u32(sender)?;
    packet.u32(media)?;
    packet.finish(FORMAT_PLI, PAYLOAD_FEEDBACK)
}

/// Writes a full intra request for one source; `command` counts up by one per new request (RFC 5104 4.3.1.1).
pub fn write_fir(buf: &mut [u8], sender: u32, media: u32, command: u8) -> Option<usize> {
    let mut packet = Packet::start(buf);
    packet.u32(sender)?;
    packet.u32(0)?;
    packet.u32(media)?;
    packet.bytes(&[command, 0, 0, 0])?;
    packet.finish(FORMAT_FIR, PAYLOAD_FEEDBACK)
}

/// A packet being written: the header's four bytes are filled in last.
struct Packet<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Packet<'a> {
    fn start(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 4 }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.buf.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn u32(&mut self, value: u32) -> Option<()> {
        self.bytes(&value.to_be_bytes())
    }

    fn blocks(&mut self, blocks: &[ReportBlock]) -> Option<()> {
        if blocks.len() > MAX_REPORT_BLOCKS {
            return None;
        }
        blocks.iter().try_for_each(|block| self.block(block))
    }

    fn block(&mut self, block: &ReportBlock) -> Option<()> {
        // Clamped, not wrapped, at the ends of 24 bits (RFC 3550 A.3).
        let lost = block.cumulative_lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
        let mut bytes = [0; BLOCK_LEN];
        bytes[..4].copy_from_slice(&block.ssrc.to_be_bytes());
        bytes[4..8].copy_from_slice(&((u32::from(block.fraction_lost) << 24) | lost).to_be_bytes());
        bytes[8..12].copy_from_slice(&block.highest_seq.to_be_bytes());
        bytes[12..16].copy_from_slice(&block.jitter.to_be_bytes());
        bytes[16..20].copy_from_slice(&block.last_sr.to_be_bytes());
        bytes[20..].copy_from_slice(&block.delay_since_last_sr.to_be_bytes());
        self.bytes(&bytes)
    }

    fn nack_entry(&mut self, base: SeqNo, mask: u16) -> Option<()> {
        self.bytes(&base.0.to_be_bytes())?;
        self.bytes(&mask.to_be_bytes())
    }

    fn finish(self, format: u8, packet_type: u8) -> Option<usize> {
        let words = u16::try_from(self.len / 4 - 1).ok()?.to_be_bytes();
        *self.buf.first_chunk_mut()? = [0x80 | format, packet_type, words[0], words[1]];
        Some(self.len)
    }
}
