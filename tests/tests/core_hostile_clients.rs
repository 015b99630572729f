//! A client that has proven itself may still send anything, properly sealed. In virtual time: nothing of it panics, ends another's
//! call or grows without bound.

use loadtests::{
    network::Quality,
    peer::{PeerEvent, Section, rtcp},
    simulation::{Binding, ClientId, Simulation},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(5);
const PATH: Quality = Quality { delay: Duration::from_millis(2), ..Quality::PERFECT };

struct Call {
    simulation: Simulation,
    vandal: ClientId,
    victim: ClientId,
    /// Someone else's publication and its subscriber, who must not notice anything.
    honest: ClientId,
    audience: ClientId,
}

impl Call {
    fn new(seed: u64) -> Self {
        let mut simulation = Simulation::new(seed, 1).expect("keys");
        let mut pair = |sent: Section, received: Section| {
            let publisher = simulation.open(0, PATH, &[sent], &[Binding::Publish(vec![0])]).expect("opens");
            let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
            (publisher.client, simulation.open(0, PATH, &[received], &[binding]).expect("opens").client)
        };
        let (vandal, victim) = pair(Section::SEND_VIDEO, Section::RECEIVE_VIDEO);
        let (honest, audience) = pair(Section::SEND_AUDIO, Section::RECEIVE_AUDIO);
        assert!(simulation.connect_all(Duration::from_secs(5)));
        Self { simulation, vandal, victim, honest, audience }
    }

    /// Lets the honest publisher say something, and time pass.
    fn go_on(&mut self, number: u32) {
        let now = self.simulation.now();
        let peer = &mut self.simulation.client(self.honest).peer;
        let timestamp = peer.rtp_timestamp(now, 0);
        peer.send(0, timestamp, false, &number.to_be_bytes()).expect("connected");
        self.simulation.run_for(TICK);
    }

    fn everything_honest_arrived(&mut self, count: usize) {
        self.simulation.run_for(TICK * 10);
        let events = self.simulation.client(self.audience).events.drain(..);
        assert_eq!(events.filter(|event| matches!(event, PeerEvent::Media(_))).count(), count);
        assert_eq!(self.simulation.shard(0).transports(), 4, "nobody was thrown out");
    }
}

fn bytes(random: &mut StdRng, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.random()).collect()
}

#[test]
fn sealed_nonsense_as_media_hurts_nobody() {
    let mut call = Call::new(11);
    let mut random = StdRng::seed_from_u64(11);
    for number in 0..2_000 {
        let len = match random.random_range(0..10) {
            0 => 0,
            1 => random.random_range(1..8),
            2 => random.random_range(1_380..1_480),
            _ => random.random_range(8..1_200),
        };
        let (payload, timestamp) = (bytes(&mut random, len), random.random());
        let marker = random.random();
        call.simulation.client(call.vandal).peer.send(0, timestamp, marker, &payload).expect("connected");
        call.go_on(number);
    }
    call.everything_honest_arrived(2_000);
}

#[test]
fn sealed_nonsense_as_rtcp_hurts_nobody() {
    let mut call = Call::new(12);
    let mut random = StdRng::seed_from_u64(12);
    for number in 0..2_000 {
        for client in [call.vandal, call.victim] {
            let ssrc = call.simulation.client(call.vandal).peer.sent_ssrcs(0).expect("sends").media;
            let mut packet = match random.random_range(0..5) {
                0 => rtcp::nack(random.random(), ssrc, &(0..random.random_range(1..2_000)).collect::<Vec<u16>>()),
                1 => rtcp::picture_loss(random.random(), random.random()),
                2 => {
                    let sender =
                        rtcp::SenderReport { ssrc, ntp: random.random(), rtp: random.random(), packets: 0, octets: 0 };
                    rtcp::report(ssrc, Some(sender), &[rtcp::ReportBlock::default(); 31], "someone else's name")
                }
                _ => {
                    // A well-formed head, so that the rest is read at all.
                    let words = random.random_range(1..100_u16);
                    let head = [0x80 | random.random_range(0..32), random.random_range(200..207)];
                    let body = bytes(&mut random, usize::from(words) * 4);
                    [head.as_slice(), &words.to_be_bytes(), &body].concat()
                }
            };
            packet.truncate(1_400);
            call.simulation.client(client).peer.send_rtcp(packet);
        }
        call.go_on(number);
    }
    call.everything_honest_arrived(2_000);
}

#[test]
fn asking_for_everything_again_is_bounded() {
    let mut call = Call::new(13);
    let mut last = 0;
    for number in 0..400_u16 {
        let payload = [&[0x10, 0][..], &[number as u8; 1_000]].concat();
        last = call.simulation.client(call.vandal).peer.send(0, u32::from(number), true, &payload).expect("connected");
        call.go_on(number.into());
    }
    let before = *call.simulation.shard(0).counters();
    let lost: Vec<_> = (0..400).map(|back| (last - back) as u16).rev().collect();
    let victim = &mut call.simulation.client(call.victim).peer;
    let ssrc = victim.answer().and_then(|answer| answer.sections[0].ssrcs).expect("a track").media;
    // Every number that could be meant, fifty times over, within a moment: no more in a datagram than are looked for.
    for _ in 0..50 {
        for part in (0..=u16::MAX).collect::<Vec<_>>().chunks(512) {
            victim.send_rtcp(rtcp::nack(1, ssrc, part));
        }
        victim.send_rtcp(rtcp::nack(1, ssrc, &lost));
    }
    call.simulation.run_for(TICK * 4);
    let after = *call.simulation.shard(0).counters();
    let again = after.packets_retransmitted - before.packets_retransmitted;
    // Not a packet twice within a round trip, and no more in all than one subscriber's share of the shard's queue.
    assert!((1..=128).contains(&again), "{again} retransmissions");
    call.everything_honest_arrived(400);
}

#[test]
fn more_packets_at_once_than_a_batch_holds_for_one_subscriber_all_go_out() {
    let mut call = Call::new(14);
    // What a receive call can bring: 32 buffers of 64 small datagrams, here as one frame of 900.
    let bursts = call.simulation.sealed_bursts(call.vandal, 1, 900);
    let forwarded = call.simulation.replay(0, call.vandal, &bursts, TICK);
    assert_eq!(forwarded, 900);
    call.go_on(0);
    call.everything_honest_arrived(1);
}
