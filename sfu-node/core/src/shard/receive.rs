//! What a datagram is, whom it belongs to, and what its media packet says.
//!
//! By the first byte (RFC 7983): STUN names its transport by ufrag and is checked there. DTLS, RTP and RTCP count only from an
//! address that has passed a check. Nothing is stored for a packet before it is authenticated.

use std::time::Instant;

use super::{
    Handshake, Shard,
    inbound::{Carries, InboundTrack, ReceivedSsrc},
    transport::{ProvenAddress, Transport},
};
use crate::{
    CandidatePair,
    batch::TxBatch,
    ice,
    ring::{PacketFields, Refused},
    rtcp,
    rtp::{FIXED_HEADER_LEN, RtpHeader},
    sdp::MediaKind,
    srtp::{Opener, SrtpError},
    vp8::Vp8Descriptor,
};

impl Shard {
    pub(super) fn handle_datagram(&mut self, now: Instant, from: CandidatePair, datagram: &mut [u8]) {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(now, from, datagram),
            Some(20..=63) => self.queue_handshake(from, datagram),
            // What is longer than any packet is not worth decrypting.
            Some(128..=191) if (FIXED_HEADER_LEN..=TxBatch::DATAGRAM_BYTES).contains(&datagram.len()) => {
                let Some(proven) = self.addresses.get(&from.remote).copied() else {
                    self.counters.dropped_unknown_address += 1;
                    return;
                };
                let key = self.proven[proven].transport;
                let authentic = if rtcp::is_rtcp(datagram) {
                    self.handle_rtcp(now, key, datagram)
                } else {
                    self.handle_rtp(now, key, datagram)
                };
                if authentic {
                    self.proven[proven].heard = now;
                    self.transports[key].ice.speak(now, from);
                }
            }
            _ => self.counters.dropped_malformed += 1,
        }
    }

    fn handle_stun(&mut self, now: Instant, from: CandidatePair, datagram: &[u8]) {
        let Some(key) = ice::binding_ufrag(datagram).and_then(|ufrag| self.ufrags.get(ufrag).copied()) else {
            self.counters.dropped_stun += 1;
            return;
        };
        if self.is_held_by_another(now, from, key) {
            self.counters.dropped_stun += 1;
            return;
        }
        let transport = &mut self.transports[key];
        if !transport.may_answer_check(now) {
            self.counters.dropped_excess_checks += 1;
            return;
        }
        let mut answer = std::mem::take(&mut self.scratch);
        let accepted = transport.ice.handle_request(now, from, datagram, &mut answer);
        if !answer.is_empty() {
            // Only whoever knows the password uses up what its client may ask.
            transport.pay_for_check(now);
            self.send_control(from, &answer);
        }
        self.scratch = answer;
        let Ok(accepted) = accepted else {
            self.counters.dropped_stun += 1;
            return;
        };
        let proven = ProvenAddress { transport: key, heard: now };
        match self.addresses.get(&from.remote) {
            Some(known) => self.proven[*known] = proven,
            None => _ = self.addresses.insert(from.remote, self.proven.insert(proven)),
        }
        if let Some(evicted) = accepted.evicted {
            self.forget_path(evicted, key);
        }
        self.schedule(key);
    }

    /// `from` was proven by another transport that is still heard from there. Without this, whoever can fake a source address could
    /// take a call's packets away from it with a check for a transport of its own.
    fn is_held_by_another(&self, now: Instant, from: CandidatePair, key: usize) -> bool {
        self.addresses.get(&from.remote).is_some_and(|held| {
            let held = &self.proven[*held];
            held.transport != key && now < held.heard + Transport::ADDRESS_HOLD
        })
    }

    fn queue_handshake(&mut self, from: CandidatePair, datagram: &[u8]) {
        let Some(proven) = self.addresses.get(&from.remote) else {
            self.counters.dropped_unknown_address += 1;
            return;
        };
        let transport = &mut self.transports[self.proven[*proven].transport];
        if self.handshakes.len() == Self::MAX_HANDSHAKES
            || transport.handshakes_waiting == Transport::MAX_HANDSHAKES_WAITING
            || datagram.len() > Self::MAX_HANDSHAKE_BYTES
        {
            self.counters.dropped_handshake += 1;
            return;
        }
        transport.handshakes_waiting += 1;
        self.handshakes.push_back(Handshake { transport: transport.handle, from, datagram: datagram.into() });
    }

    /// True when the packet was authentic and new, whatever became of it.
    fn handle_rtp(&mut self, now: Instant, key: usize, datagram: &mut [u8]) -> bool {
        let Ok(header) = RtpHeader::parse(datagram) else {
            self.counters.dropped_malformed += 1;
            return false;
        };
        let transport = &mut self.transports[key];
        let known = transport.received.find(header.ssrc);
        if self.shedding == Self::MAX_SHEDDING
            && let Some(known) = known
            && transport.leaves_unopened(known)
        {
            self.counters.shed_unopened += 1;
            return false;
        }
        let Some(keys) = &transport.keys else {
            self.counters.dropped_without_keys += 1;
            return false;
        };
        let opened = match known.map(|known| &transport.received[known].window) {
            Some(window) => {
                let index = window.estimate(header.seq);
                if !window.check(index) {
                    self.counters.dropped_replayed += 1;
                    return false;
                }
                keys.opener.open_rtp((index >> 16) as u32, datagram, header.header_len).map(|len| (index, len))
            }
            None => open_first(&keys.opener, &header, datagram),
        };
        let Ok((index, len)) = opened else {
            self.counters.dropped_unauthenticated += 1;
            return false;
        };
        let packet = &datagram[..len];
        let bound = known.filter(|known| transport.received[*known].carries != Carries::Nothing);
        let bound = bound.or_else(|| self.bind_ssrc(key, known, &header, packet));
        if let Some(received) = bound.or(known) {
            self.transports[key].received[received].window.commit(index);
        }
        let Some(received) = bound else {
            self.counters.dropped_unknown_ssrc += 1;
            // Without a replay window there is no telling whether it is new.
            return known.is_some();
        };
        let transport = &mut self.transports[key];
        let carries = transport.received[received].carries;
        if let Carries::Media(track) | Carries::Retransmission(track) = carries
            && !transport.inbound.get_mut(track).is_some_and(|track| track.admits(now))
        {
            // As if the network had lost it: publishers who see losses send less.
            self.counters.dropped_excess_media += 1;
            return true;
        }
        self.counters.packets_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        self.note_arrival(now, key, carries, &header, packet);
        match carries {
            Carries::Media(track) => self.handle_media(now, key, track, (received, index), &header, packet),
            Carries::Retransmission(track) => self.handle_retransmission(now, key, track, received, &header, packet),
            Carries::Nothing => {}
        }
        true
    }

    /// Records the packet for transport-wide feedback, if it carries a number for it.
    fn note_arrival(&mut self, now: Instant, key: usize, carries: Carries, header: &RtpHeader, packet: &[u8]) {
        let transport = &mut self.transports[key];
        let (Carries::Media(track) | Carries::Retransmission(track)) = carries else { return };
        let Some(id) = transport.inbound.get(track).and_then(|track| track.spec.extensions.twcc) else { return };
        let Some(&[high, low]) = header.extension(packet, id) else { return };
        let recorder = transport.arrivals.get_or_insert_with(|| Box::new(crate::twcc::TwccRecorder::new(now)));
        recorder.record(u16::from_be_bytes([high, low]), now);
        if transport.next_transport_feedback.is_none() {
            transport.next_transport_feedback = Some(now + Transport::TRANSPORT_FEEDBACK_INTERVAL);
            self.schedule(key);
        }
    }

    /// Finds out what an authenticated SSRC carries and makes its state, unless it has one (`known`) from before. `None` if it
    /// belongs to nothing.
    pub(super) fn bind_ssrc(
        &mut self,
        key: usize,
        known: Option<usize>,
        header: &RtpHeader,
        packet: &[u8],
    ) -> Option<usize> {
        let transport = &mut self.transports[key];
        let mid = transport.inbound.iter().find_map(|(_, track)| header.extension(packet, track.spec.extensions.mid?));
        let track = transport.track_for(header.ssrc, mid, header.payload_type)?;
        let spec = &transport.inbound[track].spec;
        let carries = if spec.rtx_payload_type == Some(header.payload_type) {
            Carries::Retransmission(track)
        } else if spec.payload_type == header.payload_type {
            Carries::Media(track)
        } else {
            return None;
        };
        let repairs = transport.inbound[track].repaired_by(header.ssrc);
        if let Some(known) = known {
            let received = &mut transport.received[known];
            (received.carries, received.carried_before, received.repairs) = (carries, false, repairs);
            return Some(known);
        }
        transport.received.insert(ReceivedSsrc::new(header.ssrc, carries, repairs))
    }

    fn handle_media(
        &mut self,
        now: Instant,
        key: usize,
        track: usize,
        (received, index): (usize, u64),
        header: &RtpHeader,
        packet: &[u8],
    ) {
        let transport = &mut self.transports[key];
        let Some(inbound) = transport.inbound.get_mut(track) else { return };
        let takes_over = !inbound.is_carried_by(header.ssrc) && inbound.media.is_some();
        if !inbound.is_carried_by(header.ssrc) {
            let carried_before = &mut transport.received[received].carried_before;
            if !inbound.is_followed_by(now, header.ssrc, *carried_before) {
                self.counters.dropped_unknown_ssrc += 1;
                return;
            }
            *carried_before = true;
            let newest = self.sources.get(inbound.source).and_then(|source| source.ring.newest());
            inbound.begin(now, header.ssrc, index, newest);
            let source = inbound.source;
            self.restart_clock(source);
        }
        let resumes = self.resumes(key, track);
        let Some(inbound) = self.transports[key].inbound.get_mut(track) else { return };
        let (source, is_dropped) =
            (inbound.source, self.shedding == Self::MAX_SHEDDING && inbound.spec.kind == MediaKind::Video);
        let Some(media) = inbound.media.as_mut() else { return };
        media.heard = now;
        media.reception.record(index, header.timestamp, now);
        let position = index + media.offset;
        if is_dropped {
            media.shed = true;
            return;
        }
        // Before it is known whether the packet is of any use: it would be no better for being sent again.
        if let Some(nack) = &mut media.nack {
            nack.record(position, now);
        }
        match header.payload_range(packet) {
            Some(payload) => _ = self.store(now, key, track, position, header, packet, &packet[payload]),
            None => self.counters.dropped_malformed += 1,
        }
        if takes_over || resumes {
            self.start_anew(now, source, position);
        }
        self.schedule_nack(now, key, track);
    }

    /// Whether the media of a track go on with the next packet, after they were dropped for a while. For whoever is fed, here or on a
    /// sibling, they are as good as another source's then: nothing before them is missing.
    #[inline]
    fn resumes(&mut self, key: usize, track: usize) -> bool {
        let Some(inbound) = self.transports[key].inbound.get_mut(track) else { return false };
        let Some(media) = inbound.media.as_mut().filter(|media| media.shed) else { return false };
        if self.shedding == Self::MAX_SHEDDING {
            return false;
        }
        media.shed = false;
        inbound.source_number += 1;
        let source = inbound.source;
        self.restart_clock(source);
        true
    }

    /// What comes from `position` on does not continue what a source had before. If that does not begin a keyframe, what came before it is lost
    /// for good: neither we nor subscribers know that there was anything.
    #[cold]
    fn start_anew(&mut self, now: Instant, source: usize, position: u64) {
        let Some(taken_over) = self.sources.get(source) else { return };
        let begins_keyframe = taken_over.ring.get(position).is_some_and(|packet| packet.keyframe);
        if taken_over.is_wanted() && !begins_keyframe {
            self.request_keyframe(now, source);
        }
    }

    /// A retransmission (RFC 4588): the original sequence number, then the original payload.
    fn handle_retransmission(
        &mut self,
        now: Instant,
        key: usize,
        track: usize,
        received: usize,
        header: &RtpHeader,
        packet: &[u8],
    ) {
        let Some(payload) = header.payload_range(packet) else {
            self.counters.dropped_malformed += 1;
            return;
        };
        if self.drops(MediaKind::Video) {
            // Only video is sent again.
            return;
        }
        // Nothing but padding: a publisher probing for bandwidth.
        let Some((&[high, low], original)) = packet[payload].split_first_chunk() else { return };
        let transport = &mut self.transports[key];
        let Some(inbound) = transport.inbound.get_mut(track) else { return };
        let Some(media) = &mut inbound.media else { return };
        let repairs = &mut transport.received[received].repairs;
        if *repairs != Some(media.ssrc) {
            // Of the source before. Whoever goes on longer has kept its retransmission stream over the change.
            if repairs.is_some() && now < media.began + InboundTrack::SOURCE_ALIVE {
                self.counters.dropped_unusable += 1;
                return;
            }
            *repairs = Some(media.ssrc);
        }
        let Some(media_ssrc) = transport.received.find(media.ssrc) else { return };
        let original_seq = u16::from_be_bytes([high, low]);
        let position = transport.received[media_ssrc].window.estimate(original_seq) + media.offset;
        let newest = self.sources.get(inbound.source).and_then(|source| source.ring.newest());
        if newest.is_none_or(|newest| position > newest + InboundTrack::MAX_AHEAD) {
            self.counters.dropped_unusable += 1;
            return;
        }
        if let Some(nack) = &mut media.nack {
            nack.record_retransmission(position, now);
        }
        if self.store(now, key, track, position, header, packet, original) {
            self.counters.packets_recovered += 1;
        }
        self.schedule_nack(now, key, track);
    }

    /// Puts a packet into its source's ring and on its way. True if it was new.
    #[allow(clippy::too_many_arguments, reason = "what is known of a packet, once, between private functions")]
    fn store(
        &mut self,
        now: Instant,
        key: usize,
        track: usize,
        position: u64,
        header: &RtpHeader,
        packet: &[u8],
        payload: &[u8],
    ) -> bool {
        let Some(inbound) = self.transports[key].inbound.get_mut(track) else { return false };
        let Some(source) = self.sources.get_mut(inbound.source) else { return false };
        let vp8 = match source.kind {
            MediaKind::Video => Vp8Descriptor::parse(payload).ok(),
            MediaKind::Audio => None,
        };
        if source.kind == MediaKind::Video && vp8.is_none() && !payload.is_empty() {
            self.counters.dropped_malformed += 1;
            return false;
        }
        let level = inbound.spec.extensions.audio_level.and_then(|id| header.extension(packet, id)?.first().copied());
        let fields = PacketFields {
            index: position,
            timestamp: header.timestamp,
            source: inbound.source_number,
            marker: header.marker,
            keyframe: vp8.is_some_and(|vp8| vp8.keyframe_start),
            audio_level: level,
            vp8,
            arrived: now,
        };
        match source.ring.insert(&fields, payload) {
            Ok(()) => {}
            Err(Refused::Duplicate) => return false,
            Err(Refused::TooOld | Refused::TooLarge) => {
                self.counters.dropped_unusable += 1;
                return false;
            }
        }
        let source = inbound.source;
        if fields.keyframe
            && let Some(nack) = inbound.media.as_mut().and_then(|media| media.nack.as_mut())
        {
            nack.keyframe_at(position);
        }
        self.packet_arrived(now, source, position);
        true
    }
}

/// Opens the first packet of an SSRC; gives its index and length. Its rollover counter is taken as 0 (RFC 3711, section 3.3.1),
/// but a sender that had begun before anything of it came through may have wrapped: a low number is tried with 1, too.
#[cold]
fn open_first(opener: &Opener, header: &RtpHeader, datagram: &mut [u8]) -> Result<(u64, usize), SrtpError> {
    let mut copy = [0; TxBatch::DATAGRAM_BYTES];
    let again = &mut copy[..datagram.len()];
    again.copy_from_slice(datagram);
    let index = u64::from(header.seq);
    match opener.open_rtp(0, datagram, header.header_len) {
        Err(SrtpError::Authentication) if header.seq < 1 << 15 => {}
        opened => return opened.map(|len| (index, len)),
    }
    datagram.copy_from_slice(again);
    opener.open_rtp(1, datagram, header.header_len).map(|len| (1 << 16 | index, len))
}
