//! The VP8 payload descriptor (RFC 7741 4.2): parsing, and rewriting its picture numbers in place.
//!
//! Frames are neither decoded nor reassembled here.

use thiserror::Error;

/// A payload that ends inside its descriptor.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("VP8 payload of {0} bytes ends inside its descriptor")]
pub struct Vp8Error(pub usize);

/// The picture id field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// The number, 7 or 15 bits wide.
    pub value: u16,
    /// Whether the field is the two-byte form of 15 bits.
    pub long: bool,
}

impl PictureId {
    /// All bits of this form.
    #[inline]
    pub const fn mask(self) -> u16 {
        if self.long { 0x7fff } else { 0x7f }
    }
}

/// The temporal layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemporalLayer {
    /// TID, 0..=3; 0 is the base layer.
    pub id: u8,
    /// Y: the frame depends on the base layer only.
    pub sync: bool,
}

/// A parsed payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// Bytes of the descriptor; the VP8 payload follows.
    pub len: usize,
    /// N: no other frame refers to this one.
    pub non_reference: bool,
    /// S: the payload begins a partition.
    pub start_of_partition: bool,
    /// PID: index of the partition, 0..=7.
    pub partition: u8,
    /// Picture id, if present.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX, the running number of the base temporal layer's frames, if present.
    pub tl0_pic_idx: Option<u8>,
    /// The temporal layer, if present.
    pub temporal_layer: Option<TemporalLayer>,
    /// KEYIDX, if present.
    pub key_idx: Option<u8>,
    /// The payload is the first of a keyframe.
    pub keyframe_start: bool,
}

impl Vp8Descriptor {
    /// Parses the descriptor at the start of a payload.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, Vp8Error> {
        let short = Vp8Error(payload.len());
        let mut at = 0;
        let mut next = || {
            let byte = payload.get(at).copied();
            at += 1;
            byte.ok_or(short)
        };
        let first = next()?;
        let extended = if first & 0x80 == 0 { 0 } else { next()? };
        let picture_id = if extended & 0x80 == 0 {
            None
        } else {
            let high = next()?;
            Some(if high & 0x80 == 0 {
                PictureId { value: u16::from(high), long: false }
            } else {
                PictureId { value: u16::from_be_bytes([high & 0x7f, next()?]), long: true }
            })
        };
        let tl0_pic_idx = if extended & 0x40 == 0 { None } else { Some(next()?) };
        let layers = if extended & 0x30 == 0 { 0 } else { next()? };
        let len = at;
        let start_of_partition = first & 0x10 != 0;
        let partition = first & 0x07;
        let keyframe_start =
            start_of_partition && partition == 0 && payload.get(len).is_some_and(|frame_tag| frame_tag & 1 == 0);
        Ok(Self {
            len,
            non_reference: first & 0x20 != 0,
            start_of_partition,
            partition,
            picture_id,
            tl0_pic_idx,
            temporal_layer: (extended & 0x20 != 0)
                .then_some(TemporalLayer { id: layers >> 6, sync: layers & 0x20 != 0 }),
            key_idx: (extended & 0x10 != 0).then_some(layers & 0x1f),
            keyframe_start,
        })
    }

    /// Replaces the picture numbers of `payload`, which must be the payload this descriptor was parsed from or a copy of
    /// it. Fields the descriptor does not have are left out; lengths never change.
    #[inline]
    pub fn rewrite(&self, payload: &mut [u8], picture: PictureNumbers) {
        let mut at = 2;
        if let Some(old) = self.picture_id {
            if old.long {
                if let Some(field) = payload.get_mut(at..at + 2) {
                    field.copy_from_slice(&(picture.picture_id | 0x8000).to_be_bytes());
                }
                at += 2;
            } else {
                if let Some(field) = payload.get_mut(at) {
                    *field = (picture.picture_id & 0x7f) as u8;
                }
                at += 1;
            }
        }
        if self.tl0_pic_idx.is_some()
            && let Some(field) = payload.get_mut(at)
        {
            *field = picture.tl0_pic_idx;
        }
    }
}

/// Picture numbers to be written into a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureNumbers {
    /// Picture id; the low 15 or 7 bits are used, as the descriptor's form has it.
    pub picture_id: u16,
    /// TL0PICIDX.
    pub tl0_pic_idx: u8,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_descriptor_is_one_byte() {
        let descriptor = Vp8Descriptor::parse(&[0x10, 0x00]).expect("whole");
        assert_eq!((descriptor.len, descriptor.keyframe_start), (1, true));
        assert_eq!((descriptor.picture_id, descriptor.tl0_pic_idx, descriptor.key_idx), (None, None, None));
    }

    #[test]
    fn every_field_is_read() {
        let descriptor = Vp8Descriptor::parse(&[0xb3, 0xf0, 0x92, 0x34, 0x56, 0xb7, 0x01]).expect("whole");
        assert_eq!(
            descriptor,
            Vp8Descriptor {
                len: 6,
                non_reference: true,
                start_of_partition: true,
                partition: 3,
                picture_id: Some(PictureId { value: 0x1234, long: true }),
                tl0_pic_idx: Some(0x56),
                temporal_layer: Some(TemporalLayer { id: 2, sync: true }),
                key_idx: Some(0x17),
                keyframe_start: false,
            }
        );
    }

    #[test]
    fn only_the_first_packet_of_a_keyframe_starts_it() {
        let starts = |payload: &[u8]| Vp8Descriptor::parse(payload).expect("whole").keyframe_start;
        assert!(starts(&[0x10, 0b1111_0000]));
        assert!(!starts(&[0x10, 0b1111_0001]), "an interframe");
        assert!(!starts(&[0x00, 0b1111_0000]), "inside a partition");
        assert!(!starts(&[0x11, 0b1111_0000]), "a later partition");
        assert!(!starts(&[0x10]), "no payload");
    }

    #[test]
    fn a_descriptor_cut_short_is_refused() {
        let whole = [0xb3, 0xf0, 0x92, 0x34, 0x56, 0xb7];
        for len in 0..whole.len() {
            assert_eq!(Vp8Descriptor::parse(&whole[..len]), Err(Vp8Error(len)));
        }
    }

    #[test]
    fn short_picture_ids_stay_short() {
        let mut payload = [0x90, 0x80, 0x7f, 0x01];
        let descriptor = Vp8Descriptor::parse(&payload).expect("whole");
        descriptor.rewrite(&mut payload, PictureNumbers { picture_id: 0x0180, tl0_pic_idx: 9 });
        assert_eq!(payload, [0x90, 0x80, 0x00, 0x01]);
    }

    proptest! {
        /// Rewriting changes the picture numbers and nothing else.
        #[test]
        fn rewriting_changes_only_picture_numbers(
            payload in prop::collection::vec(any::<u8>(), 0..12),
            picture_id in any::<u16>(),
            tl0_pic_idx in any::<u8>(),
        ) {
            if let Ok(before) = Vp8Descriptor::parse(&payload) {
                let mut rewritten = payload.clone();
                before.rewrite(&mut rewritten, PictureNumbers { picture_id, tl0_pic_idx });
                let after = Vp8Descriptor::parse(&rewritten).expect("as long as before");
                let expected = Vp8Descriptor {
                    picture_id: before.picture_id.map(|id| PictureId { value: picture_id & id.mask(), ..id }),
                    tl0_pic_idx: before.tl0_pic_idx.map(|_| tl0_pic_idx),
                    ..before
                };
                prop_assert_eq!(after, expected);
                prop_assert_eq!(&rewritten[before.len..], &payload[before.len..]);
            }
        }
    }
}
