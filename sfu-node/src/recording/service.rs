//! How recordings are part of a node: the control side begins and ends them, the spool has their files, and what becomes of them goes back.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{NodeId, RecordingId};
use proto::refusal::NoRecording;
use proto::sfu::RecordingEnd;
use sha2::{Digest as _, Sha256};
use telemetry::events::{Event as LifeEvent, EventSink, Recorded};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use super::spool::{self, CreateError, Delivered, Manifest, Name, NewRecording, Reason, Spool, SpoolError, SpoolEvent};
use super::{
    Change, Destination, EndReason, Files, Finished, Recorder, RecorderQueues, RecorderThreads, RecordingConfig,
    RecordingEvent, Refused, StartRecording,
};
use crate::control::{Beginning, Control, Records};

/// How long files may take to be closed when the node ends. What a disk has not taken by then, the next start finds and closes.
const CLOSING: Duration = Duration::from_secs(5);

/// The recorder of a node, and its spool.
pub(crate) struct Recordings {
    recorder: Arc<Recorder>,
    threads: RecorderThreads,
    changes: mpsc::Receiver<RecordingEvent>,
    spool: Spool,
    /// Where they are delivered to.
    url: String,
}

/// What of it runs until the node ends.
pub(crate) struct RunningRecordings {
    recorder: Arc<Recorder>,
    threads: RecorderThreads,
    /// Cancelled when there will be nothing more to deliver.
    closed: CancellationToken,
}

impl Recordings {
    /// Opens the spool; `None` when nothing is to be recorded.
    pub(crate) fn open_spool(config: &RecordingConfig, node: &NodeId) -> Result<Option<Spool>, SpoolError> {
        config.url.is_some().then(|| Spool::open(config, node)).transpose()
    }

    /// Starts the recorder's threads.
    pub(crate) fn start(config: &RecordingConfig, spool: Spool, queues: RecorderQueues) -> io::Result<Self> {
        let (recorder, threads, changes) = Recorder::start_threads(config, queues, spool.clone())?;
        let path = config.spool().unwrap_or_default();
        let (url, spool_dir) = (config.url.as_deref(), path.display());
        tracing::info!(url, %spool_dir, max = config.max, "recordings are written to the spool and delivered from it");
        let url = config.url.clone().unwrap_or_default();
        Ok(Self { recorder: Arc::new(recorder), threads, changes, spool, url })
    }

    /// Who begins and ends them.
    pub(crate) fn records(&self) -> Arc<dyn Records> {
        self.recorder.clone()
    }

    /// Starts the tasks that tell `control` what becomes of recordings, and deliver them.
    pub(crate) fn run(self, control: Arc<Control>, events: &EventSink, tasks: &mut JoinSet<()>) -> RunningRecordings {
        let Self { recorder, threads, changes, spool, url } = self;
        let closed = CancellationToken::new();
        tasks.spawn(tell(control, events.clone(), changes));
        let events = events.clone();
        tasks.spawn(spool.deliver(move |event| tell_spooled(&events, &url, &event), closed.clone()));
        RunningRecordings { recorder, threads, closed }
    }
}

impl RunningRecordings {
    /// Has all recordings end, for the node does. Before what they record ends: they ended for this reason.
    pub(crate) fn end(&self) {
        self.recorder.end();
    }

    /// Waits until their files are closed, after [`Self::end`]. Blocks.
    pub(crate) fn join(self) {
        if !self.threads.join(CLOSING) {
            tracing::error!(
                within = ?CLOSING,
                "not all recordings could be closed in time, for the disk does not take them: the next start closes them"
            );
        }
        self.closed.cancel();
    }
}

/// Tells what becomes of recordings, and the control side what has ended by itself, until the recorder has ended.
async fn tell(control: Arc<Control>, events: EventSink, mut changes: mpsc::Receiver<RecordingEvent>) {
    while let Some(change) = changes.recv().await {
        say(&change);
        let RecordingEvent { recording, room, uid, mid, change, .. } = change;
        let of = Recorded { room: &room, peer: &uid, stream: &mid, recording: &recording };
        match change {
            Change::Started => events.emit(LifeEvent::recording_started(of)),
            Change::Ended { reason, summary } => {
                let duration = summary.map_or(Duration::ZERO, |summary| summary.duration);
                let ended = LifeEvent::recording_ended(of, reason.name(), duration, reason.detail());
                events.emit(identified(ended, &recording));
                control.recording_ended(&mid, &recording, reason.told());
            }
        }
    }
}

/// Says it in the log, where it is found by the room and by the request that began the recording, however long ago that was.
fn say(RecordingEvent { recording, room, uid, mid, trace, change }: &RecordingEvent) {
    let trace = trace.map(|trace| display(trace.id()));
    let span = tracing::error_span!(
        "recording", trace.id = trace, %room, peer = %uid, %mid, %recording
    );
    let _in_it = span.entered();
    let Change::Ended { reason, summary } = change else {
        tracing::info!("a recording has begun");
        return;
    };
    let dropped: u64 = summary.iter().flat_map(|summary| &summary.tracks).map(|track| track.dropped).sum();
    let duration_ms = summary.as_ref().map_or(0, |summary| summary.duration.as_millis() as u64);
    let name = reason.name();
    match reason {
        EndReason::DiskFull => {
            tracing::error!(reason = name, duration_ms, "a recording has ended: there is no room on the disk");
        }
        EndReason::Failed(error) => tracing::error!(reason = name, duration_ms, error, "a recording has failed"),
        _ => tracing::info!(reason = name, duration_ms, "a recording has ended"),
    }
    if dropped > 0 {
        tracing::warn!(dropped, "a recording lacks packets that its node was too slow for");
    }
}

