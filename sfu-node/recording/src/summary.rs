//! What is told of a recording when it has ended: for its manifest, and for its file's tags.

use std::time::Duration;

use crate::Kind;

/// Gaps of a track that are told one by one; what comes after them is only counted.
pub const MAX_GAPS: usize = 1_000;

/// What a recording came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of its longest file.
    pub duration: Duration,
    /// Length of the Ogg file, 0 if there is none.
    pub ogg: Duration,
    /// Length of the `WebM` file, 0 if there is none.
    pub webm: Duration,
    /// What each track came to, audio first.
    pub tracks: Vec<TrackSummary>,
    /// Why a file could not be closed as it should. What is in it can be played all the same.
    pub unclosed: Option<String>,
}

/// What a track came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSummary {
    /// Audio or video.
    pub kind: Kind,
    /// `opus` or `vp8`.
    pub codec: &'static str,
    /// The file it is in: `ogg` or `webm`. Audio with video beside it is in both, and told for `ogg`.
    pub file: &'static str,
    /// Channels of audio, 0 for video.
    pub channels: u8,
    /// Size of the first picture, 0 for audio.
    pub width: u16,
    /// Size of the first picture, 0 for audio.
    pub height: u16,
    /// Length of the track in its file.
    pub duration: Duration,
    /// Packets of audio, frames of video, that are in the file as they were sent.
    pub written: u64,
    /// Packets received, those that were padding only included. Of a recovered file what is known of them: as many as [`Self::written`].
    pub packets: u64,
    /// Packets that were sent but are not in the file, for they never came, came too late, were dropped here, or a full disk did not take
    /// them.
    pub lost: u64,
    /// Of the lost ones, those that came too late.
    pub late: u64,
    /// Of the lost ones, those that the node dropped on their way to the file.
    pub dropped: u64,
    /// Packets that are not what their codec says, or claim more time than has passed. They are not in the file.
    pub invalid: u64,
    /// Frames of video left out because something they refer to was lost, or came before the first keyframe.
    pub undecodable: u64,
    /// Time that the file has silence or concealment for: lost, muted, or not sent for being silent.
    pub filled: Duration,
    /// Where something is missing, the first [`MAX_GAPS`] of it.
    pub gaps: Vec<Gap>,
    /// Gaps beyond those.
    pub more_gaps: u64,
    /// Changes of SSRC.
    pub source_changes: u32,
    /// Times its timestamps went on from another value than the time that had passed.
    pub jumps: u64,
}

impl TrackSummary {
    /// Of nothing yet.
    pub const fn new(kind: Kind, codec: &'static str, file: &'static str) -> Self {
        Self {
            kind,
            codec,
            file,
            channels: 0,
            width: 0,
            height: 0,
            duration: Duration::ZERO,
            written: 0,
            packets: 0,
            lost: 0,
            late: 0,
            dropped: 0,
            invalid: 0,
            undecodable: 0,
            filled: Duration::ZERO,
            gaps: Vec::new(),
            more_gaps: 0,
            source_changes: 0,
            jumps: 0,
        }
    }

    /// Says that all the packets that are known to be lost are: of those before the first that came and after the last only their own count
    /// tells.
    pub(crate) fn close(&mut self) {
        self.lost = self.lost.max(self.late + self.dropped);
    }

    /// Says that its file has `written` and ends at `end`, for more could not be written: `unwritten` packets are not in it.
    pub(crate) fn shorten(&mut self, end: Duration, written: u64, unwritten: u64) {
        self.duration = end;
        self.written = written;
        self.lost += unwritten;
        self.gaps.retain_mut(|gap| {
            gap.length = gap.length.min(end.saturating_sub(gap.at));
            !gap.length.is_zero()
        });
    }

    /// Notes a gap, or only counts it.
    pub(crate) fn push_gap(&mut self, gap: Gap) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        } else {
            self.more_gaps += 1;
        }
    }
}

/// A span of a track without what was sent, or without anything having been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins in the file.
    pub at: Duration,
    /// How long it is.
    pub length: Duration,
}
