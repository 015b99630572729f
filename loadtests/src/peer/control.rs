//! What a peer says and hears about media: reports, requests for what is missing, and their answers.

use super::{PeerEvent, REPORT_INTERVAL, Seal, TestPeer, rtcp};
use std::time::Instant;

/// Wall clock of every peer at its creation: 1 December 2022, an arbitrary second. Only differences matter.
const NTP_START: u64 = 3_878_841_600 << 32;

impl TestPeer {
    pub(super) fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let mut datagram = datagram.to_vec();
        let Ok(len) = session.opener.open_rtcp(&mut datagram) else { return };
        for item in rtcp::read(&datagram[..len]) {
            match item {
                rtcp::Item::SenderReport(report) => {
                    for track in self.receivers.iter_mut().filter(|track| track.ssrcs().media == report.ssrc) {
                        track.sender_report(now, report.ntp);
                    }
                    self.events.push_back(PeerEvent::SenderReport(report));
                }
                rtcp::Item::Report(block) => self.events.push_back(PeerEvent::Report(block)),
                rtcp::Item::Nack(ssrc, lost) => self.retransmit(ssrc, lost),
                rtcp::Item::KeyframeRequest(ssrc) => {
                    let section = self.senders.iter().position(|t| t.as_ref().is_some_and(|t| t.ssrcs().media == ssrc));
                    self.events.extend(section.map(PeerEvent::KeyframeRequest));
                }
                rtcp::Item::TransportFeedback(feedback) => {
                    self.events.push_back(PeerEvent::TransportFeedback(feedback));
                }
                rtcp::Item::Goodbye(_) => {}
            }
        }
    }

    fn retransmit(&mut self, ssrc: u32, lost: Vec<u16>) {
        let Some(session) = &self.session else { return };
        let mut tracks =
            self.senders.iter_mut().zip(0..).filter_map(|(track, section)| Some((track.as_mut()?, section)));
        let Some((track, section)) = tracks.find(|(track, _)| track.ssrcs().media == ssrc) else { return };
        for seq in &lost {
            let seal =
                Seal { sealer: &session.sealer, overhead: session.overhead, transport_seq: &mut self.transport_seq };
            self.outgoing.extend(track.retransmission(seal, *seq));
        }
        self.events.push_back(PeerEvent::Nack(section, lost));
    }

    pub(super) fn request_missing(&mut self, now: Instant) {
        if self.session.is_none() {
            return;
        }
        let own_ssrc = self.own_ssrc();
        let again = self.config.ask_again;
        let requests: Vec<_> = self
            .receivers
            .iter_mut()
            .filter(|track| track.deadline().is_some_and(|at| at <= now))
            .map(|track| (track.ssrcs().media, track.requests(now, again)))
            .collect();
        for (ssrc, lost) in requests.into_iter().filter(|(_, lost)| !lost.is_empty()) {
            self.send_rtcp(rtcp::nack(own_ssrc, ssrc, &lost));
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        session.next_report = now + REPORT_INTERVAL;
        let elapsed = now.saturating_duration_since(self.created);
        let ntp = self.ntp(now);
        let own_ssrc = self.own_ssrc();
        let blocks: Vec<_> = self.receivers.iter_mut().filter_map(|track| track.report(now)).collect();
        if !blocks.is_empty() {
            self.send_rtcp(rtcp::report(own_ssrc, None, &blocks, &self.cname));
        }
        for (mid, (section, _)) in self.offered.clone().iter().enumerate() {
            if let Some(Some(track)) = self.senders.get(mid) {
                let rtp = self.config.clock(section.media).at(elapsed, section.media);
                self.send_rtcp(rtcp::report(own_ssrc, Some(track.report(ntp, rtp)), &[], &self.cname));
            }
        }
    }

    /// The peer's wall clock at `now`, as its sender reports tell it: 32.32 fixed point.
    pub fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.created);
        NTP_START + (elapsed.as_secs_f64() * 2f64.powi(32)) as u64
    }

    fn own_ssrc(&self) -> u32 {
        self.offered.iter().find_map(|(_, ssrcs)| ssrcs.map(|ssrcs| ssrcs.media)).unwrap_or(1)
    }

    /// Asks for a keyframe on a section that the peer receives on.
    pub fn request_keyframe(&mut self, section: usize) {
        if let Some(ssrc) = self.receiver(section).map(|track| track.ssrcs().media) {
            self.send_rtcp(rtcp::picture_loss(self.own_ssrc(), ssrc));
        }
    }

    /// Seals and sends a compound packet.
    pub fn send_rtcp(&mut self, mut packet: Vec<u8>) {
        let Some(session) = &mut self.session else { return };
        let plain_len = packet.len();
        packet.resize(plain_len + session.rtcp_overhead, 0);
        let len = session.sealer.seal_rtcp(&mut packet, plain_len);
        packet.truncate(len);
        self.outgoing.push_back(packet);
    }
}
