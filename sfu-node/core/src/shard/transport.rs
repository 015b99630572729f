//! One client's transport: ICE, DTLS and SRTP state, the addresses it has proven, and what is bound to it.
//!
//! ```text
//!  Checking ──check with integrity──▶ Handshaking ──keys──▶ Connected ──close, consent lost──▶ (removed)
//!      └──────── 30 s ────────────────────┴──────▶ (removed)
//! ```

use std::time::{Duration, Instant};

use super::{
    inbound::{Carries, InboundTrack, ReceivedSsrcs},
    pace::{Pace, Rate},
};
use crate::{
    CandidatePair,
    dtls::DimplEndpoint,
    handle::{PublicationHandle, TransportHandle},
    ice::IceLite,
    srtp::{Opener, Sealer},
    twcc::TwccRecorder,
};

/// A transport and all it needs to send and receive.
pub(super) struct Transport {
    pub(super) handle: TransportHandle,
    pub(super) keys: Option<Keys>,
    /// Keys of the outputs that are sent here.
    pub(super) outputs: Vec<usize>,
    pub(super) received: ReceivedSsrcs,
    pub(super) inbound: slab::Slab<InboundTrack>,
    pub(super) publications: Vec<PublicationHandle>,
    /// Arrivals of numbered packets, for transport-wide feedback.
    pub(super) arrivals: Option<Box<TwccRecorder>>,
    pub(super) ice: IceLite,
    pub(super) dtls: DimplEndpoint,
    pub(super) rtcp_ssrc: u32,
    pub(super) opened: Instant,
    /// Its checks that were answered.
    pub(super) checks: Pace,
    /// Its DTLS datagrams in the shard's queue.
    pub(super) handshakes_waiting: usize,
    /// Where the last DTLS datagram came from.
    pub(super) handshake_from: Option<CandidatePair>,
    pub(super) dtls_deadline: Option<Instant>,
    pub(super) next_report: Instant,
    pub(super) next_transport_feedback: Option<Instant>,
    pub(super) next_nack: Option<Instant>,
    /// When the wheel brings this transport up next.
    pub(super) scheduled: Option<Instant>,
}

/// An address that a transport has proven.
pub(super) struct ProvenAddress {
    /// Key of the transport.
    pub(super) transport: usize,
    /// When something authentic came from there: a check, or media.
    pub(super) heard: Instant,
}

/// Keys of both directions.
pub(super) struct Keys {
    pub(super) opener: Opener,
    pub(super) sealer: Sealer,
}

impl Transport {
    /// A transport that has not connected after this time is given up.
    pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
    /// Interval of sender and receiver reports. RFC 3550's minimum of 5 s is relaxed as section 6.2 allows for higher rates:
    /// browsers time out bandwidth and synchronisation on it.
    pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
    /// Interval of transport-wide feedback: shorter makes publishers ramp up faster and costs up-link.
    pub(super) const TRANSPORT_FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
    /// DTLS datagrams that wait for their turn: a whole flight with a long certificate in small pieces. More is only a client
    /// that wants the queue to itself.
    pub(super) const MAX_HANDSHAKES_WAITING: usize = 16;
    /// An address from which its transport was not heard for this long may be proven by another.
    pub(super) const ADDRESS_HOLD: Duration = Duration::from_secs(10);
    /// Checks of one client are answered at 50 a second, more than twice the pace that RFC 8445 (section 14.2) has for them, and up
    /// to a hundred at once: it may have many interfaces, or have been held up. More would only make us work.
    const CHECKS: Rate = Rate { interval: Duration::from_millis(20), burst: 100 };

    /// A check may be answered now.
    pub(super) fn may_answer_check(&self, now: Instant) -> bool {
        self.checks.admits(now, &Self::CHECKS)
    }

    /// A check was answered.
    pub(super) fn pay_for_check(&mut self, now: Instant) {
        self.checks.pay(now, &Self::CHECKS);
    }

    /// When a transport first reports: at a point of the interval that its SSRC, which is random, decides. So the transports of a
    /// shard take turns, whatever they began with together (RFC 3550, section 6.3.1).
    pub(super) fn first_report(now: Instant, rtcp_ssrc: u32) -> Instant {
        now + Self::REPORT_INTERVAL * ((!rtcp_ssrc >> 16) + 1) / (1 << 16)
    }

    /// Whether to report now. The next report is due whole intervals after this one was: who was late keeps its turn.
    pub(super) fn take_report(&mut self, now: Instant) -> bool {
        let Some(late) = now.checked_duration_since(self.next_report) else { return false };
        let missed = late.as_nanos() / Self::REPORT_INTERVAL.as_nanos();
        self.next_report += Self::REPORT_INTERVAL * (missed as u32 + 1);
        true
    }

    /// When something is to be done next.
    pub(super) fn deadline(&self) -> Instant {
        let mut next = self.ice.consent_deadline();
        if self.keys.is_none() {
            next = next.min(self.opened + Self::CONNECT_TIMEOUT);
        } else {
            next = next.min(self.next_report);
        }
        let ice = [self.ice.retired_deadline(), self.ice.path_deadline()];
        let optional = [self.dtls_deadline, self.next_transport_feedback, self.next_nack].into_iter().chain(ice);
        optional.flatten().fold(next, Instant::min)
    }

    /// Forgets a publication's tracks. Their keys are used again, so nothing may refer to them any more.
    pub(super) fn forget(&mut self, publication: PublicationHandle) {
        self.publications.retain(|other| *other != publication);
        self.inbound.retain(|_, track| track.publication != publication);
        for received in self.received.iter_mut() {
            if let Carries::Media(track) | Carries::Retransmission(track) = received.carries
                && !self.inbound.contains(track)
            {
                received.carries = Carries::Nothing;
            }
        }
    }

    /// The key of the inbound track that `ssrc` belongs to by what was signalled: an SSRC of the offer, an m-line's
    /// identification tag on the packet (RFC 8843, section 9.2), or a payload type that only one track has.
    pub(super) fn track_for(&self, ssrc: u32, mid: Option<&[u8]>, payload_type: u8) -> Option<usize> {
        let by_ssrc = |track: &InboundTrack| track.spec.ssrc == Some(ssrc) || track.spec.rtx_ssrc == Some(ssrc);
        let by_mid = |track: &InboundTrack| mid == Some(track.spec.mid.as_bytes());
        let by_type = |track: &InboundTrack| {
            track.spec.payload_type == payload_type || track.spec.rtx_payload_type == Some(payload_type)
        };
        let find = |test: &dyn Fn(&InboundTrack) -> bool| {
            self.inbound.iter().find(|(_, track)| test(track)).map(|(key, _)| key)
        };
        find(&by_ssrc).or_else(|| find(&by_mid)).or_else(|| {
            let mut matching = self.inbound.iter().filter(|(_, track)| by_type(track));
            matching.next().filter(|_| matching.next().is_none()).map(|(key, _)| key)
        })
    }
}
