//! A track that the peer sends: sequence numbers, header extensions, sealing, and the packets kept for retransmission.

use super::{
    description::{AnswerSection, Ssrcs},
    rtcp::SenderReport,
};
use sfu_core::{
    rtp::{RtpHeaderFields, write_header},
    srtp::Sealer,
};
use std::collections::VecDeque;

/// Packets kept for retransmission: two seconds of a 500 packets/s stream.
const HISTORY: usize = 1_024;
/// Room for the largest header the peer writes (fixed part and three one-byte extensions) and for an RTX number.
const HEADER_ROOM: usize = 32;

struct Sent {
    index: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// A sent track.
pub(super) struct SendTrack {
    mid: String,
    answer: AnswerSection,
    ssrcs: Ssrcs,
    /// Sequence numbers with their rollover counters, of media and of retransmissions.
    next_index: u64,
    next_rtx_index: u64,
    history: VecDeque<Sent>,
    packets: u32,
    octets: u32,
}

/// Everything but the track itself that a packet needs to be sealed.
pub(super) struct Seal<'a> {
    pub(super) sealer: &'a Sealer,
    pub(super) overhead: usize,
    /// The transport-wide sequence number to use next (one counter for all of a peer's packets).
    pub(super) transport_seq: &'a mut u16,
}

impl SendTrack {
    pub(super) fn new(mid: String, answer: AnswerSection, ssrcs: Ssrcs, first_seq: u16) -> Self {
        Self {
            mid,
            answer,
            ssrcs,
            next_index: first_seq.into(),
            next_rtx_index: u64::from(first_seq / 2),
            history: VecDeque::new(),
            packets: 0,
            octets: 0,
        }
    }

    pub(super) fn ssrcs(&self) -> Ssrcs {
        self.ssrcs
    }

    /// Goes on as another source, which has sent nothing yet.
    pub(super) fn change_source(&mut self, ssrc: u32, first_seq: u16) {
        self.ssrcs.media = ssrc;
        (self.next_index, self.packets, self.octets) = (first_seq.into(), 0, 0);
        self.history.clear();
    }

    /// Seals the next packet. Gives its sequence number with rollover counter, too.
    pub(super) fn packet(
        &mut self,
        mut seal: Seal<'_>,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
    ) -> (u64, Vec<u8>) {
        let index = self.next_index;
        self.next_index += 1;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        let datagram =
            self.sealed(&mut seal, self.answer.payload_type, self.ssrcs.media, index, timestamp, marker, &[payload]);
        if self.ssrcs.rtx.is_some() {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(Sent { index, timestamp, marker, payload: payload.to_vec() });
        }
        (index, datagram)
    }

    /// Seals a retransmission of the packet with the sequence number `seq` (RFC 4588), if it is still there.
    pub(super) fn retransmission(&mut self, mut seal: Seal<'_>, seq: u16) -> Option<Vec<u8>> {
        let (rtx_ssrc, rtx_payload_type) = (self.ssrcs.rtx?, self.answer.rtx_payload_type?);
        let sent = self.history.iter().rev().find(|sent| sent.index as u16 == seq)?;
        let index = self.next_rtx_index;
        self.next_rtx_index += 1;
        let original = seq.to_be_bytes();
        let parts = [original.as_slice(), sent.payload.as_slice()];
        Some(self.sealed(&mut seal, rtx_payload_type, rtx_ssrc, index, sent.timestamp, sent.marker, &parts))
    }

    /// What the track's sender report says.
    pub(super) fn report(&self, ntp: u64, rtp: u32) -> SenderReport {
        SenderReport { ssrc: self.ssrcs.media, ntp, rtp, packets: self.packets, octets: self.octets }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a packet, each needed once")]
    fn sealed(
        &self,
        seal: &mut Seal<'_>,
        payload_type: u8,
        ssrc: u32,
        index: u64,
        timestamp: u32,
        marker: bool,
        payload: &[&[u8]],
    ) -> Vec<u8> {
        let transport_seq = seal.transport_seq.to_be_bytes();
        let mut extensions: Vec<(u8, &[u8])> = Vec::with_capacity(3);
        if let Some(id) = self.answer.mid_extension {
            extensions.push((id, self.mid.as_bytes()));
        }
        if let Some(id) = self.answer.twcc_extension {
            extensions.push((id, &transport_seq));
            *seal.transport_seq = seal.transport_seq.wrapping_add(1);
        }
        if let Some(id) = self.answer.level_extension {
            extensions.push((id, &[0x80 | 0x1e]));
        }
        let payload_len: usize = payload.iter().map(|part| part.len()).sum();
        let mut datagram = vec![0; HEADER_ROOM + payload_len + seal.overhead];
        let fields = RtpHeaderFields { marker, payload_type, seq: index as u16, timestamp, ssrc };
        let header_len = write_header(&mut datagram, &fields, &extensions);
        let mut at = header_len;
        for part in payload {
            datagram[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let sealed = seal.sealer.seal_rtp((index >> 16) as u32, &mut datagram, header_len, at);
        datagram.truncate(sealed);
        datagram
    }
}
