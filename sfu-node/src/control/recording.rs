//! What is recorded: edges say of which publication, this remembers it and tells the recorder, which is no part of the control side.
//!
//! ```text
//!        on                 off, or by itself
//! none ──────▶ running(id) ───────────────────▶ none, and id is never begun again
//!   └────────────────────────────────────────────▲ off of an id that has not come yet
//! ```
//!
//! A recording has the tracks of its beginning: where a further offer has added a kind since, who asks for it once more is told so, and may
//! begin another, which ends the one before.
//!
//! That an id is good for one recording makes every call safe to repeat and to come late: who begins one that another edge has
//! ended meanwhile is told so, instead of recording what nobody wants recorded any more.

use std::collections::VecDeque;

use proto::ids::{Mid, PeerId, RecordingId, RoomId};
use proto::refusal::NoRecording;
use proto::sfu::{RecordingEnd, RecordingEnded, watch_event};
use sfu_core::sdp::MediaKind;
use sfu_core::{PublicationHandle, ShardIndex};

use super::registry::{Publication, Registry};
use super::{Control, Refusal};

/// Ended recordings of one publication that are remembered. A call that comes late is seconds late; so many do not begin and end
/// within them.
const ENDED: usize = 16;

/// Where publications are recorded. It is called under the registry's lock: it never waits, and never calls back from within.
///
/// That a publication has ended it hears from the publication's shard. What ends by itself, it says by
/// [`Control::recording_ended`].
pub(crate) trait Records: Send + Sync {
    /// Begins one. Its id is new.
    fn start(&self, start: StartRecording) -> Result<(), NoRecording>;

    /// Ends one, with all that came until now. An unknown one has ended already.
    fn stop(&self, recording: &RecordingId);

    /// Whether it would begin one more now.
    fn takes(&self) -> bool;
}

/// What is to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct StartRecording {
    pub(crate) recording: RecordingId,
    pub(crate) room: RoomId,
    pub(crate) uid: PeerId,
    pub(crate) mid: Mid,
    /// Where it is received.
    pub(crate) shard: ShardIndex,
    /// Those it has now: what a further offer adds, another recording has. Of each kind only the first is recorded.
    pub(crate) tracks: Vec<StartTrack>,
}

/// One track of it.
#[derive(Debug, Clone)]
pub(crate) struct StartTrack {
    /// How its shard knows it.
    pub(crate) publication: PublicationHandle,
    /// Which of that publication's tracks.
    pub(crate) position: u8,
    pub(crate) kind: MediaKind,
    /// Its SDP allows two channels.
    pub(crate) stereo: bool,
}

/// A publication's recordings.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordingHistory {
    running: Option<Running>,
    /// Oldest first.
    ended: VecDeque<RecordingId>,
}

#[derive(Debug, Clone)]
struct Running {
    id: RecordingId,
    /// What its publication had when it began.
    kinds: Vec<MediaKind>,
}

impl RecordingHistory {
    /// The one that is running.
    pub(crate) fn running(&self) -> Option<&RecordingId> {
        self.running.as_ref().map(|running| &running.id)
    }

    /// Whether it was running.
    fn end(&mut self, recording: &RecordingId) -> bool {
        if !self.ended.contains(recording) {
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(recording.clone());
        }
        self.running.take_if(|running| running.id == *recording).is_some()
    }
}

impl Control {
    /// With somebody who records; without, every recording is refused.
    pub(crate) fn recording_by(mut self, records: std::sync::Arc<dyn Records>) -> Self {
        self.records = Some(records);
        self
    }

