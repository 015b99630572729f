//! What is asked of publishers, and when.

use super::*;
use crate::batch::RxBatch;

const SSRC: u32 = 0x1111_0000;

/// A publisher of video with a subscriber on the same shard, its first keyframe forwarded.
fn watched() -> (Node, Client, Client) {
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![video()]);
    let viewer = node.connect(0, 2);
    node.subscribe_video(&viewer, 20, (10, 0), 0, SSRC);
    node.send_video(&publisher, 5, 0, KEYFRAME);
    (node, publisher, viewer)
}

/// Sends frames of one packet each, 10 ms apart, with what `payload` says; `None` is lost.
fn send_frames(
    node: &mut Node,
    publisher: &Client,
    seqs: std::ops::Range<u16>,
    payload: impl Fn(u16) -> Option<&'static [u8]>,
) {
    for seq in seqs {
        if let Some(payload) = payload(seq) {
            node.send_video(publisher, 5, seq, payload);
        }
        node.wait(10);
    }
}

#[test]
fn a_loss_that_a_keyframe_has_healed_asks_for_no_other() {
    let (mut node, publisher, _viewer) = watched();
    let before = node.counters(0);
    send_frames(&mut node, &publisher, 1..400, |seq| match seq {
        10 => None,
        15 => Some(KEYFRAME),
        _ => Some(DELTA),
    });
    let after = node.counters(0);
    assert!(after.nacks_sent > before.nacks_sent + 5, "still asked for, for those who wait");
    assert_eq!(after.keyframe_requests_sent, before.keyframe_requests_sent);
}

#[test]
fn a_loss_behind_the_last_keyframe_asks_for_another_once_it_is_given_up() {
    let (mut node, publisher, _viewer) = watched();
    let before = node.counters(0);
    send_frames(&mut node, &publisher, 1..400, |seq| match seq {
        15 => None,
        10 => Some(KEYFRAME),
        _ => Some(DELTA),
    });
    assert_eq!(node.counters(0).keyframe_requests_sent, before.keyframe_requests_sent + 1);
}

#[test]
fn while_nobody_watches_no_keyframe_is_asked_for() {
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![video()]);
    node.send_video(&publisher, 5, 0, KEYFRAME);
    send_frames(&mut node, &publisher, 1..400, |seq| (seq != 10).then_some(DELTA));
    assert!(node.counters(0).nacks_sent > 0);
    assert_eq!(node.counters(0).keyframe_requests_sent, 0);
}

#[test]
fn a_slow_answer_is_waited_for_and_the_next_loss_not_asked_for_twice() {
    let (mut node, publisher, _viewer) = watched();
    let before = node.counters(0);
    send_frames(&mut node, &publisher, 1..76, |seq| (seq != 10).then_some(DELTA));
    node.send_again(&publisher, 6, 0, 10, DELTA);
    let repaired = node.counters(0);
    assert_eq!(repaired.packets_recovered, before.packets_recovered + 1);
    assert_eq!(repaired.keyframe_requests_sent, before.keyframe_requests_sent);
    // 650 ms have been measured: nothing is asked for again meanwhile.
    send_frames(&mut node, &publisher, 76..140, |seq| (seq != 78).then_some(DELTA));
    assert_eq!(node.counters(0).nacks_sent, repaired.nacks_sent + 1);
}

#[test]
fn what_came_but_cannot_be_used_is_not_asked_for() {
    let (mut node, publisher, _viewer) = watched();
    let before = node.counters(0);
    send_frames(&mut node, &publisher, 1..400, |seq| match seq {
        // A descriptor without an end, and more than is forwarded.
        10 => Some(&[0x80]),
        20 => Some(&[0x10; crate::ring::MAX_PAYLOAD + 1]),
        _ => Some(DELTA),
    });
    let after = node.counters(0);
    assert_eq!((after.dropped_malformed, after.dropped_unusable), (1, 1));
    assert_eq!(after.nacks_sent, before.nacks_sent);
    assert_eq!(after.keyframe_requests_sent, before.keyframe_requests_sent);
}

#[test]
fn a_keyframe_is_asked_for_as_was_agreed_on() {
    let agreed = |pli, fir| ReceiveTrack { feedback: Feedback { pli, fir, ..Feedback::default() }, ..video() };
    for (track, asked) in [(agreed(true, true), "PLI"), (agreed(false, true), "FIR 1"), (agreed(false, false), "")] {
        let mut node = Node::new(1);
        let mut publisher = node.connect(0, 1);
        node.publish_tracks(&publisher, 10, vec![track]);
        node.send_video(&publisher, 5, 0, KEYFRAME);
        let viewer = node.connect(0, 2);
        node.sent.clear();
        node.subscribe_video(&viewer, 20, (10, 0), 0, 0x1111_0000);
        let mut said = Vec::new();
        for (_, mut datagram) in node.sent.drain(..).filter(|(to, _)| *to == publisher.address) {
            let len = publisher.opener.open_rtcp(&mut datagram).expect("for the publisher");
            said.extend(rtcp::items(&datagram[..len]).filter_map(|item| match item.expect("well-formed") {
                rtcp::RtcpItem::Pli { media: 5, .. } => Some("PLI".to_owned()),
                rtcp::RtcpItem::Fir { mut entries, .. } => match entries.next() {
                    Some((5, number)) => Some(format!("FIR {number}")),
                    _ => None,
                },
                _ => None,
            }));
        }
        assert_eq!(said.join(", "), asked);
        assert_eq!(node.counters(0).keyframe_requests_sent, said.len() as u64);
    }
}

