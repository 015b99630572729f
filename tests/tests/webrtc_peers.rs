//! Peers of the `webrtc` crate, an implementation of its own, through a real node: one publishes, thirty subscribe, every packet arrives
//! everywhere once and bit by bit as it was sent.

#![expect(clippy::large_futures, reason = "the crate under comparison has large futures")]

mod running;

use rtc::{
    rtp,
    rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
};
use running::{PATIENCE, RunningNode};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use webrtc::{
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
    },
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};

const SUBSCRIBERS: usize = 30;
const VIDEO_PACKETS: u16 = 600;
const AUDIO_PACKETS: u16 = 200;

/// A packet that arrived: of which kind, sequence number, payload.
type Arrived = (RtpCodecKind, u16, Vec<u8>);

struct Handler {
    gathered: watch::Sender<bool>,
    connected: watch::Sender<bool>,
    arrived: mpsc::UnboundedSender<Arrived>,
}

#[tonic::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_if_modified(|gathered| {
            *gathered |= state == RTCIceGatheringState::Complete;
            *gathered
        });
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.connected.send_replace(state == RTCPeerConnectionState::Connected);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let arrived = self.arrived.clone();
        tokio::spawn(async move {
            let kind = track.kind().await;
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let _ = arrived.send((kind, packet.header.sequence_number, packet.payload.to_vec()));
                }
            }
        });
    }
}

/// A peer connection, and what its handler hears.
struct Peer {
    connection: Arc<dyn PeerConnection>,
    gathered: watch::Receiver<bool>,
    connected: watch::Receiver<bool>,
    arrived: mpsc::UnboundedReceiver<Arrived>,
}

impl Peer {
    async fn new() -> Self {
        let (gathered, gathered_rx) = watch::channel(false);
        let (connected, connected_rx) = watch::channel(false);
        let (arrived, arrived_rx) = mpsc::unbounded_channel();
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        let registry = register_default_interceptors(Registry::new(), &mut engine).expect("interceptors");
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
            .with_handler(Arc::new(Handler { gathered, connected, arrived }))
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build()
            .await
            .expect("a peer connection");
        Self { connection: Arc::new(connection), gathered: gathered_rx, connected: connected_rx, arrived: arrived_rx }
    }

    async fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("its own offer");
        timeout(PATIENCE, self.gathered.wait_for(|gathered| *gathered)).await.expect("in time").expect("lives");
        self.connection.local_description().await.expect("a description").sdp
    }

    async fn connect(&mut self, answer: String) {
        let answer = RTCSessionDescription::answer(answer).expect("an answer");
        self.connection.set_remote_description(answer).await.expect("an answer that it understands");
        timeout(PATIENCE, self.connected.wait_for(|connected| *connected)).await.expect("in time").expect("lives");
    }
}

/// Stands between a peer and the node and counts the node's media packets by SSRC and sequence number. The peer itself cannot tell
/// that a packet came twice: its replay protection keeps that from whoever listens.
struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<HashMap<(u32, u16), u32>>>,
}

impl Tap {
    async fn start(node: SocketAddr) -> Self {
        let client_side = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let node_side = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        node_side.connect(node).await.expect("an address");
        let tap = Self { address: client_side.local_addr().expect("bound"), heard: Arc::default() };
        let heard = tap.heard.clone();
        tokio::spawn(async move {
            let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
            let mut client = None;
            // Either end may be closed already, which the next call says as an error: such a datagram is gone.
            loop {
                tokio::select! {
                    received = client_side.recv_from(&mut up) => {
                        if let Ok((len, from)) = received {
                            client = Some(from);
                            let _ = node_side.send(&up[..len]).await;
                        }
                    }
                    received = node_side.recv(&mut down) => {
                        if let (Ok(len), Some(client)) = (received, client) {
                            if let [128..=191, kind, s0, s1, _, _, _, _, a, b, c, d, ..] = down[..len]
                                && !(192..=223).contains(&kind)
                            {
                                let packet = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([s0, s1]));
                                *heard.lock().expect("nobody panics with it").entry(packet).or_default() += 1;
                            }
                            let _ = client_side.send_to(&down[..len], client).await;
                        }
                    }
                }
            }
        });
        tap
    }

    /// The answer of a node with this tap in the node's place.
    fn in_place_of(&self, node: SocketAddr, answer: &str) -> String {
        let [candidate, tapped] = [node, self.address].map(|at| format!("{} {}", at.ip(), at.port()));
        assert!(answer.contains(&candidate), "the node is where it says");
        answer.replace(&candidate, &tapped)
    }
}

fn track(kind: RtpCodecKind, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let (mime_type, clock_rate, channels) = match kind {
        RtpCodecKind::Audio => ("audio/opus", 48_000, 2),
        _ => ("video/VP8", 90_000, 0),
    };
    let codec = RTCRtpCodec { mime_type: mime_type.to_owned(), clock_rate, channels, ..RTCRtpCodec::default() };
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() };
    let encoding =
        RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..RTCRtpEncodingParameters::default() };
    let (stream, id) = ("stream".to_owned(), format!("track-{mime_type}"));
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(stream, id.clone(), id, kind, vec![encoding])))
}

