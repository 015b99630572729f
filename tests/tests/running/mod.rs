//! A real SFU node in this process: its threads, its sockets on loopback, its gRPC service. It ends when dropped.

#![allow(dead_code, reason = "each test program uses its own part of this module")]

use loadtests::{
    live::LivePeer,
    peer::{Certificate, PeerConfig, PeerEvent, Section, TestPeer},
};
use proto::{
    ids::NodeId,
    refusal::NoTransport,
    sfu::{
        CloseTransportsRequest, DescribeRequest, GoneReason, Load, NegotiateRequest, PublicationBinding,
        SubscriptionBinding, WatchRequest, sfu_node_client::SfuNodeClient, watch_event::Event,
    },
};
use sfu_node::{Affinity, MediaConfig, MediaIp, Node, NodeConfig, OverloadConfig};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use telemetry::events::{EventSink, Teller};
use telemetry::settings::Period;
use telemetry::{Metrics, Readiness};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, transport::Channel};

/// For whatever must happen on a machine that is busy building.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The node.
pub(crate) struct RunningNode {
    client: SfuNodeClient<Channel>,
    /// Where its shards receive.
    pub(crate) media: Vec<SocketAddr>,
    metrics: Metrics,
    _shutdown: DropGuard,
}

impl RunningNode {
    /// Starts a node with so many shards within the present runtime. However slow the machine is, it refuses nothing for it.
    pub(crate) fn start(shards: u16) -> Self {
        let never = OverloadConfig { refuse: 1.5, shed: 2.0, delay: Period::seconds(3_600), memory: 1.0 };
        Self::start_with(shards, never)
    }

    /// Starts one with these marks.
    pub(crate) fn start_with(shards: u16, overload: OverloadConfig) -> Self {
        let metrics = Metrics::install().expect("installed");
        let media = MediaConfig {
            ip: vec![MediaIp::Address(Ipv4Addr::LOCALHOST.into())],
            first_port: 0,
            shards: Some(shards),
            affinity: Affinity::None,
            ..MediaConfig::default()
        };
        let config = NodeConfig { media, overload, ..NodeConfig::new(NodeId::new("under-test").expect("a name")) };
        let shutdown = CancellationToken::new();
        let events = EventSink::new(Teller::node("sfu-node", config.id.clone()), None);
        let node = Node::start(&config, events, Readiness::new().latch("media"), shutdown.clone()).expect("starts");
        let media = node.candidates().iter().flatten().copied().collect();
        let client = SfuNodeClient::new(node.channel());
        tokio::spawn(node.ended());
        Self { client, media, metrics, _shutdown: shutdown.drop_guard() }
    }

    /// Sends an offer and gives the answer. A node that has too much to do just now is asked again.
    pub(crate) async fn negotiate(&self, request: NegotiateRequest) -> Result<String, Status> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.client.clone().negotiate(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner().answer_sdp),
                Err(refused)
                    if NoTransport::of(&refused) == Some(NoTransport::Overloaded) && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Binds a publication to an offer and gives the answer.
    pub(crate) async fn publish(&self, publication: &str, offer: String) -> Result<String, Status> {
        let binding = PublicationBinding {
            publication_id: publication.to_owned(),
            audio: true,
            video: true,
            ..PublicationBinding::default()
        };
        self.negotiate(NegotiateRequest { publications: vec![binding], ..request(publication, offer) }).await
    }

    /// Binds a subscription to an offer and gives the answer.
    pub(crate) async fn subscribe(
        &self,
        subscription: &str,
        publication: &str,
        offer: String,
    ) -> Result<String, Status> {
        let binding = SubscriptionBinding {
            subscription_id: subscription.to_owned(),
            publication_id: publication.to_owned(),
            ..SubscriptionBinding::default()
        };
        self.negotiate(NegotiateRequest { subscriptions: vec![binding], ..request(subscription, offer) }).await
    }

    /// A connected cheap publisher.
    pub(crate) async fn publisher(&self, publication: &str, sections: &[Section]) -> LivePeer {
        let mut live = peer(sections).await;
        let answer = self.publish(publication, live.peer.offer()).await.expect("the offer is good");
        live.peer.handle_answer(Instant::now(), &answer).expect("the answer is good");
        live.connect(PATIENCE).await.expect("connects");
        live
    }

    /// A connected cheap subscriber.
    pub(crate) async fn subscriber(&self, subscription: &str, publication: &str, sections: &[Section]) -> LivePeer {
        let mut live = peer(sections).await;
        let answer = self.subscribe(subscription, publication, live.peer.offer()).await.expect("the offer is good");
        live.peer.handle_answer(Instant::now(), &answer).expect("the answer is good");
        live.connect(PATIENCE).await.expect("connects");
        live
    }

