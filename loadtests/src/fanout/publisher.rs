//! A publisher's clockwork: when the next burst is due, and what it consists of.

use super::payload::{self, AUDIO_BYTES, InFrame, Stamp, VIDEO_BYTES};
use crate::{os, peer::TestPeer};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    ops::Range,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Frames per second of a video publisher.
const FRAME_RATE: u64 = 30;
/// A keyframe at least this often, besides those asked for.
const KEYFRAME_INTERVAL: u64 = 10 * FRAME_RATE;
/// Bursts that a paced frame is spread over, and the time between two: a browser's pacer sends every 5 ms, at 2.5 times the
/// stream's rate, so that a frame takes 13 ms of its 33.
const PACED_BURSTS: u64 = 3;
const PACING_INTERVAL: Duration = Duration::from_millis(5);
/// One Opus packet.
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

/// What a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Bursts of 30 frames a second, so many packets a second.
    Video {
        /// Packets per second.
        packet_rate: u32,
    },
    /// A packet every 20 ms.
    Audio,
}

impl Stream {
    /// Packets per second.
    pub fn packet_rate(self) -> u32 {
        match self {
            Self::Video { packet_rate } => packet_rate,
            Self::Audio => (1_000 / AUDIO_INTERVAL.as_millis()) as u32,
        }
    }
}

/// The frame that is being sent.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    number: u64,
    timestamp: u32,
    keyframe: bool,
    packets: u64,
}

/// A publisher of one stream on section 0 of its peer.
pub struct Publisher {
    stream: Stream,
    /// Bursts that a frame is sent in.
    parts: u64,
    started: Instant,
    bursts: u64,
    sent: u64,
    keyframe_wanted: bool,
    frame: Frame,
    message: Vec<u8>,
}

impl Publisher {
    /// A publisher whose first burst is due at `start`. `paced`: a video frame is sent in several bursts.
    pub fn new(stream: Stream, paced: bool, start: Instant) -> Self {
        let parts = if paced && stream != Stream::Audio { PACED_BURSTS } else { 1 };
        Self {
            stream,
            parts,
            started: start,
            bursts: 0,
            sent: 0,
            keyframe_wanted: true,
            frame: Frame::default(),
            message: Vec::with_capacity(65_536),
        }
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Makes the next frame a keyframe.
    pub fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// When the next burst is due. Bursts keep to the clock: a late one does not delay the others.
    pub fn next_burst(&self) -> Instant {
        let (frame, part) = (self.bursts / self.parts, self.bursts % self.parts);
        self.started
            + match self.stream {
                Stream::Video { .. } => {
                    Duration::from_nanos(frame * 1_000_000_000 / FRAME_RATE) + PACING_INTERVAL * part as u32
                }
                Stream::Audio => AUDIO_INTERVAL * self.bursts as u32,
            }
    }

    /// Seals and sends the burst that is due.
    pub fn burst(&mut self, now: Instant, peer: &mut TestPeer, socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
        let burst = self.bursts;
        self.bursts += 1;
        match self.stream {
            Stream::Video { packet_rate } => {
                let (number, part) = (burst / self.parts, burst % self.parts);
                if part == 0 {
                    self.begin_frame(number, packet_rate.into(), peer.rtp_timestamp(now, 0));
                }
                self.send_part(part, peer, socket, to)
            }
            Stream::Audio => {
                let mut audio = [0; AUDIO_BYTES];
                payload::write_audio(&mut audio, self.stamp());
                peer.send(0, (burst * 960) as u32, burst == 0, &audio);
                self.sent += 1;
                self.flush(peer, socket, to)
            }
        }
    }

    fn begin_frame(&mut self, number: u64, packet_rate: u64, timestamp: u32) {
        // So many packets that the rate is right over a second, whatever it is divided by the frame rate.
        let packets = (number + 1) * packet_rate / FRAME_RATE - number * packet_rate / FRAME_RATE;
        let keyframe =
            packets > 0 && (std::mem::take(&mut self.keyframe_wanted) || number.is_multiple_of(KEYFRAME_INTERVAL));
        self.frame = Frame { number, timestamp, keyframe, packets };
    }

    fn send_part(&mut self, part: u64, peer: &mut TestPeer, socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
        let Frame { number, timestamp, keyframe, packets } = self.frame;
        let mut video = [0; VIDEO_BYTES];
        let per_message = os::segments_per_message(VIDEO_BYTES + 64) as u64;
        for packet in share(packets, part, self.parts) {
            let in_frame = InFrame { picture: number as u16, first: packet == 0, keyframe };
            payload::write_video(&mut video, in_frame, self.stamp());
            peer.send(0, timestamp, packet + 1 == packets, &video);
            self.sent += 1;
            if (packet + 1).is_multiple_of(per_message) {
                self.flush(peer, socket, to)?;
            }
        }
        self.flush(peer, socket, to)
    }

    fn stamp(&self) -> Stamp {
        let sent_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Stamp { number: self.sent, sent_ns }
    }

    /// Sends what the peer has sealed: neighbours of equal length in one message.
    fn flush(&mut self, peer: &mut TestPeer, socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
        let mut segment = 0;
        while let Some(datagram) = peer.poll_transmit() {
            let full = self.message.len() >= os::segments_per_message(segment) * segment;
            if !self.message.is_empty() && (datagram.len() != segment || full) {
                os::send_segments(socket, to, &self.message, segment)?;
                self.message.clear();
            }
            segment = datagram.len();
            self.message.extend_from_slice(&datagram);
        }
        if !self.message.is_empty() {
            os::send_segments(socket, to, &self.message, segment)?;
            self.message.clear();
        }
        Ok(())
    }
}

/// Which of a frame's packets are sent in one of its bursts.
fn share(packets: u64, part: u64, parts: u64) -> Range<u64> {
    packets * part / parts..packets * (part + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_keep_to_the_clock() {
        let start = Instant::now();
        let mut video = Publisher::new(Stream::Video { packet_rate: 250 }, false, start);
        video.bursts = 30;
        assert_eq!(video.next_burst(), start + Duration::from_secs(1));
        let mut audio = Publisher::new(Stream::Audio, true, start);
        audio.bursts = 50;
        assert_eq!(audio.next_burst(), start + Duration::from_secs(1));
    }

    #[test]
    fn a_paced_frame_is_spread_over_bursts() {
        let start = Instant::now();
        let mut paced = Publisher::new(Stream::Video { packet_rate: 250 }, true, start);
        let due = [0, 1, 2, 90].map(|bursts| {
            paced.bursts = bursts;
            paced.next_burst() - start
        });
        assert_eq!(due, [0, 5, 10, 1_000].map(Duration::from_millis));
        for packets in [0, 1, 8, 167] {
            let sent: Vec<u64> = (0..3).flat_map(|part| share(packets, part, 3)).collect();
            assert_eq!(sent, (0..packets).collect::<Vec<_>>());
        }
        assert_eq!([0, 1, 2].map(|part| share(8, part, 3).count()), [2, 3, 3]);
    }
}
