//! Recordings: RTP packets of one publication to Ogg and WebM, without decoding.
//!
//! Sans-IO apart from the files it is given: a [`Recording`] is told the time and the packets and writes to its [`Sink`]s. It
//! reads no clock, starts no thread and knows no async runtime. Where files lie, what they are called and where they are delivered
//! to is `sfu-node`'s.

mod sink;
mod summary;

use std::{
    io,
    time::{Duration, SystemTime},
};

use thiserror::Error;

pub use sink::{Sink, SyncPoint};
pub use summary::{Gap, MAX_GAPS, Summary, TrackSummary};

/// Whose recording it is. It goes into the file's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The room, `rid`.
    pub room: String,
    /// Who published.
    pub uid: String,
    /// The stream.
    pub mid: String,
    /// The recording's id.
    pub recording: String,
    /// When it began: what time zero of the files is.
    pub started: SystemTime,
    /// Program and version that wrote it, such as `sluice 0.1.0`.
    pub encoder: String,
}

/// A track of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Opus.
    Audio,
    /// Pictures.
    Video,
}

/// What was agreed on for audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// 1 or 2, by `stereo` and `sprop-stereo` in the SDP. A packet's own stereo bit may differ from it at any time.
    pub channels: u8,
}

/// What was agreed on for video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoFormat {
    /// VP8, RFC 7741.
    Vp8,
}

/// A received RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Sequence number with its rollovers, continuous over changes of SSRC.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// How often the SSRC changed before this packet.
    pub source: u32,
    /// The marker bit.
    pub marker: bool,
    /// Whether a keyframe begins here.
    pub keyframe: bool,
    /// RTP payload without padding. Empty for a packet that was padding only: it takes its index, but no time and no sound.
    pub payload: &'a [u8],
}

/// A sender report (RFC 3550 6.4.1) of a track: the same moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderClock {
    /// As [`Packet::source`].
    pub source: u32,
    /// NTP time, 32 bits of seconds and 32 of fraction.
    pub ntp: u64,
    /// RTP timestamp of that moment.
    pub rtp: u32,
}

/// A file could not be written. The recording is of no further use but to be finished.
#[derive(Debug, Error)]
#[error("writing the {file} file: {source}")]
pub struct WriteError {
    /// `ogg` or `webm`.
    pub file: &'static str,
    /// What the file said.
    pub source: io::Error,
}

/// The recording of one publication.
#[derive(Debug)]
pub struct Recording<S> {
    sinks: Vec<S>,
}

impl<S: Sink> Recording<S> {
    /// Begins a recording, and writes what files begin with. With video there are two files: `audio` gets the audio in Ogg, `video` both
    /// tracks in WebM.
    pub fn new(
        _info: &StreamInfo,
        _audio: Option<(AudioFormat, S)>,
        _video: Option<(VideoFormat, S)>,
    ) -> Result<Self, WriteError> {
        Ok(Self { sinks: Vec::new() })
    }

    /// Takes a packet that was received `now`, the time since the recording began.
    pub fn handle_packet(&mut self, _now: Duration, _kind: Kind, _packet: Packet<'_>) -> Result<(), WriteError> {
        Ok(())
    }

    /// Takes a sender report.
    pub fn handle_clock(&mut self, _now: Duration, _kind: Kind, _clock: SenderClock) {}

    /// Counts packets that were received but did not come to be recorded.
    pub fn handle_dropped(&mut self, _kind: Kind, _packets: u64) {}

    /// Writes what has waited long enough. To be called at least every 250 ms.
    pub fn handle_timeout(&mut self, _now: Duration) -> Result<(), WriteError> {
        Ok(())
    }

    /// Whether the publisher is to be asked for a keyframe: there was none yet, or something was lost that later frames refer to.
    pub fn wants_keyframe(&self) -> bool {
        false
    }

    /// Ends the recording: writes all that waited, and what files end with. Gives back the sinks, that of the Ogg file first.
    pub fn finish(self, now: Duration) -> (Summary, Vec<S>) {
        (Summary { duration: now, tracks: Vec::new(), unclosed: None }, self.sinks)
    }
}

/// Why a file left by a killed process could not be recovered.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// It could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends before anything that can be played: the process was killed as it began.
    #[error("nothing in it can be played")]
    Empty,
    /// It is not a file that a recording wrote.
    #[error("not a recording: {0}")]
    Foreign(&'static str),
}

/// Closes a file that a killed process left: cuts it at its last whole page or cluster, and writes what such a file ends with. Does
/// nothing to one that is complete.
pub fn recover(_path: &std::path::Path) -> Result<Summary, RecoverError> {
    Err(RecoverError::Empty)
}
