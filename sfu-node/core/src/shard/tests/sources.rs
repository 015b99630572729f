//! Which SSRC carries a track, and which of its packets count, while sources come and go.

use super::*;
use crate::srtp::MAX_SOURCES;

const SSRC: u32 = 0x1111_0000;

/// A publisher of one track with a subscriber on the same shard.
fn watched(track: ReceiveTrack) -> (Node, Client, Client) {
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![track]);
    let viewer = node.connect(0, 2);
    node.subscribe_video(&viewer, 20, (10, 0), 0, SSRC);
    (node, publisher, viewer)
}

/// Sends packets of `ssrc`, 2 ms apart, the first of which begins a keyframe.
fn send(node: &mut Node, publisher: &Client, ssrc: u32, seqs: std::ops::Range<u16>) {
    let first = seqs.start;
    for seq in seqs {
        node.send_video(publisher, ssrc, seq, if seq == first { KEYFRAME } else { DELTA });
        node.wait(2);
    }
}

fn changes(node: &Node) -> u32 {
    let key = node.shards[0].transport_keys[&TransportHandle(1)];
    node.shards[0].transports[key].inbound.iter().next().expect("published").1.source_number
}

/// The sequence numbers that the viewer got have no hole.
fn forwarded(node: &mut Node, viewer: &Client) -> usize {
    let seqs: Vec<_> = node.take_media(viewer).iter().map(|media| media.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{seqs:?}");
    seqs.len()
}

#[test]
fn a_late_packet_of_the_source_before_is_no_change_of_source() {
    let (mut node, publisher, viewer) = watched(video());
    send(&mut node, &publisher, 5, 0..18);
    send(&mut node, &publisher, 6, 1_000..1_010);
    node.send_video(&publisher, 5, 18, DELTA);
    send(&mut node, &publisher, 6, 1_010..1_020);
    assert_eq!((changes(&node), node.counters(0).dropped_unknown_ssrc), (1, 1));
    assert_eq!(forwarded(&mut node, &viewer), 38);
}

#[test]
fn while_the_announced_source_lives_no_other_is_followed() {
    let (mut node, publisher, viewer) = watched(ReceiveTrack { ssrc: Some(5), ..video() });
    for seq in 0..50 {
        node.send_video(&publisher, 5, seq, if seq == 0 { KEYFRAME } else { DELTA });
        node.send_video(&publisher, 6, seq, DELTA);
        node.wait(10);
    }
    assert_eq!((changes(&node), forwarded(&mut node, &viewer)), (0, 50));
    // It falls silent, another one takes its place, and it comes back.
    node.wait(2_000);
    send(&mut node, &publisher, 6, 50..60);
    assert_eq!((changes(&node), forwarded(&mut node, &viewer)), (1, 10));
    send(&mut node, &publisher, 5, 50..60);
    assert_eq!((changes(&node), forwarded(&mut node, &viewer)), (2, 10));
}

#[test]
fn of_two_sources_that_nobody_announced_one_is_followed() {
    let (mut node, publisher, viewer) = watched(video());
    for seq in 0..50 {
        node.send_video(&publisher, 5, seq, KEYFRAME);
        node.send_video(&publisher, 6, seq, KEYFRAME);
        node.wait(10);
    }
    assert_eq!((changes(&node), forwarded(&mut node, &viewer)), (1, 51));
}

#[test]
fn a_late_retransmission_of_the_source_before_does_not_silence_the_new_one() {
    let (mut node, publisher, viewer) = watched(video());
    for seq in (30_000..30_010).filter(|seq| *seq != 30_005) {
        node.send_video(&publisher, 5, seq, KEYFRAME);
    }
    // Of a packet that is there already: shows whose retransmissions these are.
    node.send_again(&publisher, 7, 1, 30_004, DELTA);
    send(&mut node, &publisher, 6, 1_000..1_010);
    node.take_media(&viewer);
    let before = node.counters(0);
    node.send_again(&publisher, 7, 2, 30_005, DELTA);
    // As if it were one of the new source's.
    node.send_again(&publisher, 7, 3, 1_010, &[0x10, 1, 66]);
    send(&mut node, &publisher, 6, 1_010..2_010);
    let after = node.counters(0);
    assert_eq!(after.dropped_unusable, before.dropped_unusable + 2);
    assert_eq!((forwarded(&mut node, &viewer), changes(&node)), (1_000, 1));
    // A stream of retransmissions that goes on longer is one of the new source's.
    node.send_again(&publisher, 7, 4, 2_010, DELTA);
    assert_eq!(forwarded(&mut node, &viewer), 1);
}

#[test]
fn a_retransmission_far_ahead_of_the_newest_packet_is_refused() {
    let (mut node, publisher, viewer) = watched(video());
    send(&mut node, &publisher, 5, 0..10);
    node.send_again(&publisher, 7, 1, 10_000, DELTA);
    node.send_again(&publisher, 7, 2, 10, DELTA);
    assert_eq!(node.counters(0).dropped_unusable, 1);
    send(&mut node, &publisher, 5, 11..20);
    assert_eq!(forwarded(&mut node, &viewer), 20);
}

#[test]
fn every_track_of_two_full_publications_has_its_ssrcs() {
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    let ssrc = |publication: u32, track: u32| 1_000 + publication * 100 + track * 2;
    for publication in 0..2 {
        let track = |track| {
            let mid = format!("{publication}-{track}").into();
            let media = ssrc(publication, track);
            ReceiveTrack { ssrc: Some(media), rtx_ssrc: Some(media + 1), mid, ..video() }
        };
        node.publish_tracks(&publisher, 10 + u64::from(publication), (0..16).map(track).collect());
    }
    for (publication, track) in (0..32).map(|number| (number / 16, number % 16)) {
        node.send_video(&publisher, ssrc(publication, track), 1, KEYFRAME);
        node.send_again(&publisher, ssrc(publication, track) + 1, 1, 2, DELTA);
    }
    let counters = node.counters(0);
    assert_eq!((counters.dropped_unknown_ssrc, counters.packets_recovered), (0, 32));
}

#[test]
fn a_client_has_state_for_a_bounded_number_of_ssrcs() {
    let (mut node, publisher, viewer) = watched(ReceiveTrack { ssrc: Some(5), ..video() });
    node.send_video(&publisher, 5, 0, KEYFRAME);
    for ssrc in 0..1_000 {
        node.send_video(&publisher, 1_000 + ssrc, 0, DELTA);
    }
    assert_eq!(node.counters(0).dropped_unknown_ssrc, 1_000);
    let key = node.shards[0].transport_keys[&TransportHandle(1)];
    let known = (0..1_000).filter(|ssrc| node.shards[0].transports[key].received.find(1_000 + ssrc).is_some());
    assert_eq!(known.count(), MAX_SOURCES - 1);
    node.send_video(&publisher, 5, 1, DELTA);
    assert_eq!(forwarded(&mut node, &viewer), 2);
}

#[test]
fn a_source_first_heard_just_after_its_numbers_wrapped_is_heard() {
    let (mut node, publisher, viewer) = watched(video());
    let send = |node: &mut Node, index: u64, payload: &[u8]| {
        let mut buf = [0; 100];
        let fields = RtpHeaderFields { marker: true, payload_type: MEDIA, seq: index as u16, timestamp: 0, ssrc: 5 };
        let header = write_header(&mut buf, &fields, &[(MID, b"1")]);
        buf[header..header + payload.len()].copy_from_slice(payload);
        let len = publisher.sealer.seal_rtp((index >> 16) as u32, &mut buf, header, header + payload.len());
        node.shards[0].handle_datagram(node.now, publisher.address.into(), &mut buf[..len]);
        node.settle();
    };
    send(&mut node, 65_536 + 20, KEYFRAME);
    send(&mut node, 65_536 + 21, DELTA);
    assert_eq!((forwarded(&mut node, &viewer), node.counters(0).dropped_unauthenticated), (2, 0));
    // Packets from before the wrap are still told apart, and nothing counts twice.
    send(&mut node, 65_536 - 5, DELTA);
    send(&mut node, 65_536 + 20, KEYFRAME);
    let counters = node.counters(0);
    assert_eq!((counters.packets_received, counters.dropped_replayed), (3, 1));
}

#[test]
fn a_track_that_floods_is_held_to_its_rate_and_its_neighbour_is_not() {
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    let audio = ReceiveTrack { ssrc: Some(6), ..received(MediaKind::Audio) };
    node.publish_tracks(&publisher, 10, vec![ReceiveTrack { ssrc: Some(5), ..video() }, audio]);
    let flood = |node: &mut Node, ssrc, payload_type, seqs: std::ops::Range<u16>| {
        let before = node.counters(0);
        for seq in seqs.clone() {
            let mut buf = [0; 100];
            let fields = RtpHeaderFields { marker: true, payload_type, seq, timestamp: 0, ssrc };
            let header = write_header(&mut buf, &fields, &[]);
            buf[header..header + DELTA.len()].copy_from_slice(DELTA);
            let len = publisher.sealer.seal_rtp(0, &mut buf, header, header + DELTA.len());
            node.shards[0].handle_datagram(node.now, publisher.address.into(), &mut buf[..len]);
        }
        let after = node.counters(0);
        let (received, dropped) = (after.packets_received, after.dropped_excess_media);
        assert_eq!(received - before.packets_received + dropped - before.dropped_excess_media, seqs.len() as u64);
        received - before.packets_received
    };
    assert_eq!(flood(&mut node, 5, MEDIA, 0..6_000), 5_000);
    assert_eq!(flood(&mut node, 6, 111, 0..2_000), 1_000);
    node.now += Duration::from_millis(100);
    assert_eq!(flood(&mut node, 5, MEDIA, 6_000..8_000), 1_000);
    assert_eq!(flood(&mut node, 6, 111, 2_000..3_000), 50);
    // A second of calm, and whatever a network has held back comes through.
    node.now += Duration::from_secs(2);
    assert_eq!(flood(&mut node, 5, MEDIA, 8_000..13_000), 5_000);
}

#[test]
fn a_source_that_takes_over_is_shown_from_its_first_keyframe_on_which_is_asked_for_at_once() {
    let (mut node, publisher, viewer) = watched(video());
    send(&mut node, &publisher, 5, 0..10);
    node.wait(1_000);
    assert_eq!(forwarded(&mut node, &viewer), 10);
    let before = node.counters(0).keyframe_requests_sent;
    // The start of its keyframe was lost.
    node.send_video(&publisher, 6, 1_001, DELTA);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 1);
    node.send_video(&publisher, 6, 1_002, DELTA);
    node.wait(100);
    assert_eq!(forwarded(&mut node, &viewer), 0);
    node.send_video(&publisher, 6, 1_003, KEYFRAME);
    node.send_video(&publisher, 6, 1_004, DELTA);
    node.wait(2_000);
    assert_eq!(forwarded(&mut node, &viewer), 2);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 1);
}

