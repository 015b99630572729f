//! What a peer is made from.

use super::{Certificate, Media, Section};
use std::time::Duration;

/// A clock that stamps media: no two are alike, and none runs like the wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MediaClock {
    /// What it showed when the peer was made.
    pub start: u32,
    /// By how much it is too fast, in millionths.
    pub drift: f64,
}

impl MediaClock {
    pub(super) fn at(self, elapsed: Duration, media: Media) -> u32 {
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

    pub(super) fn clock(&self, media: Media) -> MediaClock {
        match media {
            Media::Audio => self.audio_clock,
            Media::Video => self.video_clock,
        }
    }
}

pub(super) fn clock_rate(media: Media) -> u32 {
    match media {
        Media::Audio => 48_000,
        Media::Video => 90_000,
    }
}
