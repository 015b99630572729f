//! Opus packets from outside (RFC 6716 3): how long one is, whether it is well-formed, and packets that stand for what is missing.
//!
//! Nothing is decoded or encoded here: the packets made are constants.

use std::borrow::Cow;

use thiserror::Error;

/// Samples in a second, in which all of Ogg and RTP count Opus, whatever it was encoded from.
pub(crate) const RATE: u32 = 48_000;
/// The shortest frame, 2.5 ms. Every duration is a multiple of it.
pub(crate) const SHORTEST: u32 = 120;
/// A packet is at most 120 ms long (RFC 6716 3.4, R5).
const LONGEST: u32 = 5_760;
/// A frame has at most as many bytes (RFC 6716 3.4, R2).
const MAX_FRAME: usize = 1_275;
/// How long what is missing is left to the decoder to conceal; it fades out in about that time. What is longer is silence. More would
/// only be fading noise, less an audible hole where a single packet was lost.
const CONCEALED: u32 = 4_800;

/// A payload that is not an Opus packet.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not an Opus packet")]
pub(crate) struct NotOpus;

/// The first byte of a packet: how it was coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toc(pub(crate) u8);

impl Toc {
    /// Samples of each of its frames, 120..=2,880 (RFC 6716 3.1, table 2).
    pub(crate) const fn frame_samples(self) -> u32 {
        let config = self.0 >> 3;
        match config {
            0..=11 => [480, 960, 1_920, 2_880][(config & 3) as usize],
            12..=15 => [480, 960][(config & 1) as usize],
            _ => [120, 240, 480, 960][(config & 3) as usize],
        }
    }

    /// Whether it has two channels.
    pub(crate) const fn stereo(self) -> bool {
        self.0 & 4 != 0
    }

    /// The same mode and bandwidth with one frame of `samples`, 120, 240, 480 or 960. What only CELT has frames for is CELT.
    const fn with_frame(self, samples: u32) -> Self {
        let config = self.0 >> 3;
        let celt = match samples {
            120 => 0,
            240 => 1,
            480 => 2,
            _ => 3,
        };
        let other = match config {
            0..=11 if celt >= 2 => (config & !3) + celt - 2,
            12..=15 if celt >= 2 => (config & !1) + celt - 2,
            0..=15 => 28 + celt,
            _ => (config & !3) + celt,
        };
        Self(other << 3 | self.0 & 4)
    }
}

/// A well-formed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpusPacket {
    /// Its first byte.
    pub(crate) toc: Toc,
    /// Its length in samples, 120..=5,760.
    pub(crate) samples: u32,
}

impl OpusPacket {
    /// Reads a packet's structure and holds it against the requirements of RFC 6716 3.4.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, NotOpus> {
        let (&toc, frames) = payload.split_first().ok_or(NotOpus)?;
        let toc = Toc(toc);
        let count = match toc.0 & 3 {
            0 => single(frames)?,
            1 => pair_of_equals(frames)?,
            2 => pair(frames)?,
            _ => many(frames)?,
        };
        let samples = toc.frame_samples() * count;
        if samples > LONGEST { Err(NotOpus) } else { Ok(Self { toc, samples }) }
    }
}

fn single(frame: &[u8]) -> Result<u32, NotOpus> {
    bounded(frame.len()).map(|()| 1)
}

fn pair_of_equals(frames: &[u8]) -> Result<u32, NotOpus> {
    if frames.len() % 2 == 1 {
        return Err(NotOpus);
    }
    bounded(frames.len() / 2).map(|()| 2)
}

fn pair(frames: &[u8]) -> Result<u32, NotOpus> {
    let (first, rest) = frame_length(frames)?;
    bounded(rest.len().checked_sub(first).ok_or(NotOpus)?).map(|()| 2)
}

/// Code 3: a count byte, the length of padding, lengths of frames unless they are equal, frames, padding.
fn many(frames: &[u8]) -> Result<u32, NotOpus> {
    let (&head, mut rest) = frames.split_first().ok_or(NotOpus)?;
    let count = usize::from(head & 0x3f);
    if count == 0 {
        return Err(NotOpus);
    }
    if head & 0x40 != 0 {
        rest = without_padding(rest)?;
    }
    if head & 0x80 == 0 {
        if rest.len() % count != 0 {
            return Err(NotOpus);
        }
        return bounded(rest.len() / count).map(|()| count as u32);
    }
    let mut sum = 0;
    for _ in 1..count {
        let (length, after) = frame_length(rest)?;
        (sum, rest) = (sum + length, after);
    }
    bounded(rest.len().checked_sub(sum).ok_or(NotOpus)?).map(|()| count as u32)
}