    /// Whether a recording could begin now, as far as it can be told before.
    pub(crate) fn records(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.takes())
    }

    /// Begins or ends a recording; see [`proto::sfu::sfu_node_server::SfuNode::record`].
    pub(crate) fn record(&self, mid: &Mid, recording: &RecordingId, on: bool) -> Result<(), Refusal> {
        let mut registry = self.lock();
        if on { self.begin(&mut registry, mid, recording) } else { self.stop(&mut registry, mid, recording) }
    }

    fn begin(&self, registry: &mut Registry, mid: &Mid, recording: &RecordingId) -> Result<(), Refusal> {
        let publication = registry.publication_mut(mid)?;
        let kinds: Vec<MediaKind> = publication.tracks.iter().map(|track| track.spec.kind).collect();
        if let Some(running) = publication.recordings.running.as_ref().filter(|running| running.id == *recording) {
            let has_all = kinds.iter().all(|kind| running.kinds.contains(kind));
            return if has_all { Ok(()) } else { Err(Refusal::NoRecording(NoRecording::Outgrown)) };
        }
        if publication.recordings.ended.contains(recording) {
            return Err(Refusal::NoRecording(NoRecording::Ended));
        }
        let records = self.records.as_ref().ok_or(Refusal::NoRecording(NoRecording::Never))?;
        let start = registry.start_of(mid, recording)?;
        if let Err(why) = records.start(start) {
            // Whoever asked has been told that it is not made, and so it stays, also for those who were about to ask for the same.
            registry.publication_mut(mid)?.recordings.end(recording);
            return Err(Refusal::NoRecording(why));
        }
        if let Some(before) = registry.publication_mut(mid)?.recordings.running().cloned() {
            self.stop(registry, mid, &before)?;
        }
        registry.publication_mut(mid)?.recordings.running = Some(Running { id: recording.clone(), kinds });
        Ok(())
    }

    fn stop(&self, registry: &mut Registry, mid: &Mid, recording: &RecordingId) -> Result<(), Refusal> {
        let ends = registry.publication_mut(mid)?.recordings.end(recording);
        // Whether it runs is the recorder's to say.
        if let Some(records) = &self.records {
            records.stop(recording);
        }
        if ends {
            registry.tell_recording_ended(mid, recording, RecordingEnd::Stopped);
        }
        Ok(())
    }

    /// The recorder says that a recording has ended by itself.
    pub(crate) fn recording_ended(&self, mid: &Mid, recording: &RecordingId, end: RecordingEnd) {
        let mut registry = self.lock();
        let Some(publication) = registry.publications.get_mut(mid) else { return };
        if publication.recordings.end(recording) {
            registry.tell_recording_ended(mid, recording, end);
        }
    }
}

impl Registry {
    fn publication_mut(&mut self, mid: &Mid) -> Result<&mut Publication, Refusal> {
        self.publications.get_mut(mid).ok_or_else(|| Refusal::NoPublication(mid.clone()))
    }

    fn start_of(&self, mid: &Mid, recording: &RecordingId) -> Result<StartRecording, Refusal> {
        let publication = self.publications.get(mid).ok_or_else(|| Refusal::NoPublication(mid.clone()))?;
        let transport = self.transports.get(&publication.transport);
        let transport = transport.ok_or_else(|| Refusal::NoTransport(publication.transport.clone()))?;
        let tracks = publication.tracks.iter().map(|track| StartTrack {
            publication: track.handle,
            position: track.position,
            kind: track.spec.kind,
            stereo: track.spec.stereo,
        });
        Ok(StartRecording {
            recording: recording.clone(),
            room: publication.room.clone(),
            uid: transport.client.clone(),
            mid: mid.clone(),
            shard: publication.shard,
            tracks: tracks.collect(),
        })
    }

    fn tell_recording_ended(&mut self, mid: &Mid, recording: &RecordingId, end: RecordingEnd) {
        let Some(publication) = self.publications.get(mid) else { return };
        let room = publication.room.clone();
        let ended = RecordingEnded {
            room_id: room.to_string(),
            publication_id: mid.to_string(),
            recording_id: recording.to_string(),
            reason: end.into(),
        };
        self.watchers.tell_room(&room, &watch_event::Event::RecordingEnded(ended).into());
    }
}
