//! The node as edges see it: real shards, real gRPC, inside the process and over ports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::ids::NodeId;
use proto::refusal::NoTransport;
use proto::sfu::sfu_node_client::SfuNodeClient;
use proto::sfu::{
    CloseTransportsRequest, DescribeRequest, GoneReason, NegotiateRequest, NodeState, PublicationBinding,
    RestartRequest, SetMetadataRequest, SurveyRequest, WatchEvent, WatchRequest, watch_event,
};
use sfu_node::{Affinity, MediaIp, Node, NodeConfig};
use telemetry::Readiness;
use telemetry::events::{EventOut, EventSink, Teller};
use telemetry::kafka::Full;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    node: Node,
    shutdown: CancellationToken,
    readiness: Readiness,
}

fn config() -> NodeConfig {
    let mut config = NodeConfig::new(NodeId::new("node-1").expect("valid"));
    config.media.ip = vec!["127.0.0.1".parse::<MediaIp>().expect("valid")];
    config.media.first_port = 0;
    config.media.shards = Some(2);
    config.media.affinity = Affinity::None;
    config.grpc.listen = "127.0.0.1:0".parse().expect("an address");
    config
}

fn start(config: &NodeConfig) -> Running {
    start_telling(config, None)
}

fn start_telling(config: &NodeConfig, told: Option<Arc<dyn EventOut>>) -> Running {
    let (readiness, shutdown) = (Readiness::new(), CancellationToken::new());
    let events = EventSink::new(Teller::node("sfu-node", config.id.clone()), told);
    let node = Node::start(config, events, readiness.latch("node"), shutdown.clone()).expect("started");
    Running { node, shutdown, readiness }
}

impl Running {
    fn client(&self) -> SfuNodeClient<Channel> {
        SfuNodeClient::new(self.node.channel())
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(2), self.node.ended()).await.expect("ended within 2 s");
    }
}

fn publish(id: &str) -> NegotiateRequest {
    let digest = vec!["AB"; 32].join(":");
    let offer_sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
         a=fingerprint:sha-256 {digest}\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    );
    NegotiateRequest {
        transport_id: id.to_owned(),
        room_id: "room".to_owned(),
        client_id: "ann".to_owned(),
        offer_sdp,
        publications: vec![PublicationBinding {
            publication_id: id.to_owned(),
            metadata: b"{\"audio\":true}".to_vec(),
            audio: true,
            ..PublicationBinding::default()
        }],
        ..NegotiateRequest::default()
    }
}

async fn next(events: &mut Streaming<WatchEvent>) -> watch_event::Event {
    let event = timeout(PATIENCE, events.message()).await.expect("in time").expect("no error").expect("an event");
    event.event.expect("of a known kind")
}

fn watch_room(room: &str) -> WatchRequest {
    WatchRequest { add_rooms: vec![room.to_owned()], remove_rooms: Vec::new() }
}

#[tokio::test]
async fn an_edge_negotiates_watches_and_closes() {
    let running = start(&config());
    timeout(PATIENCE, running.readiness.ready()).await.expect("ready");
    let mut client = running.client();
    let described = client.describe(DescribeRequest {}).await.expect("described").into_inner();
    assert_eq!((described.node_id.as_str(), described.region.as_str()), ("node-1", "default"));
    assert_eq!(described.boot_id, running.node.identification().boot.to_string());

    let answer = client.negotiate(publish("ann#1")).await.expect("negotiated").into_inner();
    let port = running.node.candidates()[0][0].port();
    assert!(answer.answer_sdp.contains(&format!("127.0.0.1 {port} typ host")), "{}", answer.answer_sdp);
    assert!(answer.publications[0].audio && !answer.publications[0].video);
    assert_eq!(client.negotiate(publish("ann#1")).await.expect("again").into_inner(), answer);

    let (requests, stream) = mpsc::channel(4);
    requests.send(watch_room("room")).await.expect("sent");
    let mut events = client.watch(ReceiverStream::new(stream)).await.expect("watching").into_inner();
    match next(&mut events).await {
        watch_event::Event::Snapshot(snapshot) => {
            assert_eq!(snapshot.publications[0].publication_id, "ann#1");
            assert_eq!(snapshot.publications[0].metadata, b"{\"audio\":true}");
        }
        other => panic!("unexpected {other:?}"),
    }
    requests.send(watch_room("other")).await.expect("sent");
    assert!(matches!(next(&mut events).await, watch_event::Event::Snapshot(s) if s.room_ids == ["other"]));

    let close = CloseTransportsRequest { transport_ids: vec!["ann#1".to_owned(), "unknown".to_owned()] };
    client.close_transports(close).await.expect("closed");
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => {
            assert_eq!((gone.transport_id.as_str(), gone.reason()), ("ann#1", GoneReason::Closed));
        }
        other => panic!("unexpected {other:?}"),
    }
    running.end().await;
}

