//! What strangers and vandals send to a real node's media port changes nothing for those in the call.

#![expect(clippy::large_futures, reason = "a peer with its buffers lives in the future of its test")]

mod running;

use loadtests::{
    live::LivePeer,
    peer::{PeerEvent, Section, TestPeer, stun},
};
use proto::sfu::GoneReason;
use running::{PATIENCE, RunningNode, config, peer, relay};
use std::{
    cell::Cell,
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    sync::OnceLock,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, MutexGuard},
};

/// One node for all tests of this program, which run one after the other: they count what it drops.
fn on_the_node<F: AsyncFnOnce(&RunningNode)>(test: F) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static NODE: OnceLock<Mutex<RunningNode>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"));
    runtime.block_on(async {
        let node: MutexGuard<RunningNode> = NODE.get_or_init(|| Mutex::new(RunningNode::start(1))).lock().await;
        test(&node).await;
    });
}

/// A call of two: publisher and subscriber, both up, media flowing.
async fn call(node: &RunningNode, name: &str) -> (LivePeer, LivePeer) {
    let mut publisher = node.publisher(name, &[Section::SEND_AUDIO]).await;
    let mut subscriber = node.subscriber(&format!("{name}-sub"), name, &[Section::RECEIVE_AUDIO]).await;
    assert_eq!(relay(&mut publisher, &mut subscriber, 0..20).await, (0..20).collect::<Vec<_>>());
    (publisher, subscriber)
}

async fn still_flows(publisher: &mut LivePeer, subscriber: &mut LivePeer) {
    assert_eq!(relay(publisher, subscriber, 100..200).await, (100..200).collect::<Vec<_>>());
}

/// Datagrams that an attacker sends before it waits until the node is through with them: as many as the smallest socket buffer holds.
/// Faster than the node is, an attacker always wins on one machine; what is to be seen is that its datagrams do no harm where they
/// arrive.
const AT_ONCE: u32 = 100;

/// A stranger's socket.
fn stranger() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    socket
}

fn hears_nothing(stranger: &UdpSocket) {
    let error = stranger.recv(&mut [0; 2_048]).expect_err("a stranger was answered");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
}

/// The publisher's next packet, sealed but not sent.
fn sealed(publisher: &mut LivePeer, number: u32) -> Vec<u8> {
    let timestamp = publisher.peer.rtp_timestamp(Instant::now(), 0);
    publisher.peer.send(0, timestamp, false, &running::numbered(number)).expect("connected");
    std::iter::from_fn(|| publisher.peer.poll_transmit()).last().expect("a datagram")
}

#[test]
fn a_flood_of_packets_that_cannot_be_authenticated_does_not_end_the_call() {
    on_the_node(async |node| {
        const ROUNDS: u32 = 200;
        let (mut publisher, mut subscriber) = call(node, "flood").await;
        let before = node.counter("dropped_unauthenticated");
        let mut ends = node.watch().await;
        let real = sealed(&mut publisher, 99);
        for round in 0..ROUNDS {
            for number in 0..AT_ONCE {
                let mut damaged = real.clone();
                // Another sequence number and another byte each time, from the publisher's own address.
                let number = round * AT_ONCE + number;
                damaged[2..4].copy_from_slice(&(number as u16).to_be_bytes());
                let at = 20 + number as usize % (damaged.len() - 20);
                damaged[at] ^= 0x55;
                publisher.send_raw(&damaged).await.expect("sends");
            }
            // The shard takes what comes in its order: once this one is through, it is done with those before it.
            let number = 100 + round;
            assert_eq!(relay(&mut publisher, &mut subscriber, number..number + 1).await, [number]);
        }
        let flood = u64::from(ROUNDS * AT_ONCE);
        node.counted("dropped_unauthenticated", before + flood).await;
        assert!(ends.try_recv().is_err(), "somebody's transport ended");
    });
}

#[test]
fn rtp_from_another_port_is_dropped_and_counted() {
    on_the_node(async |node| {
        let (mut publisher, mut subscriber) = call(node, "port").await;
        let before = node.counter("dropped_unknown_address");
        let stranger = stranger();
        // Real packets, sealed with the real keys: only the address is wrong.
        for number in 50..100 {
            let datagram = sealed(&mut publisher, number);
            stranger.send_to(&datagram, node.media[0]).expect("sends");
        }
        node.counted("dropped_unknown_address", before + 50).await;
        hears_nothing(&stranger);
        still_flows(&mut publisher, &mut subscriber).await;
    });
}

#[test]
fn who_sprays_client_hellos_gets_nothing_and_the_call_comes_up() {
    on_the_node(async |node| {
        let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/dtls/client-hello")).expect("a seed");
        let hello = &seed[2..];
        assert_eq!(hello[0], 22, "a handshake record");
        let strangers: Vec<_> = (0..8).map(|_| stranger()).collect();
        let (mut pace, mut paced) = call(node, "race-pace").await;
        let before = node.counter("dropped_unknown_address");
        let calls = async {
            for round in 0..5 {
                let (mut publisher, mut subscriber) = call(node, &format!("race-{round}")).await;
                still_flows(&mut publisher, &mut subscriber).await;
            }
        };
        let rounds = Cell::new(0);
        let spraying = async {
            loop {
                for stranger in strangers.iter().cycle().take(AT_ONCE as usize) {
                    stranger.send_to(hello, node.media[0]).expect("sends");
                }
                // As fast as the node takes them: once this one is through, it is done with the hellos before it.
                let number = rounds.get();
                assert_eq!(relay(&mut pace, &mut paced, number..number + 1).await, [number]);
                rounds.set(number + 1);
            }
        };
        tokio::select! {
            () = calls => {}
            () = spraying => {}
        }
        let sprayed = rounds.get() * AT_ONCE;
        assert!(sprayed >= 5_000, "{sprayed} hellos are no race");
        node.counted("dropped_unknown_address", before + u64::from(sprayed)).await;
        strangers.iter().for_each(hears_nothing);
    });
}

