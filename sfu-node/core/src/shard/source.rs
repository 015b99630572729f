//! One track of a publication as this shard has it: the packets, and who wants them.
//!
//! The shard that receives the track and every sibling with subscribers have a source each. They differ in where packets and
//! the publisher's clock come from, and in where keyframe requests go.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::recent::Recent;
use crate::{
    clock::SenderClock,
    handle::{PublicationHandle, ShardIndex},
    histogram::Histogram,
    ring::PacketRing,
    sdp::MediaKind,
};

/// Where a source's packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A transport of this shard (its key), and the position in the transport's inbound tracks.
    Transport(usize),
    /// Another shard of this node.
    Sibling(ShardIndex),
}

/// A track and its subscribers on this shard.
pub(super) struct SourceTrack {
    pub(super) publication: PublicationHandle,
    /// Position in the publication.
    pub(super) track: u8,
    pub(super) kind: MediaKind,
    pub(super) origin: Origin,
    pub(super) ring: PacketRing,
    /// The publisher's clock as of its last sender report.
    pub(super) clock: SenderClock,
    /// Keys of the outputs that are fed.
    pub(super) outputs: Vec<usize>,
    /// Siblings that are fed, a bit per shard.
    pub(super) siblings: u64,
    /// Those of them that have asked since the last check, and when the next one is.
    renewed: u64,
    /// Renewals to the sibling that feeds this source since it last answered one.
    pub(super) unanswered: u32,
    /// Packets that it was lately asked to lend again.
    asked_again: Option<Box<Recent>>,
    leases_end: Option<Instant>,
    /// Received and not yet fanned out; as many at most as the ring holds.
    pending: VecDeque<Waiting>,
    /// Packets that found no room there.
    overrun: u64,
    pending_since: Option<Instant>,
    /// The shard looks after the window: it is in its list.
    pub(super) in_window: bool,
    /// Indices on their way to outputs, and the first output that has not had them.
    pub(super) flushing: Vec<u64>,
    pub(super) cursor: usize,
    /// Since when the first of them has waited.
    flushing_since: Option<Instant>,
    keyframe_requested: Option<Instant>,
    /// Something waits for a keyframe that was not requested yet because of the throttle.
    keyframe_owed: bool,
}

/// A packet that waits for its fan-out: its index, and since when.
#[derive(Clone, Copy)]
struct Waiting {
    index: u64,
    since: Instant,
}

/// What was taken from a fan-out because it was late.
pub(super) struct Late {
    /// Packets whose fan-out had begun, and the position of the first output that has not had them.
    pub(super) begun: (u64, usize),
    /// Packets that no output has had.
    pub(super) forgotten: u64,
}

impl SourceTrack {
    /// Packets that wait at most for a fan-out. More make longer runs per subscriber (cheaper), fewer less delay.
    pub(super) const MAX_PENDING: usize = 32;
    /// How long a video packet waits for more of its burst. Audio does not wait.
    const BATCH_WINDOW: Duration = Duration::from_millis(1);
    /// Video that has waited here for so long comes too late: subscribers' buffers are shorter, and who cannot send in this time will
    /// not do so later. Less takes a hiccup of the machine for too much load.
    pub(super) const MAX_WAIT: Duration = Duration::from_millis(150);
    /// At most one keyframe request per track and interval: keyframes are several times the size of other frames, and every
    /// subscriber that joins or loses packets asks for one.
    const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
    /// Siblings repeat every second that they have subscribers; who has not said so in this time is fed no more: its word that
    /// it has none was lost.
    const LEASE: Duration = Duration::from_secs(5);
    /// A sibling that leaves so many renewals, one a second, without an answer has the publication no more: its word of the end was
    /// lost. Counted and not timed, so that a process that was stopped for a while forgets nothing; twice what a client's
    /// consent outlives, for it is only memory that is waited with.
    pub(super) const MAX_UNANSWERED: u32 = 60;
    /// Between two requests to lend a packet again: a sibling answers within a round of its loop or not at all.
    const LEND_INTERVAL: Duration = Duration::from_millis(20);
    /// Packets kept: about two seconds of 720p video, or of Opus at 20 ms.
    const VIDEO_RING: usize = 1_024;
    const AUDIO_RING: usize = 128;

