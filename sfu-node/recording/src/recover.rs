//! Files that a killed process left: cut at their last whole page or cluster, and closed.
//!
//! What was lost while such a file was written is not known any more, only what is in it. A file that is read here was written by a
//! recording; all the same nothing in it is trusted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use mkv_element::prelude::{Cluster, Element};
use thiserror::Error;

use crate::{
    Kind, Summary, TrackSummary,
    audio::PRE_SKIP,
    ogg::{Page, head_with, mark_last, read_opus_tags},
    opus::{self, OpusPacket},
    timeline::time,
    webm::{AUDIO, Complete, Head, Index, VIDEO, read_cluster, split_element},
};

/// The largest piece a file consists of: a cluster with the largest frame in it, and what is written before it is full.
const MAX_PIECE: usize = 4 << 20;

/// The largest page of Ogg (RFC 3533 6).
const MAX_PAGE: usize = 27 + 255 + 255 * 255;

/// The longest that a file begins with, whatever its tags say: what is longer than this has something in it.
const MAX_HEAD: u64 = 8 << 10;

/// Why a file left by a killed process could not be recovered.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// It could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is hardly longer than what a file begins with, and has nothing that can be played: the process was killed as it began.
    #[error("nothing in it can be played")]
    Empty,
    /// It is not a file that a recording wrote.
    #[error("not a recording: {0}")]
    Foreign(&'static str),
}

/// Closes a file that a killed process left: cuts it at its last whole page or cluster, and writes what such a file ends with. Does
/// nothing to one that is complete.
pub fn recover(path: &Path) -> Result<Summary, RecoverError> {
    let mut pieces = Pieces::new(OpenOptions::new().read(true).write(true).open(path)?)?;
    let start = pieces.at(0)?;
    if start.starts_with(b"OggS") {
        recover_ogg(pieces)
    } else if start.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
        recover_webm(pieces)
    } else if start.is_empty() {
        Err(RecoverError::Empty)
    } else {
        Err(RecoverError::Foreign("neither Ogg nor WebM"))
    }
}

/// A file that is read piece by piece.
struct Pieces {
    file: File,
    len: u64,
    /// What was read, and from where.
    start: u64,
    bytes: Vec<u8>,
}

impl Pieces {
    fn new(mut file: File) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, len, start: 0, bytes: Vec::new() })
    }

    /// What is in the file from there on, the largest piece or more, unless it ends before.
    fn at(&mut self, at: u64) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || end < self.len.min(at + MAX_PIECE as u64) {
            self.file.seek(SeekFrom::Start(at))?;
            self.bytes.clear();
            self.start = at;
            (&mut self.file).take(2 * MAX_PIECE as u64).read_to_end(&mut self.bytes)?;
        }
        Ok(&self.bytes[(at - self.start) as usize..])
    }

    /// What a file is in which nothing can be found: one that has only begun, or, if it is longer than that, a damaged one. That may hold an
    /// hour that somebody can save.
    fn nothing(&self, missing: &'static str) -> RecoverError {
        if self.len <= MAX_HEAD { RecoverError::Empty } else { RecoverError::Foreign(missing) }
    }

    /// Refuses a file of which more is left from there on than the piece that was being written: not its end is damaged, and what comes after
    /// is not to be cut off.
    fn ends_near(&self, at: u64, piece: usize) -> Result<(), RecoverError> {
        let left = self.len.saturating_sub(at);
        if left <= piece as u64 { Ok(()) } else { Err(RecoverError::Foreign("it is damaged in its middle")) }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)
    }
}

/// What is found of an audio track.
struct Audio {
    summary: TrackSummary,
    samples: u64,
    filled: u64,
}

impl Audio {
    fn new(file: &'static str, channels: u8) -> Self {
        let summary = TrackSummary { channels, ..TrackSummary::new(Kind::Audio, "opus", file) };
        Self { summary, samples: 0, filled: 0 }
    }

    /// Counts a packet; says how long it is.
    fn push(&mut self, packet: &[u8]) -> u32 {
        let samples = OpusPacket::parse(packet).map_or(0, |packet| packet.samples);
        self.samples += u64::from(samples);
        // Those that stand for what was missing cannot be told from a silent microphone's: they are packets of the file, too.
        self.summary.written += 1;
        self.summary.packets += 1;
        if packet.len() == 1 || opus::is_silence(packet) {
            self.filled += u64::from(samples);
        }
        samples
    }

    fn into_summary(self, playable: u64) -> TrackSummary {
        TrackSummary { duration: time(playable, opus::RATE), filled: time(self.filled, opus::RATE), ..self.summary }
    }
}