#[test]
fn unauthenticated_stun_changes_nothing_and_is_not_answered() {
    on_the_node(async |node| {
        let (mut publisher, mut subscriber) = call(node, "stun").await;
        let before = node.counter("dropped_stun");
        let stranger = stranger();
        let answer = subscriber.peer.answer().expect("answered").clone();
        let username = format!("{}:whoever", answer.ice.ufrag);
        for (number, role) in [(1, stun::Role::Controlling), (2, stun::Role::Controlled)] {
            let request = stun::BindingRequest {
                transaction: [number; 12],
                username: &username,
                priority: u32::MAX,
                tie_breaker: u64::MAX,
                role,
                nominate: true,
            };
            // The ufrag is no secret; the password is.
            for datagram in [request.encode("a guess at the password"), request.encode_without_integrity()] {
                stranger.send_to(&datagram, node.media[0]).expect("sends");
            }
        }
        hears_nothing(&stranger);
        node.counted("dropped_stun", before + 4).await;
        still_flows(&mut publisher, &mut subscriber).await;
        hears_nothing(&stranger);
    });
}

#[test]
fn a_certificate_other_than_the_offers_closes_the_transport() {
    on_the_node(async |node| {
        let mut ends = node.watch().await;
        let mut wrong = config(&[Section::SEND_AUDIO]);
        wrong.fingerprint = Some(running::certificate().fingerprint().replace(['0', '1'], "2"));
        let mut impostor = LivePeer::bind(TestPeer::new(Instant::now(), wrong)).await.expect("binds");
        let answer = node.publish("impostor", impostor.peer.offer()).await.expect("the offer is well-formed");
        impostor.peer.handle_answer(Instant::now(), &answer).expect("an answer");
        let deadline = Instant::now() + PATIENCE;
        let end = async { tokio::time::timeout_at(deadline.into(), ends.recv()).await };
        let lives = async {
            // It may see an alert or nothing at all; it never gets to send media that anybody hears.
            let _ = impostor.run_until(Instant::now() + Duration::from_secs(3)).await;
        };
        let (end, ()) = tokio::join!(end, lives);
        assert_eq!(end.expect("in time"), Some(("impostor".to_owned(), GoneReason::DtlsFailed)));
        node.subscribe("nobody", "impostor", peer(&[Section::RECEIVE_AUDIO]).await.peer.offer())
            .await
            .expect_err("the publication went with its transport");
    });
}

#[test]
fn candidates_are_followed_by_nobody() {
    on_the_node(async |node| {
        // Whoever followed one of these would come here, by name or by number.
        let (udp, tcp) = (stranger(), TcpListener::bind("127.0.0.1:0").expect("binds"));
        tcp.set_nonblocking(true).expect("a socket");
        let [udp_port, tcp_port] = [udp.local_addr(), tcp.local_addr()].map(|address| address.expect("bound").port());
        let mut named = config(&[Section::SEND_AUDIO]);
        named.candidates = vec![
            "1 1 udp 2113937151 4f0ab1c1-3c6a-4a6f-9c53-0b1f6f2c1a10.local 54400 typ host generation 0".to_owned(),
            "2 1 udp 2113937151 metadata.google.internal 80 typ host".to_owned(),
            format!("3 1 udp 2113937151 localhost {udp_port} typ host"),
            format!("4 1 udp 2113937151 127.0.0.1 {udp_port} typ host"),
            format!("5 1 tcp 1518280447 localhost {tcp_port} typ host tcptype passive"),
            format!("6 1 tcp 1518280447 127.0.0.1 {tcp_port} typ host tcptype passive"),
            "7 1 udp 1 10.0.0.1 22 typ relay raddr 0.0.0.0 rport 0".to_owned(),
            "8 1 udp nonsense".to_owned(),
        ];
        let mut publisher = LivePeer::bind(TestPeer::new(Instant::now(), named)).await.expect("binds");
        let answer = node.publish("named", publisher.peer.offer()).await.expect("names are no reason to refuse");
        publisher.peer.handle_answer(Instant::now(), &answer).expect("an answer");
        publisher.connect(PATIENCE).await.expect("connects");
        let mut subscriber = node.subscriber("named-sub", "named", &[Section::RECEIVE_AUDIO]).await;
        still_flows(&mut publisher, &mut subscriber).await;
        hears_nothing(&udp);
        assert_eq!(tcp.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_client_that_says_goodbye_is_gone_at_once() {
    on_the_node(async |node| {
        let (mut publisher, mut subscriber) = call(node, "bye").await;
        let mut ends = node.watch().await;
        publisher.peer.close().expect("closes");
        publisher.flush().await.expect("sends");
        let end = tokio::time::timeout(PATIENCE, ends.recv()).await.expect("in time");
        assert_eq!(end, Some(("bye".to_owned(), GoneReason::ClosedByClient)));
        let events = subscriber.run_until(Instant::now() + Duration::from_millis(200)).await.expect("lives");
        assert!(!events.iter().any(|event| matches!(event, PeerEvent::Media(_))), "media without a source");
    });
}
