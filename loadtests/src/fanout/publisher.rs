//! A publisher's clockwork: when the next burst is due, and what it consists of.

use super::payload::{self, AUDIO_BYTES, InFrame, Stamp, VIDEO_BYTES};
use crate::{os, peer::TestPeer};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Frames per second of a video publisher.
const FRAME_RATE: u64 = 30;
/// A keyframe at least this often, besides those asked for.
const KEYFRAME_INTERVAL: u64 = 10 * FRAME_RATE;
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

/// A publisher of one stream on section 0 of its peer.
pub struct Publisher {
    stream: Stream,
    started: Instant,
    bursts: u64,
    sent: u64,
    keyframe_wanted: bool,
    message: Vec<u8>,
}

impl Publisher {
    /// A publisher whose first burst is due at `start`.
    pub fn new(stream: Stream, start: Instant) -> Self {
        Self { stream, started: start, bursts: 0, sent: 0, keyframe_wanted: true, message: Vec::with_capacity(65_536) }
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
        self.started
            + match self.stream {
                Stream::Video { .. } => Duration::from_nanos(self.bursts * 1_000_000_000 / FRAME_RATE),
                Stream::Audio => AUDIO_INTERVAL * self.bursts as u32,
            }
    }

    /// Seals and sends the burst that is due.
    pub fn burst(&mut self, now: Instant, peer: &mut TestPeer, socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
        let burst = self.bursts;
        self.bursts += 1;
        match self.stream {
            Stream::Video { packet_rate } => self.frame(now, burst, packet_rate.into(), peer, socket, to),
            Stream::Audio => {
                let mut audio = [0; AUDIO_BYTES];
                payload::write_audio(&mut audio, self.stamp());
                peer.send(0, (burst * 960) as u32, burst == 0, &audio);
                self.sent += 1;
                self.flush(peer, socket, to)
            }
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        frame: u64,
        packet_rate: u64,
        peer: &mut TestPeer,
        socket: &UdpSocket,
        to: SocketAddr,
    ) -> io::Result<()> {
        // So many packets that the rate is right over a second, whatever it is divided by the frame rate.
        let packets = (frame + 1) * packet_rate / FRAME_RATE - frame * packet_rate / FRAME_RATE;
        if packets == 0 {
            return Ok(());
        }
        let keyframe = std::mem::take(&mut self.keyframe_wanted) || frame.is_multiple_of(KEYFRAME_INTERVAL);
        let timestamp = peer.rtp_timestamp(now, 0);
        let mut video = [0; VIDEO_BYTES];
        let per_message = os::segments_per_message(VIDEO_BYTES + 64) as u64;
        for packet in 0..packets {
            let in_frame = InFrame { picture: frame as u16, first: packet == 0, keyframe };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_keep_to_the_clock() {
        let start = Instant::now();
        let mut video = Publisher::new(Stream::Video { packet_rate: 250 }, start);
        video.bursts = 30;
        assert_eq!(video.next_burst(), start + Duration::from_secs(1));
        let mut audio = Publisher::new(Stream::Audio, start);
        audio.bursts = 50;
        assert_eq!(audio.next_burst(), start + Duration::from_secs(1));
    }
}
