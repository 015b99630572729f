//! What is left out under too much load, and how those affected see it.

use proptest::prelude::*;

use super::*;

const SSRC: u32 = 0x1111_0000;
const AUDIO: u32 = 0x2222_0000;
/// Of the publisher.
const SPOKEN: u32 = 7;

impl Node {
    fn shed(&mut self, level: u8) {
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.set_shedding(now, level));
        self.settle();
    }

    /// A datagram that nothing is done about yet but to take it in.
    fn receive(&mut self, client: &Client, mut datagram: Vec<u8>) {
        let shard = &mut self.shards[usize::from(client.shard)];
        shard.handle_datagram(self.now, client.address.into(), &mut datagram);
    }

    /// A publisher of video, and of audio as a second publication.
    fn connect_publisher(&mut self) -> Client {
        let publisher = self.connect(0, 1);
        self.publish_tracks(&publisher, 10, vec![video()]);
        self.publish_tracks(&publisher, 11, vec![ReceiveTrack { ssrc: Some(SPOKEN), ..received(MediaKind::Audio) }]);
        publisher
    }

    fn subscribe_audio(&mut self, client: &Client, subscription: u64) {
        let subscribe = Command::Subscribe {
            transport: TransportHandle(client.transport),
            subscription: SubscriptionHandle(subscription),
            source: Source { publication: PublicationHandle(11), shard: ShardIndex(0) },
            tracks: vec![SubscribeTrack { source_track: 0, send: sent(MediaKind::Audio, AUDIO), cname: "c".into() }],
        };
        self.command(client.shard, subscribe);
    }
}

/// A publisher of both with a viewer on its shard, a keyframe forwarded and its request forgotten.
fn watched() -> (Node, Client, Client) {
    let mut node = Node::new(1);
    let publisher = node.connect_publisher();
    let viewer = node.connect(0, 2);
    node.subscribe_video(&viewer, 20, (10, 0), 0, SSRC);
    node.subscribe_audio(&viewer, 21);
    node.send_video(&publisher, 5, 0, KEYFRAME);
    node.wait(600);
    node.take_media(&viewer);
    (node, publisher, viewer)
}

fn sealed_audio(publisher: &Client, seq: u16) -> Vec<u8> {
    let mut buf = [0; 100];
    let fields = RtpHeaderFields { marker: false, payload_type: 111, seq, timestamp: 0, ssrc: SPOKEN };
    let header = write_header(&mut buf, &fields, &[]);
    buf[header] = 0xfc;
    let len = publisher.sealer.seal_rtp(0, &mut buf, header, header + 1);
    buf[..len].to_vec()
}

fn seqs(media: &[Media], ssrc: u32) -> Vec<u16> {
    media.iter().filter(|media| media.ssrc == ssrc).map(|media| media.seq).collect()
}

#[test]
fn audio_goes_before_video_that_came_before_it_and_is_being_sent() {
    let (mut node, publisher, viewer) = watched();
    for number in 0..40_u64 {
        let other = node.connect(0, 100 + number);
        node.subscribe_video(&other, 100 + number, (10, 0), 0, SSRC);
    }
    node.sent.clear();
    let mut picture = KEYFRAME.to_vec();
    picture.resize(1_200, 0);
    for index in 1..=32 {
        node.receive(&publisher, sealed_video(&publisher, 5, index, &picture));
    }
    let mut tx = TxBatch::new();
    assert!(node.shards[0].poll_transmit(node.now, &mut tx), "more than a batch of video");
    tx.clear();
    node.receive(&publisher, sealed_audio(&publisher, 0));
    assert!(node.shards[0].poll_transmit(node.now, &mut tx), "still more");
    let first = tx.datagrams().next().map(|(to, datagram)| (to, datagram.to_vec())).expect("a batch");
    tx.clear();
    node.sent.push(first);
    assert_eq!(seqs(&node.take_media(&viewer), AUDIO).len(), 1);
    // What was under way goes on where it was.
    node.settle();
    assert_eq!(node.counters(0).packets_sent, 1 + 1 + 41 * 32);
}

#[test]
fn video_that_waited_for_too_long_is_not_sent_and_its_subscriber_sees_no_gap() {
    let (mut node, publisher, viewer) = watched();
    node.send_video(&publisher, 5, 1, DELTA);
    let before = node.counters(0);
    node.receive(&publisher, sealed_video(&publisher, 5, 2, DELTA));
    node.receive(&publisher, sealed_audio(&publisher, 0));
    node.now += Duration::from_millis(151);
    node.settle();
    let after = node.counters(0);
    assert_eq!(after.shed_late, 1);
    assert_eq!(after.keyframe_requests_sent, before.keyframe_requests_sent + 1);
    node.send_video(&publisher, 5, 3, DELTA);
    node.send_video(&publisher, 5, 4, KEYFRAME);
    let media = node.take_media(&viewer);
    let video = seqs(&media, SSRC);
    assert_eq!(video, [video[0], video[0] + 1]);
    assert_eq!(media.last().map(|media| &media.payload[..]), Some(KEYFRAME));
    assert_eq!(seqs(&media, AUDIO).len(), 1, "audio is never late");
}