#[test]
fn one_datagram_has_no_more_packets_looked_for_than_can_be_answered() {
    let (mut node, _publisher, mut viewer) = watched();
    let ask = |node: &mut Node, viewer: &mut Client, numbers: u16| {
        let asked: Vec<_> = (0..numbers).collect();
        node.send_rtcp(viewer, |buf| {
            // In two messages: what counts is the datagram.
            let (first, second) = asked.split_at(300);
            let len = rtcp::write_nack(buf, 9, SSRC, first)?;
            Some(len + rtcp::write_nack(&mut buf[len..], 9, SSRC, second)?)
        });
        let counters = node.counters(0);
        (counters.nacks_received, counters.dropped_excess_nacks)
    };
    assert_eq!(ask(&mut node, &mut viewer, 512), (512, 0));
    assert_eq!(ask(&mut node, &mut viewer, 5_000), (1_024, 1));
}

#[test]
fn what_is_longer_than_any_packet_is_not_decrypted() {
    let (mut node, publisher, mut viewer) = watched();
    let before = node.counters(0);
    let mut buf = vec![0; RxBatch::BUFFER_BYTES];
    for requests in [100, 5_000] {
        let written = (0..requests).fold(0, |len, _| len + rtcp::write_pli(&mut buf[len..], 9, SSRC).expect("room"));
        let len = viewer.sealer.seal_rtcp(&mut buf, written);
        node.shards[0].handle_datagram(node.now, viewer.address.into(), &mut buf[..len]);
    }
    let fields = RtpHeaderFields { marker: true, payload_type: MEDIA, seq: 1, timestamp: 900, ssrc: 5 };
    let header = write_header(&mut buf, &fields, &[]);
    let len = publisher.sealer.seal_rtp(0, &mut buf, header, TxBatch::DATAGRAM_BYTES);
    node.shards[0].handle_datagram(node.now, publisher.address.into(), &mut buf[..len]);
    let after = node.counters(0);
    assert_eq!(after.keyframe_requests_received, before.keyframe_requests_received + 100);
    assert_eq!(after.packets_received, before.packets_received);
    assert_eq!(after.dropped_malformed, before.dropped_malformed + 2);
}

fn ask_for_keyframe(node: &mut Node, viewer: &mut Client) {
    node.send_rtcp(viewer, |buf| rtcp::write_pli(buf, 9, SSRC));
}

#[test]
fn while_a_keyframe_is_on_its_way_to_a_viewer_its_requests_bring_no_other() {
    let (mut node, publisher, mut viewer) = watched();
    node.wait(2_000);
    let before = node.counters(0).keyframe_requests_sent;
    let mut asked = Vec::new();
    // It repeats its request as browsers do. The publisher's answer begins after 450 ms.
    for millis in 0..1_000 {
        if millis % 200 == 0 {
            ask_for_keyframe(&mut node, &mut viewer);
        }
        if millis == 450 {
            node.send_video(&publisher, 5, 1, KEYFRAME);
        }
        asked.push(node.counters(0).keyframe_requests_sent - before);
        node.wait(1);
    }
    assert_eq!([asked[0], asked[849], asked[999]], [1, 1, 1]);
    assert_eq!(node.counters(0).dropped_excess_keyframe_requests, 2);
    // Whoever has not got it by then may ask again.
    ask_for_keyframe(&mut node, &mut viewer);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 2);
}

#[test]
fn a_viewer_that_never_stops_asking_makes_everybody_get_a_keyframe_every_two_seconds_at_most() {
    let (mut node, publisher, mut viewer) = watched();
    let mut other = node.connect(0, 3);
    node.subscribe_video(&other, 21, (10, 0), 0, SSRC);
    node.send_video(&publisher, 5, 1, KEYFRAME);
    node.wait(2_000);
    let before = node.counters(0).keyframe_requests_sent;
    for _ in 0..400 {
        ask_for_keyframe(&mut node, &mut viewer);
        node.wait(50);
    }
    let asked = node.counters(0).keyframe_requests_sent - before;
    assert!((10..=14).contains(&asked), "{asked} in 20 s");
    let before = node.counters(0).keyframe_requests_sent;
    ask_for_keyframe(&mut node, &mut other);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 1, "another one is heard at once");
}