    pub(super) fn new(
        publication: PublicationHandle,
        track: u8,
        kind: MediaKind,
        clock_rate: u32,
        origin: Origin,
    ) -> Self {
        let ring = PacketRing::new(match kind {
            MediaKind::Video => Self::VIDEO_RING,
            MediaKind::Audio => Self::AUDIO_RING,
        });
        Self {
            publication,
            track,
            kind,
            origin,
            ring,
            clock: SenderClock::new(clock_rate),
            outputs: Vec::new(),
            siblings: 0,
            renewed: 0,
            unanswered: 0,
            asked_again: None,
            leases_end: None,
            pending: VecDeque::with_capacity(Self::MAX_PENDING),
            overrun: 0,
            pending_since: None,
            in_window: false,
            flushing: Vec::with_capacity(Self::MAX_PENDING),
            cursor: 0,
            flushing_since: None,
            keyframe_requested: None,
            keyframe_owed: false,
        }
    }

    /// Notes that the packet with this index is in the ring and waits for fan-out. True when the batch should not wait longer.
    pub(super) fn push_pending(&mut self, now: Instant, index: u64, ends_burst: bool) -> bool {
        if self.pending.len() == self.ring.capacity() {
            // It is not in the ring any more, or next to go.
            self.pending.pop_front();
            self.overrun += 1;
        }
        self.pending.push_back(Waiting { index, since: now });
        self.pending_since.get_or_insert(now);
        ends_burst || self.kind == MediaKind::Audio || self.pending.len() >= Self::MAX_PENDING
    }

