//! RTCP in both directions: what clients report and ask for, and what we report to and ask of them.

use std::time::Instant;

use super::{
    Shard,
    fanout::Retransmission,
    source::{Origin, SourceTrack},
    transport::Transport,
};
use crate::{
    CandidatePair,
    batch::TxBatch,
    clock::SenderClock,
    command::SiblingMessage,
    rtcp::{self, NackSeqs, ReportBlocks, RtcpItem},
};

/// Room for a protected compound packet: what every path carries without fragments.
const COMPOUND_BYTES: usize = 1_200;
/// Packets of one datagram's negative acknowledgements that are looked for: four times what a track may have answered in a
/// round trip. A datagram has room to name thousands. Of all else, its length allows no more than is quickly found.
const MAX_ASKED_FOR: usize = 512;

impl Shard {
    /// Decrypts and takes in a compound packet of a client. True when it was authentic and new.
    pub(super) fn handle_rtcp(&mut self, now: Instant, key: usize, datagram: &mut [u8]) -> bool {
        let Some(keys) = &mut self.transports[key].keys else {
            self.counters.dropped_without_keys += 1;
            return false;
        };
        let Ok(len) = keys.opener.open_rtcp(datagram) else {
            self.counters.dropped_unauthenticated += 1;
            return false;
        };
        let mut asked_for = 0;
        for item in rtcp::items(&datagram[..len]) {
            let Ok(item) = item else {
                self.counters.dropped_malformed += 1;
                return true;
            };
            self.handle_rtcp_item(now, key, item, &mut asked_for);
        }
        true
    }

    /// `asked_for` counts the packets that the datagram has asked for so far.
    fn handle_rtcp_item(&mut self, now: Instant, key: usize, item: RtcpItem<'_>, asked_for: &mut usize) {
        match item {
            RtcpItem::SenderReport { ssrc, info, blocks } => {
                self.handle_sender_report(now, key, ssrc, &info);
                self.handle_report_blocks(now, key, blocks);
            }
            RtcpItem::ReceiverReport { blocks, .. } => self.handle_report_blocks(now, key, blocks),
            RtcpItem::Nack { media, lost, .. } => self.handle_nack(now, key, media, lost, asked_for),
            RtcpItem::Pli { media, .. } => self.handle_keyframe_request(now, key, media),
            RtcpItem::Fir { entries, .. } => {
                for (media, _) in entries {
                    self.handle_keyframe_request(now, key, media);
                }
            }
            // A stream ends by signalling; congestion feedback is not negotiated towards subscribers.
            RtcpItem::Bye { .. } | RtcpItem::Twcc { .. } | RtcpItem::Sdes | RtcpItem::Other { .. } => {}
        }
    }

    fn handle_sender_report(&mut self, now: Instant, key: usize, ssrc: u32, info: &rtcp::SenderInfo) {
        let Some((_, inbound)) = self.transports[key].inbound.iter_mut().find(|(_, track)| track.is_carried_by(ssrc))
        else {
            return;
        };
        if !inbound.admits_report(now) {
            self.counters.dropped_excess_media += 1;
            return;
        }
        if let Some(media) = &mut inbound.media {
            media.reception.record_sender_report(info.ntp, now);
        }
        let Some(source) = self.sources.get_mut(inbound.source) else { return };
        source.clock.record(info.ntp, info.rtp_timestamp, now);
        let source = inbound.source;
        self.share_clock(source);
    }

    /// The timestamps of a source begin anew: what was known of its clock no longer holds.
    pub(super) fn restart_clock(&mut self, source: usize) {
        let Some(restarted) = self.sources.get_mut(source) else { return };
        restarted.clock = SenderClock::new(restarted.clock.clock_rate());
        self.share_clock(source);
    }

    fn share_clock(&mut self, source: usize) {
        let source = &self.sources[source];
        let (publication, track, clock, siblings) = (source.publication, source.track, source.clock, source.siblings);
        self.tell_all(siblings, SiblingMessage::Clock(publication, track, clock));
    }

    fn handle_report_blocks(&mut self, now: Instant, key: usize, blocks: ReportBlocks<'_>) {
        for block in blocks {
            if let Some(output) = self.output_of(key, block.ssrc) {
                self.outputs[output].handle_report(now, &block, &mut self.counters);
            }
        }
    }

