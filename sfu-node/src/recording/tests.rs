//! Recordings of packets that no network brought: the recorder in virtual time between real queues, and its threads with files that do
//! what files do at their worst.

mod threads;
mod tracks;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proto::ids::{Mid, PeerId, RecordingId, RoomId};
use sfu_core::clock::{NtpTime, SenderClock};
use sfu_core::sdp::MediaKind;
use sfu_core::{Packet, PacketFields, PublicationHandle, ShardIndex, SiblingMessage};

use super::batch::{Batch, BatchSource, Entry, Flags, RecordingKey, Waiting, link};
use super::open::Begin;
use super::queue::{self, ToRecorder};
use super::stats::RecorderMetrics;
use super::tap::Tap;
use super::{EndReason, StartRecording, StartTrack};
use crate::control::Beginning;
use crate::udp::wake_pair;

/// 10 ms of silence.
const OPUS: &[u8] = &[0xf0, 0xff, 0xfe];
/// How shards know the recorder of a node with two of them.
const RECORDER: ShardIndex = ShardIndex(2);

/// A recorder between two shards and one writer, which are all played by the test.
struct Played {
    now: Instant,
    tap: Tap,
    batches: BatchSource,
    shards: Vec<ToRecorder>,
    heard: Vec<rtrb::Consumer<SiblingMessage>>,
}

impl Played {
    fn new() -> Self {
        let now = Instant::now();
        let wakers: Vec<_> = (0..2).map(|_| wake_pair().expect("an eventfd").0).collect();
        let (queues, ends) = queue::connect(&wakers);
        let (link, batches) = link(&Waiting::default());
        let (shards, heard) = ends.into_iter().unzip();
        let tap = Tap::new(queues, vec![link], Duration::from_hours(1), RecorderMetrics::register(1), now);
        Self { now, tap, batches, shards, heard }
    }

    /// Begins a recording of a publication on shard 1.
    fn start(&mut self, start: StartRecording) -> Arc<Flags> {
        self.begin(start).0
    }

    fn begin(&mut self, start: StartRecording) -> (Arc<Flags>, Beginning) {
        let flags = Arc::new(Flags::default());
        let begin = Begin { start, began: self.now, started: SystemTime::now(), flags: flags.clone() };
        let (begun, beginning) = Beginning::new();
        self.tap.start(begin, begun);
        (flags, beginning)
    }

    fn stop(&mut self, id: &str) {
        self.tap.stop(self.now, &recording(id));
    }

    fn send(&mut self, message: SiblingMessage) {
        self.shards[1].send(message);
    }

    /// A packet of that publication's track.
    fn packet(&mut self, publication: u64, track: u8, index: u64) {
        let packet = Arc::new(packet(self.now, index, 0));
        self.send(SiblingMessage::Media(PublicationHandle(publication), track, packet));
    }

    /// A round, some time later; what the writer gets in it.
    fn round(&mut self, after: Duration) -> Vec<Batch> {
        self.now += after;
        self.tap.round(self.now);
        self.batches()
    }

    fn batches(&mut self) -> Vec<Batch> {
        std::iter::from_fn(|| self.batches.try_next()).filter(|batch| !batch.entries.is_empty()).collect()
    }

    /// What is said to shard 1.
    fn heard(&mut self) -> Vec<SiblingMessage> {
        let heard = &mut self.heard[1];
        std::iter::from_fn(|| heard.pop().ok()).collect()
    }

    /// The answer to an attachment, of the first track.
    fn answer(&mut self, publication: u64, reported: Option<(u64, u32)>) {
        self.answer_for(publication, 0, reported);
    }

    fn answer_for(&mut self, publication: u64, track: u8, reported: Option<(u64, u32)>) {
        let mut clock = SenderClock::new(48_000);
        if let Some((ntp, rtp)) = reported {
            clock.record(NtpTime(ntp), rtp, self.now);
        }
        self.send(SiblingMessage::Clock(PublicationHandle(publication), track, clock));
    }
}

fn recording(id: &str) -> RecordingId {
    RecordingId::new(id).expect("valid")
}

/// A recording of an audio track, and perhaps a video track, of a publication on shard 1.
fn start(id: &str, publication: u64, video: bool) -> StartRecording {
    let publication = PublicationHandle(publication);
    let track = |position, kind| StartTrack { publication, position, kind, stereo: true };
    let mut tracks = vec![track(0, MediaKind::Audio)];
    tracks.extend(video.then(|| track(1, MediaKind::Video)));
    StartRecording {
        recording: recording(id),
        room: RoomId::new("weekly").expect("valid"),
        uid: PeerId::new("alice").expect("valid"),
        mid: Mid::new(format!("m-{id}")).expect("valid"),
        shard: ShardIndex(1),
        trace: None,
        tracks,
    }
}

fn packet(arrived: Instant, index: u64, source: u32) -> Packet {
    let fields = PacketFields {
        index,
        timestamp: index as u32 * 480,
        source,
        marker: false,
        keyframe: false,
        audio_level: None,
        vp8: None,
        arrived,
    };
    Packet::new(&fields, OPUS).expect("small")
}

/// The reasons for which recordings end in these batches.
fn ends(batches: &[Batch]) -> Vec<(RecordingKey, EndReason)> {
    let end = |entry: &Entry| match entry {
        Entry::End(key, _, reason) => Some((*key, reason.clone())),
        _ => None,
    };
    batches.iter().flat_map(|batch| &batch.entries).filter_map(end).collect()
}
