//! The program among others: its entry in a real etcd, its drain, its namesakes.

#![cfg(feature = "etcd")]

mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use process::{CONFIG, PATIENCE, Running};
use proto::refusal::NoTransport;
use proto::sfu::sfu_node_client::SfuNodeClient;
use proto::sfu::{
    CloseTransportsRequest, DescribeRequest, GoneReason, NegotiateRequest, PublicationBinding, WatchEvent,
    WatchRequest, watch_event,
};
use room_store::etcd::{EtcdConfig, EtcdDirectory};
use room_store::{Capacity, NodeDirectory, NodeMap, NodeRecord, NodeState};
use servers::Etcd;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

/// Longer than a signal that counts as the echo of another.
const NO_ECHO: Duration = Duration::from_millis(400);

/// What others see in etcd.
struct Seen {
    _directory: EtcdDirectory,
    map: watch::Receiver<Arc<NodeMap>>,
}

impl Seen {
    fn through(etcd: &Etcd) -> Self {
        let config = EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() };
        let directory = EtcdDirectory::connect(&config).expect("good settings");
        let map = NodeDirectory::watch(&directory);
        Self { _directory: directory, map }
    }

    async fn until(&mut self, what: &str, mut is_so: impl FnMut(Option<&NodeRecord>) -> bool) {
        let seen = self.map.wait_for(|map| is_so(map.nodes.get("node-1").map(Arc::as_ref)));
        let in_time = timeout(PATIENCE, seen).await.map(|seen| drop(seen.expect("open")));
        assert!(in_time.is_ok(), "{what}: {:?}", self.map.borrow());
    }

    fn node(&self) -> NodeRecord {
        self.map.borrow().nodes["node-1"].as_ref().clone()
    }
}

/// A node that registers in this etcd; `more` settings.
fn start(etcd: &Etcd, more: &str) -> Running {
    let config = format!("{CONFIG}\netcd: {{endpoints: ['{}']}}\n{more}\n", etcd.endpoint());
    block_in_place(|| Running::start(&config))
}

async fn client(node: &Running) -> SfuNodeClient<Channel> {
    SfuNodeClient::connect(format!("http://{}", node.grpc)).await.expect("connected")
}

async fn boot(node: &Running) -> String {
    client(node).await.describe(DescribeRequest {}).await.expect("described").into_inner().boot_id
}

fn publish(id: &str) -> NegotiateRequest {
    let digest = vec!["AB"; 32].join(":");
    let offer_sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
         a=fingerprint:sha-256 {digest}\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    );
    let publication =
        PublicationBinding { publication_id: id.to_owned(), audio: true, ..PublicationBinding::default() };
    NegotiateRequest {
        transport_id: id.to_owned(),
        room_id: "room".to_owned(),
        client_id: "ann".to_owned(),
        offer_sdp,
        publications: vec![publication],
        ..NegotiateRequest::default()
    }
}

/// A watch of the room that has had its snapshot.
async fn watching(client: &mut SfuNodeClient<Channel>) -> Streaming<WatchEvent> {
    let watch = WatchRequest { add_rooms: vec!["room".to_owned()], remove_rooms: Vec::new() };
    let requests = futures_util::StreamExt::chain(stream::iter([watch]), stream::pending());
    let mut events = client.watch(requests).await.expect("watching").into_inner();
    assert!(matches!(next(&mut events).await, watch_event::Event::Snapshot(_)));
    events
}

async fn next(events: &mut Streaming<WatchEvent>) -> watch_event::Event {
    let event = timeout(PATIENCE, events.message()).await.expect("in time").expect("no error").expect("an event");
    event.event.expect("of a known kind")
}

