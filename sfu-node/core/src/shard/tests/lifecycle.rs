//! What stays when things end, in every order, and what one client can take from others.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::{
    super::{
        Shard,
        inbound::{Carries, ReceivedSsrc},
        transport::{ProvenAddress, Transport},
    },
    Node, video,
};
use crate::{
    command::Command,
    handle::{PublicationHandle, SubscriptionHandle, TransportHandle},
    rtp::{RtpHeader, RtpHeaderFields, write_header},
    sdp::MediaKind,
};

/// Commands by number: each with its shard.
fn close(node: &mut Node, what: usize) {
    match what {
        0 => node.command(0, Command::CloseTransport(TransportHandle(1))),
        1 => node.command(0, Command::CloseTransport(TransportHandle(2))),
        2 => node.command(1, Command::CloseTransport(TransportHandle(3))),
        3 => node.command(0, Command::ClosePublication(PublicationHandle(10))),
        4 => node.command(0, Command::CloseSubscription(SubscriptionHandle(20))),
        5 => node.command(1, Command::CloseSubscription(SubscriptionHandle(21))),
        6 => node.command(1, Command::ClosePublication(PublicationHandle(11))),
        _ => node.run_for(Duration::from_secs(1)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_left_whatever_ends_first(order in Just((0..10).collect::<Vec<_>>()).prop_shuffle(), late in 0_usize..10) {
        let mut node = Node::new(2);
        node.open(0, 1);
        node.open(0, 2);
        node.open(1, 3);
        node.publish(0, 1, 10);
        node.publish(1, 3, 11);
        node.subscribe(0, 2, 20, 10, 0);
        node.subscribe(1, 3, 21, 10, 0);
        node.subscribe(0, 2, 22, 11, 1);
        for (step, what) in order.into_iter().enumerate() {
            close(&mut node, what);
            if step == late {
                // Orders that cross the end of what they name.
                node.subscribe(0, 2, 23, 10, 0);
                node.subscribe(1, 3, 24, 10, 0);
                node.subscribe(0, 2, 25, 11, 1);
                node.publish(0, 1, 12);
            }
        }
        node.assert_empty();
    }
}

#[test]
fn a_sibling_that_has_fallen_silent_is_not_fed_for_ever() {
    let mut node = Node::new(2);
    node.open(0, 1);
    node.publish(0, 1, 10);
    node.open(1, 3);
    node.subscribe(1, 3, 21, 10, 0);
    node.run_for(Duration::from_secs(20));
    assert!(node.shards[0].sources.iter().all(|(_, source)| source.siblings == 0b10), "renewed");
    node.shards[1].handle_command(node.now, Command::CloseSubscription(SubscriptionHandle(21)));
    node.shards[1].tell_siblings(|_, _| Ok(())); // lost on its way
    // The transports themselves end after 30 s without a check.
    node.run_for(Duration::from_secs(9));
    assert!(node.shards[0].sources.iter().all(|(_, source)| source.siblings == 0));
}

#[test]
fn an_ssrc_does_not_go_on_in_a_publication_that_took_the_place_of_its_own() {
    let mut node = Node::new(1);
    node.open(0, 1);
    node.publish(0, 1, 10);
    let key = node.shards[0].transport_keys[&TransportHandle(1)];
    let packet = |payload_type| {
        let mut buf = [0; 20];
        let fields = RtpHeaderFields { marker: false, payload_type, seq: 1, timestamp: 0, ssrc: 7 };
        write_header(&mut buf, &fields, &[]);
        buf
    };
    let header = RtpHeader::parse(&packet(96)).expect("a header");
    let received = node.shards[0].bind_ssrc(key, None, &header, &packet(96)).expect("by its payload type");
    node.shards[0].transports[key].received[received].window.commit(70_000);

    node.command(0, Command::ClosePublication(PublicationHandle(10)));
    node.publish(0, 1, 11);
    let transport = &node.shards[0].transports[key];
    assert_eq!(transport.received[received].carries, Carries::Nothing);

    let bound = node.shards[0].bind_ssrc(key, Some(received), &header, &packet(96));
    assert_eq!(bound, Some(received));
    let transport = &node.shards[0].transports[key];
    let ReceivedSsrc { window, carries: Carries::Media(track), .. } = &transport.received[received] else {
        panic!("bound to a track");
    };
    assert_eq!(transport.inbound[*track].spec.kind, MediaKind::Video);
    assert_eq!(window.highest(), Some(70_000), "its keys and counters are the same");
}

#[test]
fn a_client_cannot_fill_the_queue_of_handshakes() {
    let mut node = Node::new(1);
    let from = |client: u16| SocketAddr::from(([127, 0, 0, 1], client));
    for client in [1, 2] {
        node.open(0, u64::from(client));
        let key = node.shards[0].transport_keys[&TransportHandle(u64::from(client))];
        let shard = &mut node.shards[0];
        let proven = shard.proven.insert(ProvenAddress { transport: key, heard: node.now });
        shard.addresses.insert(from(client), proven);
    }
    let shard = &mut node.shards[0];
    for _ in 0..2 * Shard::MAX_HANDSHAKES {
        shard.handle_datagram(node.now, from(1).into(), &mut [22; 100]);
    }
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING);
    shard.handle_datagram(node.now, from(2).into(), &mut [22; Shard::MAX_HANDSHAKE_BYTES + 1]);
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING);
    shard.handle_datagram(node.now, from(2).into(), &mut [22; 100]);
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING + 1);
    for _ in 0..=Transport::MAX_HANDSHAKES_WAITING {
        shard.handle_timeout(node.now);
    }
    assert!(shard.handshakes.is_empty());
    shard.handle_datagram(node.now, from(1).into(), &mut [22; 100]);
    assert_eq!(shard.handshakes.len(), 1, "its turn again");
}

