//! A recording on its writer's thread: its files, what writes them, and how it ends. What panics in there ends this recording alone.

use std::io::{self, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use ::recording::{
    AudioFormat, Kind, Packet, Recording, SenderClock, Sink, StreamInfo, SyncPoint, VideoFormat, WriteError,
};
use metrics::Counter;
use sfu_core::sdp::MediaKind;

use super::batch::Flags;
use super::settings::Fsync;
use super::{
    Change, CreateError, Destination, EndReason, Files, Finished, NewRecording, RecordingEvent, StartRecording,
};

/// A recording that begins.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub(super) start: StartRecording,
    /// Time zero of its files, on both clocks.
    pub(super) began: Instant,
    pub(super) started: SystemTime,
    pub(super) flags: Arc<Flags>,
}

/// A recording under way.
pub(super) struct Open<D: Destination> {
    begin: Begin,
    name: D::Name,
    recording: Recording<Metered<D::File>>,
    /// It is told no time before this one: packets of one round may come in another order than they were received in.
    told: Duration,
}

/// How files are written.
#[derive(Clone)]
pub(super) struct Writing {
    pub(super) fsync: Fsync,
    pub(super) bytes: Counter,
}

/// A file that counts what is written, and is synced as set.
pub(super) struct Metered<F> {
    file: F,
    writing: Writing,
}

impl Begin {
    pub(super) fn event(&self, change: Change) -> RecordingEvent {
        let StartRecording { recording, room, uid, mid, trace, .. } = self.start.clone();
        RecordingEvent { recording, room, uid, mid, trace, change }
    }

    /// The first track of this kind.
    fn stereo(&self, kind: MediaKind) -> Option<bool> {
        self.start.tracks.iter().find(|track| track.kind == kind).map(|track| track.stereo)
    }

    fn new_recording(&self) -> NewRecording {
        let StartRecording { recording, room, uid, mid, .. } = self.start.clone();
        let [audio, video] = [MediaKind::Audio, MediaKind::Video].map(|kind| self.stereo(kind).is_some());
        NewRecording { recording, room, uid, mid, started: self.started, audio, video }
    }