/// Waits until the node's admin port answers like this.
async fn shows(node: &Running, path: &str, text: &str) {
    let shown = timeout(PATIENCE, async {
        while !block_in_place(|| node.get(path)).contains(text) {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(shown.await.is_ok(), "{text} in {}", block_in_place(|| node.get(path)));
}

fn ends_well(mut node: Running) {
    assert!(block_in_place(|| node.ended()).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_a_node_in_etcd_from_its_start_to_its_end() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let node = start(&etcd, "region: sz\nweight: 3\ncapacity: {egress_bps: 1000000, tracks: 40}");
    seen.until("it is there", |node| node.is_some()).await;
    let record = seen.node();
    assert_eq!((record.address, record.region.as_str()), (format!("http://{}", node.grpc), "sz"));
    assert_eq!((record.weight, record.capacity), (3, Capacity { egress_bps: 1_000_000, tracks: 40 }));
    assert_eq!((record.state, record.boot.expect("known").to_string()), (NodeState::Ready, boot(&node).await));
    seen.until("it reports", |node| node.is_some_and(|node| node.reports > 0)).await;
    shows(&node, "/metrics", "sluice_sfu_registered 1").await;
    node.terminate();
    ends_well(node);
    seen.until("it is gone", |node| node.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_of_its_load_is_less_than_a_second_old() {
    const READ: usize = 20;
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let _node = start(&etcd, "");
    seen.until("it reports", |node| node.is_some_and(|node| node.reports > 1)).await;
    let mut oldest = Vec::new();
    let mut last = (seen.node().load.age_ms, Instant::now());
    while oldest.len() < READ {
        timeout(PATIENCE, seen.map.changed()).await.expect("in time").expect("open");
        let next = seen.map.borrow_and_update().nodes["node-1"].load.age_ms;
        // How old the one before had become, by the time that it was replaced.
        oldest.push(Duration::from_millis(last.0.into()) + last.1.elapsed());
        last = (next, Instant::now());
    }
    // A machine that is busy building may hold up one.
    let in_time = oldest.iter().filter(|age| **age < Duration::from_secs(1)).count();
    assert!(in_time >= READ - 1, "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_first_and_ends_nothing_before_it_has_moved() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let mut node = start(&etcd, "drain: {timeout: 10m}");
    let mut client = client(&node).await;
    client.negotiate(publish("ann#1")).await.expect("published");
    let mut events = watching(&mut client).await;
    seen.until("it is there", |node| node.is_some()).await;
    node.terminate();
    match next(&mut events).await {
        watch_event::Event::Draining(draining) => assert!(draining.deadline_ms > 500_000, "{draining:?}"),
        other => panic!("unexpected {other:?}"),
    }
    let refused = client.negotiate(publish("ann#2")).await.expect_err("nothing new");
    assert_eq!(NoTransport::of(&refused), Some(NoTransport::Draining));
    shows(&node, "/readyz", "draining").await;
    seen.until("it drains", |node| node.is_some_and(|node| node.state == NodeState::Draining)).await;
    shows(&node, "/metrics", "sluice_sfu_draining 1").await;
    assert!(node.runs());
    client.negotiate(publish("ann#1")).await.expect("what is there goes on");
    let close = CloseTransportsRequest { transport_ids: vec!["ann#1".to_owned()] };
    client.close_transports(close).await.expect("moved away");
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => assert_eq!(gone.reason(), GoneReason::Closed),
        other => panic!("unexpected {other:?}"),
    }
    ends_well(node);
    seen.until("it is gone", |node| node.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_asked_for_is_as_one_by_signal() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let mut node = start(&etcd, "drain: {timeout: 10m}");
    let mut client = client(&node).await;
    client.negotiate(publish("ann#1")).await.expect("published");
    seen.until("it is there", |node| node.is_some()).await;
    let json = "Content-Type: application/json\r\nContent-Length: 0\r\n";
    let drain = || block_in_place(|| node.ask("POST /drain", json));
    assert!(drain().starts_with("HTTP/1.1 202"));
    shows(&node, "/readyz", "draining").await;
    assert!(drain().starts_with("HTTP/1.1 200"), "it has begun before");
    seen.until("it drains", |node| node.is_some_and(|node| node.state == NodeState::Draining)).await;
    assert!(node.runs());
    let close = CloseTransportsRequest { transport_ids: vec!["ann#1".to_owned()] };
    client.close_transports(close).await.expect("moved away");
    ends_well(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_deadline_ends_with_the_node() {
    let etcd = Etcd::start().await;
    let node = start(&etcd, "drain: {timeout: 1s}");
    let mut client = client(&node).await;
    client.negotiate(publish("ann#1")).await.expect("published");
    let mut events = watching(&mut client).await;
    node.terminate();
    assert!(matches!(next(&mut events).await, watch_event::Event::Draining(draining) if draining.deadline_ms <= 1_000));
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => {
            assert_eq!((gone.transport_id.as_str(), gone.reason()), ("ann#1", GoneReason::NodeEnding));
        }
        other => panic!("unexpected {other:?}"),
    }
    ends_well(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_drain_at_once_and_in_order() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let node = start(&etcd, "drain: {timeout: 10m}");
    let mut client = client(&node).await;
    client.negotiate(publish("ann#1")).await.expect("published");
    let mut events = watching(&mut client).await;
    seen.until("it is there", |node| node.is_some()).await;
    node.terminate();
    assert!(matches!(next(&mut events).await, watch_event::Event::Draining(_)));
    sleep(NO_ECHO).await;
    node.terminate();
    match next(&mut events).await {
        watch_event::Event::TransportGone(gone) => assert_eq!(gone.reason(), GoneReason::NodeEnding),
        other => panic!("unexpected {other:?}"),
    }
    ends_well(node);
    seen.until("it is gone", |node| node.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_etcd_touches_nothing_but_the_entry_which_comes_back() {
    let mut etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let node = start(&etcd, "");
    let mut client = client(&node).await;
    seen.until("it is there", |node| node.is_some()).await;
    let boot = boot(&node).await;
    client.negotiate(publish("ann#1")).await.expect("published");
    etcd.stop();
    shows(&node, "/metrics", "sluice_sfu_registered 0").await;
    shows(&node, "/readyz", "200 OK").await;
    client.negotiate(publish("ann#2")).await.expect("edges that know the node still reach it");
    // It has lost everything, and others see that.
    etcd.start_empty().await;
    seen.until("it is there again", |node| {
        node.is_some_and(|node| node.boot.as_ref().is_some_and(|b| b.as_str() == boot))
    })
    .await;
    shows(&node, "/metrics", "sluice_sfu_registered 1").await;
    let live = client.describe(DescribeRequest {}).await.expect("described").into_inner().load.expect("measured");
    assert_eq!(live.transports, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_and_ends_without_etcd() {
    let mut etcd = Etcd::start().await;
    etcd.stop();
    let node = start(&etcd, "");
    shows(&node, "/readyz", "200 OK").await;
    node.terminate();
    ends_well(node);

    let node = start(&etcd, "");
    etcd.start_again().await;
    Seen::through(&etcd).until("it is there as soon as etcd is", |node| node.is_some()).await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_started_again_takes_its_own_place() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let first = start(&etcd, "");
    seen.until("it is there", |node| node.is_some()).await;
    first.kill();
    let second = start(&etcd, "");
    let boot = boot(&second).await;
    seen.until("it is the new start", |node| {
        node.is_some_and(|node| node.boot.as_ref().is_some_and(|b| b.as_str() == boot))
    })
    .await;
    assert_eq!(seen.node().address, format!("http://{}", second.grpc));
    shows(&second, "/readyz", "200 OK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_id_the_younger_has_it() {
    let etcd = Etcd::start().await;
    let mut seen = Seen::through(&etcd);
    let older = start(&etcd, "");
    seen.until("the older is there", |node| node.is_some()).await;
    let mut to_older = client(&older).await;
    to_older.negotiate(publish("ann#1")).await.expect("published");
    let younger = start(&etcd, "");
    let boot = boot(&younger).await;
    let is_younger =
        |node: Option<&NodeRecord>| node.is_some_and(|node| node.boot.as_ref().is_some_and(|b| b.as_str() == boot));
    seen.until("it is the younger's", is_younger).await;
    shows(&older, "/readyz", "another process has this node's id").await;
    shows(&older, "/metrics", "sluice_sfu_superseded 1").await;
    let refused = to_older.negotiate(publish("ann#2")).await.expect_err("nothing new");
    assert_eq!(NoTransport::of(&refused), Some(NoTransport::Superseded));
    client(&younger).await.negotiate(publish("ann#2")).await.expect("it takes streams");
    shows(&younger, "/readyz", "200 OK").await;
    // The older's end is not the younger's.
    older.kill();
    let reports = seen.node().reports;
    seen.until("it goes on reporting", |node| node.is_some_and(|node| node.reports > reports)).await;
    seen.until("and is the younger's", is_younger).await;
}
