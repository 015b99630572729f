//! One track on its way in: which of a transport's SSRCs carry it, and what is told to its publisher.

use crate::{
    handle::PublicationHandle, nack::NackTracker, reception::Reception, sdp::ReceiveTrack, srtp::ReplayWindow,
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
}

/// What is kept per media SSRC.
pub(super) struct Media {
    pub(super) ssrc: u32,
    /// Added to a packet's sequence number with rollover counter, so that positions grow over changes of SSRC.
    pub(super) offset: u64,
    pub(super) reception: Reception,
    pub(super) nack: Option<NackTracker>,
}

impl InboundTrack {
    /// Distance kept between the packets of two sources: further than any ring reaches.
    const SOURCE_GAP: u64 = 4_096;

    pub(super) fn new(publication: PublicationHandle, spec: ReceiveTrack, source: usize) -> Self {
        Self { publication, spec, source, media: None, source_number: 0 }
    }

    /// The track's media comes from `ssrc` now, the first packet of which has sequence number `seq` and which follows
    /// position `newest` of the source before it.
    pub(super) fn begin(&mut self, ssrc: u32, index: u64, newest: Option<u64>) {
        let offset = newest.map_or(0, |newest| (newest + Self::SOURCE_GAP).saturating_sub(index));
        if self.media.is_some() {
            self.source_number += 1;
        }
        let nack = self.spec.feedback.nack.then(NackTracker::new);
        self.media = Some(Media { ssrc, offset, reception: Reception::new(self.spec.clock_rate), nack });
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
