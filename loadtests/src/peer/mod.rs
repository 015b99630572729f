//! A cheap WebRTC client without sockets or a clock: ICE, DTLS and SRTP, tracks in both directions, retransmission and reports.
//!
//! It is real enough that a server cannot tell it from a browser on the wire, and cheap enough that one thread runs hundreds.
//! It neither encodes nor decodes media, estimates no bandwidth, and follows one path only. Time is given to it, and so is
//! every random choice but DTLS keys, so that a test that uses it in virtual time runs the same way each time.

pub mod description;
mod handshake;
mod receive;
pub mod rtcp;
mod send;
pub mod stun;

pub use description::{Media, Section, Way};
pub use handshake::Certificate;
pub use receive::{Delivered, TrackStats};

use description::{Answer, Credentials, Offer, Ssrcs};
use handshake::{Handshake, Outcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use receive::ReceiveTrack;
use send::{Seal, SendTrack};
use sfu_core::{
    rtp::RtpHeader,
    srtp::{Opener, Sealer, SrtpProfile},
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Between connectivity checks until one is answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Between consent checks afterwards; browsers take 2.5–5 s.
const CONSENT_INTERVAL: Duration = Duration::from_secs(3);
/// Between reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Checks that may be under way at once; older ones count as lost.
const MAX_CHECKS: usize = 8;
/// Wall clock of every peer at its creation: 1 December 2022, an arbitrary second. Only differences matter.
const NTP_START: u64 = 3_878_841_600 << 32;

/// A clock that stamps media: no two are alike, and none runs like the wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MediaClock {
    /// What it showed when the peer was made.
    pub start: u32,
    /// By how much it is too fast, in millionths.
    pub drift: f64,
}

impl MediaClock {
    fn at(self, elapsed: Duration, media: Media) -> u32 {
        let ticks = elapsed.as_secs_f64() * f64::from(clock_rate(media)) * (1.0 + self.drift * 1e-6);
        self.start.wrapping_add(ticks as u64 as u32)
    }
}

/// What a peer is made from.
#[derive(Clone)]
pub struct PeerConfig {
    /// Source of all its random choices; two peers need two seeds.
    pub seed: u64,
    /// Its certificate.
    pub certificate: Certificate,
    /// The m-lines that it offers.
    pub sections: Vec<Section>,
    /// Candidates for a server that is a full ICE agent, in SDP's notation without `a=candidate:`.
    pub candidates: Vec<String>,
    /// `a=setup`, usually `actpass`; `active` makes any answerer passive.
    pub setup: &'static str,
    /// What to put into a=fingerprint instead of the certificate's own.
    pub fingerprint: Option<String>,
    /// Between two requests for the same packet: somewhat more than the round trip.
    pub ask_again: Duration,
    /// What stamps the audio that it sends.
    pub audio_clock: MediaClock,
    /// What stamps the video that it sends.
    pub video_clock: MediaClock,
}

impl PeerConfig {
    /// A peer as a browser would be.
    pub fn new(seed: u64, certificate: Certificate, sections: Vec<Section>) -> Self {
        Self {
            seed,
            certificate,
            sections,
            candidates: Vec::new(),
            setup: "actpass",
            fingerprint: None,
            ask_again: Duration::from_millis(60),
            audio_clock: MediaClock::default(),
            video_clock: MediaClock::default(),
        }
    }

    fn clock(&self, media: Media) -> MediaClock {
        match media {
            Media::Audio => self.audio_clock,
            Media::Video => self.video_clock,
        }
    }
}

/// What happened to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// DTLS is up with this SRTP profile: media may flow.
    Connected(SrtpProfile),
    /// A packet arrived.
    Media(Delivered),
    /// The server wants a keyframe on this section.
    KeyframeRequest(usize),
    /// The server wants these packets of this section again. Those that are still there are under way already.
    Nack(usize, Vec<u16>),
    /// The server reported on the tracks this peer sends.
    Report(rtcp::ReportBlock),
    /// The server sent a sender report.
    SenderReport(rtcp::SenderReport),
    /// The server told when packets arrived.
    TransportFeedback(rtcp::TransportFeedback),
    /// The server closed DTLS.
    Closed,
}

