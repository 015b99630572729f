//! What the recorder knows: who is recorded, from which shard, and by which writer. It is told the time and does no I/O but on queues
//! that never wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::recording::{Kind, SenderClock};
use proto::ids::RecordingId;
use sfu_core::sdp::MediaKind;
use sfu_core::{Packet, PublicationHandle, ShardIndex, SiblingMessage};
use tokio::sync::watch;

use super::batch::{Entry, Flags, RecordingKey, WriterLink};
use super::open::Begin;
use super::queue::{RecorderQueues, Told};
use super::stats::RecorderMetrics;
use super::{EndReason, StartRecording, StartTrack};

/// How often shards are told what is recorded, as they are of what is subscribed to.
const RENEWAL: Duration = Duration::from_secs(1);

/// As long as a shard has not answered the first time, it is told in every round: it may not have the publication yet. For so long;
/// then it is busy, and the renewals do.
const EAGER: Duration = Duration::from_secs(1);

/// Renewals without an answer after which a publication has ended: the word of it was lost. Counted and not timed, so that a process that
/// was stopped for a while forgets nothing.
const MAX_UNANSWERED: u32 = 30;

/// How often it is looked at what writers say.
const CHECK: Duration = Duration::from_millis(100);

/// A publisher is asked for a keyframe no more often for the sake of a recording.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Tap {
    queues: RecorderQueues,
    writers: Vec<WriterLink>,
    recordings: HashMap<RecordingKey, Tapped>,
    keys: HashMap<RecordingId, RecordingKey>,
    /// Which tracks of recordings a publication's track goes to. While one recording follows another there are two.
    routes: HashMap<(PublicationHandle, u8), Vec<Route>>,
    attached: HashMap<PublicationHandle, Attached>,
    /// Those that have not answered yet.
    eager: Vec<PublicationHandle>,
    next_key: u64,
    max_length: Duration,
    metrics: RecorderMetrics,
    next_renewal: Instant,
    next_check: Instant,
    /// Everything ends: what recordings are of is about to, too.
    ending: bool,
}

/// A recording.
struct Tapped {
    recording: RecordingId,
    shard: ShardIndex,
    writer: usize,
    tracks: Vec<TappedTrack>,
    flags: Arc<Flags>,
    began: Instant,
    /// Whom to tell when its shard lends all its tracks. Dropped when it ends before.
    begun: Option<watch::Sender<bool>>,
    keyframe_requested: Option<Instant>,
}

/// One track of it.
struct TappedTrack {
    publication: PublicationHandle,
    position: u8,
    kind: Kind,
    /// Of the newest packet.
    source: Option<u32>,
    /// What its publisher's last report said, and what its writer was told of it.
    clock: Option<(u64, u32)>,
    told: Option<SenderClock>,
    /// Packets that were lost on their way, which its writer does not know of yet.
    dropped: u64,
}

#[derive(Clone, Copy)]
struct Route {
    recording: RecordingKey,
    track: usize,
}

/// A publication that is lent to the recorder.
struct Attached {
    shard: ShardIndex,
    /// When a track of it was last added.
    since: Instant,
    /// Tracks for which its shard has answered, a bit each.
    answered: u16,
    unanswered: u32,
}

impl Tap {
    pub(super) fn new(
        queues: RecorderQueues,
        writers: Vec<WriterLink>,
        max_length: Duration,
        metrics: RecorderMetrics,
        now: Instant,
    ) -> Self {
        Self {
            queues,
            writers,
            recordings: HashMap::new(),
            keys: HashMap::new(),
            routes: HashMap::new(),
            attached: HashMap::new(),
            eager: Vec::new(),
            next_key: 0,
            max_length,
            metrics,
            next_renewal: now + RENEWAL,
            next_check: now + CHECK,
            ending: false,
        }
    }

    /// Nothing is recorded, and no writer lacks anything.
    pub(super) fn is_idle(&self) -> bool {
        self.recordings.is_empty() && self.writers.iter().all(|writer| !writer.is_filling())
    }

