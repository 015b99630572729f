//! One track on its way in: which of a transport's SSRCs carry it, and what is told to its publisher.

use std::{
    ops::{Index, IndexMut},
    time::{Duration, Instant},
};

use super::pace::{Pace, Rate};
use crate::{
    handle::PublicationHandle,
    nack::NackTracker,
    reception::Reception,
    sdp::{MediaKind, ReceiveTrack},
    srtp::{MAX_SOURCES, ReplayWindow},
};

/// A published track at the transport that receives it.
pub(super) struct InboundTrack {
    pub(super) publication: PublicationHandle,
    pub(super) spec: ReceiveTrack,
    /// Key of the source that is fed.
    pub(super) source: usize,
    /// The SSRC of the media, once the first packet has come.
    pub(super) media: Option<Media>,
    /// Counts SSRCs that have carried the media.
    pub(super) source_number: u32,
    /// Its packets that were taken in, retransmissions included.
    packets: Pace,
    /// Its sender reports that were.
    reports: Pace,
    /// Full intra requests sent so far: each has a number of its own.
    pub(super) intra_requests: u8,
}

/// What is kept per media SSRC.
pub(super) struct Media {
    pub(super) ssrc: u32,
    /// Added to a packet's sequence number with rollover counter, so that positions grow over changes of SSRC.
    pub(super) offset: u64,
    /// When its first and its last packet came.
    pub(super) began: Instant,
    pub(super) heard: Instant,
    pub(super) reception: Reception,
    pub(super) nack: Option<NackTracker>,
    /// Nearly all of it was dropped unopened until now: what comes next does not continue what is in the ring.
    pub(super) shed: bool,
}

impl InboundTrack {
    /// Distance kept between the packets of two sources: further than any ring reaches.
    const SOURCE_GAP: u64 = 4_096;
    /// A source is alive for this long after a packet. Sources that live make no longer pauses: Opus in silence sends every
    /// 400 ms, a browser's muted camera once a second. Retransmissions of a source that was replaced come no later, either.
    pub(super) const SOURCE_ALIVE: Duration = Duration::from_secs(2);
    /// The same for audio that another source goes on with: what comes between is lost to everybody. If the first was only held up, it
    /// takes over again.
    const AUDIO_ALIVE: Duration = Duration::from_millis(500);
    /// How far ahead of the newest packet a retransmission may be: the end of a burst that was lost to the last packet. Further
    /// ahead it belongs to another source, or to nothing.
    pub(super) const MAX_AHEAD: u64 = 128;

    /// Ten thousand packets of video a second, many times a good screen share's; half as many at once, when a network lets go what it
    /// held back. Each of them costs a packet to every subscriber, or a message to every shard, and a shard has more to do than one
    /// track.
    const VIDEO_PACKETS: Rate = Rate { interval: Duration::from_micros(100), burst: 5_000 };
    /// Opus has frames of 2.5 ms at least. Two seconds' worth at once.
    const AUDIO_PACKETS: Rate = Rate { interval: Duration::from_millis(2), burst: 1_000 };
    /// Browsers send one or two sender reports a second. Fifty fit a datagram, and each is a message to every shard that watches.
    const SENDER_REPORTS: Rate = Rate { interval: Duration::from_millis(50), burst: 10 };

    pub(super) fn new(publication: PublicationHandle, spec: ReceiveTrack, source: usize) -> Self {
        Self {
            publication,
            spec,
            source,
            media: None,
            source_number: 0,
            packets: Pace::default(),
            reports: Pace::default(),
            intra_requests: 0,
        }
    }

