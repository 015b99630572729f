//! Recordings: RTP packets of one publication to Ogg and `WebM`, without decoding.
//!
//! Sans-IO apart from the files it is given: a [`Recording`] is told the time and the packets and writes to its [`Sink`]s. It
//! reads no clock, starts no thread and knows no async runtime. Where files lie, what they are called and where they are delivered
//! to is `sfu-node`'s.

mod audio;
mod clock;
mod ogg;
mod opus;
mod recover;
mod reorder;
mod sink;
mod summary;
mod tags;
mod timeline;
mod video;
mod vp8;
mod webm;

use std::{
    io,
    time::{Duration, SystemTime},
};

use thiserror::Error;

use audio::AudioTrack;
use clock::LipSync;
use ogg::OggFile;
pub use recover::{RecoverError, recover};
pub use sink::{Sink, SyncPoint};
pub use summary::{Gap, MAX_GAPS, Summary, TrackSummary};
use tags::Tags;
pub use tags::iso_8601;
use video::VideoTrack;
use webm::WebmFile;

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
    tags: Tags,
    audio: Option<AudioTrack>,
    ogg: Option<OggFile<S>>,
    video: Option<VideoTrack>,
    webm: Option<WebmFile<S>>,
    sync: LipSync,
}

impl<S: Sink> Recording<S> {
    /// Begins a recording, and writes what files begin with. With video there are two files: the audio's sink gets Ogg, the video's gets
    /// `WebM` with both tracks in it.
    pub fn new(
        info: &StreamInfo,
        audio: Option<(AudioFormat, S)>,
        video: Option<(VideoFormat, S)>,
    ) -> Result<Self, WriteError> {
        let tags = Tags::begun(info);
        let (track, ogg) = audio.map(|(format, sink)| (AudioTrack::new(format), sink)).unzip();
        let channels = track.as_ref().map(AudioTrack::channels);
        let ogg =
            ogg.map(|sink| OggFile::new(sink, channels.unwrap_or(1), tags.clone())).transpose().map_err(in_ogg)?;
        let (video, webm) = video.map(|(VideoFormat::Vp8, sink)| (VideoTrack::new(), sink)).unzip();
        let webm = webm.map(|sink| WebmFile::new(sink, channels, tags.clone())).transpose().map_err(in_webm)?;
        Ok(Self { tags, audio: track, ogg, video, webm, sync: LipSync::default() })
    }

    /// Takes a packet that was received `now`, the time since the recording began.
    pub fn handle_packet(&mut self, now: Duration, kind: Kind, packet: Packet<'_>) -> Result<(), WriteError> {
        match kind {
            Kind::Audio => {
                let Some(audio) = &mut self.audio else { return Ok(()) };
                audio.handle_packet(now, &packet);
                self.write_audio(now, false)
            }
            Kind::Video => {
                let Some(video) = &mut self.video else { return Ok(()) };
                video.handle_packet(now, &packet);
                self.write_video(now, false)
            }
        }
    }

    /// Takes a sender report.
    pub fn handle_clock(&mut self, _now: Duration, kind: Kind, clock: SenderClock) {
        match (kind, &self.audio, &self.video) {
            (Kind::Audio, Some(audio), _) => self.sync.handle_audio(clock, audio.timeline()),
            (Kind::Video, _, Some(video)) => self.sync.handle_video(clock, video.timeline()),
            _ => {}
        }
    }

    /// Counts packets that were received but did not come to be recorded.
    pub fn handle_dropped(&mut self, kind: Kind, packets: u64) {
        match (kind, &mut self.audio, &mut self.video) {
            (Kind::Audio, Some(audio), _) => audio.handle_dropped(packets),
            (Kind::Video, _, Some(video)) => video.handle_dropped(packets),
            _ => {}
        }
    }

