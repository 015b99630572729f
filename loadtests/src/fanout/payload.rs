//! What the generator's packets carry: enough of VP8 that a server believes it, a running number, and the time of sending.

/// Bytes of the VP8 descriptor (RFC 7741, section 4.2) in Chromium's form: picture id of 15 bits, TL0PICIDX, TID.
const DESCRIPTOR: usize = 6;
/// Bytes of a keyframe's header (RFC 6386, section 9.1): its tag, the start code, width and height.
const KEYFRAME_HEADER: usize = 10;
/// A picture of 640 × 360, without what would be in it.
const START_AND_SIZE: [u8; 7] = [0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01];
/// Number and time behind all that.
const STAMP: usize = 16;

/// Payload bytes of a video packet.
pub const VIDEO_BYTES: usize = 1_100;
/// Payload bytes of an audio packet: Opus at 32 kbit/s in packets of 20 ms.
pub const AUDIO_BYTES: usize = 80;

/// What a packet says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Position among all packets of its track, from 0.
    pub number: u64,
    /// When it was handed to the kernel, nanoseconds of the real-time clock.
    pub sent_ns: u64,
}

/// Position of a packet in the stream of frames.
#[derive(Debug, Clone, Copy)]
pub struct InFrame {
    /// Which frame.
    pub picture: u16,
    /// The frame's first packet.
    pub first: bool,
    /// The frame is a keyframe.
    pub keyframe: bool,
}

/// Writes a video payload.
pub fn write_video(payload: &mut [u8; VIDEO_BYTES], frame: InFrame, stamp: Stamp) {
    let start = if frame.first { 0x10 } else { 0 };
    let picture = frame.picture & 0x7FFF | 0x8000;
    payload[..2].copy_from_slice(&[0x80 | start, 0xE0]);
    payload[2..4].copy_from_slice(&picture.to_be_bytes());
    payload[4..DESCRIPTOR].copy_from_slice(&[frame.picture as u8, 0]);
    // The lowest bit of a frame's first byte is 0 for keyframes; it is to be shown (RFC 6386, section 9.1).
    payload[DESCRIPTOR] = 0x10 | u8::from(!frame.keyframe);
    if frame.first && frame.keyframe {
        payload[DESCRIPTOR + 3..DESCRIPTOR + KEYFRAME_HEADER].copy_from_slice(&START_AND_SIZE);
    }
    write_stamp(&mut payload[DESCRIPTOR + KEYFRAME_HEADER..], stamp);
}

/// Writes an audio payload.
pub fn write_audio(payload: &mut [u8; AUDIO_BYTES], stamp: Stamp) {
    // A table-of-contents byte of Opus: CELT, 20 ms, stereo, one frame (RFC 6716, section 3.1).
    payload[0] = 0xFC;
    write_stamp(&mut payload[1..], stamp);
}

fn write_stamp(at: &mut [u8], stamp: Stamp) {
    at[..8].copy_from_slice(&stamp.number.to_be_bytes());
    at[8..STAMP].copy_from_slice(&stamp.sent_ns.to_be_bytes());
}

/// Reads the stamp of a payload, video if it is as long as one.
pub fn read(payload: &[u8]) -> Option<Stamp> {
    let at = if payload.len() == VIDEO_BYTES { DESCRIPTOR + KEYFRAME_HEADER } else { 1 };
    let (number, rest) = payload.get(at..)?.split_first_chunk()?;
    Some(Stamp { number: u64::from_be_bytes(*number), sent_ns: u64::from_be_bytes(*rest.first_chunk()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::vp8::Vp8Descriptor;

    #[test]
    fn the_server_sees_vp8_and_the_receiver_its_stamp() {
        let mut payload = [0; VIDEO_BYTES];
        let stamp = Stamp { number: 77, sent_ns: 1_234_567_890_123 };
        for (first, keyframe) in [(true, true), (true, false), (false, true)] {
            write_video(&mut payload, InFrame { picture: 300, first, keyframe }, stamp);
            let descriptor = Vp8Descriptor::parse(&payload).expect("a descriptor");
            assert_eq!(descriptor.len, DESCRIPTOR);
            assert_eq!(descriptor.picture_id.map(|id| (id.value, id.long)), Some((300, true)));
            assert_eq!(descriptor.keyframe_start, first && keyframe);
            assert_eq!(read(&payload), Some(stamp));
        }
        let mut payload = [0; AUDIO_BYTES];
        write_audio(&mut payload, stamp);
        assert_eq!(read(&payload), Some(stamp));
    }
}