/// Different bytes and a different length for each packet. A descriptor without extensions: there is nothing to rewrite.
fn payload(kind: RtpCodecKind, number: u16) -> Vec<u8> {
    let first = number.is_multiple_of(3);
    let head: &[u8] = match kind {
        RtpCodecKind::Audio => &[0xFC],
        _ if first => &[0x10, 0],
        _ => &[0x00, 1],
    };
    let mut payload = [head, &number.to_be_bytes()].concat();
    let len = 20 + usize::from(number) * 7 % 1_100;
    payload.extend((0..len).map(|at| (at as u16).wrapping_mul(31).wrapping_add(number) as u8));
    payload
}

fn packet(kind: RtpCodecKind, ssrc: u32, number: u16) -> rtp::Packet {
    let step = if matches!(kind, RtpCodecKind::Audio) { 960 } else { 1_000 };
    let marker = matches!(kind, RtpCodecKind::Video) && number % 3 == 2;
    rtp::Packet {
        header: rtp::Header {
            version: 2,
            marker,
            payload_type: if matches!(kind, RtpCodecKind::Audio) { 111 } else { 96 },
            sequence_number: 65_500_u16.wrapping_add(number),
            timestamp: u32::from(number / 3) * step,
            ssrc,
            ..rtp::Header::default()
        },
        payload: payload(kind, number).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_of_one_publisher_arrives_at_thirty_subscribers_once_and_unchanged() {
    let node = Arc::new(RunningNode::start(2));
    let (video, audio) = (track(RtpCodecKind::Video, 1_111), track(RtpCodecKind::Audio, 2_222));
    let mut publisher = Peer::new().await;
    for track in [&audio, &video] {
        publisher.connection.add_track(track.clone() as Arc<dyn TrackLocal>).await.expect("a track");
    }
    let answer = node.publish("webrtc", publisher.offer().await).await.expect("a good offer");
    publisher.connect(answer).await;

    let mut connecting = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let node = node.clone();
        connecting.spawn(async move {
            let mut peer = Peer::new().await;
            for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
                let direction = RTCRtpTransceiverDirection::Recvonly;
                let init = RTCRtpTransceiverInit { direction, ..RTCRtpTransceiverInit::default() };
                peer.connection.add_transceiver_from_kind(kind, Some(init)).await.expect("a transceiver");
            }
            let answer = node.subscribe(&format!("sub-{number}"), "webrtc", peer.offer().await).await.expect("good");
            let at = node.media.iter().copied().find(|at| answer.contains(&format!("{} {}", at.ip(), at.port())));
            let at = at.expect("one of the node's shards");
            let tap = Tap::start(at).await;
            peer.connect(tap.in_place_of(at, &answer)).await;
            (peer, tap)
        });
    }
    let subscribers = connecting.join_all().await;
    for number in 0..VIDEO_PACKETS {
        video.write_rtp(packet(RtpCodecKind::Video, 1_111, number)).await.expect("sent");
        if number < AUDIO_PACKETS {
            audio.write_rtp(packet(RtpCodecKind::Audio, 2_222, number)).await.expect("sent");
        }
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    for (number, (mut subscriber, tap)) in subscribers.into_iter().enumerate() {
        for (kind, count) in [(RtpCodecKind::Video, VIDEO_PACKETS), (RtpCodecKind::Audio, AUDIO_PACKETS)] {
            let expected: Vec<_> = (0..count).map(|number| payload(kind, number)).collect();
            let arrived = subscriber.all(kind, expected.len()).await;
            let first = arrived.first().map_or(0, |(seq, _)| *seq);
            for (position, (seq, _)) in arrived.iter().enumerate() {
                assert_eq!(*seq, first.wrapping_add(position as u16), "subscriber {number}: sequence numbers in a row");
            }
            let payloads: Vec<_> = arrived.into_iter().map(|(_, payload)| payload).collect();
            assert!(payloads == expected, "subscriber {number}: {kind:?} is not what was sent");
        }
        subscriber.connection.close().await.expect("closes");
        let heard = tap.heard.lock().expect("nobody panics with it");
        let twice: Vec<_> = heard.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "subscriber {number} was sent more than once: {twice:?}");
        assert!(heard.len() >= usize::from(VIDEO_PACKETS + AUDIO_PACKETS), "the tap heard {} packets", heard.len());
    }
    // And none under another number: every packet was sealed once per subscriber.
    let forwarded = u64::from(VIDEO_PACKETS + AUDIO_PACKETS) * SUBSCRIBERS as u64;
    node.counted("packets_sent", forwarded).await;
    assert_eq!(node.counter("packets_sent"), forwarded);
    publisher.connection.close().await.expect("closes");
}

impl Peer {
    /// Waits for so many packets of a kind and then for half a second more, and gives them in the order of their sequence numbers.
    async fn all(&mut self, kind: RtpCodecKind, count: usize) -> Vec<(u16, Vec<u8>)> {
        let mut packets = Vec::new();
        let mut others = Vec::new();
        loop {
            let patience = if packets.len() < count { Duration::from_secs(5) } else { Duration::from_millis(500) };
            match timeout(patience, self.arrived.recv()).await {
                Ok(Some((of, seq, payload))) if of == kind => packets.push((seq, payload)),
                Ok(Some(other)) => others.push(other),
                Ok(None) | Err(_) => break,
            }
        }
        // For the next call, which asks for the other kind.
        let (sender, receiver) = mpsc::unbounded_channel();
        for other in others {
            sender.send(other).expect("the receiver lives");
        }
        self.arrived = receiver;
        let first = packets.first().map_or(0, |(seq, _)| *seq).wrapping_sub(1_000);
        packets.sort_by_key(|(seq, _)| seq.wrapping_sub(first));
        packets
    }
}