    /// Whether one more packet is within the track's rate.
    #[inline]
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        let rate = match self.spec.kind {
            MediaKind::Video => &Self::VIDEO_PACKETS,
            MediaKind::Audio => &Self::AUDIO_PACKETS,
        };
        self.packets.take(now, rate)
    }

    /// Whether one more sender report is.
    pub(super) fn admits_report(&mut self, now: Instant) -> bool {
        self.reports.take(now, &Self::SENDER_REPORTS)
    }

    /// Whether a packet of `ssrc`, which does not carry the media now, shows that it does from now on. `carried_before` if it once
    /// did. Sources change by themselves only when SSRCs collide or a publisher was rebuilt, so what was signalled goes before
    /// what is new, and what is new before what comes late.
    pub(super) fn is_followed_by(&self, now: Instant, ssrc: u32, carried_before: bool) -> bool {
        let Some(media) = &self.media else { return true };
        let alive = match self.spec.kind {
            MediaKind::Video => Self::SOURCE_ALIVE,
            MediaKind::Audio => Self::AUDIO_ALIVE,
        };
        if now >= media.heard + alive {
            return true;
        }
        self.spec.ssrc != Some(media.ssrc) && (self.spec.ssrc == Some(ssrc) || !carried_before)
    }

    /// The media source whose packets are sent again on `rtx_ssrc`, as far as that can be known.
    pub(super) fn repaired_by(&self, rtx_ssrc: u32) -> Option<u32> {
        let announced = self.spec.ssrc.filter(|_| self.spec.rtx_ssrc == Some(rtx_ssrc));
        announced.or(self.media.as_ref().map(|media| media.ssrc))
    }

    /// The track's media comes from `ssrc` now, the first packet of which has sequence number `seq` and which follows
    /// position `newest` of the source before it.
    pub(super) fn begin(&mut self, now: Instant, ssrc: u32, index: u64, newest: Option<u64>) {
        let offset = newest.map_or(0, |newest| (newest + Self::SOURCE_GAP).saturating_sub(index));
        if self.media.is_some() {
            self.source_number += 1;
        }
        let nack = self.spec.feedback.nack.then(NackTracker::new);
        let reception = Reception::new(self.spec.clock_rate);
        self.media = Some(Media { ssrc, offset, began: now, heard: now, reception, nack, shed: false });
    }

    /// `ssrc` carries this track's media.
    pub(super) fn is_carried_by(&self, ssrc: u32) -> bool {
        self.media.as_ref().is_some_and(|media| media.ssrc == ssrc)
    }
}

/// An SSRC that a transport has proven to send.
pub(super) struct ReceivedSsrc {
    pub(super) ssrc: u32,
    pub(super) window: ReplayWindow,
    pub(super) carries: Carries,
    /// It is, or was, the source of its track's media.
    pub(super) carried_before: bool,
    /// The source of media that its retransmissions are of.
    pub(super) repairs: Option<u32>,
    /// Packets dropped unopened since one was opened.
    pub(super) unopened: u8,
}

impl ReceivedSsrc {
    pub(super) fn new(ssrc: u32, carries: Carries, repairs: Option<u32>) -> Self {
        Self { ssrc, window: ReplayWindow::new(), carries, carried_before: false, repairs, unopened: 0 }
    }
}

/// The SSRCs that a transport has proven to send, in the order in which they came. They are looked through for every packet, so
/// the numbers are kept apart from the rest.
#[derive(Default)]
pub(super) struct ReceivedSsrcs {
    ssrcs: Vec<u32>,
    states: Vec<ReceivedSsrc>,
}

impl ReceivedSsrcs {
    /// The position of `ssrc`.
    #[inline]
    pub(super) fn find(&self, ssrc: u32) -> Option<usize> {
        self.ssrcs.iter().position(|known| *known == ssrc)
    }

    /// Adds an SSRC that is not there yet and gives its position; `None` when there are too many. None is ever removed: its
    /// packets could be replayed.
    pub(super) fn insert(&mut self, received: ReceivedSsrc) -> Option<usize> {
        if self.ssrcs.len() == MAX_SOURCES {
            return None;
        }
        self.ssrcs.push(received.ssrc);
        self.states.push(received);
        Some(self.states.len() - 1)
    }

    pub(super) fn first(&self) -> Option<&ReceivedSsrc> {
        self.states.first()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ReceivedSsrc> {
        self.states.iter_mut()
    }
}

impl Index<usize> for ReceivedSsrcs {
    type Output = ReceivedSsrc;

    fn index(&self, position: usize) -> &ReceivedSsrc {
        &self.states[position]
    }
}

impl IndexMut<usize> for ReceivedSsrcs {
    fn index_mut(&mut self, position: usize) -> &mut ReceivedSsrc {
        &mut self.states[position]
    }
}

/// What an SSRC carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// Media of the transport's inbound track with this key.
    Media(usize),
    /// Retransmissions for it.
    Retransmission(usize),
    /// What it carried has ended. Its window stays, for its keys are still in use; it may come to carry another track.
    Nothing,
}

impl Carries {
    /// The key of the inbound track that it belongs to.
    #[inline]
    pub(super) fn track(self) -> Option<usize> {
        match self {
            Self::Media(track) | Self::Retransmission(track) => Some(track),
            Self::Nothing => None,
        }
    }
}
