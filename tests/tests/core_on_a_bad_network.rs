//! The core in virtual time on seeded bad networks: what is lost comes again, nothing is handed on twice, and every subscriber
//! sees sequence numbers without a hole.

use loadtests::{
    network::Quality,
    peer::{Delivered, PeerEvent, Section},
    simulation::{Binding, ClientId, Simulation},
};
use std::{collections::BTreeMap, time::Duration};

const FRAME: Duration = Duration::from_millis(33);
const SEED: u64 = 20_260_101;

/// 5 % loss, reordering, duplication, and bursts of three lost in a row.
const BAD: Quality = Quality {
    loss: 0.05,
    burst: 0.005,
    burst_len: 3,
    duplication: 0.02,
    delay: Duration::from_millis(15),
    jitter: Duration::from_millis(12),
};

/// A VP8 payload with a picture id, told apart by its running number.
fn vp8(frame: u16, first: bool, keyframe: bool, number: u32) -> Vec<u8> {
    let picture = frame & 0x7FFF | 0x8000;
    let mut payload = vec![0x80 | if first { 0x10 } else { 0 }, 0x80];
    payload.extend(picture.to_be_bytes());
    payload.push(u8::from(!keyframe));
    payload.extend(number.to_be_bytes());
    payload.resize(200 + (number % 700) as usize, number as u8);
    payload
}

/// What identifies a payload whatever its picture id was rewritten to.
fn essence(payload: &[u8]) -> &[u8] {
    &payload[4..]
}

/// Sends frames of three packets for as long as `frames` says; gives the payloads in order. Keyframes are sent when asked for.
fn publish_video(simulation: &mut Simulation, publisher: ClientId, section: usize, frames: u16) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    let mut keyframe = true;
    for frame in 0..frames {
        let now = simulation.now();
        let client = simulation.client(publisher);
        keyframe |= client.events.drain(..).any(|event| event == PeerEvent::KeyframeRequest(section));
        let timestamp = client.peer.rtp_timestamp(now, section);
        for part in 0..3 {
            let payload = vp8(frame, part == 0, keyframe, sent.len() as u32);
            client.peer.send(section, timestamp, part == 2, &payload).expect("the publisher is connected");
            sent.push(payload);
        }
        keyframe = false;
        simulation.run_for(FRAME);
    }
    sent
}

/// What arrived on a section, by index.
fn take_media(simulation: &mut Simulation, client: ClientId, section: usize) -> BTreeMap<u64, Delivered> {
    let mut media = BTreeMap::new();
    for event in simulation.client(client).events.drain(..) {
        if let PeerEvent::Media(delivered) = event
            && delivered.section == section
        {
            let index = delivered.index;
            assert!(media.insert(index, delivered).is_none(), "the peer handed {index} on twice");
        }
    }
    media
}

/// How many of the sent packets from the first delivered one on arrived, unchanged and in their order.
fn matched(sent: &[Vec<u8>], media: &BTreeMap<u64, Delivered>) -> (usize, usize) {
    let (lowest, first) = media.first_key_value().expect("something arrived");
    let begin = sent.iter().position(|s| essence(s) == essence(&first.payload)).expect("the first packet was sent");
    let delivered = media
        .iter()
        .filter(|(index, delivered)| {
            let sent = &sent[begin + (**index - lowest) as usize];
            assert_eq!(essence(&delivered.payload), essence(sent), "packet {index} is another than was sent");
            true
        })
        .count();
    (delivered, sent.len() - begin)
}

#[test]
fn after_retransmission_nearly_everything_is_there_once_and_in_a_row() {
    let mut simulation = Simulation::new(SEED, 1).expect("keys");
    let publisher =
        simulation.open(0, BAD, &[Section::SEND_VIDEO], &[Binding::Publish(vec![0])]).expect("the offer is good");
    let subscribers: Vec<_> = (0..5)
        .map(|_| {
            let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
            simulation.open(0, BAD, &[Section::RECEIVE_VIDEO], &[binding]).expect("the offer is good").client
        })
        .collect();
    assert!(simulation.connect_all(Duration::from_secs(30)), "handshakes complete under loss");
    let sent = publish_video(&mut simulation, publisher.client, 0, 1_800);
    simulation.run_for(Duration::from_secs(2));

    let (up, _) = simulation.client(publisher.client).links();
    assert!(up.lost > 200, "the network was bad: {up:?}");
    for subscriber in subscribers {
        let media = take_media(&mut simulation, subscriber, 0);
        let (delivered, expected) = matched(&sent, &media);
        assert!(expected > 5_000, "the subscriber was there from the beginning");
        assert!(delivered * 1_000 >= expected * 999, "{delivered} of {expected} arrived at {subscriber:?}");
        let client = simulation.client(subscriber);
        let twice: Vec<_> = client.sent_to_it().iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "sent more than once under the same number: {twice:?}");
        let (_, stats) = client.peer.received().next().expect("one track");
        assert!(stats.recovered > 100, "{stats:?}");
        assert_eq!(stats.refused, 0, "{stats:?}");
    }
}

#[test]
fn two_hundred_handshakes_complete_when_a_third_is_lost() {
    let mut simulation = Simulation::new(SEED + 2, 1).expect("keys");
    for _ in 0..200 {
        simulation.open(0, Quality::lossy(0.3), &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    }
    assert!(simulation.connect_all(Duration::from_secs(29)), "before the node gives them up");
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let losses = || {
        let mut simulation = Simulation::new(SEED, 1).expect("keys");
        let opened = simulation.open(0, BAD, &[Section::SEND_VIDEO], &[Binding::Publish(vec![0])]).expect("opens");
        // Checks are seeded through and through; the length of handshake records is not.
        simulation.run_for(Duration::from_millis(10));
        simulation.client(opened.client).links()
    };
    assert_eq!(losses(), losses());
}

#[test]
fn audio_without_retransmission_is_never_repeated_and_never_late_numbered() {
    let mut simulation = Simulation::new(SEED + 1, 1).expect("keys");
    let publisher = simulation.open(0, BAD, &[Section::SEND_AUDIO], &[Binding::Publish(vec![0])]).expect("opens");
    let binding = Binding::Subscribe(publisher.publications[0], vec![0]);
    let subscriber = simulation.open(0, BAD, &[Section::RECEIVE_AUDIO], &[binding]).expect("opens").client;
    assert!(simulation.connect_all(Duration::from_secs(30)));
    let mut sent = Vec::new();
    for number in 0..2_000_u32 {
        let now = simulation.now();
        let peer = &mut simulation.client(publisher.client).peer;
        let payload = [[0xFC, 0, 0, 0].as_slice(), &number.to_be_bytes()].concat();
        peer.send(0, peer.rtp_timestamp(now, 0), number == 0, &payload).expect("connected");
        sent.push(payload);
        simulation.run_for(Duration::from_millis(20));
    }
    simulation.run_for(Duration::from_secs(1));
    let media = take_media(&mut simulation, subscriber, 0);
    let (delivered, expected) = matched(&sent, &media);
    // Two lossy links of 6.5 % each, and nothing to fill the holes.
    assert!((0.80..0.95).contains(&(delivered as f64 / expected as f64)), "{delivered} of {expected}");
    assert!(simulation.client(subscriber).sent_to_it().values().all(|times| *times == 1));
}
