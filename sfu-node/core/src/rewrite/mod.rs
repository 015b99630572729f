//! The outgoing side of one track towards one subscriber: continuous sequence numbers, timestamps and VP8 picture
//! numbers, whatever the sources behind it do.
//!
//! It owns the outgoing packet index (rollover counter and sequence number) of its SSRC and never yields one twice, which
//! is what keeps GCM nonces unique. Packets themselves and retransmission payloads are not here.

mod slots;
#[cfg(test)]
mod tests;

use std::time::Instant;

use self::slots::{Slots, WINDOW};
use crate::{
    clock::rtp_ticks,
    seq::nearest,
    vp8::{PictureId, PictureNumbers, Vp8Descriptor},
};

/// Packets of one key and SSRC end here (RFC 3711 9.2).
const INDEX_END: u64 = 1 << 48;

/// Where a forwarded packet goes on the outgoing SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Rollover counter and sequence number: `roc << 16 | seq`.
    pub index: u64,
    /// Outgoing RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture numbers to be written, if the packet has any.
    pub picture: Option<PictureNumbers>,
}

impl Outgoing {
    /// Sequence number.
    #[inline]
    pub const fn seq(&self) -> u16 {
        self.index as u16
    }

    /// Rollover counter for sealing.
    #[inline]
    pub const fn roc(&self) -> u32 {
        (self.index >> 16) as u32
    }
}

/// Rewrites the packets of one outgoing track.
///
/// ```text
/// source    ..  41   42   43   44   45   46        42 is padding: skipped, it leaves no gap
/// outgoing  .. 900    -  901  902  903  904        44 is lost: its number waits for it
/// ```
#[derive(Clone, Debug)]
pub struct Rewriter {
    clock_rate: u32,
    /// Outgoing index of the source packet behind the newest one.
    next_index: u64,
    /// `None` before the first packet of a source.
    source: Option<Slots>,
    /// The newest packet forwarded, of any source.
    newest: Option<Newest>,
    /// What is added to the source's timestamps; before the first packet, the timestamp to begin with.
    timestamp_offset: u32,
    /// What is added to the source's picture numbers.
    picture_offset: PictureNumbers,
}

/// What a new source has to continue.
#[derive(Clone, Copy, Debug)]
struct Newest {
    at: Instant,
    timestamp: u32,
    picture: Option<PictureNumbers>,
}

impl Rewriter {
    /// A rewriter for an outgoing SSRC at `clock_rate` Hz whose first packet gets sequence number `first_seq` with
    /// rollover counter 0, and timestamp `first_timestamp`.
    ///
    /// Receivers guess the first packet's rollover counter as 0, so take `first_seq` from the lower half: a lost or
    /// reordered start must not straddle a wrap (RFC 3711 3.3.1).
    pub const fn new(clock_rate: u32, first_seq: u16, first_timestamp: u32) -> Self {
        Self {
            clock_rate,
            next_index: first_seq as u64,
            source: None,
            newest: None,
            timestamp_offset: first_timestamp,
            picture_offset: PictureNumbers { picture_id: 0, tl0_pic_idx: 0 },
        }
    }

    /// The place of the source's packet `extended_seq` on the outgoing SSRC. `None` if it was forwarded or skipped before,
    /// lies before the first packet of this source, or is too old to be placed: then it must not be sent.
    ///
    /// A source that jumps ahead by more than 1,024 packets goes on without a gap: nothing of it could be asked for again,
    /// and a gap of half the circle would cost the subscriber its rollover counter.
    #[inline]
    pub fn forward(
        &mut self,
        now: Instant,
        extended_seq: u64,
        timestamp: u32,
        vp8: Option<&Vp8Descriptor>,
    ) -> Option<Outgoing> {
        if self.next_index + WINDOW >= INDEX_END {
            return None;
        }
        let Some(slots) = &mut self.source else {
            return Some(self.start(now, extended_seq, timestamp, vp8));
        };
        let is_newest = extended_seq > slots.newest();
        let index = if is_newest {
            self.next_index += slots.advance(extended_seq);
            slots.take(extended_seq);
            self.next_index += 1;
            self.next_index - 1
        } else {
            if !slots.is_open(extended_seq) {
                return None;
            }
            slots.take(extended_seq);
            self.next_index - 1 - slots.numbered_after(extended_seq)
        };
        let timestamp = self.timestamp_of(timestamp);
        let picture = vp8.and_then(|vp8| self.picture_of(vp8));
        if is_newest {
            // Packets without picture numbers do not end their line.
            let picture = picture.or(self.newest.and_then(|newest| newest.picture));
            self.newest = Some(Newest { at: now, timestamp, picture });
        }
        Some(Outgoing { index, timestamp, picture })
    }

