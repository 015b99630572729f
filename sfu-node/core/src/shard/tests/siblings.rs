//! What shards of one node do for each other's subscribers, and what becomes of it when messages between them are lost.

use super::*;
use crate::{batch::RxBatch, clock::NtpTime};

/// A publisher on shard 0 with one viewer on each other shard, keyframe 0 forwarded.
fn watched_across(shards: u8) -> (Node, Client, Vec<Client>) {
    let mut node = Node::new(shards);
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![video()]);
    let viewers: Vec<_> = (1..shards)
        .map(|shard| {
            let viewer = node.connect(shard, 10 + u64::from(shard));
            node.subscribe_video(&viewer, 20 + u64::from(shard), (10, 0), 0, SSRC);
            viewer
        })
        .collect();
    node.send_video(&publisher, 5, 0, KEYFRAME);
    (node, publisher, viewers)
}

const SSRC: u32 = 0x1111_0000;

fn position(message: &SiblingMessage) -> Option<u64> {
    match message {
        SiblingMessage::Media(_, _, packet) => Some(packet.index),
        _ => None,
    }
}

#[test]
fn a_packet_lost_between_shards_is_lent_again_when_a_subscriber_asks() {
    let (mut node, publisher, mut viewers) = watched_across(2);
    let mut lost = 0;
    node.loses = Box::new(move |message| {
        lost += u32::from(position(message) == Some(10));
        position(message) == Some(10) && lost <= 2
    });
    for seq in 1..20 {
        node.send_video(&publisher, 5, seq, &[0x10, 1, seq as u8]);
        node.wait(10);
    }
    let media = node.take_media(&viewers[0]);
    assert_eq!(media.len(), 19);
    let missing = media[0].seq + 10;
    assert!(media.iter().all(|media| media.seq != missing));
    for _ in 0..5 {
        node.send_rtcp(&mut viewers[0], |buf| rtcp::write_nack(buf, 9, SSRC, &[missing]));
        node.wait(120);
    }
    let repaired = node.take_media(&viewers[0]);
    // The second time the packet itself was lost again; once it was there, further requests get retransmissions.
    assert_eq!(repaired[0], Media { ssrc: SSRC, seq: missing, payload: vec![0x10, 1, 10] });
    assert!(repaired[1..].iter().all(|media| media.ssrc == SSRC + 1), "{repaired:?}");
    assert_eq!((repaired.len(), node.counters(0).packets_lent_again), (4, 2));
}

#[test]
fn what_the_owner_does_not_have_is_not_asked_for_in_a_flood() {
    let mut node = Node::new(2);
    let publisher = node.connect(0, 1);
    node.publish_tracks(&publisher, 10, vec![video()]);
    let mut viewers: Vec<_> = (0..10)
        .map(|number| {
            let viewer = node.connect(1, 10 + number);
            node.subscribe_video(&viewer, 20 + number, (10, 0), 0, SSRC);
            viewer
        })
        .collect();
    for seq in (0..20).filter(|seq| *seq != 10) {
        node.send_video(&publisher, 5, seq, if seq == 0 { KEYFRAME } else { DELTA });
    }
    let missing = node.take_media(&viewers[0])[0].seq + 10;
    let asked = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = asked.clone();
    node.loses = Box::new(move |message| {
        counted.set(counted.get() + u32::from(matches!(message, SiblingMessage::LendAgain(..))));
        false
    });
    for _ in 0..100 {
        for viewer in &mut viewers {
            node.send_rtcp(viewer, |buf| rtcp::write_nack(buf, 9, SSRC, &[missing]));
        }
        node.wait(1);
    }
    // Each subscriber is heard once a round trip, of 100 ms as long as no report has told; all of them together ask once.
    assert_eq!((asked.get(), node.counters(0).packets_lent_again), (1, 0));
}

