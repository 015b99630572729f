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
use std::time::Duration;

use proto::ids::{Mid, PeerId, RecordingId, RoomId};
use proto::refusal::NoRecording;
use proto::sfu::{RecordingEnd, RecordingEnded, watch_event};
use sfu_core::sdp::MediaKind;
use sfu_core::{PublicationHandle, ShardIndex};
use telemetry::trace::Trace;
use tokio::sync::watch;
use tokio::time::timeout;

use super::registry::{Publication, Registry};
use super::{Control, Refusal};

/// Ended recordings of one publication that are remembered. A call that comes late is seconds late; so many do not begin and end
/// within them.
const ENDED: usize = 16;

/// How long it is waited at most until a stream's shard lends its packets to a recording that begins. It takes the two some 20 ms; one that is
/// busier than this is no reason to keep whoever asked.
const BEGINS_WITHIN: Duration = Duration::from_millis(250);

/// Where publications are recorded. It is called under the registry's lock: it never waits, and never calls back from within.
///
/// That a publication has ended it hears from the publication's shard. What ends by itself, it says by
/// [`Control::recording_ended`].
pub(crate) trait Records: Send + Sync {
    /// Begins one. Its id is new.
    fn start(&self, start: StartRecording) -> Result<Beginning, NoRecording>;

    /// Ends one, with all that came until now. An unknown one has ended already.
    fn stop(&self, recording: &RecordingId);

    /// Whether it would begin one more now.
    fn takes(&self) -> bool;
}

/// A recording that begins. Who waits for it does so without the registry's lock.
#[derive(Debug, Clone)]
pub(crate) struct Beginning(watch::Receiver<bool>);

impl Beginning {
    /// And what says that it has begun. Dropped without having said so, it says that nobody need wait: the recording has ended.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (begun, beginning) = watch::channel(false);
        (begun, Self(beginning))
    }

    /// Waits until every packet that comes from now on is recorded, or for as long as that is worth waiting for.
    pub(crate) async fn begun(mut self) {
        // Whichever of it: the recording begins all the same, or its end is told.
        let _ = timeout(BEGINS_WITHIN, self.0.wait_for(|begun| *begun)).await;
    }

    #[cfg(test)]
    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
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
    /// The request that it is made for, so that lines about its end name it, too.
    pub(crate) trace: Option<Trace>,
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
    /// For whoever asks for it once more.
    beginning: Beginning,
    /// The request that it was begun for.
    trace: Option<Trace>,
}

impl RecordingHistory {
    /// The one that is running.
    pub(crate) fn running(&self) -> Option<&RecordingId> {
        self.running.as_ref().map(|running| &running.id)
    }

    /// Gives it back if it was running.
    fn end(&mut self, recording: &RecordingId) -> Option<Running> {
        if !self.ended.contains(recording) {
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(recording.clone());
        }
        self.running.take_if(|running| running.id == *recording)
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

    /// Begins or ends a recording; see [`proto::sfu::sfu_node_server::SfuNode::record`]. One that begins is to be waited for.
    pub(crate) fn record(&self, mid: &Mid, recording: &RecordingId, on: bool) -> Result<Option<Beginning>, Refusal> {
        let mut registry = self.lock();
        if on {
            self.begin(&mut registry, mid, recording).map(Some)
        } else {
            self.stop(&mut registry, mid, recording).map(|()| None)
        }
    }

    fn begin(&self, registry: &mut Registry, mid: &Mid, recording: &RecordingId) -> Result<Beginning, Refusal> {
        let publication = registry.publication_mut(mid)?;
        let kinds: Vec<MediaKind> = publication.tracks.iter().map(|track| track.spec.kind).collect();
        if let Some(running) = publication.recordings.running.as_ref().filter(|running| running.id == *recording) {
            let has_all = kinds.iter().all(|kind| running.kinds.contains(kind));
            let outgrown = Refusal::NoRecording(NoRecording::Outgrown);
            return if has_all { Ok(running.beginning.clone()) } else { Err(outgrown) };
        }
        if publication.recordings.ended.contains(recording) {
            return Err(Refusal::NoRecording(NoRecording::Ended));
        }
        let records = self.records.as_ref().ok_or(Refusal::NoRecording(NoRecording::Never))?;
        let start = registry.start_of(mid, recording)?;
        let trace = start.trace;
        let beginning = match records.start(start) {
            Ok(beginning) => beginning,
            Err(why) => {
                // Whoever asked has been told that it is not made, and so it stays, also for those who were about to ask for the same.
                registry.publication_mut(mid)?.recordings.end(recording);
                return Err(Refusal::NoRecording(why));
            }
        };
        if let Some(before) = registry.publication_mut(mid)?.recordings.running().cloned() {
            self.stop(registry, mid, &before)?;
        }
        let running = Running { id: recording.clone(), kinds, beginning: beginning.clone(), trace };
        registry.publication_mut(mid)?.recordings.running = Some(running);
        Ok(beginning)
    }

    fn stop(&self, registry: &mut Registry, mid: &Mid, recording: &RecordingId) -> Result<(), Refusal> {
        let ended = registry.publication_mut(mid)?.recordings.end(recording);
        // Whether it runs is the recorder's to say.
        if let Some(records) = &self.records {
            records.stop(recording);
        }
        if let Some(ended) = ended {
            registry.tell_recording_ended(mid, &ended, RecordingEnd::Stopped);
        }
        Ok(())
    }

    /// The recorder says that a recording has ended by itself.
    pub(crate) fn recording_ended(&self, mid: &Mid, recording: &RecordingId, end: RecordingEnd) {
        let mut registry = self.lock();
        let Some(publication) = registry.publications.get_mut(mid) else { return };
        if let Some(ended) = publication.recordings.end(recording) {
            registry.tell_recording_ended(mid, &ended, end);
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
            trace: Trace::current(),
            tracks: tracks.collect(),
        })
    }

    fn tell_recording_ended(&mut self, mid: &Mid, recording: &Running, end: RecordingEnd) {
        let Some(publication) = self.publications.get(mid) else { return };
        let room = publication.room.clone();
        let ended = RecordingEnded {
            room_id: room.to_string(),
            publication_id: mid.to_string(),
            recording_id: recording.id.to_string(),
            reason: end.into(),
            traceparent: recording.trace.map(Trace::traceparent).unwrap_or_default(),
        };
        self.watchers.tell_room(&room, &watch_event::Event::RecordingEnded(ended).into());
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_beginning_is_waited_for_until_it_is_told_or_cannot_be_or_takes_too_long() {
        let at = Instant::now();
        let (begun, beginning) = Beginning::new();
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            begun.send_replace(true);
        });
        beginning.clone().begun().await;
        assert_eq!(at.elapsed().as_millis(), 30);
        beginning.begun().await;
        assert_eq!(at.elapsed().as_millis(), 30, "who asks once more need not wait");
        late.await.expect("told");

        let (ended, beginning) = Beginning::new();
        drop(ended);
        beginning.begun().await;
        assert_eq!(at.elapsed().as_millis(), 30, "it has ended");

        let (_busy, beginning) = Beginning::new();
        beginning.begun().await;
        assert_eq!(at.elapsed(), Duration::from_millis(30) + BEGINS_WITHIN);
    }
}
