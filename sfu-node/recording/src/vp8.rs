//! Frames of VP8 put together from RTP payloads (RFC 7741), and which of them can be decoded after a loss.
//!
//! ```text
//!             keyframe              something lost                  next frame follows on the last
//!   NoKeyframe ─────▶ Whole ───────────────────────▶ Doubtful ───────────────────────────────────▶ Whole
//!       ▲               ▲                               │  │ base layer follows on the last
//!       │               └── keyframe, or layer sync ─── │ ─▶ BaseLayer
//!       └───────────────────────────────────────────────┘ neither
//! ```
//! Payloads are given in order. Nothing is decoded; of a frame, only the first ten bytes are read (RFC 6386 9.1).

use std::{collections::VecDeque, mem, time::Duration};

use sfu_core::vp8::Vp8Descriptor;

use crate::reorder::Held;

/// The largest frame that is put together. A keyframe of a whole screen has some 300 KB; more would let one publisher take the memory
/// of many recordings.
const MAX_FRAME: usize = 1 << 20;

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where it begins in the file, in ticks of the RTP clock.
    pub(crate) position: i64,
    /// When its first packet arrived.
    pub(crate) arrival: Duration,
    /// Width and height of a keyframe.
    pub(crate) keyframe: Option<(u16, u16)>,
    /// Whether frames between it and the last were left out.
    pub(crate) after_gap: bool,
    /// Packets that it came in.
    pub(crate) packets: u64,
    /// The frame.
    pub(crate) data: Vec<u8>,
}

/// A payload that is not VP8, or of a frame beyond all bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotVp8;

/// Whether the next frame can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// Not before a keyframe.
    NoKeyframe,
    /// Yes.
    Whole,
    /// If nothing but padding was lost.
    Doubtful,
    /// If it is of the base layer, or needs no other than that.
    BaseLayer,
}

/// Numbers of the frame put out last.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    picture: Option<u16>,
    base_layer: Option<u8>,
}

/// A frame that is being put together.
#[derive(Debug)]
struct Partial {
    descriptor: Vp8Descriptor,
    timestamp: u32,
    position: i64,
    arrival: Duration,
    packets: u64,
    data: Vec<u8>,
}

/// Puts frames together.
#[derive(Debug)]
pub(crate) struct Assembler {
    chain: Chain,
    last: Numbers,
    partial: Option<Partial>,
    frames: VecDeque<Frame>,
    undecodable: u64,
    after_gap: bool,
}

impl Assembler {
    /// One that waits for a keyframe.
    pub(crate) const fn new() -> Self {
        let last = Numbers { picture: None, base_layer: None };
        Self {
            chain: Chain::NoKeyframe,
            last,
            partial: None,
            frames: VecDeque::new(),
            undecodable: 0,
            after_gap: false,
        }
    }

    /// Takes the next payload, whose place in the file is `position`.
    pub(crate) fn handle_payload(&mut self, held: &Held, position: i64) -> Result<(), NotVp8> {
        let Ok(descriptor) = Vp8Descriptor::parse(&held.payload) else {
            self.handle_loss();
            return Err(NotVp8);
        };
        let begins = descriptor.start_of_partition && descriptor.partition == 0;
        // A sender that sets no marker ends a frame by beginning another.
        if self.partial.as_ref().is_some_and(|partial| partial.timestamp != held.timestamp) {
            self.complete();
        }
        if begins && self.partial.is_none() {
            let (timestamp, arrival) = (held.timestamp, held.arrival);
            let partial = Partial { descriptor, timestamp, position, arrival, packets: 0, data: Vec::new() };
            self.partial = Some(partial);
        }
        let Some(partial) = self.partial.as_mut() else {
            self.handle_loss();
            return Ok(());
        };
        if partial.data.len() + held.payload.len() > MAX_FRAME {
            self.handle_loss();
            return Err(NotVp8);
        }
        partial.packets += 1;
        partial.data.extend_from_slice(&held.payload[descriptor.len..]);
        if held.marker {
            self.complete();
        }
        Ok(())
    }

    /// Payloads before the next are missing.
    pub(crate) fn handle_loss(&mut self) {
        self.leave_out_partial();
        if self.chain != Chain::NoKeyframe {
            self.chain = Chain::Doubtful;
        }
    }

    /// Another source begins: nothing it sends refers to what was before.
    pub(crate) fn handle_new_source(&mut self) {
        self.leave_out_partial();
        self.chain = Chain::NoKeyframe;
    }

    /// A frame that was [given out](Self::poll) is not in the file after all: nothing can be decoded before a keyframe.
    pub(crate) fn handle_left_out(&mut self) {
        self.leave_out_partial();
        self.undecodable += 1 + self.frames.len() as u64;
        self.frames.clear();
        self.after_gap = true;
        self.chain = Chain::NoKeyframe;
    }