    /// Begins a recording, and tells `begun` when its shard has said that it lends what comes.
    pub(super) fn start(&mut self, begin: Begin, begun: watch::Sender<bool>) {
        self.next_key += 1;
        let key = RecordingKey(self.next_key);
        let fewest = (0..self.writers.len()).min_by_key(|writer| self.writers[*writer].recordings);
        let writer = fewest.expect("invariant: a recorder has writers");
        let StartRecording { recording, shard, .. } = begin.start.clone();
        let tracks: Vec<_> = recorded(&begin.start.tracks).map(TappedTrack::new).collect();
        for (track, tapped) in tracks.iter().enumerate() {
            let routes = self.routes.entry((tapped.publication, tapped.position)).or_default();
            routes.push(Route { recording: key, track });
            let new = Attached { shard, since: begin.began, answered: 0, unanswered: 0 };
            let attached = self.attached.entry(tapped.publication).or_insert(new);
            if attached.answered & 1 << tapped.position == 0 {
                attached.since = begin.began;
                if !self.eager.contains(&tapped.publication) {
                    self.eager.push(tapped.publication);
                }
            }
        }
        let (flags, began) = (begin.flags.clone(), begin.began);
        self.keys.insert(recording.clone(), key);
        self.writers[writer].recordings += 1;
        self.writers[writer].push(Entry::Begin(key, Box::new(begin)));
        let mut publications: Vec<_> = tracks.iter().map(|track| track.publication).collect();
        publications.dedup();
        let begun = Some(begun);
        let tapped = Tapped { recording, shard, writer, tracks, flags, began, begun, keyframe_requested: None };
        self.recordings.insert(key, tapped);
        // One that follows another of the same tracks has begun already.
        self.tell_begun(key);
        for publication in publications {
            self.tell_attached(publication);
        }
        self.queues.wake();
    }

    /// Ends a recording with all that has come until now.
    pub(super) fn stop(&mut self, now: Instant, recording: &RecordingId) {
        self.receive(now);
        if let Some(key) = self.keys.get(recording).copied() {
            self.end(now, key, EndReason::Stopped);
        }
        self.queues.wake();
    }

    /// Likewise all of them, for good.
    pub(super) fn end_all(&mut self, now: Instant, reason: &EndReason) {
        self.ending = true;
        self.receive(now);
        let keys: Vec<_> = self.recordings.keys().copied().collect();
        for key in keys {
            self.end(now, key, reason.clone());
        }
        self.queues.wake();
    }

    /// After a panic: forgets everything, and has writers end what they have.
    pub(super) fn fail(&mut self, why: &str) {
        for writer in &mut self.writers {
            writer.recordings = 0;
            writer.push(Entry::EndAll(EndReason::Failed(why.to_owned())));
        }
        self.recordings.clear();
        self.keys.clear();
        self.routes.clear();
        self.eager.clear();
        let attached: Vec<_> = self.attached.keys().copied().collect();
        for publication in attached {
            self.tell_attached(publication);
        }
        self.attached.clear();
        self.queues.wake();
    }

    /// Takes in what shards have said, does what is due, and gives writers theirs. False when a writer has to be given more later.
    pub(super) fn round(&mut self, now: Instant) -> bool {
        self.receive(now);
        self.attach_eagerly(now);
        if now >= self.next_check {
            self.next_check = now + CHECK;
            self.check(now);
        }
        if now >= self.next_renewal {
            self.next_renewal = now + RENEWAL;
            self.renew(now);
        }
        self.queues.wake();
        self.flush(now)
    }

    fn flush(&mut self, now: Instant) -> bool {
        self.tell_dropped();
        let mut all = true;
        for writer in &mut self.writers {
            all &= writer.flush(now);
        }
        all
    }

    fn receive(&mut self, now: Instant) {
        for shard in 0..self.queues.inbound.len() {
            // As many as there are now: a shard that is faster than this would never be done with.
            for _ in 0..self.queues.inbound[shard].slots() {
                let Ok(told) = self.queues.inbound[shard].pop() else { break };
                self.handle_told(now, told);
            }
        }
    }

    fn handle_told(&mut self, now: Instant, told: Told) {
        match told {
            Told::Message(SiblingMessage::Media(publication, track, packet)) => {
                self.handle_packet(now, (publication, track), &packet);
            }
            Told::Message(SiblingMessage::Clock(publication, track, clock)) => {
                self.handle_answer(publication, track);
                let reported = clock.reported().map(|(ntp, rtp)| (ntp.0, rtp));
                self.handle_clock(now, (publication, track), reported);
            }
            Told::Message(SiblingMessage::Closed(publication)) => self.handle_closed(now, publication),
            Told::Message(
                SiblingMessage::Attach(..) | SiblingMessage::LendAgain(..) | SiblingMessage::KeyframeRequest(..),
            ) => {}
            Told::Missed(publication, track, packets) => {
                self.metrics.dropped_queue.increment(packets);
                for route in self.routes.get(&(publication, track)).into_iter().flatten() {
                    let tapped = self.recordings.get_mut(&route.recording);
                    if let Some(tapped) = tapped {
                        tapped.tracks[route.track].dropped += packets;
                    }
                }
            }
        }
    }