/// What is left of `rest` without its padding's length and the padding.
fn without_padding(mut rest: &[u8]) -> Result<&[u8], NotOpus> {
    let mut padding = 0;
    loop {
        let (&byte, after) = rest.split_first().ok_or(NotOpus)?;
        rest = after;
        if byte < 255 {
            padding += usize::from(byte);
            break;
        }
        padding += 254;
    }
    let frames = rest.len().checked_sub(padding).ok_or(NotOpus)?;
    Ok(&rest[..frames])
}

/// A frame's length of one or two bytes (RFC 6716 3.2.1), and what follows it.
fn frame_length(bytes: &[u8]) -> Result<(usize, &[u8]), NotOpus> {
    match bytes {
        [short @ 0..=251, rest @ ..] => Ok((usize::from(*short), rest)),
        [low, high, rest @ ..] => Ok((usize::from(*high) * 4 + usize::from(*low), rest)),
        _ => Err(NotOpus),
    }
}

const fn bounded(frame: usize) -> Result<(), NotOpus> {
    if frame > MAX_FRAME { Err(NotOpus) } else { Ok(()) }
}

/// Makes packets for a span that has none: first such as let a decoder conceal, then coded silence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filler {
    stereo: bool,
    /// How the last real packet was coded.
    last: Option<Toc>,
    /// Samples filled since.
    filled: u32,
}

impl Filler {
    /// For a file of `stereo` or mono.
    pub(crate) const fn new(stereo: bool) -> Self {
        Self { stereo, last: None, filled: 0 }
    }

    /// A real packet was written.
    pub(crate) fn handle_packet(&mut self, toc: Toc) {
        self.stereo |= toc.stereo();
        self.last = Some(toc);
        self.filled = 0;
    }

    /// The next packet of a span that is `samples` long yet, at least 2.5 ms, and its length: the longest that fits.
    pub(crate) fn fill(&mut self, samples: u64) -> (Cow<'static, [u8]>, u32) {
        let length = match samples {
            960.. => 960,
            480.. => 480,
            240.. => 240,
            _ => SHORTEST,
        };
        let packet = match self.last {
            // A frame of no bytes stands for a lost one (RFC 6716 3.2.1).
            Some(toc) if self.filled < CONCEALED => Cow::Owned(vec![toc.with_frame(length).0]),
            _ => Cow::Borrowed(silence(length, self.stereo)),
        };
        self.filled = self.filled.saturating_add(length);
        (packet, length)
    }
}

/// A CELT frame with its silence flag set, over the whole band.
const fn silence(samples: u32, stereo: bool) -> &'static [u8] {
    match (samples, stereo) {
        (960, false) => &[0xf8, 0xff, 0xfe],
        (960, true) => &[0xfc, 0xff, 0xfe],
        (480, false) => &[0xf0, 0xff, 0xfe],
        (480, true) => &[0xf4, 0xff, 0xfe],
        (240, false) => &[0xe8, 0xff, 0xfe],
        (240, true) => &[0xec, 0xff, 0xfe],
        (_, false) => &[0xe0, 0xff, 0xfe],
        (_, true) => &[0xe4, 0xff, 0xfe],
    }
}