#[tokio::test]
async fn refusals_have_the_status_of_the_contract() {
    let mut config = config();
    config.capacity.transports = 1;
    let running = start(&config);
    let mut client = running.client();
    let code = |result: Result<_, tonic::Status>| result.map(drop).expect_err("refused").code();
    let bad_offer = NegotiateRequest { offer_sdp: "nonsense".to_owned(), ..publish("ann#1") };
    assert_eq!(code(client.negotiate(bad_offer).await), Code::InvalidArgument);
    client.negotiate(publish("ann#1")).await.expect("negotiated");
    assert_eq!(code(client.negotiate(publish("ann#2")).await), Code::ResourceExhausted);
    let earlier = NegotiateRequest { boot_id: "earlier".to_owned(), ..publish("ann#1") };
    assert_eq!(code(client.negotiate(earlier).await), Code::FailedPrecondition);
    let boot_id = running.node.identification().boot.to_string();
    client.negotiate(NegotiateRequest { boot_id, ..publish("ann#1") }).await.expect("meant for this start");
    let restart = RestartRequest {
        transport_id: "ann#1".to_owned(),
        offer_sdp: publish("ann#1").offer_sdp,
        boot_id: "earlier".to_owned(),
    };
    let refused = client.restart(restart).await.expect_err("meant for another start");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let oversized = NegotiateRequest { offer_sdp: "x".repeat(3 * 1024 * 1024), ..publish("ann#1") };
    assert_eq!(code(client.negotiate(oversized).await), Code::OutOfRange);
    client.describe(DescribeRequest {}).await.expect("the connection goes on");
    running.end().await;
}

#[tokio::test]
async fn a_node_that_ends_tells_its_watchers_and_takes_nothing_more() {
    let running = start(&config());
    let mut client = running.client();
    client.negotiate(publish("ann#1")).await.expect("negotiated");
    let requests = stream::iter([watch_room("room")]).chain(stream::pending());
    let mut events = client.watch(requests).await.expect("watching").into_inner();
    assert!(matches!(next(&mut events).await, watch_event::Event::Snapshot(_)));
    running.end().await;
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => {
            assert_eq!((gone.transport_id.as_str(), gone.reason()), ("ann#1", GoneReason::NodeEnding));
        }
        other => panic!("unexpected {other:?}"),
    }
    let status = timeout(PATIENCE, events.message()).await.expect("in time").expect_err("ended with a status");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(client.describe(DescribeRequest {}).await.is_err());
}

#[tokio::test]
async fn a_node_that_drains_says_so_everywhere_and_goes_when_it_is_empty() {
    let running = start(&config());
    let mut client = running.client();
    client.negotiate(publish("ann#1")).await.expect("negotiated");
    let mut events = client.watch(stream::pending()).await.expect("watching").into_inner();
    let mut health = HealthClient::new(running.node.channel());
    let mut health = health.watch(HealthCheckRequest::default()).await.expect("watching").into_inner();
    let mut healthy = async || timeout(PATIENCE, health.message()).await.expect("in time").expect("no error");
    assert_eq!(healthy().await.expect("a status").status(), ServingStatus::Serving);
    let mut unhealthy = async || while healthy().await.expect("a status").status() != ServingStatus::NotServing {};

    let within = Duration::from_secs(100);
    let moved = async {
        match next(&mut events).await {
            watch_event::Event::Draining(draining) => assert!((90_000..=100_000).contains(&draining.deadline_ms)),
            other => panic!("unexpected {other:?}"),
        }
        unhealthy().await;
        let refused = client.negotiate(publish("ann#2")).await.expect_err("nothing new");
        assert_eq!((refused.code(), NoTransport::of(&refused)), (Code::ResourceExhausted, Some(NoTransport::Draining)));
        let described = client.describe(DescribeRequest {}).await.expect("described").into_inner();
        assert_eq!((described.state(), described.load.expect("measured").transports), (NodeState::Draining, 1));
        assert!((90_000..=100_000).contains(&described.drain_deadline_ms));
        client.negotiate(publish("ann#1")).await.expect("what is there goes on");
        let close = CloseTransportsRequest { transport_ids: vec!["ann#1".to_owned()] };
        client.close_transports(close).await.expect("moved away");
    };
    timeout(PATIENCE, async { tokio::join!(running.node.drain(within), moved) })
        .await
        .expect("long before the deadline");
    running.end().await;
    // Who watches its health does not keep it.
    while healthy().await.is_some() {}
}