    fn handle_nack(&mut self, now: Instant, key: usize, media: u32, lost: NackSeqs<'_>, asked_for: &mut usize) {
        let Some(output) = self.output_of(key, media) else { return };
        for seq in lost {
            if *asked_for == MAX_ASKED_FOR {
                self.counters.dropped_excess_nacks += 1;
                return;
            }
            *asked_for += 1;
            self.counters.nacks_received += 1;
            let Some(index) = self.outputs[output].retransmission_of(now, seq) else { continue };
            if self.retransmissions.len() < Self::MAX_RETRANSMISSIONS {
                self.retransmissions.push_back(Retransmission { output, ssrc: media, seq, index });
            } else {
                self.counters.retransmissions_missed += 1;
            }
        }
    }

    fn handle_keyframe_request(&mut self, now: Instant, key: usize, media: u32) {
        let Some(output) = self.output_of(key, media) else { return };
        self.counters.keyframe_requests_received += 1;
        if self.outputs[output].is_shed_at(self.shedding) {
            // When it goes on, it does so with a keyframe.
            return;
        }
        let source = self.outputs[output].source;
        // One more changes nothing then, and is not to use up what the subscriber may ask for.
        let is_owed = self.sources.get(source).and_then(SourceTrack::keyframe_owed_at).is_some_and(|due| now < due);
        if is_owed || self.outputs[output].may_request_keyframe(now) {
            self.request_keyframe(now, source);
        } else {
            self.counters.dropped_excess_keyframe_requests += 1;
        }
    }

    /// The output of this transport with this media SSRC.
    fn output_of(&self, key: usize, ssrc: u32) -> Option<usize> {
        self.transports[key].outputs.iter().copied().find(|output| self.outputs[*output].track.ssrc == ssrc)
    }

    /// Asks for a keyframe of a source, throttled: from its publisher, or through the shard that has it.
    pub(super) fn request_keyframe(&mut self, now: Instant, source: usize) {
        if self.drops_keyframes_of(source) {
            // Whoever waits for one is found again by the housekeeping, and when the track goes on.
            if let Some(dropped) = self.sources.get_mut(source) {
                dropped.forget_owed_keyframe();
            }
            return;
        }
        let Some(wanted) = self.sources.get_mut(source) else { return };
        let asks = wanted.want_keyframe(now);
        match wanted.origin {
            Origin::Sibling(sibling) if asks => {
                let message = SiblingMessage::KeyframeRequest(wanted.publication, wanted.track);
                self.tell_sibling(sibling, message);
            }
            Origin::Transport(key) if asks => self.send_keyframe_request(key, source),
            // Owed: the transport's feedback makes up for it when the throttle allows.
            Origin::Transport(key) => self.schedule_owed_keyframe(key, source),
            Origin::Sibling(_) => {
                if wanted.keyframe_owed_at().is_some() && !self.owed_keyframes.contains(&source) {
                    self.owed_keyframes.push(source);
                }
            }
        }
    }

    /// Makes up for keyframe requests to siblings that the throttle held back.
    pub(super) fn repeat_owed_keyframes(&mut self, now: Instant) {
        let mut owed = std::mem::take(&mut self.owed_keyframes);
        owed.retain(|source| match self.sources.get(*source).and_then(SourceTrack::keyframe_owed_at) {
            Some(due) if due <= now => {
                self.request_keyframe(now, *source);
                false
            }
            due => due.is_some(),
        });
        self.owed_keyframes = owed;
    }

    fn schedule_owed_keyframe(&mut self, key: usize, source: usize) {
        let owed = self.sources[source].keyframe_owed_at();
        let transport = &mut self.transports[key];
        transport.next_nack = transport.next_nack.into_iter().chain(owed).min();
        self.schedule(key);
    }