    fn stream(&self) -> StreamInfo {
        let StartRecording { recording, room, uid, mid, .. } = &self.start;
        StreamInfo {
            room: room.to_string(),
            uid: uid.to_string(),
            mid: mid.to_string(),
            recording: recording.to_string(),
            started: self.started,
            encoder: concat!("sluice ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The files of a recording, with what they begin with.
struct Created<D: Destination> {
    name: D::Name,
    recording: Recording<Metered<D::File>>,
}

impl<D: Destination> Open<D> {
    /// Makes its files and writes what they begin with.
    pub(super) fn begin(begin: Begin, destination: &D, writing: &Writing) -> Result<Self, EndReason> {
        match contained(|| Self::create(&begin, destination, writing)) {
            Ok(Created { name, recording }) => Ok(Self { begin, name, recording, told: Duration::ZERO }),
            Err(reason) => Err(reason),
        }
    }

    fn create(begin: &Begin, destination: &D, writing: &Writing) -> Result<Created<D>, EndReason> {
        let Files { name, audio, video } = destination.create(&begin.new_recording())?;
        let metered = |file| Metered { file, writing: writing.clone() };
        let stereo = begin.stereo(MediaKind::Audio).unwrap_or(false);
        let audio = audio.map(|file| (AudioFormat { channels: 1 + u8::from(stereo) }, metered(file)));
        let video = video.map(|file| (VideoFormat::Vp8, metered(file)));
        match contained(|| Recording::new(&begin.stream(), audio, video).map_err(EndReason::from)) {
            Ok(recording) => Ok(Created { name, recording }),
            Err(reason) => {
                destination.abandon(&name);
                Err(reason)
            }
        }
    }

    pub(super) fn started(&self) -> RecordingEvent {
        self.begin.event(Change::Started)
    }

    pub(super) fn handle_packet(&mut self, at: Instant, kind: Kind, packet: Packet<'_>) -> Result<(), EndReason> {
        let now = self.time(at);
        contained(|| self.recording.handle_packet(now, kind, packet).map_err(EndReason::from))
    }

    pub(super) fn handle_clock(&mut self, at: Instant, kind: Kind, clock: SenderClock) -> Result<(), EndReason> {
        let now = self.time(at);
        contained(|| {
            self.recording.handle_clock(now, kind, clock);
            Ok(())
        })
    }

    pub(super) fn handle_dropped(&mut self, kind: Kind, packets: u64) -> Result<(), EndReason> {
        contained(|| {
            self.recording.handle_dropped(kind, packets);
            Ok(())
        })
    }

    /// Writes what has waited long enough, and says whether a keyframe is wanted.
    pub(super) fn handle_timeout(&mut self, at: Instant) -> Result<(), EndReason> {
        let now = self.time(at);
        contained(|| {
            self.recording.handle_timeout(now)?;
            self.begin.flags.wants_keyframe.store(self.recording.wants_keyframe(), Ordering::Relaxed);
            Ok(())
        })
    }

    /// Closes its files as far as that goes, and tells their destination.
    pub(super) fn end(self, at: Option<Instant>, reason: EndReason, destination: &D) -> RecordingEvent {
        let Self { begin, name, recording, told } = self;
        let now = at.map_or(told, |at| told.max(at.saturating_duration_since(begin.began)));
        let closed = contained(|| {
            // Files are closed before anybody is told that they are.
            let (summary, files) = recording.finish(now);
            drop(files);
            destination.finished(Finished { name: name.clone(), reason: reason.clone(), summary: summary.clone() });
            Ok(summary)
        });
        let (reason, summary) = match closed {
            Ok(summary) => (reason, Some(Box::new(summary))),
            Err(panicked) => {
                _ = contained(|| {
                    destination.abandon(&name);
                    Ok(())
                });
                (panicked, None)
            }
        };
        begin.flags.ended.store(true, Ordering::Release);
        begin.event(Change::Ended { reason, summary })
    }

    /// After a panic: what is in memory is not to be trusted with the files.
    pub(super) fn abandon(self, reason: EndReason, destination: &D) -> RecordingEvent {
        let Self { begin, name, recording, .. } = self;
        _ = contained(move || {
            drop(recording);
            Ok(())
        });
        _ = contained(|| {
            destination.abandon(&name);
            Ok(())
        });
        begin.flags.ended.store(true, Ordering::Release);
        begin.event(Change::Ended { reason, summary: None })
    }

    fn time(&mut self, at: Instant) -> Duration {
        self.told = self.told.max(at.saturating_duration_since(self.begin.began));
        self.told
    }
}

/// What is said of a panic; it begins so whatever it was.
const PANICKED: &str = "a panic";

/// Does something that may fail, and takes a panic in it for a failure.
fn contained<T>(does: impl FnOnce() -> Result<T, EndReason>) -> Result<T, EndReason> {
    catch_unwind(AssertUnwindSafe(does)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(EndReason::Failed(format!("{PANICKED}: {}", said.unwrap_or("of something that is no text"))))
    })
}

/// The failure is a panic.
pub(super) fn is_panic(reason: &EndReason) -> bool {
    matches!(reason, EndReason::Failed(why) if why.starts_with(PANICKED))
}

impl From<WriteError> for EndReason {
    fn from(error: WriteError) -> Self {
        if error.source.kind() == io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Failed(error.to_string()) }
    }
}

impl From<CreateError> for EndReason {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Full => Self::DiskFull,
            CreateError::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::DiskFull,
            CreateError::Io(error) => Self::Failed(format!("its files cannot be made: {error}")),
        }
    }
}

impl<F: Write> Write for Metered<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.writing.bytes.increment(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F: Seek> Seek for Metered<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl<F: Sink> Sink for Metered<F> {
    fn sync(&mut self, at: SyncPoint) -> io::Result<()> {
        match (self.writing.fsync, at) {
            (Fsync::Never, _) | (Fsync::Close, SyncPoint::Page) => self.file.flush(),
            // A file syncs itself at its end only.
            (Fsync::Close | Fsync::Page, _) => self.file.sync(SyncPoint::End),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
