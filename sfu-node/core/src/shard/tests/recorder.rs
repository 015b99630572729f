//! A sibling that is no shard and has no subscribers, as a recorder is: what is asked of publishers for its sake, and what it is told.

use std::{cell::RefCell, rc::Rc};

use super::*;
use crate::ring::Packet;

/// The index of the recorder of a node with one shard.
const RECORDER: ShardIndex = ShardIndex(1);

/// A publisher of video whom nobody but a recorder watches, and what the recorder is told.
fn recorded(track: ReceiveTrack) -> (Node, Client, Rc<RefCell<Vec<SiblingMessage>>>) {
    let mut node = Node::new(1);
    let told = Rc::new(RefCell::new(Vec::new()));
    let recorder = told.clone();
    node.loses = Box::new(move |message| {
        recorder.borrow_mut().push(message.clone());
        false
    });
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![track]);
    attach(&mut node);
    (node, publisher, told)
}

/// As it is repeated every second.
fn attach(node: &mut Node) {
    let now = node.now;
    node.shards[0].handle_sibling(now, SiblingMessage::Attach(PublicationHandle(10), 1, RECORDER));
    node.settle();
}

fn packets(told: &RefCell<Vec<SiblingMessage>>) -> Vec<Arc<Packet>> {
    let packet = |message| match message {
        SiblingMessage::Media(PublicationHandle(10), 0, packet) => Some(packet),
        _ => None,
    };
    told.take().into_iter().filter_map(packet).collect()
}

fn send_frames(node: &mut Node, publisher: &Client, seqs: std::ops::Range<u16>) {
    for seq in seqs {
        if seq % 100 == 0 {
            attach(node);
        }
        node.send_video(publisher, 5, seq, if seq == 1 { KEYFRAME } else { DELTA });
        node.wait(10);
    }
}

#[test]
fn a_keyframe_is_asked_for_when_a_recorder_comes() {
    let (mut node, publisher, _told) = recorded(ReceiveTrack { ssrc: Some(5), ..video() });
    assert_eq!(node.counters(0).keyframe_requests_sent, 1);
    // And when it asks.
    send_frames(&mut node, &publisher, 1..100);
    let now = node.now;
    node.shards[0].handle_sibling(now, SiblingMessage::KeyframeRequest(PublicationHandle(10), 0));
    node.settle();
    assert_eq!(node.counters(0).keyframe_requests_sent, 2);
}

#[test]
fn what_only_a_recorder_misses_is_asked_for_again_and_comes_to_it_late() {
    let (mut node, publisher, told) = recorded(video());
    send_frames(&mut node, &publisher, 1..10);
    send_frames(&mut node, &publisher, 11..20);
    assert!(node.counters(0).nacks_sent > 0);
    node.send_again(&publisher, 6, 0, 10, DELTA);
    let late = node.now;
    let packets = packets(&told);
    let indices: Vec<_> = packets.iter().map(|packet| packet.index).collect();
    assert_eq!(indices, [(1..10).collect::<Vec<_>>(), (11..20).collect(), vec![10]].concat());
    assert_eq!(packets.last().expect("packets").arrived, Some(late));
    assert!(packets[0].arrived.is_some_and(|arrived| arrived < late));
}

#[test]
fn what_is_lost_for_good_costs_a_keyframe_for_a_recorder_alone() {
    let (mut node, publisher, _told) = recorded(video());
    send_frames(&mut node, &publisher, 1..10);
    let before = node.counters(0).keyframe_requests_sent;
    send_frames(&mut node, &publisher, 11..400);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 1);
}

#[test]
fn a_publisher_hears_of_its_packets_when_only_a_recorder_takes_them() {
    const TWCC: u8 = 3;
    let extensions = ExtensionIds { mid: Some(MID), twcc: Some(TWCC), ..ExtensionIds::default() };
    let (mut node, publisher, told) = recorded(ReceiveTrack { extensions, ..video() });
    for seq in 1..20_u16 {
        let mut buf = [0; 100];
        let fields = RtpHeaderFields { marker: true, payload_type: MEDIA, seq, timestamp: 0, ssrc: 5 };
        let header = write_header(&mut buf, &fields, &[(MID, b"1"), (TWCC, &seq.to_be_bytes())]);
        buf[header..header + DELTA.len()].copy_from_slice(DELTA);
        let len = publisher.sealer.seal_rtp(0, &mut buf, header, header + DELTA.len());
        node.send(&publisher, &buf[..len]);
        node.wait(10);
    }
    assert_eq!(packets(&told).len(), 19);
    assert!(node.counters(0).transport_feedback_sent >= 2, "{:?}", node.counters(0));
}

#[test]
fn the_last_index_of_all_is_lent_to_like_any() {
    let (mut node, publisher, told) = recorded(video());
    let (now, last) = (node.now, ShardIndex(crate::MAX_SIBLINGS as u8 - 1));
    for (tracks, sibling) in [(0, RECORDER), (1, last)] {
        node.shards[0].handle_sibling(now, SiblingMessage::Attach(PublicationHandle(10), tracks, sibling));
    }
    node.settle();
    told.borrow_mut().clear();
    send_frames(&mut node, &publisher, 1..3);
    assert_eq!(packets(&told).len(), 2);
}

#[test]
fn a_recorder_learns_that_a_publication_has_ended() {
    let (mut node, publisher, told) = recorded(video());
    send_frames(&mut node, &publisher, 1..3);
    told.borrow_mut().clear();
    node.command(0, Command::ClosePublication(PublicationHandle(10)));
    let ended = |message: &SiblingMessage| matches!(message, SiblingMessage::Closed(PublicationHandle(10)));
    assert!(told.borrow().iter().any(ended));
}