    /// The shard has the publication, and lends the track if it was told to.
    fn handle_answer(&mut self, publication: PublicationHandle, track: u8) {
        let lent = self.tracks(publication) & 1_u16.checked_shl(track.into()).unwrap_or(0);
        let Some(attached) = self.attached.get_mut(&publication) else { return };
        attached.unanswered = 0;
        let is_first = attached.answered & lent != lent;
        attached.answered |= lent;
        if is_first {
            let routes = self.routes.get(&(publication, track)).into_iter().flatten();
            let recordings: Vec<_> = routes.map(|route| route.recording).collect();
            for key in recordings {
                self.tell_begun(key);
            }
        }
    }

    /// Tells that a recording has begun, if all its tracks are lent.
    fn tell_begun(&mut self, key: RecordingKey) {
        let attached = &self.attached;
        let is_lent = |track: &TappedTrack| {
            attached.get(&track.publication).is_some_and(|attached| attached.answered & 1 << track.position != 0)
        };
        if let Some(tapped) = self.recordings.get_mut(&key)
            && tapped.tracks.iter().all(is_lent)
            && let Some(begun) = tapped.begun.take()
        {
            begun.send_replace(true);
        }
    }

    fn handle_packet(&mut self, now: Instant, track: (PublicationHandle, u8), packet: &Packet) {
        for route in self.routes.get(&track).into_iter().flatten() {
            let Some(tapped) = self.recordings.get_mut(&route.recording) else { continue };
            let writer = &mut self.writers[tapped.writer];
            let track = &mut tapped.tracks[route.track];
            if track.source.is_none_or(|source| source < packet.source) {
                track.source = Some(packet.source);
                track.tell_clock(now, route.recording, writer);
            }
            if !writer.packet(route.recording, track.kind, packet, now) {
                track.dropped += 1;
                self.metrics.dropped_disk.increment(1);
            }
        }
    }

    fn handle_clock(&mut self, now: Instant, track: (PublicationHandle, u8), reported: Option<(u64, u32)>) {
        for route in self.routes.get(&track).into_iter().flatten() {
            let Some(tapped) = self.recordings.get_mut(&route.recording) else { continue };
            let track = &mut tapped.tracks[route.track];
            track.clock = reported;
            track.tell_clock(now, route.recording, &mut self.writers[tapped.writer]);
        }
    }

    fn handle_closed(&mut self, now: Instant, publication: PublicationHandle) {
        if self.ending {
            return;
        }
        self.attached.remove(&publication);
        let of_it = |(key, tapped): (&RecordingKey, &Tapped)| {
            tapped.tracks.iter().any(|track| track.publication == publication).then_some(*key)
        };
        let ended: Vec<_> = self.recordings.iter().filter_map(of_it).collect();
        for key in ended {
            self.end(now, key, EndReason::PublicationEnded);
        }
    }

    /// Tells writers what was lost, each where it happened to within a round. One that is behind, which may be for as long as a disk hangs,
    /// is told the sum later.
    fn tell_dropped(&mut self) {
        for (key, tapped) in &mut self.recordings {
            let writer = &mut self.writers[tapped.writer];
            if !writer.is_behind() {
                tapped.tell_dropped(*key, writer);
            }
        }
    }

    fn end(&mut self, now: Instant, key: RecordingKey, reason: EndReason) {
        let Some(tapped) = self.recordings.get_mut(&key) else { return };
        let writer = &mut self.writers[tapped.writer];
        tapped.tell_dropped(key, writer);
        writer.push(Entry::End(key, now, reason));
        self.forget(key);
    }

    fn forget(&mut self, key: RecordingKey) {
        let Some(tapped) = self.recordings.remove(&key) else { return };
        self.writers[tapped.writer].recordings -= 1;
        if self.keys.get(&tapped.recording) == Some(&key) {
            self.keys.remove(&tapped.recording);
        }
        for track in &tapped.tracks {
            let routed = (track.publication, track.position);
            if let Some(routes) = self.routes.get_mut(&routed) {
                routes.retain(|route| route.recording != key);
                if routes.is_empty() {
                    self.routes.remove(&routed);
                }
            }
        }
        for track in &tapped.tracks {
            self.tell_attached(track.publication);
            let tracks = self.tracks(track.publication);
            if tracks == 0 {
                self.attached.remove(&track.publication);
            } else if let Some(attached) = self.attached.get_mut(&track.publication) {
                attached.answered &= tracks;
            }
        }
    }

