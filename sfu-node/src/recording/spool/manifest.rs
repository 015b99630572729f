//! What is written about a recording: at its start and its end for ourselves, in the spool, and at last the manifest, for
//! whoever uses it. The manifest's schema is docs/recording.schema.json; a change that readers must know of makes it version 2.

use std::time::{Duration, SystemTime};

use proto::ids::{Mid, NodeId, PeerId, RecordingId, RoomId};
use recording::{Kind, Summary, TrackSummary, iso_8601};
use serde::{Deserialize, Serialize};

use super::names::{Name, from_unix_ms};

/// Version of the manifest's schema.
const VERSION: u32 = 1;

/// What is known when a recording starts: all that recovery could not find out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) recording: RecordingId,
    pub(super) room: RoomId,
    pub(super) uid: PeerId,
    pub(super) mid: Mid,
    pub(super) node: NodeId,
    /// Since 1970.
    pub(super) started_ms: u64,
    /// Which files there are.
    pub(super) files: Vec<FileKind>,
}

/// What is known when its files are closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) reason: Reason,
    pub(super) detail: Option<String>,
    pub(super) recovered: bool,
    pub(super) duration_ms: u64,
    pub(super) tracks: Vec<Track>,
    pub(super) files: Vec<ClosedFile>,
}

/// A file as it was when it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClosedFile {
    pub(super) kind: FileKind,
    pub(super) bytes: u64,
    pub(super) duration_ms: u64,
}

/// A file of a recording, by what is in it; also its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileKind {
    /// Ogg: the sound.
    Ogg,
    /// `WebM`: picture and sound.
    Webm,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Somebody stopped it.
    Stopped,
    /// The stream ended.
    PublicationEnded,
    /// The spool was full.
    DiskFull,
    /// It could not be written.
    Failed,
    /// The node went away in order.
    NodeEnding,
    /// It had become as long as recordings may.
    Limit,
    /// The process was killed, or lost it: what it had written was closed later.
    Interrupted,
}

/// What is told of a delivered recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u32,
    recording: RecordingId,
    room: RoomId,
    uid: PeerId,
    mid: Mid,
    node: NodeId,
    started: String,
    ended: String,
    duration_ms: u64,
    reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    recovered: bool,
    pub(super) files: Vec<DeliveredFile>,
    tracks: Vec<Track>,
}

/// A file, as the manifest tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeliveredFile {
    /// In the manifest's folder.
    pub(super) name: String,
    pub(super) kind: FileKind,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    codecs: Vec<String>,
    duration_ms: u64,
}

/// A track, likewise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Track {
    kind: TrackKind,
    codec: String,
    /// Of sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channels: Option<u8>,
    /// Of the first picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    width: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    height: Option<u16>,
    duration_ms: u64,
    written: u64,
    packets: u64,
    lost: u64,
    late: u64,
    dropped: u64,
    invalid: u64,
    undecodable: u64,
    filled_ms: u64,
    gaps: Vec<Gap>,
    gaps_omitted: u64,
    source_changes: u32,
    jumps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TrackKind {
    Audio,
    Video,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    at_ms: u64,
    length_ms: u64,
}

impl FileKind {
    /// Of a file's name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Ogg => "ogg",
            Self::Webm => "webm",
        }
    }

    /// How long the file of this kind plays.
    pub(super) fn duration(self, summary: &Summary) -> Duration {
        match self {
            Self::Ogg => summary.ogg,
            Self::Webm => summary.webm,
        }
    }
}

impl ClosedFile {
    /// A file of so many bytes, of what this tells of.
    pub(super) fn of(kind: FileKind, bytes: u64, summary: &Summary) -> Self {
        Self { kind, bytes, duration_ms: ms(kind.duration(summary)) }
    }
}

impl Start {
    /// What the recording is called.
    pub(super) fn name(&self) -> Name {
        Name::new(&self.room, &self.uid, &self.recording, self.started())
    }

    fn started(&self) -> SystemTime {
        from_unix_ms(self.started_ms)
    }
}

