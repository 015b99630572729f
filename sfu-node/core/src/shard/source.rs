//! One track of a publication as this shard has it: the packets, and who wants them.
//!
//! The shard that receives the track and every sibling with subscribers have a source each. They differ in where packets and
//! the publisher's clock come from, and in where keyframe requests go.

use std::time::{Duration, Instant};

use crate::{
    clock::SenderClock,
    handle::{PublicationHandle, ShardIndex},
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
    /// Indices received and not yet fanned out.
    pending: Vec<u64>,
    pending_since: Option<Instant>,
    /// Indices on their way to outputs, and the first output that has not had them.
    pub(super) flushing: Vec<u64>,
    pub(super) cursor: usize,
    keyframe_requested: Option<Instant>,
    /// Something waits for a keyframe that was not requested yet because of the throttle.
    keyframe_owed: bool,
}

impl SourceTrack {
    /// Packets that wait at most for a fan-out. More make longer runs per subscriber (cheaper), fewer less delay.
    pub(super) const MAX_PENDING: usize = 32;
    /// How long a video packet waits for more of its burst. Audio does not wait.
    const BATCH_WINDOW: Duration = Duration::from_millis(1);
    /// At most one keyframe request per track and interval: keyframes are several times the size of other frames, and every
    /// subscriber that joins or loses packets asks for one.
    const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
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
            pending: Vec::with_capacity(Self::MAX_PENDING),
            pending_since: None,
            flushing: Vec::with_capacity(Self::MAX_PENDING),
            cursor: 0,
            keyframe_requested: None,
            keyframe_owed: false,
        }
    }

    /// Notes that the packet with this index is in the ring and waits for fan-out. True when the batch should not wait longer.
    pub(super) fn push_pending(&mut self, now: Instant, index: u64, ends_burst: bool) -> bool {
        self.pending.push(index);
        self.pending_since.get_or_insert(now);
        ends_burst || self.kind == MediaKind::Audio || self.pending.len() >= Self::MAX_PENDING
    }

    /// When the packets that wait must go.
    pub(super) fn flush_deadline(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + Self::BATCH_WINDOW)
    }

    /// Takes what waits for fan-out. False when there is nothing, or a fan-out is still under way.
    pub(super) fn begin_flush(&mut self) -> bool {
        if self.pending.is_empty() || !self.flushing.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.pending, &mut self.flushing);
        self.pending_since = None;
        self.cursor = 0;
        true
    }

    /// Ends a fan-out. True when more packets came meanwhile.
    pub(super) fn end_flush(&mut self) -> bool {
        self.flushing.clear();
        self.cursor = 0;
        !self.pending.is_empty()
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

    /// A keyframe has arrived: nothing is owed that was asked for before.
    pub(super) fn keyframe_arrived(&mut self) {
        self.keyframe_owed = false;
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
    }
}