    /// Ends a transport.
    pub(crate) async fn close(&self, transport: &str) {
        let close = CloseTransportsRequest { transport_ids: vec![transport.to_owned()] };
        self.client.clone().close_transports(close).await.expect("closed");
    }

    /// What the node says of its load.
    pub(crate) async fn load(&self) -> Load {
        let described = self.client.clone().describe(DescribeRequest {}).await.expect("described").into_inner();
        described.load.expect("always said")
    }

    /// Transports that end from now on, with the reasons.
    pub(crate) async fn watch(&self) -> mpsc::Receiver<(String, GoneReason)> {
        let (orders, requests) = mpsc::channel(1);
        let all = WatchRequest { add_rooms: vec![ROOM.to_owned()], ..WatchRequest::default() };
        orders.send(all).await.expect("the receiver lives");
        let watched = self.client.clone().watch(ReceiverStream::new(requests)).await.expect("watches");
        let mut events = watched.into_inner();
        // The snapshot comes first: what ends afterwards is told.
        events.message().await.expect("no error").expect("a snapshot");
        let (gone, ends) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.message().await {
                if let Some(Event::TransportGone(transport)) = event.event {
                    let reason = transport.reason();
                    let _ = gone.send((transport.transport_id, reason)).await;
                }
            }
            drop(orders);
        });
        ends
    }

    /// A total of the node, all shards together.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let (name, label) = match name.split_once('_') {
            Some(("dropped", reason)) => ("dropped", format!("reason=\"{reason}\"")),
            Some(("shed", how)) => ("shed_packets", format!("how=\"{how}\"")),
            _ => (name, String::new()),
        };
        let prefix = format!("sluice_sfu_{name}_total{{");
        let text = self.metrics.render();
        let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix)).filter(|line| line.contains(&label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Waits until a total is at least this.
    pub(crate) async fn counted(&self, name: &str, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.counter(name) < at_least {
            assert!(Instant::now() < deadline, "{name} is {}, not {at_least}", self.counter(name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl RunningNode {
    /// Waits until no shard leaves anything out.
    pub(crate) async fn carries_everything(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let calm = "sluice_sfu_overload_level{shard=\"0\"} 0\n";
        while !self.metrics.render().contains(calm) {
            assert!(Instant::now() < deadline, "video is left out still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The room of everything in these tests.
const ROOM: &str = "room";

fn request(id: &str, offer_sdp: String) -> NegotiateRequest {
    NegotiateRequest {
        transport_id: id.to_owned(),
        room_id: ROOM.to_owned(),
        client_id: id.to_owned(),
        offer_sdp,
        ..NegotiateRequest::default()
    }
}

/// A certificate for all cheap peers of the program.
pub(crate) fn certificate() -> Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().expect("a certificate")).clone()
}

/// What a cheap peer with these sections is made from; no two are alike.
pub(crate) fn config(sections: &[Section]) -> PeerConfig {
    static SEED: AtomicU64 = AtomicU64::new(1);
    PeerConfig::new(SEED.fetch_add(1, Relaxed), certificate(), sections.to_vec())
}

/// A cheap peer on a socket of its own that has said nothing yet.
pub(crate) async fn peer(sections: &[Section]) -> LivePeer {
    LivePeer::bind(TestPeer::new(Instant::now(), config(sections))).await.expect("binds")
}

/// Has a publisher send numbered packets on section 0, 5 ms apart, and gives the numbers that arrived at the subscriber.
pub(crate) async fn relay(
    publisher: &mut LivePeer,
    subscriber: &mut LivePeer,
    numbers: std::ops::Range<u32>,
) -> Vec<u32> {
    let sending = async {
        for number in numbers.clone() {
            let now = Instant::now();
            let timestamp = publisher.peer.rtp_timestamp(now, 0);
            publisher.peer.send(0, timestamp, false, &numbered(number)).expect("the publisher is connected");
            publisher.run_until(now + Duration::from_millis(5)).await.expect("the publisher lives");
        }
    };
    let receiving = async {
        let (mut arrived, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while arrived.last() != Some(&(numbers.end - 1)) {
            match subscriber.event_until(deadline).await.expect("the subscriber lives") {
                Some(PeerEvent::Media(media)) => arrived.extend(number_of(&media.payload)),
                Some(_) => {}
                None => break,
            }
        }
        arrived
    };
    tokio::join!(sending, receiving).1
}

/// An Opus packet that carries a number.
pub(crate) fn numbered(number: u32) -> Vec<u8> {
    [[0xFC, 0, 0, 0].as_slice(), &number.to_be_bytes(), &[0; 40]].concat()
}

fn number_of(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*payload.get(4..)?.first_chunk()?))
}