#[test]
fn a_source_that_takes_over_with_a_keyframe_or_with_sound_is_forwarded_at_once() {
    let audio = ReceiveTrack { extensions: video().extensions, mid: "1".into(), ..received(MediaKind::Audio) };
    for (track, payload_type) in [(video(), MEDIA), (audio, 111)] {
        let (mut node, publisher, viewer) = watched(track.clone());
        if track.kind == MediaKind::Audio {
            node.command(0, Command::CloseSubscription(SubscriptionHandle(20)));
            let tracks =
                vec![SubscribeTrack { source_track: 0, send: sent(MediaKind::Audio, SSRC), cname: "c".into() }];
            let (transport, subscription) = (TransportHandle(2), SubscriptionHandle(21));
            let source = Source { publication: PublicationHandle(10), shard: ShardIndex(0) };
            node.command(0, Command::Subscribe { transport, subscription, source, tracks });
        }
        for ssrc in [5, 6] {
            for seq in 0..5 {
                let fields = RtpHeaderFields { marker: true, payload_type, seq, timestamp: u32::from(seq) * 960, ssrc };
                node.send_rtp(&publisher, &fields, if seq == 0 { KEYFRAME } else { DELTA });
            }
            node.wait(1_000);
        }
        assert_eq!((forwarded(&mut node, &viewer), node.counters(0).keyframe_requests_sent), (10, 0));
    }
}