    /// By picture loss indication, or by full intra request (RFC 5104, section 4.3.1) if only that was agreed on.
    fn send_keyframe_request(&mut self, key: usize, source: usize) {
        let transport = &mut self.transports[key];
        let sender = transport.rtcp_ssrc;
        let Some((_, track)) = transport.inbound.iter_mut().find(|(_, track)| track.source == source) else { return };
        let Some(media) = track.media.as_ref().map(|media| media.ssrc).or(track.spec.ssrc) else { return };
        if track.spec.feedback.pli {
            self.send_rtcp(key, |buf| rtcp::write_pli(buf, sender, media));
        } else if track.spec.feedback.fir {
            track.intra_requests = track.intra_requests.wrapping_add(1);
            let number = track.intra_requests;
            self.send_rtcp(key, |buf| rtcp::write_fir(buf, sender, media, number));
        } else {
            return;
        }
        self.counters.keyframe_requests_sent += 1;
    }

    /// A packet of this track arrived: what it shows to be missing may be asked for at once.
    pub(super) fn schedule_nack(&mut self, now: Instant, key: usize, track: usize) {
        let transport = &mut self.transports[key];
        let media = transport.inbound.get(track).and_then(|track| track.media.as_ref());
        let Some(due) = media.and_then(|media| media.nack.as_ref()?.poll_timeout()) else { return };
        if due <= now {
            self.send_nacks(now, key, track);
        }
        let transport = &mut self.transports[key];
        let media = transport.inbound.get(track).and_then(|track| track.media.as_ref());
        if let Some(due) = media.and_then(|media| media.nack.as_ref()?.poll_timeout())
            && transport.next_nack.is_none_or(|next| due < next)
        {
            transport.next_nack = Some(due);
            self.schedule(key);
        }
    }

    fn send_nacks(&mut self, now: Instant, key: usize, track: usize) {
        let transport = &mut self.transports[key];
        let sender = transport.rtcp_ssrc;
        let Some(inbound) = transport.inbound.get_mut(track) else { return };
        let source = inbound.source;
        let Some(media) = &mut inbound.media else { return };
        let Some(nack) = &mut media.nack else { return };
        let mut lost = std::mem::take(&mut self.lost);
        let poll = nack.poll(now, &mut lost);
        let (ssrc, offset) = (media.ssrc, media.offset as u16);
        // The tracker counts positions; the publisher knows its own sequence numbers.
        for seq in &mut lost {
            *seq = seq.wrapping_sub(offset);
        }
        self.counters.nacks_sent += lost.len() as u64;
        // As many as fit a packet whatever their distances: four bytes each.
        for chunk in lost.chunks(250) {
            self.send_rtcp(key, |buf| rtcp::write_nack(buf, sender, ssrc, chunk));
        }
        self.lost = lost;
        // Whoever comes to watch later asks for a keyframe then.
        if poll.keyframe_needed && self.sources.get(source).is_some_and(SourceTrack::is_wanted) {
            self.request_keyframe(now, source);
        }
    }

    /// Reports and requests that are due for a transport.
    pub(super) fn send_feedback(&mut self, now: Instant, key: usize) {
        if self.transports[key].keys.is_none() {
            // A keyframe is owed already. Whoever still waits for it is found again once a publisher is there to be asked.
            self.transports[key].next_nack = None;
            return;
        }
        if self.transports[key].next_transport_feedback.is_some_and(|due| now >= due) {
            self.send_transport_feedback(now, key);
        }
        if self.transports[key].next_nack.is_some_and(|due| now >= due) {
            self.send_due_nacks(now, key);
        }
        if self.transports[key].take_report(now) {
            self.send_receiver_reports(now, key);
            self.send_sender_reports(now, key);
        }
    }

    fn send_transport_feedback(&mut self, now: Instant, key: usize) {
        let transport = &mut self.transports[key];
        transport.next_transport_feedback = None;
        let (sender, media) = (transport.rtcp_ssrc, transport.received.first().map_or(0, |received| received.ssrc));
        let Some(mut recorder) = transport.arrivals.take() else { return };
        // A gap too long for one packet is told in several.
        while recorder.has_feedback() {
            let mut written = false;
            self.send_rtcp(key, |buf| {
                let len = recorder.write_feedback(sender, media, buf);
                written = len.is_some();
                len
            });
            if !written {
                break;
            }
            self.counters.transport_feedback_sent += 1;
        }
        let transport = &mut self.transports[key];
        if recorder.has_feedback() {
            transport.next_transport_feedback = Some(now + Transport::TRANSPORT_FEEDBACK_INTERVAL);
        }
        transport.arrivals = Some(recorder);
    }