#[test]
fn a_paused_subscriber_goes_on_with_the_next_number_and_a_keyframe() {
    let (mut node, publisher, mut viewer) = watched();
    node.send_video(&publisher, 5, 1, DELTA);
    let last = seqs(&node.take_media(&viewer), SSRC)[0];
    node.shed(8);
    assert_eq!((node.shards[0].shedding(), node.shards[0].shed_subscriptions()), (8, 1));
    let before = node.counters(0);
    for seq in 2..102 {
        node.send_video(&publisher, 5, seq, if seq % 10 == 0 { KEYFRAME } else { DELTA });
        let spoken = sealed_audio(&publisher, seq);
        node.receive(&publisher, spoken);
        node.wait(20);
    }
    // It may ask for what it wants.
    node.send_rtcp(&mut viewer, |buf| {
        let len = rtcp::write_pli(buf, 9, SSRC)?;
        Some(len + rtcp::write_nack(&mut buf[len..], 9, SSRC, &[last])?)
    });
    node.wait(2_000);
    let media = node.take_media(&viewer);
    assert_eq!((seqs(&media, SSRC).len(), seqs(&media, SSRC + 1).len(), seqs(&media, AUDIO).len()), (0, 0, 100));
    assert_eq!(node.counters(0).shed_paused, 100);
    assert_eq!(node.counters(0).keyframe_requests_sent, before.keyframe_requests_sent, "nobody would get it");
    node.shed(0);
    assert_eq!(node.counters(0).keyframe_requests_sent, before.keyframe_requests_sent + 1);
    for (seq, payload) in [(102, DELTA), (103, KEYFRAME), (104, DELTA)] {
        node.send_video(&publisher, 5, seq, payload);
    }
    let media = node.take_media(&viewer);
    assert_eq!(seqs(&media, SSRC), [last + 1, last + 2]);
    assert_eq!((&media[0].payload[..], node.shards[0].shed_subscriptions()), (KEYFRAME, 0));
}

#[test]
fn each_level_pauses_another_eighth_of_the_video() {
    let (mut node, publisher, _viewer) = watched();
    for number in 0..79 {
        let viewer = node.connect(0, 100 + number);
        node.subscribe_video(&viewer, 100 + number, (10, 0), 0, SSRC);
        node.subscribe_audio(&viewer, 300 + number);
    }
    let mut seq = 0;
    let mut sent_at = |node: &mut Node, level| {
        node.shed(level);
        let before = node.counters(0).packets_sent;
        seq += 1;
        node.send_video(&publisher, 5, seq, KEYFRAME);
        node.counters(0).packets_sent - before
    };
    for level in 0..=8 {
        let (sent, paused) = (sent_at(&mut node, level), node.shards[0].shed_subscriptions());
        assert_eq!(sent + paused as u64, 80);
        assert!(paused.abs_diff(10 * usize::from(level)) <= 2, "{paused} at level {level}");
    }
    assert_eq!(sent_at(&mut node, 8), 0);
    assert_eq!(sent_at(&mut node, 0), 80);
}

#[test]
fn who_comes_while_video_is_paused_gets_it_afterwards() {
    let (mut node, publisher, _viewer) = watched();
    node.shed(8);
    let before = node.counters(0).keyframe_requests_sent;
    let late = node.connect(0, 3);
    node.subscribe_video(&late, 30, (10, 0), 0, SSRC);
    node.send_video(&publisher, 5, 1, KEYFRAME);
    assert_eq!((node.counters(0).keyframe_requests_sent, node.take_media(&late).len()), (before, 0));
    node.shed(0);
    node.send_video(&publisher, 5, 2, KEYFRAME);
    assert_eq!(node.take_media(&late).len(), 1);
}

#[test]
fn at_the_last_level_video_is_dropped_unopened_and_not_asked_for() {
    let (mut node, publisher, viewer) = watched();
    // Two are missing before.
    node.send_video(&publisher, 5, 3, DELTA);
    node.take_media(&viewer);
    let before = node.counters(0);
    node.shed(9);
    for seq in 4..324 {
        if seq % 7 != 0 {
            node.send_video(&publisher, 5, seq, DELTA);
        }
        let spoken = sealed_audio(&publisher, seq);
        node.receive(&publisher, spoken);
        node.wait(10);
    }
    let shed = node.counters(0);
    assert_eq!(shed.nacks_sent, before.nacks_sent);
    assert_eq!(shed.keyframe_requests_sent, before.keyframe_requests_sent);
    let sent = (4..324).filter(|seq| seq % 7 != 0).count() as u64;
    assert!((sent - sent / 32 - 1..sent).contains(&shed.shed_unopened), "{} of {sent}", shed.shed_unopened);
    let media = node.take_media(&viewer);
    assert_eq!((seqs(&media, SSRC).len(), seqs(&media, AUDIO).len()), (0, 320));
    // Afterwards it is as before: what is lost is asked for.
    node.shed(0);
    node.send_video(&publisher, 5, 324, KEYFRAME);
    node.send_video(&publisher, 5, 326, DELTA);
    node.wait(10);
    assert_eq!(node.counters(0).nacks_sent, shed.nacks_sent + 1);
}