    /// The source's packet `extended_seq` is not forwarded and leaves no gap, unless something newer went out already.
    #[inline]
    pub fn skip(&mut self, extended_seq: u64) {
        let Some(slots) = &mut self.source else { return };
        if extended_seq > slots.newest() {
            self.next_index += slots.advance(extended_seq);
            slots.close(extended_seq);
        } else if slots.is_open(extended_seq) && slots.numbered_after(extended_seq) == 0 {
            // It holds the last number, which nobody has seen yet: the next packet gets it.
            slots.close(extended_seq);
            self.next_index -= 1;
        }
    }

    /// The next packet comes from another source, or from the same one after a break: whatever its numbers are, they
    /// continue those sent so far. What came before can no longer be looked up.
    pub fn switch_source(&mut self) {
        self.source = None;
    }

    /// Whether a packet of the present source was forwarded, so that the mappings below hold for it.
    pub const fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// The source's extended sequence number behind outgoing `seq`, among the newest 1,024 of the present source.
    pub fn source_of(&self, seq: u16) -> Option<u64> {
        let slots = self.source.as_ref()?;
        let newest_index = self.next_index.checked_sub(1)?;
        let steps_back = newest_index.checked_sub(nearest(newest_index, seq))?;
        slots.numbered_before(steps_back)
    }

    /// The outgoing timestamp of the present source's `timestamp`, for sender reports and retransmissions; of the last
    /// source's as long as [`Self::has_source`] is false.
    #[inline]
    pub const fn timestamp_of(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.timestamp_offset)
    }

    /// The outgoing picture numbers of a packet of the present source, for retransmissions; `None` if it has none.
    #[inline]
    pub fn picture_of(&self, vp8: &Vp8Descriptor) -> Option<PictureNumbers> {
        if vp8.picture_id.is_none() && vp8.tl0_pic_idx.is_none() {
            return None;
        }
        let picture_id =
            vp8.picture_id.map_or(0, |id| id.value.wrapping_add(self.picture_offset.picture_id) & id.mask());
        let tl0_pic_idx = vp8.tl0_pic_idx.unwrap_or(0).wrapping_add(self.picture_offset.tl0_pic_idx);
        Some(PictureNumbers { picture_id, tl0_pic_idx })
    }

    /// The first packet of a source.
    #[cold]
    fn start(&mut self, now: Instant, extended_seq: u64, timestamp: u32, vp8: Option<&Vp8Descriptor>) -> Outgoing {
        let outgoing_timestamp = match self.newest {
            None => self.timestamp_offset,
            // Time has passed, and no two frames share a timestamp.
            Some(newest) => {
                let elapsed = rtp_ticks(now.saturating_duration_since(newest.at), self.clock_rate);
                newest.timestamp.wrapping_add(elapsed.max(1))
            }
        };
        self.timestamp_offset = outgoing_timestamp.wrapping_sub(timestamp);
        let last_picture = self.newest.and_then(|newest| newest.picture);
        if let (Some(last), Some(vp8)) = (last_picture, vp8) {
            let first = vp8.picture_id.unwrap_or(PictureId { value: 0, long: true });
            // A frame above the base layer belongs to the last base frame's number.
            let base = u8::from(vp8.temporal_layer.is_none_or(|layer| layer.id == 0));
            self.picture_offset = PictureNumbers {
                picture_id: last.picture_id.wrapping_add(1).wrapping_sub(first.value),
                tl0_pic_idx: last.tl0_pic_idx.wrapping_add(base).wrapping_sub(vp8.tl0_pic_idx.unwrap_or(0)),
            };
        }
        let picture = vp8.and_then(|vp8| self.picture_of(vp8));
        self.newest = Some(Newest { at: now, timestamp: outgoing_timestamp, picture: picture.or(last_picture) });
        self.source = Some(Slots::new(extended_seq));
        let index = self.next_index;
        self.next_index += 1;
        Outgoing { index, timestamp: outgoing_timestamp, picture }
    }
}