fn recover_ogg(mut pieces: Pieces) -> Result<Summary, RecoverError> {
    let bytes = pieces.at(0)?;
    let pages = Page::parse(bytes).and_then(|first| Some((first, Page::parse(&bytes[first.bytes.len()..])?)));
    let Some((first, second)) = pages else { return Err(pieces.nothing("its first pages are damaged")) };
    let channels = match first.packets().next() {
        Some([b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', 1, channels @ 1..=2, ..]) => *channels,
        _ => return Err(RecoverError::Foreign("no OpusHead")),
    };
    let tags = second.packets().next().and_then(read_opus_tags).ok_or(RecoverError::Foreign("no OpusTags"))?;
    let (serial, head) = (first.serial(), first.bytes.len() + second.bytes.len());

    let mut audio = Audio::new("ogg", channels);
    let (mut at, mut last) = (head as u64, None);
    while let Some(page) = Page::parse(pieces.at(at)?) {
        page.packets().for_each(|packet| _ = audio.push(packet));
        last = Some((at, page.position(), page.is_last()));
        at += page.bytes.len() as u64;
    }
    let (last_at, position, is_last) = last.ok_or_else(|| pieces.nothing("no page of sound is whole"))?;
    pieces.ends_near(at, MAX_PAGE)?;
    if !is_last || at < pieces.len {
        pieces.file.set_len(at)?;
        let mut page = pieces.at(last_at)?[..(at - last_at) as usize].to_vec();
        mark_last(&mut page);
        pieces.write(last_at, &page)?;
        let mut tags = tags;
        tags.add_recovered();
        pieces.write(0, &head_with(serial, channels, &tags, head)?)?;
        pieces.file.sync_all()?;
    }
    let track = audio.into_summary(position.saturating_sub(PRE_SKIP.into()));
    let duration = track.duration;
    Ok(Summary { duration, ogg: duration, tracks: vec![track], ..Summary::default() })
}

fn recover_webm(mut pieces: Pieces) -> Result<Summary, RecoverError> {
    let head = Head::decode(pieces.at(0)?);
    let (mut head, head_len) = head.ok_or_else(|| pieces.nothing("its head is damaged"))?;
    let start = head.segment_start()?;
    let mut found = Found::new(&head);
    let mut at = head_len as u64;
    loop {
        let bytes = pieces.at(at)?;
        let Some((id, body, after)) = split_element(bytes) else { break };
        if id != *Cluster::ID {
            break;
        }
        found.push_cluster(body, at - start);
        at += (bytes.len() - after.len()) as u64;
    }
    if found.is_empty() {
        return Err(pieces.nothing("no cluster is whole"));
    }
    let is_complete = head.complete.is_some_and(|complete| complete.segment + start == pieces.len);
    let duration = found.duration();
    pieces.ends_near(at, MAX_PIECE)?;
    if !is_complete {
        pieces.file.set_len(at)?;
        let cues = found.index.encode()?;
        pieces.write(at, &cues)?;
        let segment = at + cues.len() as u64 - start;
        head.complete = Some(Complete { segment, cues: (!cues.is_empty()).then_some(at - start) });
        head.set_duration(duration);
        if let Some((width, height)) = found.picture {
            head.set_picture(width, height);
        }
        head.tags.add_recovered();
        pieces.write(0, &head.encode(Some(head_len))?)?;
        pieces.file.sync_all()?;
    }
    Ok(Summary { duration, webm: duration, tracks: found.into_tracks(), ..Summary::default() })
}

/// What is found in clusters.
struct Found {
    audio: Option<Audio>,
    audio_end: Duration,
    video: TrackSummary,
    picture: Option<(u16, u16)>,
    index: Index,
}

impl Found {
    fn new(head: &Head) -> Self {
        let (width, height) = head.picture();
        Self {
            audio: head.channels().map(|channels| Audio::new("webm", channels)),
            audio_end: Duration::ZERO,
            video: TrackSummary { width, height, ..TrackSummary::new(Kind::Video, "vp8", "webm") },
            picture: None,
            index: Index::default(),
        }
    }

    fn push_cluster(&mut self, body: &[u8], position: u64) {
        let mut is_indexed = false;
        for block in read_cluster(body) {
            let at = Duration::from_millis(block.at);
            match (block.track, &mut self.audio) {
                (VIDEO, _) => {
                    // What packets they came in is not known any more.
                    self.video.written += 1;
                    self.video.packets += 1;
                    self.video.duration = self.video.duration.max(at);
                    if block.keyframe {
                        self.picture = self.picture.or_else(|| crate::vp8::picture_size(block.data));
                        if !is_indexed {
                            self.index.push(block.at, position);
                            is_indexed = true;
                        }
                    }
                }
                (AUDIO, Some(audio)) => {
                    let samples = audio.push(block.data);
                    self.audio_end = self.audio_end.max(at + time(samples.into(), opus::RATE));
                }
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.video.written == 0 && self.audio_end == Duration::ZERO
    }

    fn duration(&self) -> Duration {
        self.video.duration.max(self.audio_end.saturating_sub(time(PRE_SKIP.into(), opus::RATE)))
    }

    fn into_tracks(self) -> Vec<TrackSummary> {
        let mut tracks = Vec::new();
        if let Some(audio) = self.audio {
            let playable = audio.samples.saturating_sub(PRE_SKIP.into());
            tracks.push(audio.into_summary(playable));
        }
        let mut video = self.video;
        if let Some((width, height)) = self.picture {
            (video.width, video.height) = (width, height);
        }
        tracks.push(video);
        tracks
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, time::SystemTime};

    use super::*;
    use crate::{AudioFormat, Recording, StreamInfo, VideoFormat};

    #[test]
    fn no_head_is_longer_than_what_is_taken_for_one() {
        let long = || "é".repeat(500);
        let (room, uid, mid, recording, encoder) = (long(), long(), long(), long(), long());
        let info = StreamInfo { room, uid, mid, recording, started: SystemTime::UNIX_EPOCH, encoder };
        let file = || Cursor::new(Vec::new());
        let (audio, video) = ((AudioFormat { channels: 2 }, file()), (VideoFormat::Vp8, file()));
        let begun = Recording::new(&info, Some(audio), Some(video)).expect("memory takes all");
        for file in begun.sinks() {
            let len = file.get_ref().len() as u64;
            assert!((MAX_HEAD / 4..=MAX_HEAD).contains(&len), "{len}");
        }
    }
}
