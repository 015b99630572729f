//! When reports go out, and beside what.

use super::*;

/// A shard with publishers of video, each of which has sent a packet to be reported on.
fn publishers(count: u64) -> (Node, Vec<Client>) {
    let mut node = Node::new(1);
    let clients = (1..=count).map(|number| {
        let client = node.connect(0, number);
        node.publish_tracks(&client, 1_000 + number, vec![video()]);
        node.send_video(&client, 5, 0, KEYFRAME);
        client
    });
    let clients = clients.collect();
    (node, clients)
}

/// Takes out what was sent and gives the addresses that got RTCP.
fn take_reported(node: &mut Node) -> Vec<SocketAddr> {
    node.sent.drain(..).filter(|(_, datagram)| rtcp::is_rtcp(datagram)).map(|(to, _)| to).collect()
}

/// How many reports went out in each millisecond of a second.
fn reports_by_millisecond(node: &mut Node) -> Vec<usize> {
    let mut reports = Vec::new();
    for _ in 0..1_000 {
        node.wait(1);
        reports.push(take_reported(node).len());
    }
    reports
}

#[test]
fn transports_report_apart_from_each_other_also_after_they_were_held_up_together() {
    let (mut node, clients) = publishers(16);
    for _ in 0..2 {
        node.wait(1_000);
        take_reported(&mut node);
        let reports = reports_by_millisecond(&mut node);
        assert_eq!((reports.iter().sum::<usize>(), reports.iter().max()), (clients.len(), Some(&1)), "{reports:?}");
        node.now += Duration::from_millis(3_500);
        node.settle();
        assert_eq!(take_reported(&mut node).len(), clients.len(), "one each for all that were missed");
    }
}

#[test]
fn reports_that_find_no_room_beside_other_answers_are_sent_in_the_next_round() {
    let (mut node, clients) = publishers(100);
    take_reported(&mut node);
    node.now += Duration::from_secs(2);
    for _ in 0..10 {
        for client in &clients {
            let credentials = IceCredentials::from_random([client.transport as u8; 24]);
            let mut check = crate::ice::tests::nominating_check(&credentials);
            node.shards[0].handle_datagram(node.now, client.address.into(), &mut check);
        }
    }
    node.settle();
    let answers = node.sent.iter().filter(|(_, datagram)| datagram[0] < 4).count();
    let mut reported = take_reported(&mut node);
    reported.sort_unstable();
    assert_eq!((answers, node.counters(0).dropped_control), (1_000, 0));
    assert_eq!(reported, clients.iter().map(|client| client.address).collect::<Vec<_>>());
}

#[test]
fn every_track_of_a_publisher_is_reported_on_however_many_there_are() {
    let mut node = Node::new(1);
    let mut publisher = node.connect(0, 1);
    let announced = |ssrc| ReceiveTrack { ssrc: Some(ssrc), mid: ssrc.to_string().into(), ..video() };
    for publication in 0..4 {
        let tracks = (16 * publication..16 * publication + 16).map(announced);
        node.publish_tracks(&publisher, 10 + u64::from(publication), tracks.collect());
    }
    for ssrc in 0..63 {
        node.send_video(&publisher, ssrc, 0, KEYFRAME);
    }
    take_reported(&mut node);
    node.wait(1_000);
    let mut reported = Vec::new();
    for (_, mut datagram) in node.sent.drain(..).filter(|(_, datagram)| rtcp::is_rtcp(datagram)) {
        let len = publisher.opener.open_rtcp(&mut datagram).expect("for the publisher");
        for item in rtcp::items(&datagram[..len]) {
            let rtcp::RtcpItem::ReceiverReport { blocks, .. } = item.expect("well-formed") else { continue };
            reported.extend(blocks.map(|block| block.ssrc));
        }
    }
    assert_eq!(reported, (0..63).collect::<Vec<_>>());
}

#[test]
fn a_subscriber_s_loss_counts_for_no_more_than_it_was_sent() {
    const HALF: u8 = 128;
    let mut node = Node::new(1);
    let publisher = node.connect(0, 1);
    let mut subscriber = node.connect(0, 2);
    node.publish_tracks(&publisher, 1, vec![video()]);
    node.subscribe_video(&subscriber, 1, (1, 0), 0, 77);
    node.send_video(&publisher, 5, 0, KEYFRAME);
    for seq in 1..10 {
        node.send_video(&publisher, 5, seq, DELTA);
    }
    let mut report = |node: &mut Node, ssrc, fraction_lost| {
        let block = rtcp::ReportBlock { ssrc, fraction_lost, cumulative_lost: 1 << 22, ..rtcp::ReportBlock::default() };
        node.send_rtcp(&mut subscriber, |buf| rtcp::write_receiver_report(buf, 9, &[block]));
        (node.counters(0).packets_reported, node.counters(0).packets_reported_lost)
    };
    assert_eq!(report(&mut node, 77, HALF), (10, 5));
    assert_eq!(report(&mut node, 77, u8::MAX), (10, 5), "nothing was sent since");
    assert_eq!(report(&mut node, 78, u8::MAX), (10, 5), "nobody's");
    node.send_video(&publisher, 5, 10, DELTA);
    assert_eq!(report(&mut node, 77, u8::MAX), (11, 6));
}
