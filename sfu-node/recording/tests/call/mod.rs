//! A call without a network: packets with their times of arrival, given to a recording in virtual time, and the files read back.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    io::Cursor,
    time::{Duration, SystemTime},
};

use ogg::PacketReader;
use recording::{AudioFormat, Kind, Packet, Recording, SenderClock, StreamInfo, Summary, VideoFormat};

pub(crate) type File = Cursor<Vec<u8>>;

/// Samples of 20 ms.
pub(crate) const FRAME: u32 = 960;

/// A packet, and when it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) source: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

/// What happens in a call.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Packet(Sent),
    Clock(Duration, Kind, SenderClock),
}

impl Step {
    fn at(&self) -> Duration {
        match self {
            Self::Packet(sent) => sent.at,
            Self::Clock(at, ..) => *at,
        }
    }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn info() -> StreamInfo {
    StreamInfo {
        room: "r-1".to_owned(),
        uid: "u-1".to_owned(),
        mid: "m-1".to_owned(),
        recording: "rec1".to_owned(),
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_368_496),
        encoder: "sluice 0.1.0".to_owned(),
    }
}

/// Opus of 20 ms that no other packet is equal to.
pub(crate) fn unique(number: u64) -> Vec<u8> {
    let mut payload = vec![0xfc];
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..60 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        payload.push(seed as u8);
    }
    payload
}

/// An even stream of audio: a packet every 20 ms, each 20 ms after it was begun to be captured, for `seconds`.
pub(crate) fn audio(seconds: u64) -> Vec<Sent> {
    (0..seconds * 50)
        .map(|number| Sent {
            at: millis(number * 20 + 20),
            kind: Kind::Audio,
            index: 1_000 + number,
            timestamp: 3_000_000_000_u32.wrapping_add(number as u32 * FRAME),
            source: 0,
            marker: false,
            payload: unique(number),
        })
        .collect()
}

/// 25 frames a second of one packet each, the first a keyframe.
pub(crate) fn video(seconds: u64) -> Vec<Sent> {
    let frame = |number: u64| -> Sent {
        let frame: &[u8] = if number == 0 { &[0x10, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1] } else { &[0x11, 0, 0] };
        let payload = [&[0x90, 0x80, number as u8 & 0x7f], frame, &[number as u8; 400]].concat();
        let (index, timestamp) = (number, number as u32 * 3_600);
        Sent { at: millis(number * 40 + 30), kind: Kind::Video, index, timestamp, source: 0, marker: true, payload }
    };
    (0..seconds * 25).map(frame).collect()
}

/// A seeded random number below `bound`.
pub(crate) fn random(seed: &mut u64, bound: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % bound
}

/// Gives the steps to a recording in the order they happen, looks every 150 ms, and ends it.
pub(crate) fn record(steps: Vec<Step>, end: Duration, with_video: bool) -> (Summary, Vec<File>) {
    let video = with_video.then(|| (VideoFormat::Vp8, File::default()));
    let recording =
        Recording::new(&info(), Some((AudioFormat { channels: 2 }, File::default())), video).expect("memory");
    run(recording, steps, end).finish(end)
}

/// As [`record`], without ending it.
pub(crate) fn run(mut recording: Recording<File>, mut steps: Vec<Step>, end: Duration) -> Recording<File> {
    steps.sort_by_key(Step::at);
    let mut tick = Duration::ZERO;
    for step in steps {
        while tick <= step.at() {
            recording.handle_timeout(tick).expect("memory");
            tick += millis(150);
        }
        match step {
            Step::Packet(sent) => give(&mut recording, &sent),
            Step::Clock(at, kind, clock) => recording.handle_clock(at, kind, clock),
        }
    }
    while tick < end {
        recording.handle_timeout(tick).expect("memory");
        tick += millis(150);
    }
    recording
}

pub(crate) fn give(recording: &mut Recording<File>, sent: &Sent) {
    let Sent { at, kind, index, timestamp, source, marker, ref payload } = *sent;
    let packet = Packet { index, timestamp, source, marker, keyframe: false, payload };
    recording.handle_packet(at, kind, packet).expect("memory");
}

pub(crate) fn record_audio(packets: Vec<Sent>, end: Duration) -> (Summary, Row) {
    let (summary, files) = record(packets.into_iter().map(Step::Packet).collect(), end, false);
    (summary, Row::read(files[0].get_ref()))
}

/// The Opus packets of an Ogg file, each with where its sound begins in samples of the file.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) packets: Vec<(u64, Vec<u8>)>,
    /// Samples that play.
    pub(crate) playable: u64,
}

impl Row {
    pub(crate) fn read(file: &[u8]) -> Self {
        let mut reader = PacketReader::new(Cursor::new(file));
        let head = reader.read_packet_expected().expect("OpusHead");
        let pre_skip = u64::from(u16::from_le_bytes([head.data[10], head.data[11]]));
        reader.read_packet_expected().expect("OpusTags");
        let (mut packets, mut position, mut end) = (Vec::new(), 0, 0);
        while let Some(packet) = reader.read_packet().expect("whole pages") {
            let samples = samples(&packet.data);
            if packet.last_in_page() {
                end = packet.absgp_page();
                assert!(packet.last_in_stream() || end == position + samples, "a page's position is its packets' sum");
            }
            packets.push((position, packet.data));
            position += samples;
        }
        assert!(end <= position && position - end < 2 * u64::from(FRAME), "trimmed by less than a packet");
        Self { packets, playable: end - pre_skip }
    }

    /// Where in the file, in milliseconds, that packet is.
    pub(crate) fn find(&self, payload: &[u8]) -> Option<f64> {
        self.packets.iter().find(|(_, packet)| packet == payload).map(|(position, _)| *position as f64 / 48.0)
    }

    /// Of all the packets that are in it, how far they are from where they belong by `due`, at most, in milliseconds; and how many are not in it.
    pub(crate) fn errors<'a>(
        &self,
        packets: impl IntoIterator<Item = &'a Sent>,
        due: impl Fn(&Sent) -> f64,
    ) -> (f64, usize) {
        let (mut worst, mut missing) = (0_f64, 0);
        for sent in packets {
            match self.find(&sent.payload) {
                Some(at) => worst = worst.max((at - due(sent)).abs()),
                None => missing += 1,
            }
        }
        (worst, missing)
    }

    pub(crate) fn length(&self) -> f64 {
        self.playable as f64 / 48.0
    }
}

/// Length of a packet (RFC 6716 3.1), of those with one frame or a count.
fn samples(packet: &[u8]) -> u64 {
    let config = packet[0] >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    match packet[0] & 3 {
        0 => frame,
        3 => frame * u64::from(packet[1] & 0x3f),
        _ => frame * 2,
    }
}
