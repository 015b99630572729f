//! What the core alone costs: bursts sealed beforehand, and put into a shard.

use super::{ClientId, SimulatedShard, Simulation, is_media};
use crate::fanout::payload::{self, InFrame, Stamp};
use std::time::Duration;

impl Simulation {
    /// Has a publisher seal bursts of so many video packets on section 0, without sending them.
    pub fn sealed_bursts(&mut self, publisher: ClientId, bursts: u32, packets: u32) -> Vec<Vec<Vec<u8>>> {
        let peer = &mut self.clients[publisher.0].peer;
        let mut video = [0; payload::VIDEO_BYTES];
        let mut number = 0;
        (0..bursts)
            .map(|burst| {
                for packet in 0..packets {
                    let frame = InFrame { picture: burst as u16, first: packet == 0, keyframe: burst == 0 };
                    payload::write_video(&mut video, frame, Stamp { number, sent_ns: 0 });
                    number += 1;
                    peer.send(0, burst * 3_000, packet + 1 == packets, &video);
                }
                std::iter::from_fn(|| peer.poll_transmit()).collect()
            })
            .collect()
    }

    /// Has a publisher seal so many audio packets on section 0, each a burst of its own.
    pub fn sealed_audio(&mut self, publisher: ClientId, packets: u32) -> Vec<Vec<Vec<u8>>> {
        let peer = &mut self.clients[publisher.0].peer;
        let mut audio = [0; payload::AUDIO_BYTES];
        (0..packets)
            .map(|number| {
                payload::write_audio(&mut audio, Stamp { number: number.into(), sent_ns: 0 });
                peer.send(0, number * 960, false, &audio);
                std::iter::from_fn(|| peer.poll_transmit()).collect()
            })
            .collect()
    }

    /// Puts a client's sealed bursts into a shard, one every `interval`, and counts the media packets that come out. Clients
    /// and networks rest meanwhile: what runs is the core.
    #[inline(never)]
    pub fn replay(&mut self, shard: usize, from: ClientId, bursts: &[Vec<Vec<u8>>], interval: Duration) -> u64 {
        let address = self.clients[from.0].address;
        let SimulatedShard { shard, rx, tx, .. } = &mut self.shards[shard];
        let mut forwarded = 0;
        for burst in bursts {
            for datagram in burst {
                if !rx.push_datagram(address, datagram) {
                    shard.handle_datagrams(self.now, rx);
                    rx.push_datagram(address, datagram);
                }
            }
            shard.handle_datagrams(self.now, rx);
            let end = self.now + interval;
            loop {
                while shard.poll_transmit(self.now, tx) || !tx.is_empty() {
                    forwarded += tx.datagrams().filter(|(_, datagram)| is_media(datagram)).count() as u64;
                    tx.clear();
                }
                self.now = shard.poll_timeout(self.now).max(self.now);
                if self.now >= end {
                    break;
                }
                shard.handle_timeout(self.now);
            }
            self.now = end;
        }
        forwarded
    }
}