/// Why a peer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The answer lacks something.
    #[error("unusable answer: {0}")]
    Answer(&'static str),
    /// DTLS failed.
    #[error("DTLS: {0}")]
    Dtls(#[from] dimpl::Error),
    /// The server's certificate is not the one of its answer.
    #[error("the server's certificate is not the one of its answer")]
    ForeignCertificate,
    /// The keying material cannot be used.
    #[error("SRTP keys: {0}")]
    Keys(String),
}

/// What connects a peer that has media to send or receive.
struct Session {
    opener: Opener,
    sealer: Sealer,
    overhead: usize,
    rtcp_overhead: usize,
    next_report: Instant,
}

/// A client.
pub struct TestPeer {
    config: PeerConfig,
    random: StdRng,
    created: Instant,
    session_id: u64,
    cname: String,
    local: Credentials,
    offered: Vec<(Section, Option<Ssrcs>)>,
    answer: Option<Answer>,
    /// Transaction ids of checks that may still be answered.
    checks: VecDeque<[u8; 12]>,
    next_check: Option<Instant>,
    reachable: bool,
    handshake: Option<Handshake>,
    session: Option<Session>,
    senders: Vec<Option<SendTrack>>,
    receivers: Vec<ReceiveTrack>,
    transport_seq: u16,
    mapped: Option<SocketAddr>,
    outgoing: VecDeque<Vec<u8>>,
    events: VecDeque<PeerEvent>,
}

impl TestPeer {
    /// A peer that has said nothing yet.
    pub fn new(now: Instant, config: PeerConfig) -> Self {
        let mut random = StdRng::seed_from_u64(config.seed);
        let offered = config
            .sections
            .iter()
            .map(|section| {
                let ssrcs = (section.way == Way::Send).then(|| Ssrcs {
                    media: random.random_range(1..u32::MAX),
                    rtx: (section.media == Media::Video).then(|| random.random_range(1..u32::MAX)),
                });
                (*section, ssrcs)
            })
            .collect();
        Self {
            session_id: random.random_range(1..i64::MAX as u64),
            cname: text(&mut random, 16),
            local: Credentials { ufrag: text(&mut random, 8), pwd: text(&mut random, 24) },
            transport_seq: random.random(),
            config,
            random,
            created: now,
            offered,
            answer: None,
            checks: VecDeque::new(),
            next_check: None,
            reachable: false,
            handshake: None,
            session: None,
            senders: Vec::new(),
            receivers: Vec::new(),
            mapped: None,
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The peer's offer.
    pub fn offer(&self) -> String {
        Offer {
            session: self.session_id,
            ice: &self.local,
            fingerprint: self.config.fingerprint.as_deref().unwrap_or(self.config.certificate.fingerprint()),
            candidates: &self.config.candidates,
            setup: self.config.setup,
            cname: &self.cname,
            sections: &self.offered,
        }
        .write()
    }

    /// An offer for an ICE restart: new credentials, everything else as before. Checks rest until its answer.
    pub fn restart_offer(&mut self) -> String {
        self.local = Credentials { ufrag: text(&mut self.random, 8), pwd: text(&mut self.random, 24) };
        self.next_check = None;
        self.checks.clear();
        self.reachable = false;
        self.offer()
    }

    /// Takes the answer to the last offer, and starts checking.
    pub fn handle_answer(&mut self, now: Instant, sdp: &str) -> Result<(), PeerError> {
        let answer = Answer::read(sdp).map_err(PeerError::Answer)?;
        if answer.sections.len() != self.offered.len() {
            return Err(PeerError::Answer("another number of m-lines than the offer"));
        }
        self.next_check = Some(now);
        if self.answer.is_none() {
            self.create_tracks(&answer);
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// Takes the answer to a restart offer, already read: other credentials, everything else as it was.
    pub fn handle_restart(&mut self, now: Instant, answer: Answer) {
        self.next_check = Some(now);
        self.answer = Some(answer);
    }

    fn create_tracks(&mut self, answer: &Answer) {
        for (mid, ((section, ssrcs), answered)) in self.offered.iter().zip(&answer.sections).enumerate() {
            let sender = ssrcs.filter(|_| answered.accepted).map(|ssrcs| {
                // Close to the end of the cycle, so that wrap-around is met early and not once in a blue moon.
                let first_seq = self.random.random_range(64_000..=u16::MAX);
                SendTrack::new(mid.to_string(), answered.clone(), ssrcs, first_seq)
            });
            self.senders.push(sender);
            if let (Way::Receive, true, Some(ssrcs)) = (section.way, answered.accepted, answered.ssrcs) {
                self.receivers.push(ReceiveTrack::new(mid, ssrcs, clock_rate(section.media)));
            }
        }
    }

    /// The answer, once there is one.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// Where the peer sends to: the server's first candidate.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.answer.as_ref()?.candidates.first().copied()
    }

    /// The peer's address as the server last saw it.
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// DTLS is up.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// SSRCs of a section that the peer sends on.
    pub fn sent_ssrcs(&self, section: usize) -> Option<Ssrcs> {
        Some(self.senders.get(section)?.as_ref()?.ssrcs())
    }

    /// What happened on the tracks that the peer receives, by section.
    pub fn received(&self) -> impl Iterator<Item = (usize, TrackStats)> {
        let mids = self.offered.iter().enumerate().filter(|(_, (section, _))| section.way == Way::Receive);
        mids.filter_map(|(mid, _)| Some((mid, self.receiver(mid)?.stats())))
    }

    fn receiver(&self, section: usize) -> Option<&ReceiveTrack> {
        let ssrcs = self.answer.as_ref()?.sections.get(section)?.ssrcs?;
        self.receivers.iter().find(|track| track.ssrcs() == ssrcs)
    }

    /// Takes a datagram of the server.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), PeerError> {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(now, datagram),
            Some(20..=63) => {
                if let Some(handshake) = &mut self.handshake {
                    handshake.handle_datagram(now, datagram)?;
                    self.drain_handshake(now)?;
                }
            }
            Some(128..=191) if is_rtcp(datagram) => self.handle_rtcp(now, datagram),
            Some(128..=191) => self.handle_rtp(now, datagram),
            _ => {}
        }
        Ok(())
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        let (Some(message), Some(answer)) = (stun::Message::parse(datagram), &self.answer) else { return };
        match message.kind {
            stun::Kind::Request if message.is_signed_with(&self.local.pwd) => {
                if let Some(remote) = answer.candidates.first() {
                    self.outgoing.push_back(stun::binding_success(message.transaction, *remote, &self.local.pwd));
                }
            }
            stun::Kind::Success if message.is_signed_with(&answer.ice.pwd) => {
                let Some(known) = self.checks.iter().position(|check| *check == message.transaction) else { return };
                self.checks.drain(..=known);
                self.mapped = message.mapped_address();
                if !self.reachable {
                    self.reachable = true;
                    self.next_check = Some(now + CONSENT_INTERVAL);
                }
            }
            _ => {}
        }
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        let (Some(session), Ok(header)) = (&self.session, RtpHeader::parse(datagram)) else { return };
        let mut tracks = self.receivers.iter_mut();
        let Some(track) = tracks.find(|t| t.ssrcs().media == header.ssrc || t.ssrcs().rtx == Some(header.ssrc)) else {
            return;
        };
        let mut datagram = datagram.to_vec();
        self.events.extend(track.handle(now, &session.opener, &header, &mut datagram).map(PeerEvent::Media));
    }

    /// Counts a media packet without opening it: for load generators, which must cost less than what they measure. Gives the
    /// section and the packet's index; `None` for everything that is no new media packet, which goes to
    /// [`Self::handle_datagram`] instead.
    pub fn count_media(&mut self, now: Instant, datagram: &[u8]) -> Option<(usize, u64)> {
        if !(128..=191).contains(datagram.first()?) || is_rtcp(datagram) {
            return None;
        }
        let header = RtpHeader::parse(datagram).ok()?;
        let track = self.receivers.iter_mut().find(|track| track.ssrcs().media == header.ssrc)?;
        Some((track.section(), track.count(now, &header)?))
    }

    /// Opens a packet that was counted as `index`, in place, and gives its payload.
    pub fn open_counted<'a>(&self, index: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let header = RtpHeader::parse(datagram).ok()?;
        let len = self.session.as_ref()?.opener.open_rtp((index >> 16) as u32, datagram, header.header_len).ok()?;
        let payload = header.payload_range(&datagram[..len])?;
        datagram.get(payload)
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
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

    /// Lets time pass: checks, DTLS timers, requests for missing packets, reports.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        if self.next_check.is_some_and(|at| at <= now) {
            self.check(now);
        }
        if self.reachable && self.handshake.is_none() {
            let expected = self.answer.as_ref().map(|answer| answer.fingerprint.clone()).unwrap_or_default();
            let seed = self.random.random();
            self.handshake = Some(Handshake::new(now, &self.config.certificate, expected, seed)?);
            self.drain_handshake(now)?;
        }
        if let Some(handshake) = self.handshake.as_mut().filter(|h| h.deadline().is_some_and(|at| at <= now)) {
            handshake.handle_timeout(now)?;
            self.drain_handshake(now)?;
        }
        self.request_missing(now);
        if self.session.as_ref().is_some_and(|session| session.next_report <= now) {
            self.report(now);
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let handshake_due = self.reachable && self.handshake.is_none();
        let gaps = self.session.is_some().then(|| self.receivers.iter().filter_map(ReceiveTrack::deadline).min());
        [
            self.next_check,
            handshake_due.then_some(self.created),
            self.handshake.as_ref().and_then(Handshake::deadline),
            gaps.flatten(),
            self.session.as_ref().map(|session| session.next_report),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn check(&mut self, now: Instant) {
        let Some(answer) = &self.answer else { return };
        let transaction = self.random.random();
        if self.checks.len() == MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back(transaction);
        let username = format!("{}:{}", answer.ice.ufrag, self.local.ufrag);
        let request = stun::BindingRequest {
            transaction,
            username: &username,
            priority: 0x6E7F_1EFF,
            tie_breaker: self.session_id,
            role: stun::Role::Controlling,
            nominate: true,
        };
        self.outgoing.push_back(request.encode(&answer.ice.pwd));
        self.next_check = Some(now + if self.reachable { CONSENT_INTERVAL } else { CHECK_INTERVAL });
    }

    fn drain_handshake(&mut self, now: Instant) -> Result<(), PeerError> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        match handshake.poll(|datagram| self.outgoing.push_back(datagram.to_vec()))? {
            Some(Outcome::Keys(profile, opener, sealer)) => {
                // Peers that were made together must not report together.
                let first = REPORT_INTERVAL.mul_f64(self.random.random_range(0.2..1.0));
                self.session = Some(Session {
                    opener,
                    sealer,
                    overhead: profile.rtp_overhead(),
                    rtcp_overhead: profile.rtcp_overhead(),
                    next_report: now + first,
                });
                self.events.push_back(PeerEvent::Connected(profile));
            }
            Some(Outcome::Closed) => self.events.push_back(PeerEvent::Closed),
            None => {}
        }
        Ok(())
    }

    fn request_missing(&mut self, now: Instant) {
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

    fn report(&mut self, now: Instant) {
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

    /// RTP time of `now` on a section that the peer sends on: what a frame captured at `now` carries.
    pub fn rtp_timestamp(&self, now: Instant, section: usize) -> u32 {
        let media = self.offered[section].0.media;
        self.config.clock(media).at(now.saturating_duration_since(self.created), media)
    }

    /// The peer's wall clock at `now`, as its sender reports tell it: 32.32 fixed point.
    pub fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.created);
        NTP_START + (elapsed.as_secs_f64() * 2f64.powi(32)) as u64
    }

    /// The transport-wide number of the next packet that the peer sends.
    pub fn next_transport_seq(&self) -> u16 {
        self.transport_seq
    }

    fn own_ssrc(&self) -> u32 {
        self.offered.iter().find_map(|(_, ssrcs)| ssrcs.map(|ssrcs| ssrcs.media)).unwrap_or(1)
    }

    /// Seals a packet of a track. Gives its sequence number with rollover counter, or `None` as long as the peer is not
    /// connected or the section was refused.
    pub fn send(&mut self, section: usize, timestamp: u32, marker: bool, payload: &[u8]) -> Option<u64> {
        let session = self.session.as_ref()?;
        let track = self.senders.get_mut(section)?.as_mut()?;
        let seal = Seal { sealer: &session.sealer, overhead: session.overhead, transport_seq: &mut self.transport_seq };
        let (index, datagram) = track.packet(seal, timestamp, marker, payload);
        self.outgoing.push_back(datagram);
        Some(index)
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

    /// Closes DTLS, so that the server knows.
    pub fn close(&mut self) -> Result<(), PeerError> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        handshake.close()?;
        handshake.poll(|datagram| self.outgoing.push_back(datagram.to_vec())).map(|_| ())
    }

    /// The next datagram to send to [`Self::remote_address`].
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }
}

/// RTCP packet types are told from RTP payload types by the second byte (RFC 5761, section 4).
fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

fn clock_rate(media: Media) -> u32 {
    match media {
        Media::Audio => 48_000,
        Media::Video => 90_000,
    }
}

/// Random characters that ICE allows (RFC 8839, section 5.4).
fn text(random: &mut StdRng, len: usize) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..len).map(|_| char::from(CHARACTERS[random.random_range(0..64)])).collect()
}