fn tell_spooled(events: &EventSink, url: &str, event: &SpoolEvent) {
    let (manifest, event) = match event {
        SpoolEvent::Recovered(manifest) => {
            (manifest, LifeEvent::recording_ended(recorded(manifest), "interrupted", manifest.duration(), None))
        }
        SpoolEvent::Delivered(Delivered { manifest, path }) => {
            let at = format!("{}/{path}", url.trim_end_matches('/'));
            (manifest, LifeEvent::recording_delivered(recorded(manifest), at, manifest.to_value()))
        }
    };
    events.emit(identified(event, manifest.recording()));
}

fn recorded(manifest: &Manifest) -> Recorded<'_> {
    let (room, peer, stream) = (manifest.room(), manifest.uid(), manifest.mid());
    Recorded { room, peer, stream, recording: manifest.recording() }
}

/// The event with an id that comes of what it is of: the same whenever it is told again, after a failure or by the process after the one that
/// was killed.
fn identified(event: LifeEvent, recording: &RecordingId) -> LifeEvent {
    let hash = Sha256::digest(format!("{} {recording}", event.kind()));
    let (id, _) = hash.split_first_chunk().expect("invariant: SHA-256 has 32 bytes");
    event.with_id(u128::from_be_bytes(*id))
}

impl EndReason {
    /// As edges are told.
    fn told(&self) -> RecordingEnd {
        match self {
            // The second is not told: that the stream has ended says it.
            Self::Stopped | Self::PublicationEnded => RecordingEnd::Stopped,
            Self::DiskFull => RecordingEnd::DiskFull,
            Self::Limit => RecordingEnd::Limit,
            Self::NodeEnding => RecordingEnd::NodeEnding,
            Self::Failed(_) => RecordingEnd::Failed,
        }
    }

    /// What failed, where that is why.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Failed(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// As it is written down, with what is said beside it.
    fn noted(self) -> (Reason, Option<String>) {
        match self {
            Self::Stopped => (Reason::Stopped, None),
            Self::PublicationEnded => (Reason::PublicationEnded, None),
            Self::DiskFull => (Reason::DiskFull, None),
            Self::Limit => (Reason::Limit, None),
            Self::NodeEnding => (Reason::NodeEnding, None),
            Self::Failed(why) => (Reason::Failed, Some(why)),
        }
    }
}

impl Records for Recorder {
    fn start(&self, start: StartRecording) -> Result<Beginning, NoRecording> {
        Recorder::start(self, start).map_err(|refused| match refused {
            Refused::Full | Refused::NoRoom => NoRecording::Full,
            Refused::Ending => NoRecording::Never,
        })
    }

    fn stop(&self, recording: &RecordingId) {
        Recorder::stop(self, recording);
    }

    fn takes(&self) -> bool {
        Recorder::takes(self)
    }
}

impl Destination for Spool {
    type File = File;
    type Name = Name;

    fn create(&self, new: &NewRecording) -> Result<Files<File, Name>, CreateError> {
        let spool::SpoolFiles { name, audio, video } = Spool::create(self, new)?;
        Ok(Files { name, audio, video })
    }

    fn finished(&self, finished: Finished<Name>) {
        let Finished { name, reason, summary } = finished;
        let (reason, detail) = reason.noted();
        Spool::finished(self, spool::Finished { name, summary, reason, detail });
    }

    fn abandon(&self, name: &Name) {
        Spool::abandon(self, name);
    }

    fn has_room(&self) -> bool {
        Spool::has_room(self)
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{Mid, PeerId, RoomId};

    use super::*;

    #[test]
    fn an_end_has_one_name_wherever_it_is_told() {
        for reason in [
            EndReason::Stopped,
            EndReason::DiskFull,
            EndReason::Limit,
            EndReason::NodeEnding,
            EndReason::Failed("the disk has gone".to_owned()),
        ] {
            assert_eq!(reason.told().name(), reason.name());
            let (noted, _) = reason.clone().noted();
            assert_eq!(serde_json::to_value(noted).expect("JSON"), reason.name());
        }
    }

    #[test]
    fn what_is_told_again_has_the_id_that_it_had_and_nothing_else_has_it() {
        let (room, peer) = (RoomId::new("weekly").expect("valid"), PeerId::new("alice").expect("valid"));
        let stream = Mid::new("alice#1").expect("valid");
        let id = |recording: &str, ended: bool| {
            let recording = RecordingId::new(recording).expect("valid");
            let of = Recorded { room: &room, peer: &peer, stream: &stream, recording: &recording };
            let event = if ended {
                LifeEvent::recording_ended(of, "stopped", Duration::ZERO, None)
            } else {
                LifeEvent::recording_delivered(of, "file:///a".to_owned(), serde_json::Value::Null)
            };
            serde_json::to_value(identified(event, &recording)).expect("JSON")["id"].to_string()
        };
        assert_eq!(id("rec1", true), id("rec1", true));
        assert_ne!(id("rec1", true), id("rec1", false));
        assert_ne!(id("rec1", true), id("rec2", true));
        assert_eq!(id("rec1", true).len(), 34, "as all ids, in quotes");
    }
}
