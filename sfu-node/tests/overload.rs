//! The program when what it has is too much by its settings: what it takes, what it refuses, and what it says of itself.

mod process;

use std::time::Duration;

use process::{CONFIG, PATIENCE, Running};
use proto::refusal::NoTransport;
use proto::sfu::sfu_node_client::SfuNodeClient;
use proto::sfu::{DescribeRequest, Load, NegotiateRequest, PublicationBinding, RestartRequest, SubscriptionBinding};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

type Client = SfuNodeClient<Channel>;

/// A node with these settings of `overload`.
fn start(overload: &str) -> Running {
    block_in_place(|| Running::start(&format!("{CONFIG}\noverload: {{{overload}}}\n")))
}

async fn client(node: &Running) -> Client {
    SfuNodeClient::connect(format!("http://{}", node.grpc)).await.expect("connected")
}

async fn load(client: &mut Client) -> Load {
    client.describe(DescribeRequest {}).await.expect("described").into_inner().load.expect("always said")
}

/// Waits until the load is so.
async fn until(client: &mut Client, what: &str, is_so: impl Fn(&Load) -> bool) -> Load {
    let waited = timeout(PATIENCE, async {
        loop {
            let load = load(client).await;
            if is_so(&load) {
                return load;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} in time"))
}

fn offer(ufrag: &str, direction: &str) -> String {
    let digest = vec!["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{ufrag}0123456789abcdef0123\r\n\
         a=fingerprint:sha-256 {digest}\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    )
}

fn request(id: &str, direction: &str) -> NegotiateRequest {
    NegotiateRequest {
        transport_id: id.to_owned(),
        room_id: "room".to_owned(),
        client_id: "ann".to_owned(),
        offer_sdp: offer("abcd", direction),
        ..NegotiateRequest::default()
    }
}

fn publish(id: &str) -> NegotiateRequest {
    let binding = PublicationBinding { publication_id: id.to_owned(), audio: true, ..PublicationBinding::default() };
    NegotiateRequest { publications: vec![binding], ..request(id, "sendonly") }
}

fn subscribe(id: &str, publication: &str) -> NegotiateRequest {
    let binding = SubscriptionBinding {
        subscription_id: id.to_owned(),
        publication_id: publication.to_owned(),
        ..SubscriptionBinding::default()
    };
    NegotiateRequest { subscriptions: vec![binding], ..request(id, "recvonly") }
}

/// A node with these settings of `overload` that has taken a publication before it had measured anything: half a second after its start it
/// refuses, which on a machine that is busy with other tests may come first.
async fn just_started(overload: &str) -> (Running, Client) {
    for _ in 0..10 {
        let node = start(overload);
        let mut client = client(&node).await;
        match client.negotiate(publish("ann#1")).await {
            Ok(_) => return (node, client),
            Err(refused) => assert_eq!(why(&refused), Some(NoTransport::Overloaded), "{refused}"),
        }
    }
    panic!("each of ten nodes was asked too late");
}

fn why(refused: &Status) -> Option<NoTransport> {
    NoTransport::of(refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_above_its_mark_says_so_and_takes_no_publications_but_subscribers_of_what_it_has() {
    let usual = start("");
    let memory = until(&mut client(&usual).await, "it has measured", |load| load.memory > 0.0).await;
    assert!(memory.pressure > 0.0 && memory.pressure < 1.0, "an idle node: {memory:?}");
    drop(usual);
    // Twice its mark; nothing is refused but publications up to five times and a half of it.
    let mark = memory.memory / 2.0;
    let (node, mut client) = just_started(&format!("refuse: 0.1, shed: 1, memory: {mark}")).await;
    until(&mut client, "it says so", |load| load.pressure >= 1.0).await;
    let refused = timeout(PATIENCE, async {
        // One that was taken once is not refused any more.
        for number in 2.. {
            match client.negotiate(publish(&format!("ann#{number}"))).await {
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(refused) => return refused,
            }
        }
        unreachable!("endless")
    });
    let refused = refused.await.expect("in time");
    assert_eq!((why(&refused), refused.message()), (Some(NoTransport::Overloaded), "the node is overloaded"));
    client.negotiate(subscribe("bob#1", "ann#1")).await.expect("what it has is nowhere else");
    client.negotiate(publish("ann#1")).await.expect("the same again");
    let restart = RestartRequest {
        transport_id: "ann#1".to_owned(),
        offer_sdp: offer("efgh", "sendonly"),
        ..RestartRequest::default()
    };
    client.restart(restart).await.expect("restarted");
    let text = block_in_place(|| node.get("/metrics"));
    for series in [
        "sluice_sfu_refused_total{reason=\"overloaded\"} 1\n",
        "sluice_sfu_requests_total{method=\"negotiate\",result=\"resource_exhausted\"} 1\n",
        "sluice_sfu_requests_total{method=\"restart\",result=\"ok\"} 1\n",
        "sluice_sfu_request_seconds_count{method=\"restart\"} 1\n",
        "sluice_sfu_refusing{what=\"publications\"} 1\n",
        "sluice_sfu_refusing{what=\"anything\"} 0\n",
        "sluice_sfu_tracks{direction=\"out\",kind=\"audio\"} 1\n",
    ] {
        assert!(text.contains(series), "{series} is missing in {text}");
    }
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} is missing"))
    };
    let load = load(&mut client).await;
    assert!((value("sluice_sfu_load_memory_ratio") / f64::from(load.memory) - 1.0).abs() < 0.2, "{load:?}");
    assert!(value("sluice_sfu_load_pressure_ratio") >= 1.0);
    assert!(block_in_place(|| node.get("/readyz")).starts_with("HTTP/1.1 200"), "what it has is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_above_its_mark_takes_nothing_new() {
    let (_node, mut client) = just_started("memory: 0.000001").await;
    let refused = timeout(PATIENCE, async {
        for number in 1.. {
            match client.negotiate(subscribe(&format!("bob#{number}"), "ann#1")).await {
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(refused) => return refused,
            }
        }
        unreachable!("endless")
    });
    assert_eq!(why(&refused.await.expect("in time")), Some(NoTransport::Overloaded));
}
