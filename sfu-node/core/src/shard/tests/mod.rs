//! Shards that play a call among themselves: without sockets, and where media matter with keys that no handshake made. Whole calls
//! in virtual time, with handshakes and networks, are in the crate `tests`.

mod addresses;
mod lifecycle;
mod paths;
mod recorder;
mod repair;
mod reports;
mod shedding;
mod siblings;
mod sources;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Counters, Shard, ShardConfig, transport::Keys};
use crate::{
    batch::TxBatch,
    command::{Command, OpenTransport, SiblingMessage, Source, SubscribeTrack},
    dtls::Identity,
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
    rtcp,
    rtp::{RtpHeaderFields, write_header},
    sdp::{ExtensionIds, Feedback, IceCredentials, MediaKind, ReceiveTrack, SendTrack},
    srtp::{DtlsRole, Opener, Sealer, SrtpProfile, session_keys},
};

/// VP8 payloads: the start of a keyframe, and of another frame.
const KEYFRAME: &[u8] = &[0x10, 0, 7];
const DELTA: &[u8] = &[0x10, 1, 7];
/// Payload types and header extension of [`video`] and [`video_to`].
const MEDIA: u8 = 96;
const RETRANSMISSION: u8 = 97;
const MID: u8 = 4;

/// Shards that deliver each other's messages at once.
struct Node {
    now: Instant,
    identity: Arc<Identity>,
    shards: Vec<Shard>,
    /// Messages between shards that are lost on their way.
    loses: Box<dyn FnMut(&SiblingMessage) -> bool>,
    /// What was sent to clients, decrypted by nobody yet.
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

/// A client with keys that no handshake has made.
struct Client {
    shard: u8,
    transport: u64,
    address: SocketAddr,
    opener: Opener,
    sealer: Sealer,
}

/// What a client got.
#[derive(Debug, PartialEq, Eq)]
struct Media {
    ssrc: u32,
    seq: u16,
    payload: Vec<u8>,
}

impl Node {
    fn new(shards: u8) -> Self {
        let now = Instant::now();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let shard = |index| Shard::new(ShardConfig { index: ShardIndex(index), identity: identity.clone() }, now);
        Self {
            now,
            shards: (0..shards).map(shard).collect(),
            identity: identity.clone(),
            loses: Box::new(|_| false),
            sent: Vec::new(),
        }
    }

    fn command(&mut self, shard: u8, command: Command) {
        self.shards[usize::from(shard)].handle_command(self.now, command);
        self.deliver();
    }

    fn deliver(&mut self) {
        let mut told = Vec::new();
        loop {
            for shard in &mut self.shards {
                shard.tell_siblings(|to, message| {
                    told.push((to, message));
                    Ok(())
                });
            }
            if told.is_empty() {
                return;
            }
            for (to, message) in told.drain(..) {
                // Who is no shard has taken it in `loses`.
                if !(self.loses)(&message)
                    && let Some(shard) = self.shards.get_mut(usize::from(to.0))
                {
                    shard.handle_sibling(self.now, message);
                }
            }
        }
    }

    /// Lets everybody do what is to be done now.
    fn settle(&mut self) {
        let mut tx = TxBatch::new();
        loop {
            for shard in &mut self.shards {
                if shard.poll_timeout(self.now) <= self.now {
                    shard.handle_timeout(self.now);
                }
                loop {
                    let more = shard.poll_transmit(self.now, &mut tx);
                    self.sent.extend(tx.datagrams().map(|(to, datagram)| (to, datagram.to_vec())));
                    tx.clear();
                    if !more {
                        break;
                    }
                }
            }
            let said = self.sent.len();
            self.deliver();
            if self.shards.iter().all(|shard| shard.poll_timeout(self.now) > self.now && shard.ready.len() == 0) {
                debug_assert_eq!(said, self.sent.len());
                return;
            }
        }
    }

    /// Lets time pass, to the millisecond.
    fn wait(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += Duration::from_millis(1);
            self.settle();
        }
    }

    fn counters(&self, shard: u8) -> Counters {
        *self.shards[usize::from(shard)].counters()
    }

    fn open(&mut self, shard: u8, transport: u64) {
        let open = OpenTransport {
            transport: TransportHandle(transport),
            local: IceCredentials::from_random([transport as u8; 24]),
            fingerprint: self.identity.fingerprint(),
            // Spread over the circle.
            rtcp_ssrc: (transport as u32).reverse_bits(),
        };
        self.command(shard, Command::OpenTransport(open));
    }

    /// Opens a transport that is connected: its client has proven its address and has keys.
    fn connect(&mut self, shard: u8, transport: u64) -> Client {
        const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
        self.open(shard, transport);
        let material = vec![transport as u8; PROFILE.exported_len()];
        let keys = |role| session_keys(PROFILE, &material, role).expect("keys");
        let at = &mut self.shards[usize::from(shard)];
        let key = at.transport_keys[&TransportHandle(transport)];
        let (opener, sealer) = keys(DtlsRole::Server);
        at.transports[key].keys = Some(Keys { opener, sealer });
        let (opener, sealer) = keys(DtlsRole::Client);
        let address = SocketAddr::from(([192, 0, 2, 7], 1_000 + transport as u16));
        let client = Client { shard, transport, address, opener, sealer };
        self.check(&client);
        client
    }