    /// Which tracks of a publication are recorded, a bit each.
    fn tracks(&self, publication: PublicationHandle) -> u16 {
        let recorded = |track: &u8| self.routes.contains_key(&(publication, *track));
        (0..sfu_core::MAX_TRACKS as u8).filter(recorded).fold(0, |tracks, track| tracks | 1 << track)
    }

    fn tell_attached(&mut self, publication: PublicationHandle) {
        let Some(shard) = self.attached.get(&publication).map(|attached| attached.shard) else { return };
        let message = SiblingMessage::Attach(publication, self.tracks(publication), self.queues.index);
        self.queues.tell(shard, message);
    }

    fn attach_eagerly(&mut self, now: Instant) {
        let mut eager = std::mem::take(&mut self.eager);
        eager.retain(|publication| {
            let tracks = self.tracks(*publication);
            let waits = |attached: &Attached| attached.answered & tracks != tracks && now < attached.since + EAGER;
            self.attached.get(publication).is_some_and(waits)
        });
        self.eager = eager;
        for waiting in 0..self.eager.len() {
            self.tell_attached(self.eager[waiting]);
        }
    }

    /// Repeats what is recorded, and ends what nobody has answered for.
    fn renew(&mut self, now: Instant) {
        self.metrics.note_cpu(0);
        let mut abandoned = Vec::new();
        for (publication, attached) in &mut self.attached {
            attached.unanswered += 1;
            if attached.unanswered > MAX_UNANSWERED {
                abandoned.push(*publication);
            }
        }
        for publication in abandoned {
            self.handle_closed(now, publication);
        }
        let attached: Vec<_> = self.attached.keys().copied().collect();
        for publication in attached {
            self.tell_attached(publication);
        }
    }

    /// Does what writers ask for, and forgets what they have ended.
    fn check(&mut self, now: Instant) {
        let (mut ended, mut late) = (Vec::new(), Vec::new());
        for (key, tapped) in &mut self.recordings {
            if tapped.flags.ended.load(Ordering::Acquire) {
                ended.push(*key);
            } else if now.saturating_duration_since(tapped.began) >= self.max_length {
                late.push(*key);
            } else if let Some(track) = tapped.keyframe_due(now) {
                self.queues.tell(tapped.shard, track);
            }
        }
        for key in ended {
            self.forget(key);
        }
        for key in late {
            self.end(now, key, EndReason::Limit);
        }
    }
}

/// The tracks that are recorded: the first of each kind.
fn recorded(tracks: &[StartTrack]) -> impl Iterator<Item = &StartTrack> {
    let first = |kind| tracks.iter().find(move |track| track.kind == kind);
    first(MediaKind::Audio).into_iter().chain(first(MediaKind::Video))
}

impl Tapped {
    /// Tells its writer what its tracks have lost since they were told of last.
    fn tell_dropped(&mut self, key: RecordingKey, writer: &mut WriterLink) {
        for track in self.tracks.iter_mut().filter(|track| track.dropped > 0) {
            writer.push(Entry::Dropped(key, track.kind, std::mem::take(&mut track.dropped)));
        }
    }

    /// The request for a keyframe, if one is wanted and none was made lately.
    fn keyframe_due(&mut self, now: Instant) -> Option<SiblingMessage> {
        let video = self.tracks.iter().find(|track| track.kind == Kind::Video)?;
        let rested = self.keyframe_requested.is_none_or(|at| now >= at + KEYFRAME_INTERVAL);
        if !rested || !self.flags.wants_keyframe.load(Ordering::Relaxed) {
            return None;
        }
        self.keyframe_requested = Some(now);
        Some(SiblingMessage::KeyframeRequest(video.publication, video.position))
    }
}

impl TappedTrack {
    fn new(track: &StartTrack) -> Self {
        let kind = match track.kind {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
        };
        let (publication, position) = (track.publication, track.position);
        Self { publication, position, kind, source: None, clock: None, told: None, dropped: 0 }
    }

    /// Tells the writer of the publisher's clock, unless it knows, or is behind: then the next report will do. A report belongs to the newest source: the shard forgets what it knew of
    /// a clock, and says so, before it lends the first packet of another source.
    fn tell_clock(&mut self, now: Instant, key: RecordingKey, writer: &mut WriterLink) {
        let (false, Some(source), Some((ntp, rtp))) = (writer.is_behind(), self.source, self.clock) else { return };
        let clock = Some(SenderClock { source, ntp, rtp });
        if let Some(clock) = clock.filter(|clock| Some(*clock) != self.told) {
            self.told = Some(clock);
            writer.push(Entry::Clock(key, self.kind, now, clock));
        }
    }
}