#[test]
fn one_receive_call_of_a_node_with_many_shards_loses_nothing_between_them() {
    let mut node = Node::new(16);
    let publisher = node.connect(0, 1);
    let announced = |ssrc| ReceiveTrack { ssrc: Some(ssrc), ..video() };
    node.publish_tracks(&publisher, 10, vec![announced(5), announced(6)]);
    let viewers: Vec<_> = (1..16)
        .map(|shard| {
            let viewer = node.connect(shard, 10 + u64::from(shard));
            for track in 0..2 {
                let subscription = 100 * u64::from(track) + u64::from(shard);
                node.subscribe_video(&viewer, subscription, (10, 0), track, SSRC + 10 * u32::from(track));
            }
            viewer
        })
        .collect();
    // As much of each track as a ring holds.
    for number in 0..RxBatch::DATAGRAMS as u16 {
        let mut datagram = sealed_video(&publisher, 5 + u32::from(number % 2), u64::from(number / 2), KEYFRAME);
        node.shards[0].handle_datagram(node.now, publisher.address.into(), &mut datagram);
    }
    assert_eq!(node.counters(0).dropped_sibling, 0);
    node.settle();
    for viewer in &viewers {
        assert_eq!(node.take_media(viewer).len(), RxBatch::DATAGRAMS);
    }
}

#[test]
fn a_sibling_whose_queue_is_full_costs_the_others_nothing() {
    let (mut node, publisher, _viewers) = watched_across(3);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let total = 3 * Shard::MAX_TO_SIBLINGS as u64;
    let mut wave = 0;
    while node.shards[0].counters().packets_received <= total {
        // Within what a track may have.
        node.now += Duration::from_secs(1);
        for _ in 0..RxBatch::DATAGRAMS {
            wave += 1;
            let mut datagram = sealed_video(&publisher, 5, wave, DELTA);
            node.shards[0].handle_datagram(node.now, publisher.address.into(), &mut datagram);
        }
        // Shard 1 has stopped; shard 2 takes all.
        let waiting = node.shards[0].tell_siblings(|sibling, message| {
            if sibling == ShardIndex(1) {
                return Err(message);
            }
            second.extend(position(&message));
            Ok(())
        });
        assert!(waiting);
    }
    assert_eq!(second, (1..=wave).collect::<Vec<_>>());
    // When it goes on, it gets the newest there was room for, in order, and each one once.
    let waiting = node.shards[0].tell_siblings(|sibling, message| {
        assert_eq!(sibling, ShardIndex(1));
        first.extend(position(&message));
        Ok(())
    });
    assert!(!waiting);
    let kept = Shard::MAX_TO_SIBLINGS as u64 / 2;
    assert_eq!(first, (wave - kept + 1..=wave).collect::<Vec<_>>());
    assert_eq!(node.counters(0).dropped_sibling, wave - kept);
}

#[test]
fn a_keyframe_request_that_a_sibling_held_back_is_made_up_for() {
    let (mut node, publisher, mut viewers) = watched_across(2);
    for seq in 1..200 {
        node.send_video(&publisher, 5, seq, DELTA);
        node.wait(10);
    }
    let before = node.counters(0).keyframe_requests_sent;
    // The answer to the first is still on its way when the second picture is lost.
    for _ in 0..2 {
        node.send_rtcp(&mut viewers[0], |buf| rtcp::write_pli(buf, 9, SSRC));
        node.wait(100);
    }
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 1);
    node.wait(400);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 2);
    node.wait(3_000);
    assert_eq!(node.counters(0).keyframe_requests_sent, before + 2, "and only once");
}

#[test]
fn only_the_tracks_that_somebody_watches_there_are_lent() {
    let mut node = Node::new(2);
    let publisher = node.connect(0, 1);
    node.publish(0, 1, 10);
    let listener = node.connect(1, 2);
    node.subscribe_video(&listener, 20, (10, 0), 0, SSRC);
    let siblings = |node: &Node| {
        let key = |track| node.shards[0].source_key(PublicationHandle(10), track).expect("published");
        [0, 1].map(|track| node.shards[0].sources[key(track)].siblings)
    };
    assert_eq!(siblings(&node), [0b10, 0]);
    node.subscribe_video(&listener, 21, (10, 0), 1, SSRC + 10);
    node.wait(3_000);
    assert_eq!(siblings(&node), [0b10, 0b10]);
    node.command(1, Command::CloseSubscription(SubscriptionHandle(20)));
    assert_eq!(siblings(&node), [0, 0b10]);
    assert_eq!(node.shards[1].sources.len(), 1, "what nobody watches holds no packets");
    // A lost word of the end is said again with the next renewal.
    node.loses = Box::new(|message| matches!(message, SiblingMessage::Attach(..)));
    node.subscribe_video(&listener, 22, (10, 0), 0, SSRC + 20);
    node.command(1, Command::CloseSubscription(SubscriptionHandle(21)));
    assert_eq!(siblings(&node), [0, 0b10]);
    node.loses = Box::new(|_| false);
    node.wait(1_001);
    assert_eq!(siblings(&node), [0b10, 0]);
    drop(publisher);
}