/// Whether a packet of a file is one of [`silence`].
pub(crate) fn is_silence(packet: &[u8]) -> bool {
    matches!(packet, [0xe0..=0xff, 0xff, 0xfe])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Samples of a packet, `None` if it is refused.
    fn samples(payload: &[u8]) -> Option<u32> {
        OpusPacket::parse(payload).ok().map(|packet| packet.samples)
    }

    #[test]
    fn every_configuration_has_its_length() {
        let of = |config: u8| Toc(config << 3).frame_samples();
        assert_eq!((0..4).map(of).collect::<Vec<_>>(), [480, 960, 1_920, 2_880]);
        assert_eq!((8..12).map(of).collect::<Vec<_>>(), [480, 960, 1_920, 2_880]);
        assert_eq!((12..16).map(of).collect::<Vec<_>>(), [480, 960, 480, 960]);
        assert_eq!((28..32).map(of).collect::<Vec<_>>(), [120, 240, 480, 960]);
    }

    #[test]
    fn packets_without_a_first_byte_are_refused_and_without_frames_are_not() {
        assert_eq!(samples(&[]), None);
        assert_eq!(samples(&[0xf8]), Some(960));
        assert_eq!(samples(&[0xf9]), Some(1_920), "two frames of no bytes");
        assert_eq!(samples(&[0xfa]), None, "no length of the first frame");
        assert_eq!(samples(&[0xfb]), None, "no count");
        assert_eq!(samples(&[0xfb, 0]), None, "a count of nothing");
    }

    #[test]
    fn a_packet_of_120_ms_is_one_and_a_longer_one_is_not() {
        assert_eq!(samples(&[0xfb, 6]), Some(5_760));
        assert_eq!(samples(&[0xfb, 7]), None);
        assert_eq!(samples(&[0x1b, 2]), Some(5_760), "2 of 60 ms");
        assert_eq!(samples(&[0xe3, 48]), Some(5_760), "48 of 2.5 ms");
        assert_eq!(samples(&[0xe3, 49]), None);
    }

    #[test]
    fn lengths_that_contradict_the_packet_are_refused() {
        assert_eq!(samples(&[0xf9, 1, 2, 3]), None, "two equal frames in three bytes");
        assert_eq!(samples(&[0xfa, 2, 1]), None, "the first is longer than there is");
        assert_eq!(samples(&[0xfa, 2, 1, 1, 9]), Some(1_920));
        assert_eq!(samples(&[0xfb, 0x43, 255, 2]), None, "more padding than there is");
        assert_eq!(samples(&[0xfb, 0x42, 1, 7, 7, 0]), Some(1_920));
        assert_eq!(samples(&[0xfb, 0x82, 1, 7]), Some(1_920), "the last frame is empty");
        assert_eq!(samples(&[0xfb, 0x82, 252]), None, "half a length");
    }

    #[test]
    fn a_frame_of_more_than_1275_bytes_is_refused() {
        let packet = |toc: u8, frames: usize| [&[toc][..], &vec![0; frames]].concat();
        assert_eq!(samples(&packet(0xf8, 1_275)), Some(960));
        assert_eq!(samples(&packet(0xf8, 1_276)), None);
        assert_eq!(samples(&packet(0xf9, 2 * 1_275)), Some(1_920));
        assert_eq!(samples(&packet(0xf9, 2 * 1_276)), None);
    }

    #[test]
    fn a_gap_is_first_concealed_in_the_mode_before_and_then_silent() {
        let mut filler = Filler::new(false);
        filler.handle_packet(Toc(0x4b));
        let fills: Vec<_> = (0..7).map(|_| filler.fill(u64::MAX)).collect();
        assert!(
            fills[..5].iter().all(|fill| *fill == (Cow::Owned(vec![0x48]), 960)),
            "SILK wideband, 20 ms, one frame"
        );
        assert_eq!(fills[5], (Cow::Borrowed(&[0xf8, 0xff, 0xfe][..]), 960));
        filler.handle_packet(Toc(0xfc));
        assert_eq!(filler.fill(959), (Cow::Owned(vec![0xf4]), 480), "stereo stays");
        assert_eq!(
            Filler::new(true).fill(130),
            (Cow::Borrowed(&[0xe4, 0xff, 0xfe][..]), 120),
            "nothing to conceal from"
        );
    }

    proptest! {
        /// What is made is what it says, after whatever packet.
        #[test]
        fn fills_are_as_long_as_they_say(toc: u8, span in 120_u64..20_000) {
            let mut filler = Filler::new(false);
            filler.handle_packet(Toc(toc));
            let mut left = span;
            while left >= u64::from(SHORTEST) {
                let (packet, length) = filler.fill(left);
                prop_assert_eq!(samples(&packet), Some(length));
                left -= u64::from(length);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..1_500)) {
            if let Some(samples) = samples(&payload) {
                prop_assert!(samples % SHORTEST == 0 && (SHORTEST..=LONGEST).contains(&samples));
            }
        }
    }
}