    /// When the packets that wait must go.
    pub(super) fn flush_deadline(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + Self::BATCH_WINDOW)
    }

    /// Takes what waits for fan-out, at most [`Self::MAX_PENDING`]. False when there is nothing, or a fan-out is still under
    /// way.
    pub(super) fn begin_flush(&mut self) -> bool {
        if self.pending.is_empty() || !self.flushing.is_empty() {
            return false;
        }
        self.flushing_since = self.pending.front().map(|waiting| waiting.since);
        // One receive call can bring a thousand packets of one track: all at once they would never fit a batch.
        let taken = self.pending.len().min(Self::MAX_PENDING);
        self.flushing.extend(self.pending.drain(..taken).map(|waiting| waiting.index));
        // What is left is taken when this fan-out ends.
        self.pending_since = None;
        self.cursor = 0;
        true
    }

    /// Ends a fan-out. True when more packets came meanwhile.
    pub(super) fn end_flush(&mut self) -> bool {
        self.flushing.clear();
        self.flushing_since = None;
        self.cursor = 0;
        !self.pending.is_empty()
    }

    /// Ends the fan-out that is under way, and forgets what else has waited as long, if it is video and has waited for too long, or
    /// if more has come meanwhile than there was room for.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Late> {
        let is_late = |since: Instant| now > since + Self::MAX_WAIT;
        if self.kind != MediaKind::Video || !(self.overrun > 0 || self.flushing_since.is_some_and(is_late)) {
            return None;
        }
        let late = self.pending.iter().take_while(|waiting| is_late(waiting.since)).count();
        self.pending.drain(..late);
        let forgotten = late as u64 + std::mem::take(&mut self.overrun);
        let begun = (self.flushing.len() as u64, self.cursor);
        self.flushing.clear();
        self.flushing_since = None;
        self.cursor = self.outputs.len();
        Some(Late { begun, forgotten })
    }

    /// Counts how long what is being flushed took until `now`, for so many outputs.
    pub(super) fn count_delays(&self, now: Instant, outputs: u64, delays: &mut Histogram) {
        if outputs == 0 || cfg!(feature = "uncounted") {
            return;
        }
        for arrived in self.flushing.iter().filter_map(|index| self.ring.get(*index)?.arrived) {
            delays.record(now.saturating_duration_since(arrived), outputs);
        }
    }

    /// Somebody watches, here or on a sibling.
    pub(super) fn is_wanted(&self) -> bool {
        self.siblings != 0 || !self.outputs.is_empty()
    }

    /// A sibling has subscribers. True when it is fed from now on.
    pub(super) fn attach(&mut self, sibling: ShardIndex) -> bool {
        let bit = 1 << sibling.0;
        let newly = self.siblings & bit == 0;
        self.siblings |= bit;
        self.renewed |= bit;
        newly
    }

    /// A sibling has no subscribers any more.
    pub(super) fn detach(&mut self, sibling: ShardIndex) {
        self.siblings &= !(1 << sibling.0);
    }

    /// Notes that a packet fed by a sibling is missing here. True when that is to be asked for it now.
    pub(super) fn misses(&mut self, now: Instant, index: u64) -> bool {
        let recent = self.asked_again.get_or_insert_default();
        self.ring.would_take(index) && recent.admit(now, index, Self::LEND_INTERVAL)
    }

    /// Ends the feeding of siblings that have fallen silent.
    pub(super) fn end_leases(&mut self, now: Instant) {
        if self.leases_end.is_some_and(|end| now < end) {
            return;
        }
        if self.leases_end.replace(now + Self::LEASE).is_some() {
            self.siblings &= self.renewed;
        }
        self.renewed = 0;
    }

    /// A subscriber needs a keyframe. True when it is to be requested now; otherwise the request is owed or under way.
    pub(super) fn want_keyframe(&mut self, now: Instant) -> bool {
        if self.kind != MediaKind::Video {
            return false;
        }
        if self.keyframe_requested.is_some_and(|at| now < at + Self::KEYFRAME_INTERVAL) {
            self.keyframe_owed = true;
            return false;
        }
        self.keyframe_requested = Some(now);
        self.keyframe_owed = false;
        true
    }

    /// When an owed keyframe request may go out.
    pub(super) fn keyframe_owed_at(&self) -> Option<Instant> {
        self.keyframe_owed.then_some(self.keyframe_requested? + Self::KEYFRAME_INTERVAL)
    }

    /// No keyframe is to be asked for.
    pub(super) fn forget_owed_keyframe(&mut self) {
        self.keyframe_owed = false;
    }

    /// A keyframe has arrived: nothing is owed that was asked for before. A sibling's source may ask again at once: the shard
    /// that has the publisher throttles, and makes up for what it holds back.
    pub(super) fn keyframe_arrived(&mut self) {
        self.keyframe_owed = false;
        if matches!(self.origin, Origin::Sibling(_)) {
            self.keyframe_requested = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video() -> SourceTrack {
        SourceTrack::new(PublicationHandle(1), 0, MediaKind::Video, 90_000, Origin::Transport(0))
    }

    #[test]
    fn a_burst_goes_out_at_its_end_when_full_or_when_its_window_is_over() {
        let now = Instant::now();
        let mut source = video();
        assert!(!source.push_pending(now, 1, false));
        assert_eq!(source.flush_deadline(), Some(now + SourceTrack::BATCH_WINDOW));
        assert!(source.push_pending(now, 2, true));
        assert!(source.begin_flush());
        assert_eq!(source.flushing, [1, 2]);
        assert!((3..35).map(|index| source.push_pending(now, index, false)).last().expect("a batch"));
        assert!(!source.begin_flush(), "one fan-out at a time");
        assert!(source.end_flush(), "more came meanwhile");
    }

    #[test]
    fn whatever_a_ring_holds_goes_out_in_fan_outs_that_fit_a_batch() {
        let now = Instant::now();
        let mut source = video();
        let (mut fan_outs, mut sent) = (0, 0);
        for index in 0..1_024 {
            if source.push_pending(now, index, false) && source.begin_flush() {
                fan_outs += 1;
            }
        }
        assert_eq!(fan_outs, 1);
        loop {
            assert!(crate::batch::TxBatch::new().has_room_for(source.flushing.len()));
            assert_eq!(source.flushing[0], sent, "in order");
            sent += source.flushing.len() as u64;
            if !(source.end_flush() && source.begin_flush()) {
                break;
            }
        }
        assert_eq!(sent, 1_024);
    }

    #[test]
    fn video_that_has_waited_for_too_long_is_forgotten_and_what_is_newer_goes_on() {
        let now = Instant::now();
        let mut source = video();
        source.outputs = vec![1, 2, 3];
        source.push_pending(now, 1, true);
        assert!(source.begin_flush());
        source.cursor = 1;
        let late = now + SourceTrack::MAX_WAIT + Duration::from_millis(1);
        source.push_pending(late, 2, true);
        assert!(source.take_late(now + SourceTrack::MAX_WAIT).is_none(), "not yet");
        let missed = source.take_late(late).expect("late");
        assert_eq!((missed.begun, missed.forgotten), ((1, 1), 0), "the first output has had it");
        assert!(source.end_flush() && source.begin_flush());
        assert_eq!(source.flushing, [2]);
        assert!(source.take_late(late).is_none());
        // The second packet is in time when it is begun with, and the third, which waits behind it, is forgotten with it.
        source.cursor = 3;
        source.push_pending(late, 3, true);
        let missed = source.take_late(late + 2 * SourceTrack::MAX_WAIT).expect("late");
        assert_eq!((missed.begun, missed.forgotten), ((1, 3), 1));
        assert!(!source.end_flush());
    }

    #[test]
    fn no_more_packets_wait_than_the_ring_holds() {
        let now = Instant::now();
        let mut source = video();
        source.outputs = vec![1];
        for index in 0..2_000 {
            source.push_pending(now, index, false);
        }
        assert!(source.begin_flush());
        assert_eq!(source.flushing[0], 2_000 - 1_024);
        let missed = source.take_late(now).expect("nobody can have what is gone");
        assert_eq!((missed.begun, missed.forgotten), ((32, 0), 976));
    }

    #[test]
    fn audio_is_never_late() {
        let now = Instant::now();
        let mut source = SourceTrack::new(PublicationHandle(1), 0, MediaKind::Audio, 48_000, Origin::Transport(0));
        source.push_pending(now, 1, true);
        assert!(source.begin_flush());
        assert!(source.take_late(now + 10 * SourceTrack::MAX_WAIT).is_none());
    }

    #[test]
    fn audio_does_not_wait() {
        let mut source = SourceTrack::new(PublicationHandle(1), 0, MediaKind::Audio, 48_000, Origin::Transport(0));
        assert!(source.push_pending(Instant::now(), 1, false));
    }

    #[test]
    fn keyframe_requests_are_throttled_and_the_last_is_made_up_for() {
        let now = Instant::now();
        let mut source = video();
        assert!(source.want_keyframe(now));
        assert!(!source.want_keyframe(now + Duration::from_millis(100)));
        let owed = source.keyframe_owed_at().expect("a request is owed");
        assert!(source.want_keyframe(owed));
        assert_eq!(source.keyframe_owed_at(), None);
        assert!(!source.want_keyframe(owed));
        source.keyframe_arrived();
        assert_eq!(source.keyframe_owed_at(), None);
        assert!(!source.want_keyframe(owed), "a publisher is not asked more often for answering");
    }

    #[test]
    fn who_misses_a_keyframe_on_a_sibling_does_not_wait_for_the_throttle_of_two_shards() {
        let now = Instant::now();
        let origin = Origin::Sibling(ShardIndex(1));
        let mut source = SourceTrack::new(PublicationHandle(1), 0, MediaKind::Video, 90_000, origin);
        assert!(source.want_keyframe(now));
        assert!(!source.want_keyframe(now), "one is on its way");
        source.keyframe_arrived();
        assert!(source.want_keyframe(now + Duration::from_millis(100)));
    }

    #[test]
    fn a_sibling_that_falls_silent_is_fed_no_more() {
        let mut now = Instant::now();
        let mut source = video();
        assert!(source.attach(ShardIndex(0)) && source.attach(ShardIndex(63)));
        for _ in 0..20 {
            source.end_leases(now);
            assert!(!source.attach(ShardIndex(63)));
            now += Duration::from_secs(1);
        }
        assert_eq!(source.siblings, 1 << 63);
    }
}