#[test]
fn whichever_track_a_sibling_attaches_when_it_has_the_publishers_clock() {
    let mut node = Node::new(2);
    let mut publisher = node.connect(0, 1);
    let announced = |ssrc| ReceiveTrack { ssrc: Some(ssrc), ..video() };
    node.publish_tracks(&publisher, 10, vec![announced(5), announced(6)]);
    let viewer = node.connect(1, 2);
    node.subscribe_video(&viewer, 20, (10, 0), 0, SSRC);
    for ssrc in [5, 6] {
        node.send_video(&publisher, ssrc, 0, KEYFRAME);
        let info = rtcp::SenderInfo { ntp: NtpTime(7 << 32), rtp_timestamp: 1, packets: 1, octets: 1 };
        node.send_rtcp(&mut publisher, |buf| rtcp::write_sender_report(buf, ssrc, &info, &[]));
    }
    let has_clock = |node: &Node, track| {
        let key = node.shards[1].source_key(PublicationHandle(10), track).expect("attached");
        node.shards[1].sources[key].clock.at(node.now).is_some()
    };
    node.subscribe_video(&viewer, 21, (10, 0), 1, SSRC + 10);
    assert!(has_clock(&node, 0) && has_clock(&node, 1));
    // A clock lost on its way comes with the next renewal.
    node.loses = Box::new(|message| matches!(message, SiblingMessage::Clock(..)));
    let other = node.connect(1, 3);
    node.command(1, Command::CloseSubscription(SubscriptionHandle(21)));
    node.subscribe_video(&other, 22, (10, 0), 1, SSRC + 20);
    assert!(!has_clock(&node, 1));
    node.loses = Box::new(|_| false);
    node.wait(1_001);
    assert!(has_clock(&node, 1));
}

#[test]
fn a_publication_whose_end_was_lost_between_shards_is_forgotten() {
    let (mut node, _publisher, viewers) = watched_across(2);
    node.wait(3_000);
    node.loses = Box::new(|message| matches!(message, SiblingMessage::Closed(_)));
    node.command(0, Command::ClosePublication(PublicationHandle(10)));
    assert_eq!(node.shards[1].sources.len(), 1);
    // Their clients are still there.
    for second in 0..62 {
        node.run_for(Duration::from_secs(1));
        if second % 10 == 0 {
            node.check(&viewers[0]);
        }
    }
    assert_eq!((node.shards[1].sources.len(), node.shards[1].publications.len()), (0, 0));
    node.command(1, Command::CloseSubscription(SubscriptionHandle(21)));
    assert_eq!(node.shards[1].outputs.len(), 0);
}

#[test]
fn a_process_that_was_stopped_for_a_while_forgets_nothing() {
    let (mut node, publisher, viewers) = watched_across(2);
    node.wait(3_000);
    node.now += Duration::from_secs(20);
    // The one without the publication wakes first.
    node.shards[1].handle_timeout(node.now);
    node.wait(3_000);
    node.take_media(&viewers[0]);
    node.send_video(&publisher, 5, 1, KEYFRAME);
    assert_eq!(node.take_media(&viewers[0]).len(), 1);
}

#[test]
fn sender_reports_without_end_do_not_fill_the_queues_between_shards() {
    let (mut node, mut publisher, _viewers) = watched_across(2);
    let told = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = told.clone();
    node.loses = Box::new(move |message| {
        counted.set(counted.get() + u32::from(matches!(message, SiblingMessage::Clock(..))));
        false
    });
    let info = rtcp::SenderInfo { ntp: NtpTime(7 << 32), rtp_timestamp: 1, packets: 1, octets: 1 };
    for _ in 0..200 {
        // As many as a datagram has room for.
        node.send_rtcp(&mut publisher, |buf| {
            (0..50).try_fold(0, |len, _| Some(len + rtcp::write_sender_report(&mut buf[len..], 5, &info, &[])?))
        });
    }
    let counters = node.counters(0);
    assert_eq!((told.get(), counters.dropped_excess_media, counters.dropped_sibling), (10, 9_990, 0));
}