impl End {
    /// Of files that were closed in order.
    pub(super) fn of(summary: &Summary, reason: Reason, detail: Option<String>, files: Vec<(FileKind, u64)>) -> Self {
        let tracks = summary.tracks.iter().map(Track::of).collect();
        let files = files.into_iter().map(|(kind, bytes)| ClosedFile::of(kind, bytes, summary)).collect();
        let detail = detail.or_else(|| summary.unclosed.clone());
        Self { reason, detail, recovered: false, duration_ms: ms(summary.duration), tracks, files }
    }
}

impl Manifest {
    /// Of a recording whose files have these hashes, in the order of `end.files`.
    pub(super) fn new(start: &Start, end: End, hashes: Vec<String>) -> Self {
        let name = start.name();
        let started = start.started();
        let described = |(file, sha256): (&ClosedFile, String)| {
            describe(name.file(file.kind.extension()), *file, sha256, &end.tracks)
        };
        let files = end.files.iter().zip(hashes).map(described).collect();
        Self {
            version: VERSION,
            recording: start.recording.clone(),
            room: start.room.clone(),
            uid: start.uid.clone(),
            mid: start.mid.clone(),
            node: start.node.clone(),
            started: iso_8601(started),
            ended: iso_8601(started + Duration::from_millis(end.duration_ms)),
            duration_ms: end.duration_ms,
            reason: end.reason,
            detail: end.detail,
            recovered: end.recovered,
            files,
            tracks: end.tracks,
        }
    }

    /// As it is delivered.
    pub(crate) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("invariant: nothing in it can fail to be written");
        json.push('\n');
        json
    }

    /// Which recording it is of.
    pub(crate) fn recording(&self) -> &RecordingId {
        &self.recording
    }

    /// Whether its files were closed after the process that wrote them was gone.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// How long it is.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }

    /// The room it was in.
    pub(crate) fn room(&self) -> &RoomId {
        &self.room
    }

    /// Whose stream it is of.
    pub(crate) fn uid(&self) -> &PeerId {
        &self.uid
    }

    /// The stream.
    pub(crate) fn mid(&self) -> &Mid {
        &self.mid
    }

    /// As [`Self::to_json`] has it.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("invariant: nothing in it can fail to be written")
    }
}

impl Track {
    pub(super) fn of(track: &TrackSummary) -> Self {
        let gap = |gap: &recording::Gap| Gap { at_ms: ms(gap.at), length_ms: ms(gap.length) };
        let picture = track.kind == Kind::Video;
        Self {
            kind: if picture { TrackKind::Video } else { TrackKind::Audio },
            codec: track.codec.to_owned(),
            channels: (!picture).then_some(track.channels),
            width: picture.then_some(track.width),
            height: picture.then_some(track.height),
            duration_ms: ms(track.duration),
            written: track.written,
            packets: track.packets,
            lost: track.lost,
            late: track.late,
            dropped: track.dropped,
            invalid: track.invalid,
            undecodable: track.undecodable,
            filled_ms: ms(track.filled),
            gaps: track.gaps.iter().map(gap).collect(),
            gaps_omitted: track.more_gaps,
            source_changes: track.source_changes,
            jumps: track.jumps,
        }
    }

    /// Whether it is in a file of this kind: an Ogg holds no picture, a `WebM` all there is.
    fn is_in(&self, kind: FileKind) -> bool {
        kind == FileKind::Webm || self.kind == TrackKind::Audio
    }
}

fn describe(name: String, file: ClosedFile, sha256: String, tracks: &[Track]) -> DeliveredFile {
    let ClosedFile { kind, bytes, duration_ms } = file;
    let tracks = || tracks.iter().filter(|track| track.is_in(kind));
    // Picture first, as players list them.
    let pictures_first =
        |of: TrackKind| tracks().filter(move |track| track.kind == of).map(|track| track.codec.clone());
    DeliveredFile {
        name,
        kind,
        bytes,
        sha256,
        codecs: pictures_first(TrackKind::Video).chain(pictures_first(TrackKind::Audio)).collect(),
        duration_ms,
    }
}

/// Whole milliseconds of it.
fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
