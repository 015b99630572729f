//! One track on its way to one subscriber: the only writer of its SSRCs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    counters::Counters,
    pace::{Pace, Rate},
    recent::Recent,
    source::SourceTrack,
};
use crate::{
    CandidatePair,
    batch::TxBatch,
    clock::{SenderClock, SentReports},
    command::SubscribeTrack,
    handle::SubscriptionHandle,
    rewrite::Rewriter,
    ring::Packet,
    rtcp::{self, ReportBlock, SenderInfo},
    rtp::{RtpHeaderFields, write_header},
    sdp::{MediaKind, SendTrack},
    srtp::Sealer,
    vp8::PictureNumbers,
};

/// State towards one subscriber.
pub(super) struct Output {
    pub(super) subscription: SubscriptionHandle,
    /// Key of the transport.
    pub(super) transport: usize,
    /// Key of the source.
    pub(super) source: usize,
    pub(super) track: SendTrack,
    cname: Arc<str>,
    rewriter: Rewriter,
    /// The publisher's SSRC change that the rewriter has followed.
    source_number: u32,
    /// Sequence number with rollover counter of the retransmission stream.
    rtx_index: u64,
    /// Video starts, and starts again with another source, with a keyframe.
    pub(super) awaits_keyframe: bool,
    /// When the start of a keyframe was last sent.
    keyframe_sent: Option<Instant>,
    /// The subscriber's requests for keyframes that were passed on.
    keyframe_requests: Pace,
    /// The subscriber has reported on our SSRC: it knows which m-line it belongs to (RFC 8843, section 9.2).
    reported: bool,
    packets: u32,
    octets: u32,
    /// `packets` at the subscriber's last report.
    packets_reported: u32,
    reports: SentReports,
    round_trip: Duration,
    retransmitted: Option<Box<Recent>>,
    /// The first level of shedding at which it is paused; beyond the last for audio.
    shed_from: u8,
}

/// How a subscriber's transport is written to.
pub(super) struct Path<'a> {
    pub(super) to: CandidatePair,
    pub(super) sealer: &'a Sealer,
}