    /// The next frame that can be decoded.
    pub(crate) fn poll(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Whether nothing can be decoded before a keyframe.
    pub(crate) fn wants_keyframe(&self) -> bool {
        self.chain == Chain::NoKeyframe
    }

    /// Frames left out.
    pub(crate) const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    fn leave_out_partial(&mut self) {
        if self.partial.take().is_some() {
            self.undecodable += 1;
            self.after_gap = true;
        }
    }

    fn complete(&mut self) {
        let Some(partial) = self.partial.take() else { return };
        let keyframe = picture_size(&partial.data);
        let is_keyframe = partial.descriptor.keyframe_start;
        let can_be_decoded = if is_keyframe { keyframe.is_some() } else { self.follows(&partial.descriptor) };
        if !can_be_decoded || partial.data.is_empty() {
            self.undecodable += 1;
            self.after_gap = true;
            return;
        }
        if is_keyframe {
            // Whether it was a frame that was lost before it, nobody will know.
            self.after_gap |= self.chain == Chain::Doubtful;
            self.chain = Chain::Whole;
        }
        self.last.picture = partial.descriptor.picture_id.map(|picture| picture.value);
        if partial.descriptor.temporal_layer.is_none_or(|layer| layer.id == 0) {
            self.last.base_layer = partial.descriptor.tl0_pic_idx;
        }
        let Partial { position, arrival, packets, data, .. } = partial;
        let after_gap = mem::take(&mut self.after_gap);
        self.frames.push_back(Frame { position, arrival, keyframe, after_gap, packets, data });
    }

    /// Whether all that an interframe refers to was put out.
    fn follows(&mut self, frame: &Vp8Descriptor) -> bool {
        if self.chain == Chain::Doubtful {
            self.chain = self.chain_after_loss(frame);
        }
        match (self.chain, frame.temporal_layer) {
            (Chain::Whole, _) => true,
            (Chain::BaseLayer, Some(layer)) if layer.id == 0 => true,
            (Chain::BaseLayer, Some(layer)) if layer.sync => {
                self.chain = Chain::Whole;
                true
            }
            _ => false,
        }
    }

    /// What the first frame after a loss says of what was lost.
    fn chain_after_loss(&self, frame: &Vp8Descriptor) -> Chain {
        let picture_follows = frame
            .picture_id
            .zip(self.last.picture)
            .is_some_and(|(picture, last)| picture.value == last.wrapping_add(1) & picture.mask());
        if picture_follows {
            return Chain::Whole;
        }
        match (frame.temporal_layer, frame.tl0_pic_idx.zip(self.last.base_layer)) {
            (Some(layer), Some((this, last))) if layer.id == 0 && this == last.wrapping_add(1) => Chain::BaseLayer,
            // Of another layer, on the base that is known: the base may go on yet.
            (Some(layer), Some((this, last))) if layer.id > 0 && this == last => Chain::Doubtful,
            _ => Chain::NoKeyframe,
        }
    }
}

/// Width and height that a keyframe says; `None` of what is not one (RFC 6386 9.1).
pub(crate) fn picture_size(frame: &[u8]) -> Option<(u16, u16)> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, size @ ..] = frame else { return None };
    let [width_low, width_high, height_low, height_high, ..] = size else { return None };
    let side = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    let (width, height) = (side(*width_low, *width_high), side(*height_low, *height_high));
    (tag & 1 == 0 && width > 0 && height > 0).then_some((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one payload: a descriptor with the picture id and layer, and a frame tag.
    struct Sender {
        assembler: Assembler,
        picture: u16,
        timestamp: u32,
        base: u8,
    }

    const KEYFRAME: [u8; 10] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01];
    const INTERFRAME: [u8; 4] = [0x11, 0, 0, 7];

    fn held(timestamp: u32, marker: bool, payload: Vec<u8>) -> Held {
        Held { arrival: Duration::ZERO, timestamp, source: 0, marker, ticks: 0, timed: true, payload }
    }

    impl Sender {
        fn new() -> Self {
            Self { assembler: Assembler::new(), picture: 100, timestamp: 0, base: 0 }
        }

        /// Counts a frame of a layer up without giving it.
        fn lose(&mut self, layer: u8) -> &mut Self {
            self.picture += 1;
            self.base += u8::from(layer == 0);
            self.timestamp += 3_000;
            self.assembler.handle_loss();
            self
        }

        /// Gives a frame of one payload; says whether it came out.
        fn send(&mut self, frame: &[u8]) -> bool {
            self.send_layer(frame, 0, false)
        }

        fn send_layer(&mut self, frame: &[u8], layer: u8, sync: bool) -> bool {
            self.picture += 1;
            self.timestamp += 3_000;
            self.base += u8::from(layer == 0);
            let picture = (self.picture | 0x8000).to_be_bytes();
            let layers = layer << 6 | u8::from(sync) << 5;
            let payload = [&[0x90, 0xe0, picture[0], picture[1], self.base, layers], frame].concat();
            self.assembler.handle_payload(&held(self.timestamp, true, payload), 0).expect("whole");
            self.assembler.poll().is_some_and(|out| out.data == frame)
        }
    }

    #[test]
    fn nothing_comes_out_before_a_keyframe() {
        let mut sender = Sender::new();
        assert!(!sender.send(&INTERFRAME));
        assert!(sender.assembler.wants_keyframe());
        assert!(sender.send(&KEYFRAME) && sender.send(&INTERFRAME));
        assert_eq!((sender.assembler.undecodable(), sender.assembler.wants_keyframe()), (1, false));
    }

    #[test]
    fn a_frame_of_many_payloads_comes_out_once_it_is_whole() {
        let mut assembler = Assembler::new();
        let first = [&[0x10][..], &KEYFRAME].concat();
        assembler.handle_payload(&held(1, false, first), 42).expect("whole");
        assembler.handle_payload(&held(1, false, vec![0x00, 1, 2]), 42).expect("whole");
        assert_eq!(assembler.poll(), None);
        assembler.handle_payload(&held(1, true, vec![0x11, 3]), 42).expect("whole");
        let frame = assembler.poll().expect("the marker ended it");
        assert_eq!((frame.keyframe, frame.position), (Some((640, 480)), 42));
        assert_eq!(frame.data, [&KEYFRAME[..], &[1, 2, 3]].concat());
    }

    #[test]
    fn a_frame_without_a_marker_ends_where_the_next_begins() {
        let mut assembler = Assembler::new();
        for timestamp in [1, 2] {
            let payload = [&[0x10][..], &KEYFRAME].concat();
            assembler.handle_payload(&held(timestamp, false, payload), 0).expect("whole");
        }
        assert!(assembler.poll().is_some());
        assert!(assembler.poll().is_none());
    }

    #[test]
    fn a_lost_frame_is_waited_out_until_a_keyframe() {
        let mut sender = Sender::new();
        assert!(sender.send(&KEYFRAME));
        assert!(!sender.lose(0).send(&INTERFRAME) && !sender.send(&INTERFRAME));
        assert!(sender.assembler.wants_keyframe());
        assert!(sender.send(&KEYFRAME) && sender.send(&INTERFRAME));
        assert_eq!(sender.assembler.undecodable(), 2);
    }

    #[test]
    fn lost_padding_costs_no_frame() {
        let mut sender = Sender::new();
        assert!(sender.send(&KEYFRAME));
        sender.assembler.handle_loss();
        assert!(sender.send(&INTERFRAME), "the next picture follows on the last");
    }

    #[test]
    fn a_lost_frame_of_an_upper_layer_costs_that_layer_until_it_is_in_sync() {
        let mut sender = Sender::new();
        assert!(sender.send(&KEYFRAME) && sender.send_layer(&INTERFRAME, 1, true));
        assert!(sender.send(&INTERFRAME));
        sender.lose(1);
        assert!(sender.send(&INTERFRAME), "the base layer lost nothing");
        assert!(!sender.send_layer(&INTERFRAME, 1, false), "it may refer to the lost one");
        assert!(sender.send(&INTERFRAME));
        assert!(sender.send_layer(&INTERFRAME, 1, true) && sender.send_layer(&INTERFRAME, 1, false));
    }

    #[test]
    fn a_keyframe_that_is_none_is_left_out() {
        let mut sender = Sender::new();
        assert!(!sender.send(&[0x10, 0, 0, 1, 2, 3, 4, 5, 6, 7]), "no start code");
        assert!(!sender.send(&KEYFRAME[..9]), "cut short");
        assert!(!sender.send(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 1, 0]), "no width");
        assert!(sender.assembler.wants_keyframe());
    }

    #[test]
    fn a_frame_beyond_the_bound_is_left_out() {
        let mut assembler = Assembler::new();
        let first = [&[0x10][..], &KEYFRAME].concat();
        assembler.handle_payload(&held(1, false, first), 0).expect("whole");
        let more = held(1, false, vec![0; 1_200]);
        let taken = (0..10_000).take_while(|_| assembler.handle_payload(&more, 0).is_ok()).count();
        assert!(taken * 1_199 <= MAX_FRAME, "{taken} payloads");
        assert!(assembler.poll().is_none());
    }
}
