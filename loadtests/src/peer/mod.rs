//! A cheap WebRTC client without sockets or a clock: ICE, DTLS and SRTP, tracks in both directions, retransmission and reports.
//!
//! It is real enough that a server cannot tell it from a browser on the wire, and cheap enough that one thread runs hundreds.
//! It neither encodes nor decodes media, estimates no bandwidth, and follows one path only. Time is given to it, and so is
//! every random choice but DTLS keys, so that a test that uses it in virtual time runs the same way each time.

mod checks;
mod config;
mod control;
pub mod description;
mod handshake;
mod receive;
pub mod rtcp;
mod send;
pub mod stun;

pub use config::{MediaClock, PeerConfig};
pub use description::{Media, Section, Way};
pub use handshake::Certificate;
pub use receive::{Delivered, TrackStats};

use config::clock_rate;
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

/// Between reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

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

    /// RTP time of `now` on a section that the peer sends on: what a frame captured at `now` carries.
    pub fn rtp_timestamp(&self, now: Instant, section: usize) -> u32 {
        let media = self.offered[section].0.media;
        self.config.clock(media).at(now.saturating_duration_since(self.created), media)
    }

    /// The transport-wide number of the next packet that the peer sends.
    pub fn next_transport_seq(&self) -> u16 {
        self.transport_seq
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

    /// Goes on sending a section under another SSRC, as somebody whose sender was replaced. Nothing is negotiated: packets say by
    /// their mid what they belong to (RFC 8843, section 9.2).
    pub fn change_source(&mut self, section: usize) {
        let (ssrc, first_seq) = (self.random.random_range(1..u32::MAX), self.random.random());
        if let Some(Some(track)) = self.senders.get_mut(section) {
            track.change_source(ssrc, first_seq);
        }
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

/// Random characters that ICE allows (RFC 8839, section 5.4).
fn text(random: &mut StdRng, len: usize) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..len).map(|_| char::from(CHARACTERS[random.random_range(0..64)])).collect()
}
