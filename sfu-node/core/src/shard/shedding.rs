//! What is left out when there is more to do than can be done: video, so that audio goes on.
//!
//! | level | |
//! |---|---|
//! | 0 | nothing but video that has waited for too long (`source.rs`) |
//! | 1 to 8 | so many eighths of the subscriptions to video are paused |
//! | 9 | and video is not even decrypted |
//!
//! Who decides the level, and from what, is not here.

use std::time::Instant;

use super::{Shard, source::Origin, transport::Transport};
use crate::{nack::NackTracker, sdp::MediaKind};

impl Shard {
    /// The level at which video is not even decrypted.
    pub const MAX_SHEDDING: u8 = 9;

    /// Leaves out so much video from now on. A paused subscriber sees no gap: when its turn comes again, its stream goes on with the
    /// next sequence number and a keyframe, which is asked for. What a recorder is lent is not paused, below level 9.
    pub fn set_shedding(&mut self, now: Instant, level: u8) {
        let level = level.min(Self::MAX_SHEDDING);
        let before = std::mem::replace(&mut self.shedding, level);
        if level == Self::MAX_SHEDDING && before != level {
            self.transports.iter_mut().for_each(|(_, transport)| transport.stop_opening_video());
        }
        let mut resumed = Vec::new();
        for (_, output) in &mut self.outputs {
            match (output.is_shed_at(before), output.is_shed_at(level)) {
                (false, true) => output.break_off(),
                (true, false) if self.transports[output.transport].keys.is_some() => resumed.push(output.source),
                _ => {}
            }
        }
        resumed.sort_unstable();
        resumed.dedup();
        // Requests that find no room are made up for by the next housekeeping.
        for source in resumed {
            self.request_keyframe(now, source);
        }
    }

    /// The level of shedding.
    pub fn shedding(&self) -> u8 {
        self.shedding
    }

    /// Tracks on their way to subscribers that are paused.
    pub fn shed_subscriptions(&self) -> usize {
        if self.shedding == 0 {
            return 0;
        }
        self.outputs.iter().filter(|(_, output)| output.is_shed_at(self.shedding)).count()
    }

    /// Received packets of this kind are of no use now.
    #[inline]
    pub(super) fn drops(&self, kind: MediaKind) -> bool {
        self.shedding == Self::MAX_SHEDDING && kind == MediaKind::Video
    }

    /// A keyframe of this source would be dropped.
    pub(super) fn drops_keyframes_of(&self, source: usize) -> bool {
        self.sources
            .get(source)
            .is_some_and(|source| self.drops(source.kind) && matches!(source.origin, Origin::Transport(_)))
    }

    /// Video that has waited for its fan-out for too long is not sent any more. Who misses some of it sees no gap, which it would
    /// only ask us to fill, and goes on with a keyframe.
    pub(super) fn leave_out_late(&mut self, now: Instant, key: usize) {
        let Some(source) = self.sources.get_mut(key) else { return };
        let Some(late) = source.take_late(now) else { return };
        let (begun, unserved) = late.begun;
        for (position, output) in source.outputs.iter().enumerate() {
            let missed = late.forgotten + if position < unserved { 0 } else { begun };
            let output = &mut self.outputs[*output];
            let transport = &self.transports[output.transport];
            // Others would not have had it either.
            let is_served = transport.keys.is_some() && transport.ice.path().is_some();
            if missed > 0 && is_served && !output.is_shed_at(self.shedding) {
                output.break_off();
                self.counters.shed_late += missed;
            }
        }
        self.request_keyframe(now, key);
    }
}

impl Transport {
    /// Every so many packets of an SSRC that is dropped unopened, one is opened all the same: without, the estimate of the rollover
    /// counter would be wrong after 2^15 packets (RFC 3711, section 3.3.1), three seconds of the fastest track.
    const OPENED_EVERY: u8 = 32;

    /// Whether a packet of the SSRC at this position carries video and need not be opened.
    pub(super) fn leaves_unopened(&mut self, position: usize) -> bool {
        let received = &mut self.received[position];
        let is_video = |track| self.inbound.get(track).is_some_and(|track| track.spec.kind == MediaKind::Video);
        if !received.carries.track().is_some_and(is_video) {
            return false;
        }
        received.unopened = (received.unopened + 1) % Self::OPENED_EVERY;
        received.unopened != 0
    }

    /// From now on nearly all video is dropped: what is missing of it is not to be asked for.
    fn stop_opening_video(&mut self) {
        for (_, track) in &mut self.inbound {
            if track.spec.kind == MediaKind::Video
                && let Some(media) = &mut track.media
            {
                media.shed = true;
                media.nack = media.nack.is_some().then(NackTracker::new);
            }
        }
    }
}
