//! From a source's ring to its subscribers: subscriber by subscriber, so that each one's packets make one run.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    Shard,
    output::Path,
    source::{Origin, SourceTrack},
};
use crate::{
    batch::TxBatch,
    command::SiblingMessage,
    handle::{PublicationHandle, ShardIndex},
    ring::Packet,
    sdp::MediaKind,
};

/// A packet to be sent again: the output's key and SSRC (keys are used again), the sequence number that the subscriber knows, and
/// the position in the source.
#[derive(Clone, Copy)]
pub(super) struct Retransmission {
    pub(super) output: usize,
    pub(super) ssrc: u32,
    pub(super) seq: u16,
    pub(super) index: u64,
}

/// Sources whose packets are to be fanned out now, by kind: audio goes first. It is little, and the first to be missed.
#[derive(Default)]
pub(super) struct Ready {
    audio: VecDeque<usize>,
    video: VecDeque<usize>,
}

impl Ready {
    fn of(&mut self, kind: MediaKind) -> &mut VecDeque<usize> {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    pub(super) fn remove(&mut self, key: usize) {
        self.audio.retain(|other| *other != key);
        self.video.retain(|other| *other != key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.audio.len() + self.video.len()
    }
}

impl Shard {
    /// The packet with this index is in the ring of `key` for the first time.
    pub(super) fn packet_arrived(&mut self, now: Instant, key: usize, index: u64) {
        let Some(source) = self.sources.get_mut(key) else { return };
        let Some(packet) = source.ring.get(index) else { return };
        let (ends_burst, keyframe) = (packet.marker, packet.keyframe);
        if source.siblings != 0 {
            let packet = packet.clone();
            let (publication, track, siblings) = (source.publication, source.track, source.siblings);
            self.tell_all(siblings, SiblingMessage::Media(publication, track, packet));
        }
        let Some(source) = self.sources.get_mut(key) else { return };
        if keyframe {
            source.keyframe_arrived();
        }
        if source.outputs.is_empty() {
            return;
        }
        if source.push_pending(now, index, ends_burst) {
            if source.begin_flush() {
                self.ready.of(source.kind).push_back(key);
            }
        } else if !std::mem::replace(&mut source.in_window, true) {
            self.windowed.push(key);
        }
    }

    /// Somebody misses a packet that is not in this source's ring: if a sibling feeds it, that may have been lost between the two.
    fn ask_again(&mut self, now: Instant, key: usize, index: u64) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if let Origin::Sibling(owner) = source.origin
            && source.misses(now, index)
        {
            let message = SiblingMessage::LendAgain(source.publication, source.track, index, self.index);
            self.tell_sibling(owner, message);
        }
    }

    /// A sibling misses a packet that it was lent, or that has not come here either.
    pub(super) fn lend_again(&mut self, publication: PublicationHandle, track: u8, index: u64, sibling: ShardIndex) {
        let Some(key) = self.source_key(publication, track) else { return };
        let source = &self.sources[key];
        if source.siblings & (1 << sibling.0) == 0 {
            return;
        }
        if let Some(packet) = source.ring.get(index).cloned() {
            self.counters.packets_lent_again += 1;
            self.tell_sibling(sibling, SiblingMessage::Media(publication, track, packet));
        }
    }

    /// A packet that a sibling has received.
    pub(super) fn relay(&mut self, now: Instant, publication: PublicationHandle, track: u8, packet: Arc<Packet>) {
        let Some(key) = self.source_key(publication, track) else { return };
        let source = &mut self.sources[key];
        // Only from the shard that owns the track: there is one writer per index.
        if matches!(source.origin, Origin::Sibling(_)) {
            let index = packet.index;
            if source.ring.insert_shared(packet).is_ok() {
                self.packet_arrived(now, key, index);
            }
        }
    }

    /// Fans out what has waited long enough.
    pub(super) fn end_batch_windows(&mut self, now: Instant) {
        let (sources, ready) = (&mut self.sources, &mut self.ready);
        self.windowed.retain(|key| {
            let Some(source) = sources.get_mut(*key) else { return false };
            let deadline = source.flush_deadline();
            source.in_window = deadline.is_some_and(|deadline| deadline > now);
            // If a fan-out is under way, it takes what waits when it ends.
            if deadline.is_some() && !source.in_window && source.begin_flush() {
                ready.of(source.kind).push_back(*key);
            }
            source.in_window
        });
    }

    /// Sends media of this kind to subscribers until `tx` is full (true) or all have had theirs (false).
    pub(super) fn fan_out(&mut self, now: Instant, kind: MediaKind, tx: &mut TxBatch) -> bool {
        while let Some(key) = self.ready.of(kind).front().copied() {
            if self.fan_out_source(now, key, tx) {
                return true;
            }
            self.ready.of(kind).pop_front();
        }
        false
    }

    /// Likewise, of one source.
    fn fan_out_source(&mut self, now: Instant, key: usize, tx: &mut TxBatch) -> bool {
        loop {
            self.leave_out_late(now, key);
            let Some(source) = self.sources.get_mut(key) else { return false };
            let (mut served, mut is_full) = (0, false);
            while let Some(output) = source.outputs.get(source.cursor) {
                if !tx.has_room_for(source.flushing.len()) {
                    is_full = true;
                    break;
                }
                let output = &mut self.outputs[*output];
                let transport = &self.transports[output.transport];
                if let (Some(keys), Some(to)) = (&transport.keys, transport.ice.path()) {
                    if output.is_shed_at(self.shedding) {
                        self.counters.shed_paused += source.flushing.len() as u64;
                    } else {
                        let path = Path { to, sealer: &keys.sealer };
                        output.forward(now, source, &path, tx, &mut self.counters);
                        served += 1;
                    }
                }
                source.cursor += 1;
            }
            source.count_delays(now, served, &mut self.delays);
            if is_full {
                return true;
            }
            if !(source.end_flush() && source.begin_flush()) {
                return false;
            }
        }
    }

    /// Sends again what was asked for, until `tx` is full (true) or nothing is left (false).
    pub(super) fn retransmit(&mut self, now: Instant, tx: &mut TxBatch) -> bool {
        while let Some(Retransmission { output, ssrc, seq, index }) = self.retransmissions.front().copied() {
            if !tx.has_room_for(1) {
                return true;
            }
            self.retransmissions.pop_front();
            let Some(output) = self.outputs.get_mut(output).filter(|output| output.track.ssrc == ssrc) else {
                continue;
            };
            let key = output.source;
            let source: Option<&SourceTrack> = self.sources.get(key);
            let transport = &self.transports[output.transport];
            let (Some(source), Some(keys), Some(to)) = (source, &transport.keys, transport.ice.path()) else {
                continue;
            };
            if let Some(packet) = source.ring.get(index) {
                let path = Path { to, sealer: &keys.sealer };
                output.retransmit(seq, packet, &path, tx, &mut self.counters);
            } else {
                self.counters.retransmissions_missed += 1;
                self.ask_again(now, key, index);
            }
        }
        false
    }
}