    /// A nominating check of the client, from where it is.
    fn check(&mut self, client: &Client) {
        let credentials = IceCredentials::from_random([client.transport as u8; 24]);
        self.send(client, &crate::ice::tests::nominating_check(&credentials));
    }

    /// A datagram of the client, from where it is.
    fn send(&mut self, client: &Client, datagram: &[u8]) {
        let shard = &mut self.shards[usize::from(client.shard)];
        shard.handle_datagram(self.now, client.address.into(), &mut datagram.to_vec());
        self.settle();
    }

    fn send_rtp(&mut self, client: &Client, fields: &RtpHeaderFields, payload: &[u8]) {
        let mut buf = [0; TxBatch::DATAGRAM_BYTES];
        let header = write_header(&mut buf, fields, &[(MID, b"1")]);
        buf[header..header + payload.len()].copy_from_slice(payload);
        let len = client.sealer.seal_rtp(0, &mut buf, header, header + payload.len());
        self.shards[usize::from(client.shard)].handle_datagram(self.now, client.address.into(), &mut buf[..len]);
        self.settle();
    }

    /// A packet of a video track, a frame of its own.
    fn send_video(&mut self, client: &Client, ssrc: u32, seq: u16, payload: &[u8]) {
        let timestamp = u32::from(seq) * 900;
        let fields = RtpHeaderFields { marker: true, payload_type: MEDIA, seq, timestamp, ssrc };
        self.send_rtp(client, &fields, payload);
    }

    /// Again, on the retransmission stream: the packet that was `original`.
    fn send_again(&mut self, client: &Client, ssrc: u32, seq: u16, original: u16, payload: &[u8]) {
        let timestamp = u32::from(original) * 900;
        let fields = RtpHeaderFields { marker: true, payload_type: RETRANSMISSION, seq, timestamp, ssrc };
        self.send_rtp(client, &fields, &[&original.to_be_bytes(), payload].concat());
    }

    fn send_rtcp(&mut self, client: &mut Client, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut buf = [0; TxBatch::DATAGRAM_BYTES];
        let len = write(&mut buf).expect("room");
        let len = client.sealer.seal_rtcp(&mut buf, len);
        self.shards[usize::from(client.shard)].handle_datagram(self.now, client.address.into(), &mut buf[..len]);
        self.settle();
    }

    /// Takes out what was sent to `client` as media.
    fn take_media(&mut self, client: &Client) -> Vec<Media> {
        let (own, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == client.address);
        self.sent = rest;
        let own: Vec<(SocketAddr, Vec<u8>)> = own;
        let rtp = own.into_iter().filter(|(_, datagram)| datagram[0] >= 128 && !rtcp::is_rtcp(datagram));
        rtp.map(|(_, mut datagram)| {
            let header = crate::rtp::RtpHeader::parse(&datagram).expect("a header");
            let len = client.opener.open_rtp(0, &mut datagram, header.header_len).expect("for this client");
            Media { ssrc: header.ssrc, seq: header.seq, payload: datagram[header.header_len..len].to_vec() }
        })
        .collect()
    }

    /// A publication of these tracks.
    fn publish_tracks(&mut self, client: &Client, publication: u64, tracks: Vec<ReceiveTrack>) {
        let transport = TransportHandle(client.transport);
        let publication = PublicationHandle(publication);
        self.command(client.shard, Command::Publish { transport, publication, tracks });
    }

    /// A subscription to one track of a publication on shard `of`, as video with this SSRC.
    fn subscribe_video(&mut self, client: &Client, subscription: u64, source: (u64, u8), track: u8, ssrc: u32) {
        let (publication, of) = source;
        let subscribe = Command::Subscribe {
            transport: TransportHandle(client.transport),
            subscription: SubscriptionHandle(subscription),
            source: Source { publication: PublicationHandle(publication), shard: ShardIndex(of) },
            tracks: vec![SubscribeTrack { source_track: track, send: video_to(ssrc), cname: "c".into() }],
        };
        self.command(client.shard, subscribe);
        self.settle();
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
                shard.proven.len(),
                shard.windowed.len(),
                shard.ready.len(),
                shard.owed_keyframes.len(),
            ];
            assert_eq!(left, [0; 12], "on shard {:?}", shard.index);
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

/// A video track with all feedback and retransmission, found by its mid "1".
fn video() -> ReceiveTrack {
    ReceiveTrack {
        extensions: ExtensionIds { mid: Some(MID), ..ExtensionIds::default() },
        feedback: Feedback { nack: true, pli: true, ..Feedback::default() },
        ..received(MediaKind::Video)
    }
}

/// A video track to a subscriber, its retransmissions on the next SSRC.
fn video_to(ssrc: u32) -> SendTrack {
    SendTrack { rtx_ssrc: Some(ssrc + 1), nack: true, ..sent(MediaKind::Video, ssrc) }
}

/// A datagram of the publisher's, not sent yet.
fn sealed_video(publisher: &Client, ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut buf = [0; TxBatch::DATAGRAM_BYTES];
    let fields = RtpHeaderFields { marker: true, payload_type: MEDIA, seq: index as u16, timestamp: 0, ssrc };
    let header = write_header(&mut buf, &fields, &[(MID, b"1")]);
    buf[header..header + payload.len()].copy_from_slice(payload);
    let len = publisher.sealer.seal_rtp((index >> 16) as u32, &mut buf, header, header + payload.len());
    buf[..len].to_vec()
}