    fn send_due_nacks(&mut self, now: Instant, key: usize) {
        self.transports[key].next_nack = None;
        let mut next: Option<Instant> = None;
        for track in 0..self.transports[key].inbound.capacity() {
            let Some(inbound) = self.transports[key].inbound.get(track) else { continue };
            let source = inbound.source;
            self.send_nacks(now, key, track);
            if self.sources.get(source).and_then(SourceTrack::keyframe_owed_at).is_some_and(|owed| now >= owed) {
                self.request_keyframe(now, source);
            }
            let Some(inbound) = self.transports[key].inbound.get(track) else { continue };
            let nack = inbound.media.as_ref().and_then(|media| media.nack.as_ref()?.poll_timeout());
            let owed = self.sources.get(source).and_then(SourceTrack::keyframe_owed_at);
            next = next.into_iter().chain(nack).chain(owed).min();
        }
        let transport = &mut self.transports[key];
        transport.next_nack = transport.next_nack.into_iter().chain(next).min();
    }

    fn send_receiver_reports(&mut self, now: Instant, key: usize) {
        let mut blocks = [rtcp::ReportBlock::default(); rtcp::MAX_REPORT_BLOCKS];
        let mut count = 0;
        for track in 0..self.transports[key].inbound.capacity() {
            let media = self.transports[key].inbound.get_mut(track).and_then(|track| track.media.as_mut());
            let Some(report) = media.and_then(|media| media.reception.report(media.ssrc, now)) else { continue };
            blocks[count] = report;
            count += 1;
            if count == blocks.len() {
                self.send_receiver_report(key, &blocks);
                count = 0;
            }
        }
        if count > 0 {
            self.send_receiver_report(key, &blocks[..count]);
        }
    }

    fn send_receiver_report(&mut self, key: usize, blocks: &[rtcp::ReportBlock]) {
        let sender = self.transports[key].rtcp_ssrc;
        self.send_compound(key, |buf| rtcp::write_receiver_report(buf, sender, blocks));
    }

    fn send_sender_reports(&mut self, now: Instant, key: usize) {
        for position in 0..self.transports[key].outputs.len() {
            let output = self.transports[key].outputs[position];
            let source = self.outputs[output].source;
            let Some(clock) = self.sources.get(source).map(|source| source.clock) else { continue };
            let mut outputs = std::mem::take(&mut self.outputs);
            self.send_compound(key, |buf| outputs[output].write_report(now, &clock, buf));
            self.outputs = outputs;
        }
    }

    /// Seals and queues one feedback message behind an empty receiver report, which makes it a compound for those who did
    /// not agree to reduced size (RFC 3550, section 6.1).
    fn send_rtcp(&mut self, key: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let sender = self.transports[key].rtcp_ssrc;
        self.send_compound(key, |buf| {
            let report = rtcp::write_receiver_report(buf, sender, &[])?;
            Some(report + write(&mut buf[report..])?)
        });
    }

    /// Seals and queues the compound that `write` makes; `None` sends nothing.
    fn send_compound(&mut self, key: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let transport = &mut self.transports[key];
        let (Some(path), Some(keys)) = (transport.ice.path(), &mut transport.keys) else { return };
        let sealer = &mut keys.sealer;
        let room = COMPOUND_BYTES - sealer.profile().rtcp_overhead();
        let queued = self.control.append(path, |buf| match write(&mut buf[..room]) {
            Some(len) => sealer.seal_rtcp(buf, len),
            None => 0,
        });
        self.counters.dropped_control += u64::from(!queued);
    }

    /// Queues a datagram of STUN or DTLS.
    pub(super) fn send_control(&mut self, to: CandidatePair, datagram: &[u8]) {
        let queued = self.control.append(to, |buf| {
            buf[..datagram.len()].copy_from_slice(datagram);
            datagram.len()
        });
        self.counters.dropped_control += u64::from(!queued);
    }
}

/// Room that `write` gets is never more than a datagram of the batch.
const _: () = assert!(COMPOUND_BYTES <= TxBatch::DATAGRAM_BYTES);