impl Output {
    /// The source of an output whose publication has ended.
    pub(super) const NO_SOURCE: usize = usize::MAX;
    /// Round trip that is assumed until a report has told.
    const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
    /// Bounds of what a report tells. Browsers look for losses to ask about every 20 ms; shorter would only let a subscriber
    /// have more sent again.
    const MIN_ROUND_TRIP: Duration = Duration::from_millis(20);
    const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);

    /// The last packet of a keyframe may be so long behind its first. Subscribers repeat their requests until they have it all; on a
    /// slow path each would bring another one, which makes the path slower still.
    const KEYFRAME_DURATION: Duration = Duration::from_millis(300);
    /// Keyframes that one subscriber may have made for all who watch: of several outages in a row each is healed at once.
    const KEYFRAME_REQUESTS: Rate = Rate { interval: Duration::from_secs(2), burst: 4 };

    pub(super) fn new(
        subscription: SubscriptionHandle,
        transport: usize,
        source: usize,
        track: SubscribeTrack,
    ) -> Self {
        let SubscribeTrack { send, cname, .. } = track;
        let shed_from = match send.kind {
            MediaKind::Video => Self::eighth(subscription) + 1,
            MediaKind::Audio => u8::MAX,
        };
        Self {
            shed_from,
            subscription,
            transport,
            source,
            awaits_keyframe: send.kind == MediaKind::Video,
            // The first sequence number comes from the lower half: see `Rewriter::new`.
            rewriter: Rewriter::new(send.clock_rate, send.ssrc as u16 & 0x7fff, send.ssrc.rotate_left(16)),
            track: send,
            cname,
            source_number: 0,
            rtx_index: 0,
            keyframe_sent: None,
            keyframe_requests: Pace::default(),
            reported: false,
            packets: 0,
            octets: 0,
            packets_reported: 0,
            reports: SentReports::default(),
            round_trip: Self::INITIAL_ROUND_TRIP,
            retransmitted: None,
        }
    }

    /// Which eighth of all subscriptions it belongs to, 0 to 7. Handles are counted up: the golden ratio spreads them evenly.
    fn eighth(subscription: SubscriptionHandle) -> u8 {
        (subscription.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as u8
    }

    /// Whether it is paused at this level of shedding.
    #[inline]
    pub(super) fn is_shed_at(&self, level: u8) -> bool {
        level >= self.shed_from
    }

    /// What is sent next does not continue what was sent last, but the subscriber is to see no gap: video goes on with the next
    /// sequence number and a keyframe. Nothing from before is sent again.
    pub(super) fn break_off(&mut self) {
        self.rewriter.switch_source();
        self.awaits_keyframe = self.track.kind == MediaKind::Video;
    }

    /// Sends the packets of `source` that are being flushed. The caller has made sure of room for them.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        source: &SourceTrack,
        path: &Path<'_>,
        tx: &mut TxBatch,
        counters: &mut Counters,
    ) {
        for index in &source.flushing {
            if let Some(packet) = source.ring.get(*index) {
                self.forward_packet(now, packet, path, tx, counters);
            }
        }
    }

    fn forward_packet(
        &mut self,
        now: Instant,
        packet: &Packet,
        path: &Path<'_>,
        tx: &mut TxBatch,
        counters: &mut Counters,
    ) {
        if packet.payload().is_empty() {
            self.rewriter.skip(packet.index);
            return;
        }
        if self.source_number != packet.source {
            self.source_number = packet.source;
            self.break_off();
        }
        if self.awaits_keyframe {
            if !packet.keyframe {
                return;
            }
            self.awaits_keyframe = false;
        }
        let Some(outgoing) = self.rewriter.forward(now, packet.index, packet.timestamp, packet.vp8.as_ref()) else {
            return;
        };
        let (payload_type, ssrc) = (self.track.payload_type, self.track.ssrc);
        let sent = tx.append(path.to, |buf| {
            let header = self.write_header(buf, payload_type, ssrc, outgoing.index, outgoing.timestamp, packet);
            let end = header + write_payload(&mut buf[header..], packet, outgoing.picture);
            counters.bytes_sent += end as u64;
            path.sealer.seal_rtp(outgoing.roc(), buf, header, end)
        });
        if sent {
            if packet.keyframe {
                self.keyframe_sent = Some(now);
            }
            counters.packets_sent += 1;
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(packet.payload().len() as u32);
        }
    }

    /// Whether a request of the subscriber for a keyframe is to be passed on.
    pub(super) fn may_request_keyframe(&mut self, now: Instant) -> bool {
        let arriving = self.round_trip + Self::KEYFRAME_DURATION;
        self.keyframe_sent.is_none_or(|sent| now >= sent + arriving)
            && self.keyframe_requests.take(now, &Self::KEYFRAME_REQUESTS)
    }

    /// The position in the source of the packet that the subscriber knows as `seq`, if it should be sent again now.
    pub(super) fn retransmission_of(&mut self, now: Instant, seq: u16) -> Option<u64> {
        self.track.rtx_ssrc?;
        self.track.rtx_payload_type?;
        let index = self.rewriter.source_of(seq)?;
        // A second request within a round trip crossed the first answer.
        let recent = self.retransmitted.get_or_insert_default();
        recent.admit(now, index, self.round_trip).then_some(index)
    }

    /// Sends `packet`, which the subscriber knows as `seq`, again on the retransmission stream (RFC 4588).
    pub(super) fn retransmit(
        &mut self,
        seq: u16,
        packet: &Packet,
        path: &Path<'_>,
        tx: &mut TxBatch,
        counters: &mut Counters,
    ) {
        let (Some(ssrc), Some(payload_type)) = (self.track.rtx_ssrc, self.track.rtx_payload_type) else { return };
        let timestamp = self.rewriter.timestamp_of(packet.timestamp);
        let picture = packet.vp8.as_ref().and_then(|vp8| self.rewriter.picture_of(vp8));
        let index = self.rtx_index;
        self.rtx_index += 1;
        let sent = tx.append(path.to, |buf| {
            let header = self.write_header(buf, payload_type, ssrc, index, timestamp, packet);
            buf[header..header + 2].copy_from_slice(&seq.to_be_bytes());
            let end = header + 2 + write_payload(&mut buf[header + 2..], packet, picture);
            path.sealer.seal_rtp((index >> 16) as u32, buf, header, end)
        });
        counters.packets_retransmitted += u64::from(sent);
    }

    fn write_header(
        &self,
        buf: &mut [u8],
        payload_type: u8,
        ssrc: u32,
        index: u64,
        timestamp: u32,
        packet: &Packet,
    ) -> usize {
        let fields = RtpHeaderFields { marker: packet.marker, payload_type, seq: index as u16, timestamp, ssrc };
        let mut extensions: [(u8, &[u8]); 2] = [(0, &[]); 2];
        let mut count = 0;
        let level = packet.audio_level.as_ref().map(std::slice::from_ref);
        let mid = (!self.reported).then_some(self.track.mid.as_bytes());
        for (id, value) in [(self.track.extensions.audio_level, level), (self.track.extensions.mid, mid)] {
            if let (Some(id), Some(value)) = (id, value) {
                extensions[count] = (id, value);
                count += 1;
            }
        }
        write_header(buf, &fields, &extensions[..count])
    }

    /// A report of the subscriber on this stream.
    pub(super) fn handle_report(&mut self, now: Instant, block: &ReportBlock, counters: &mut Counters) {
        self.reported = true;
        // What it lost is its word, too: it counts for no more than was sent to it since it last spoke.
        let sent = u64::from(self.packets.wrapping_sub(self.packets_reported));
        self.packets_reported = self.packets;
        counters.packets_reported += sent;
        counters.packets_reported_lost += (sent * u64::from(block.fraction_lost) + 128) / 256;
        if let Some(round_trip) = self.reports.round_trip(block.last_sr, block.delay_since_last_sr, now) {
            // Bounded, because it is the subscriber's word, and with it goes what may be sent again in a second.
            self.round_trip = round_trip.clamp(Self::MIN_ROUND_TRIP, Self::MAX_ROUND_TRIP);
        }
    }

    /// A sender report with the canonical name (RFC 3550, section 6.4.1), once something was sent and the publisher's clock is
    /// known. Returns its length.
    pub(super) fn write_report(&mut self, now: Instant, clock: &SenderClock, buf: &mut [u8]) -> Option<usize> {
        // While a new source's first keyframe is waited for, its timestamps have no place yet.
        if self.packets == 0 || !self.rewriter.has_source() {
            return None;
        }
        let (ntp, source_timestamp) = clock.at(now)?;
        let info = SenderInfo {
            ntp,
            rtp_timestamp: self.rewriter.timestamp_of(source_timestamp),
            packets: self.packets,
            octets: self.octets,
        };
        let ssrc = self.track.ssrc;
        let report = rtcp::write_sender_report(buf, ssrc, &info, &[])?;
        let name = rtcp::write_sdes_cname(&mut buf[report..], ssrc, &self.cname)?;
        self.reports.record(ntp, now);
        Some(report + name)
    }
}

/// Copies the payload, with the picture numbers that the subscriber is to see. Returns its length.
fn write_payload(buf: &mut [u8], packet: &Packet, picture: Option<PictureNumbers>) -> usize {
    let payload = packet.payload();
    buf[..payload.len()].copy_from_slice(payload);
    if let (Some(picture), Some(descriptor)) = (picture, &packet.vp8) {
        descriptor.rewrite(&mut buf[..payload.len()], picture);
    }
    payload.len()
}