#[tokio::test]
async fn what_has_not_moved_away_is_ended_at_the_deadline() {
    let running = start(&config());
    let mut client = running.client();
    client.negotiate(publish("ann#1")).await.expect("negotiated");
    let requests = stream::iter([watch_room("room")]).chain(stream::pending());
    let mut events = client.watch(requests).await.expect("watching").into_inner();
    assert!(matches!(next(&mut events).await, watch_event::Event::Snapshot(_)));
    timeout(PATIENCE, running.node.drain(Duration::from_millis(50))).await.expect("the deadline is soon");
    assert!(matches!(next(&mut events).await, watch_event::Event::Draining(_)));
    running.end().await;
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => assert_eq!(gone.reason(), GoneReason::NodeEnding),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_drain_is_cut_short_by_the_end() {
    let running = start(&config());
    running.client().negotiate(publish("ann#1")).await.expect("negotiated");
    let shutdown = running.shutdown.clone();
    let end = async {
        tokio::task::yield_now().await;
        shutdown.cancel();
    };
    timeout(PATIENCE, async { tokio::join!(running.node.drain(PATIENCE * 10), end) }).await.expect("at once");
    running.end().await;
}

#[tokio::test]
async fn an_edge_that_has_lost_everything_surveys_the_node() {
    let running = start(&config());
    let mut client = running.client();
    client.negotiate(publish("ann#1")).await.expect("negotiated");
    let boot_id = running.node.identification().boot.to_string();
    let set = SetMetadataRequest {
        publication_id: "ann#1".to_owned(),
        metadata: b"{\"audio\":false}".to_vec(),
        boot_id: boot_id.clone(),
    };
    client.set_metadata(set.clone()).await.expect("set");
    let survey = SurveyRequest { cursor: String::new(), boot_id };
    let page = client.survey(survey.clone()).await.expect("surveyed").into_inner();
    assert_eq!((page.node_id.as_str(), page.next_cursor.as_str(), page.publications.len()), ("node-1", "", 1));
    assert_eq!((page.publications[0].client_id.as_str(), &page.publications[0].metadata), ("ann", &set.metadata));

    let earlier = SurveyRequest { boot_id: "earlier".to_owned(), ..survey.clone() };
    assert_eq!(client.survey(earlier).await.expect_err("another start").code(), Code::FailedPrecondition);
    let nonsense = SurveyRequest { cursor: "nonsense".to_owned(), ..survey };
    assert_eq!(client.survey(nonsense).await.expect_err("no cursor").code(), Code::InvalidArgument);
    let unknown = SetMetadataRequest { publication_id: "bob#1".to_owned(), ..set.clone() };
    assert_eq!(client.set_metadata(unknown).await.expect_err("unknown").code(), Code::NotFound);
    let long = SetMetadataRequest { metadata: vec![0; 16 * 1024 + 1], ..set };
    assert_eq!(client.set_metadata(long).await.expect_err("too long").code(), Code::InvalidArgument);
    running.end().await;
}

#[tokio::test]
async fn a_watch_that_nobody_reads_holds_up_neither_the_node_nor_others() {
    let running = start(&config());
    let mut client = running.client();
    let (requests, stream) = mpsc::channel(1);
    let unread = client.watch(ReceiverStream::new(stream)).await.expect("watching").into_inner();
    requests.send(watch_room("room")).await.expect("sent");
    // What it asks for is more than the connection holds.
    for number in 0..64 {
        let mut request = publish(&format!("ann#{number}"));
        request.publications[0].metadata = vec![b'x'; 16_000];
        client.negotiate(request).await.expect("published");
    }
    // It blocks or, when it has sent enough that nobody read, the connection is cut.
    let ask = async || timeout(Duration::from_secs(1), requests.send(watch_room("room"))).await;
    let stuck = async { while let Ok(Ok(())) = ask().await {} };
    timeout(PATIENCE, stuck).await.expect("its requests are not read, either");
    let requests = stream::iter([watch_room("room")]).chain(stream::pending());
    // Not on this connection: it is full.
    let mut other = running.client().watch(requests).await.expect("watching").into_inner();
    assert!(matches!(next(&mut other).await, watch_event::Event::Snapshot(all) if all.publications.len() == 64));
    drop(unread);
    running.end().await;
}

#[tokio::test]
async fn clients_are_told_the_addresses_that_are_set() {
    let mut config = config();
    config.media.public_ip =
        vec!["192.0.2.7".parse().expect("an address"), "198.51.100.7".parse().expect("an address")];
    config.media.shards = Some(3);
    config.region = "sz".parse().expect("valid");
    let running = start(&config);
    let ports: Vec<u16> = running.node.candidates().iter().map(|shard| shard[0].port()).collect();
    assert_eq!(ports.len(), 3);
    let mut client = running.client();
    let answer = client.negotiate(publish("ann#1")).await.expect("negotiated").into_inner().answer_sdp;
    for ip in ["192.0.2.7", "198.51.100.7"] {
        assert!(answer.contains(&format!("{ip} {} typ host", ports[0])), "{answer}");
    }
    assert!(!answer.contains(&format!("127.0.0.1 {}", ports[0])), "{answer}");
    assert_eq!(client.describe(DescribeRequest {}).await.expect("described").into_inner().region, "sz");
    running.end().await;
}

#[tokio::test]
async fn each_start_has_another_boot_id() {
    let (first, second) = (start(&config()), start(&config()));
    assert_ne!(first.node.identification().boot, second.node.identification().boot);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_port_serves_the_same_node() {
    let mut running = start(&config());
    let address = running.node.listen(&config().grpc).await.expect("a free port");
    let mut client = SfuNodeClient::connect(format!("http://{address}")).await.expect("connected");
    assert_eq!(client.describe(DescribeRequest {}).await.expect("described").into_inner().node_id, "node-1");
    let mut taken = config().grpc;
    taken.listen = address;
    let error = running.node.listen(&taken).await.expect_err("taken").to_string();
    assert!(error.contains(&address.to_string()) && error.contains("set another grpc.listen"), "{error}");
    running.end().await;
}

#[tokio::test]
async fn mutual_tls_lets_nobody_in_without_a_certificate_and_follows_its_renewal() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let (node_cert, node_key) = authority.issue("localhost");
    let (edge_cert, edge_key) = authority.issue("edge");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let mut config = config();
    config.grpc.tls = Some(sfu_node::GrpcTls {
        cert: write("node.pem", &node_cert),
        key: write("node.key", &node_key),
        ca: write("ca.pem", &authority.pem()),
    });
    let mut running = start(&config);
    let address = running.node.listen(&config.grpc).await.expect("a free port");
    let connect = |authority: &Authority, identity: Option<Identity>| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        let tls = identity.into_iter().fold(tls, ClientTlsConfig::identity);
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port())).expect("an address");
        endpoint.tls_config(tls).expect("usable").connect_lazy()
    };
    let edge = Identity::from_pem(edge_cert, edge_key);
    let mut connected = SfuNodeClient::new(connect(&authority, Some(edge.clone())));
    connected.describe(DescribeRequest {}).await.expect("let in");
    SfuNodeClient::new(connect(&authority, None)).describe(DescribeRequest {}).await.expect_err("kept out");

    // The certificates are renewed, by another authority.
    let next = Authority::new();
    let (next_cert, next_key) = next.issue("localhost");
    write("node.key", &next_key);
    SfuNodeClient::new(connect(&authority, Some(edge.clone())))
        .describe(DescribeRequest {})
        .await
        .expect("still let in");
    write("node.pem", &next_cert);
    write("ca.pem", &next.pem());
    let (edge_cert, edge_key) = next.issue("edge");
    let renewed = connect(&next, Some(Identity::from_pem(edge_cert, edge_key)));
    SfuNodeClient::new(renewed).describe(DescribeRequest {}).await.expect("let in");
    SfuNodeClient::new(connect(&authority, Some(edge))).describe(DescribeRequest {}).await.expect_err("not any more");
    connected.describe(DescribeRequest {}).await.expect("a connection that stands goes on");

    let mut broken = config.grpc.clone();
    broken.tls.as_mut().expect("set").key = directory.path().join("missing.key");
    let error = running.node.listen(&broken).await.expect_err("no key").to_string();
    assert!(error.contains("missing.key"), "{error}");
    running.end().await;
}

/// A certificate authority for one test.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// The kinds of events that were told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl EventOut for Told {
    fn put(&self, key: &str, payload: Vec<u8>) -> Result<(), Full> {
        assert_eq!(key, "node-1", "its own");
        let event: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
        let kind = event["type"].as_str().expect("a kind").to_owned();
        self.0.lock().expect("nobody panicked").push(kind);
        Ok(())
    }
}

#[tokio::test]
async fn a_node_tells_its_life() {
    let told = Arc::<Told>::default();
    let running = start_telling(&config(), Some(told.clone()));
    running.node.announce();
    timeout(PATIENCE, running.node.drain(PATIENCE)).await.expect("there is nothing to wait for");
    running.end().await;
    assert_eq!(*told.0.lock().expect("nobody panicked"), ["node-up", "node-draining", "node-down"]);
}