#[test]
fn a_track_goes_on_after_more_unopened_packets_than_half_the_circle() {
    let (mut node, publisher, viewer) = watched();
    let mut index = 60_000;
    node.receive(&publisher, sealed_video(&publisher, 9, index, KEYFRAME));
    node.shed(9);
    let unopened = node.counters(0).shed_unopened;
    while index < 100_000 {
        index += 1;
        node.receive(&publisher, sealed_video(&publisher, 9, index, DELTA));
        if index % 100 == 0 {
            node.wait(10);
        }
    }
    assert!(node.counters(0).shed_unopened - unopened > 1 << 15);
    let before = node.counters(0);
    node.shed(0);
    node.take_media(&viewer);
    for payload in [KEYFRAME, DELTA] {
        index += 1;
        node.receive(&publisher, sealed_video(&publisher, 9, index, payload));
        node.settle();
    }
    assert_eq!(node.counters(0).dropped_unauthenticated, before.dropped_unauthenticated);
    assert_eq!(node.counters(0).packets_received, before.packets_received + 2);
    assert_eq!(node.take_media(&viewer).len(), 2);
}

#[test]
fn viewers_on_a_shard_that_has_time_miss_nothing_of_what_another_drops() {
    let mut node = Node::new(2);
    let publisher = node.connect_publisher();
    let mut viewer = node.connect(1, 2);
    node.subscribe_video(&viewer, 20, (10, 0), 0, SSRC);
    let lent_again = std::rc::Rc::new(std::cell::Cell::new(0));
    let counted = lent_again.clone();
    node.loses = Box::new(move |message| {
        counted.set(counted.get() + u32::from(matches!(message, SiblingMessage::LendAgain(..))));
        false
    });
    node.send_video(&publisher, 5, 0, KEYFRAME);
    node.send_video(&publisher, 5, 1, DELTA);
    let now = node.now;
    node.shards[0].set_shedding(now, 9);
    for seq in 2..102 {
        node.send_video(&publisher, 5, seq, DELTA);
        node.wait(10);
    }
    let asked = node.counters(0).keyframe_requests_sent;
    let now = node.now;
    node.shards[0].set_shedding(now, 0);
    node.send_video(&publisher, 5, 102, DELTA);
    assert_eq!(node.counters(0).keyframe_requests_sent, asked + 1);
    node.send_video(&publisher, 5, 103, KEYFRAME);
    node.send_video(&publisher, 5, 104, DELTA);
    let media = node.take_media(&viewer);
    let first = media[0].seq;
    assert_eq!(seqs(&media, SSRC), (first..first + 4).collect::<Vec<_>>());
    assert_eq!(&media[2].payload[..], KEYFRAME);
    node.send_rtcp(&mut viewer, |buf| rtcp::write_nack(buf, 9, SSRC, &[first, first + 1]));
    node.wait(10);
    assert_eq!(lent_again.get(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the levels do, a viewer gets number after number, each once, also of what is sent again.
    #[test]
    fn no_index_is_used_twice_and_no_number_left_out(steps in prop::collection::vec((0_u8..=9, 1_u16..20, 0_u64..300), 1..30)) {
        let (mut node, publisher, mut viewer) = watched();
        let (mut seq, mut asked) = (0, node.counters(0).keyframe_requests_sent);
        let mut numbers: std::collections::HashMap<u32, Vec<u16>> = std::collections::HashMap::new();
        for (level, frames, wait) in steps {
            node.shed(level);
            for _ in 0..frames {
                seq += 1;
                let requests = node.counters(0).keyframe_requests_sent;
                let payload = if requests > asked { KEYFRAME } else { DELTA };
                asked = requests;
                node.send_video(&publisher, 5, seq, payload);
            }
            node.wait(wait);
            for media in node.take_media(&viewer) {
                numbers.entry(media.ssrc).or_default().push(media.seq);
            }
            if let Some(last) = numbers.get(&SSRC).and_then(|seqs| seqs.last().copied()) {
                node.send_rtcp(&mut viewer, |buf| rtcp::write_nack(buf, 9, SSRC, &[last.wrapping_sub(3), last]));
            }
        }
        for seqs in numbers.values() {
            prop_assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", numbers);
        }
        prop_assert_eq!(node.counters(0).dropped_unauthenticated, 0);
    }
}