    /// Writes what has waited long enough. To be called at least every 150 ms.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), WriteError> {
        self.write_audio(now, false)?;
        self.write_video(now, false)?;
        self.ogg.as_mut().map_or(Ok(()), |ogg| ogg.flush(now)).map_err(in_ogg)?;
        self.webm.as_mut().map_or(Ok(()), |webm| webm.flush(now)).map_err(in_webm)
    }

    /// Whether the publisher is to be asked for a keyframe: there was none yet, or something was lost that later frames refer to.
    pub fn wants_keyframe(&self) -> bool {
        self.video.as_ref().is_some_and(VideoTrack::wants_keyframe)
    }

    /// Ends the recording: writes all that waited, and what files end with. Gives back the sinks, that of the Ogg file first.
    pub fn finish(mut self, now: Duration) -> (Summary, Vec<S>) {
        let audio_written = self.write_audio(now, true);
        let video_written = self.write_video(now, true);
        let playable = self.audio.as_ref().map_or(0, AudioTrack::playable);
        let ogg_ended = self.ogg.as_mut().map_or(Ok(()), |ogg| ogg.end(playable));
        let webm_ended = self.webm.as_mut().map_or(Ok(()), WebmFile::end);
        // Only now it is known what the files have taken.
        let summary = summary_of(self.audio, self.video, self.ogg.as_ref(), self.webm.as_ref());
        let mut tags = self.tags;
        tags.add_account(&summary);
        let ogg = ogg_ended.and(self.ogg.as_mut().map_or(Ok(()), |ogg| ogg.finish(tags.clone())));
        let webm = webm_ended.and(self.webm.as_mut().map_or(Ok(()), |webm| webm.finish(summary.webm, tags)));
        let all = [audio_written, video_written, ogg.map_err(in_ogg), webm.map_err(in_webm)];
        let unclosed = all.into_iter().find_map(Result::err).map(|error| error.to_string());
        let sinks = self.ogg.map(OggFile::into_sink).into_iter().chain(self.webm.map(WebmFile::into_sink));
        (Summary { unclosed, ..summary }, sinks.collect())
    }

    /// What is written to, that of the Ogg file first.
    pub fn sinks(&self) -> impl Iterator<Item = &S> {
        self.ogg.as_ref().map(OggFile::sink).into_iter().chain(self.webm.as_ref().map(WebmFile::sink))
    }

    /// Puts what can be told of the audio by now into both files, or all of it.
    fn write_audio(&mut self, now: Duration, all: bool) -> Result<(), WriteError> {
        let Some(audio) = &mut self.audio else { return Ok(()) };
        let mut failed = Ok(());
        while let Some(unit) = if all { audio.poll_end(now) } else { audio.poll(now) } {
            // Files get the packet whatever has failed: between those that they have none is left out.
            if let Some(webm) = &mut self.webm {
                let said = webm.set_channels(audio.channels());
                failed = failed.and(said.and(webm.push_audio(&unit)).map_err(in_webm));
            }
            if let Some(ogg) = &mut self.ogg {
                let said = ogg.set_channels(audio.channels());
                failed = failed.and(said.and(ogg.push(unit)).map_err(in_ogg));
            }
        }
        failed
    }

    /// Puts what can be told of the video by now into its file, or all of it.
    fn write_video(&mut self, now: Duration, all: bool) -> Result<(), WriteError> {
        let (Some(video), Some(webm)) = (&mut self.video, &mut self.webm) else { return Ok(()) };
        let mut failed = Ok(());
        loop {
            let line = self.audio.as_ref().map(AudioTrack::timeline);
            let correction = line.and_then(|audio| self.sync.correction(audio, video.timeline()));
            let Some(picture) = video.poll(now, correction, all) else { return failed };
            failed = failed.and(webm.push_video(picture).map_err(in_webm));
        }
    }
}

/// What tracks came to, less what their files could not take.
fn summary_of<S: Sink>(
    audio: Option<AudioTrack>,
    video: Option<VideoTrack>,
    ogg: Option<&OggFile<S>>,
    webm: Option<&WebmFile<S>>,
) -> Summary {
    let (mut audio, mut video) = (audio.map(AudioTrack::into_summary), video.map(VideoTrack::into_summary));
    let longest = audio.iter().chain(&video).map(|track| track.duration).max().unwrap_or_default();
    if let (Some(audio), Some(kept)) = (&mut audio, ogg.and_then(OggFile::shortened)) {
        audio.filled = audio.filled.min(kept.filled());
        audio.shorten(kept.duration(), kept.packets, audio.written.saturating_sub(kept.packets));
    }
    let shortened = webm.and_then(WebmFile::shortened);
    if let (Some(video), Some(kept)) = (&mut video, &shortened) {
        video.shorten(kept.last_picture, kept.pictures, kept.packets_left);
    }
    let ogg = audio.as_ref().map_or(Duration::ZERO, |audio| audio.duration);
    let whole = if webm.is_some() { longest } else { Duration::ZERO };
    let webm = shortened.map_or(whole, |kept| kept.end);
    Summary { duration: ogg.max(webm), ogg, webm, tracks: audio.into_iter().chain(video).collect(), unclosed: None }
}

const fn in_ogg(source: io::Error) -> WriteError {
    WriteError { file: "ogg", source }
}

const fn in_webm(source: io::Error) -> WriteError {
    WriteError { file: "webm", source }
}
