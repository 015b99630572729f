//! What stays when things end, in every order, and what one client can take from others. Without media: see the crate `tests`
//! for whole calls in virtual time.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    Shard, ShardConfig,
    inbound::{Carries, ReceivedSsrc},
    transport::Transport,
};
use crate::{
    command::{Command, OpenTransport, Source, SubscribeTrack},
    dtls::Identity,
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
    rtp::{RtpHeader, RtpHeaderFields, write_header},
    sdp::{ExtensionIds, Feedback, IceCredentials, MediaKind, ReceiveTrack, SendTrack},
};

/// Shards that deliver each other's messages at once.
struct Node {
    now: Instant,
    identity: Arc<Identity>,
    shards: Vec<Shard>,
}

impl Node {
    fn new(shards: u8) -> Self {
        let now = Instant::now();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let shard = |index| Shard::new(ShardConfig { index: ShardIndex(index), identity: identity.clone() }, now);
        Self { now, shards: (0..shards).map(shard).collect(), identity: identity.clone() }
    }

    fn command(&mut self, shard: u8, command: Command) {
        self.shards[usize::from(shard)].handle_command(self.now, command);
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((to, message)) = self.shards.iter_mut().find_map(Shard::poll_sibling) {
            self.shards[usize::from(to.0)].handle_sibling(self.now, message);
        }
    }

    fn open(&mut self, shard: u8, transport: u64) {
        let open = OpenTransport {
            transport: TransportHandle(transport),
            local: IceCredentials::from_random([transport as u8; 24]),
            fingerprint: self.identity.fingerprint(),
            rtcp_ssrc: 1,
        };
        self.command(shard, Command::OpenTransport(open));
    }

    fn publish(&mut self, shard: u8, transport: u64, publication: u64) {
        let (transport, publication) = (TransportHandle(transport), PublicationHandle(publication));
        let tracks = vec![received(MediaKind::Audio), received(MediaKind::Video)];
        self.command(shard, Command::Publish { transport, publication, tracks });
    }

    fn subscribe(&mut self, shard: u8, transport: u64, subscription: u64, publication: u64, of: u8) {
        let tracks = [MediaKind::Audio, MediaKind::Video];
        let tracks = tracks.into_iter().enumerate().map(|(position, kind)| SubscribeTrack {
            source_track: position as u8,
            send: sent(kind, 2 * subscription as u32 + position as u32),
            cname: "c".into(),
        });
        let subscribe = Command::Subscribe {
            transport: TransportHandle(transport),
            subscription: SubscriptionHandle(subscription),
            source: Source { publication: PublicationHandle(publication), shard: ShardIndex(of) },
            tracks: tracks.collect(),
        };
        self.command(shard, subscribe);
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += Duration::from_millis(100);
            for shard in &mut self.shards {
                shard.handle_timeout(self.now);
            }
            self.deliver();
        }
    }

    fn assert_empty(&mut self) {
        for shard in &self.shards {
            let left = [
                shard.transports.len(),
                shard.sources.len(),
                shard.outputs.len(),
                shard.transport_keys.len(),
                shard.publications.len(),
                shard.subscriptions.len(),
                shard.ufrags.len(),
                shard.addresses.len(),
                shard.windowed.len(),
                shard.ready.len(),
            ];
            assert_eq!(left, [0; 10], "on shard {:?}", shard.index);
        }
    }
}

fn received(kind: MediaKind) -> ReceiveTrack {
    let video = kind == MediaKind::Video;
    ReceiveTrack {
        section: usize::from(video),
        mid: if video { "1" } else { "0" }.into(),
        kind,
        payload_type: if video { 96 } else { 111 },
        rtx_payload_type: video.then_some(97),
        clock_rate: if video { 90_000 } else { 48_000 },
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        ssrc: None,
        rtx_ssrc: None,
        stereo: false,
        cname: None,
    }
}

fn sent(kind: MediaKind, ssrc: u32) -> SendTrack {
    let ReceiveTrack { section, mid, kind, payload_type, rtx_payload_type, clock_rate, extensions, .. } =
        received(kind);
    SendTrack {
        section,
        mid,
        kind,
        payload_type,
        rtx_payload_type,
        clock_rate,
        extensions,
        ssrc,
        rtx_ssrc: None,
        nack: false,
    }
}

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
    while node.shards[1].poll_sibling().is_some() {} // lost on its way
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
        node.shards[0].addresses.insert(from(client), key);
    }
    let shard = &mut node.shards[0];
    for _ in 0..2 * Shard::MAX_HANDSHAKES {
        shard.handle_datagram(node.now, from(1), &mut [22; 100]);
    }
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING);
    shard.handle_datagram(node.now, from(2), &mut [22; Shard::MAX_HANDSHAKE_BYTES + 1]);
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING);
    shard.handle_datagram(node.now, from(2), &mut [22; 100]);
    assert_eq!(shard.handshakes.len(), Transport::MAX_HANDSHAKES_WAITING + 1);
    for _ in 0..=Transport::MAX_HANDSHAKES_WAITING {
        shard.handle_timeout(node.now);
    }
    assert!(shard.handshakes.is_empty());
    shard.handle_datagram(node.now, from(1), &mut [22; 100]);
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