#[test]
fn a_keyframe_owed_by_a_publisher_that_is_not_there_yet_keeps_nobody_awake() {
    let mut node = Node::new(1);
    node.open(0, 1);
    node.publish(0, 1, 10);
    let shard = &mut node.shards[0];
    let video = shard.source_key(PublicationHandle(10), 1).expect("published");
    shard.request_keyframe(node.now, video);
    shard.request_keyframe(node.now, video);
    let end = node.now + Duration::from_secs(10);
    let mut woken = 0;
    loop {
        let next = shard.poll_timeout(node.now).max(node.now);
        if next > end {
            break;
        }
        node.now = next;
        shard.handle_timeout(node.now);
        woken += 1;
    }
    assert!(woken < 30, "woken {woken} times in 10 s");
}

#[test]
fn a_transport_waits_in_few_places_of_the_wheel_however_long_it_lives() {
    const TWCC: u8 = 5;
    let mut node = Node::new(1);
    // Deadlines lie between the wheel's ticks, as in life.
    node.now += Duration::from_micros(1_700);
    let publisher = node.connect(0, 1);
    let mut track = video();
    track.extensions.twcc = Some(TWCC);
    node.publish_tracks(&publisher, 10, vec![track]);
    let most_of = |node: &mut Node, seconds: u16, from: u16| {
        let mut most = 0;
        for round in 0..seconds * 50 {
            let seq = from + round;
            if round % 50 == 0 {
                node.check(&publisher);
            }
            // Feedback about it is due before the next report is.
            let fields = RtpHeaderFields { marker: true, payload_type: 96, seq, timestamp: 0, ssrc: 7 };
            let mut buf = [0; 200];
            let header = write_header(&mut buf, &fields, &[(4, b"1"), (TWCC, &seq.to_be_bytes())]);
            let len = publisher.sealer.seal_rtp(0, &mut buf, header, header + 9);
            node.send(&publisher, &buf[..len]);
            node.wait(20);
            most = most.max(node.shards[0].wheel.len());
        }
        most
    };
    let (early, late) = (most_of(&mut node, 10, 0), most_of(&mut node, 60, 500));
    assert!(late <= early + 5, "{early} in the first seconds, {late} in the next");
}
