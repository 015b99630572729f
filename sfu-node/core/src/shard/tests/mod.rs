//! Shards that play a call among themselves: without sockets, and where media matter with keys that no handshake made. Whole calls
//! in virtual time, with handshakes and networks, are in the crate `tests`.

mod lifecycle;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Shard, ShardConfig};
use crate::{
    command::{Command, OpenTransport, Source, SubscribeTrack},
    dtls::Identity,
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
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
