//! Edges that share a real Redis, and what they and their clients notice when it is away, slow, empty, or out of one edge's reach.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::Redis;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;

use crate::rig::call::Call;
use crate::rig::client::Client;
use crate::rig::sfu::TestSfu;
use crate::rig::wire::Wire;
use crate::rig::{PATIENCE, SECRET, TestEdge};

/// Rooms are whole again within this time after the store has lost everything.
const HEALED: Duration = Duration::from_secs(5);
/// As short as it may be, so that outages can be longer.
pub(crate) const TTL: Duration = Duration::from_secs(5);

pub(crate) fn settings(id: &str, redis_port: u16, sfu: SocketAddr, further: &str) -> String {
    format!(
        "id: {id}\nredis: {{url: 'redis://127.0.0.1:{redis_port}'}}\nnodes: [{{id: sfu-1, grpc: 'http://{sfu}'}}]\n\
         session: {{ttl: 5s, grace: 5s, secret: {SECRET}}}\n{further}"
    )
}

/// Two edges on one Redis with one node.
pub(crate) struct Deployment {
    pub(crate) redis: Redis,
    pub(crate) sfu: TestSfu,
    pub(crate) one: TestEdge,
    pub(crate) two: TestEdge,
}

impl Deployment {
    pub(crate) async fn start(further: &str) -> Self {
        Self::on(Redis::start().await, further).await
    }

    async fn on(redis: Redis, further: &str) -> Self {
        let sfu = TestSfu::start("sfu-1", "boot-1").await;
        let edge = |id: &str| TestEdge::connected(&settings(id, redis.port(), sfu.address, further));
        let (one, two) = (edge("one"), edge("two"));
        one.ready().await;
        two.ready().await;
        Self { redis, sfu, one, two }
    }

    pub(crate) async fn call(&self) -> Call {
        Call::between(&self.one, &self.two).await
    }
}

/// Waits until a request that needs the store is carried out.
pub(crate) async fn served(client: &mut Client) {
    let served = async {
        while client.ask("keepalive", json!({"rid": "r"})).await["ok"] != true {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("served again in time");
}

async fn metric(edge: &TestEdge, name: &str) -> f64 {
    let metrics = edge.http("/metrics", "").await;
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not there"));
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

async fn is_ready(edge: &TestEdge) -> bool {
    edge.http("/readyz", "").await.starts_with("HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_two_edges_is_made_and_ended() {
    let deployment = Deployment::start("").await;
    let mut call = deployment.call().await;
    call.is_whole().await;
    call.ann.done("leave", json!({"rid": "r"})).await;
    assert_eq!(call.bob.notified("stream-remove").await["mid"], call.mid);
    assert_eq!(call.bob.notified("peer-leave").await["uid"], "ann");
    deployment.sfu.state.until(|| deployment.sfu.state.live().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_lost_is_put_back_and_nobody_notices() {
    let deployment = Deployment::start("").await;
    let mut call = deployment.call().await;
    deployment.redis.command(&["FLUSHALL"]).await;
    let start = Instant::now();
    // At once, before anybody has looked: the request meets a store that knows nothing, and is carried out.
    call.cat.done("broadcast", json!({"rid": "r", "data": "first"})).await;
    for client in [&mut call.ann, &mut call.bob] {
        assert_eq!(client.notified("broadcast").await["data"], "first");
    }
    assert!(start.elapsed() < HEALED, "{:?}", start.elapsed());
    call.is_whole().await;
    assert_eq!(call.bob.subscribe("r", &call.mid).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_between_two_connections_survives_the_loss_of_everything() {
    let deployment = Deployment::start("").await;
    let Call { mut ann, mut bob, cat: _cat, mid } = deployment.call().await;
    let again = ann.done("join", json!({"rid": "r"})).await;
    drop(ann);
    // Its edge has told the store.
    sleep(Duration::from_millis(200)).await;
    deployment.redis.command(&["FLUSHALL"]).await;
    bob.idle(Duration::from_secs(3)).await;
    let mut ann = Client::connect(deployment.two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": again["session"]})).await;
    assert_eq!(resumed["own"]["pubs"][0]["mid"], mid, "{resumed}");
    assert_eq!(resumed["session"], again["session"]);
    assert_eq!(bob.heard().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_whom_no_edge_knows_is_revived_by_the_node_that_carries_its_stream() {
    let Deployment { redis, sfu: _sfu, one, two } = Deployment::start("drain: {spread: 1ms}\n").await;
    let Call { mut ann, bob: mut witness, mut cat, mid } = Call::between(&one, &two).await;
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    let (_, _, (), ()) = tokio::join!(ann.closed(), cat.closed(), one.stop(), witness.idle(Duration::from_secs(1)));
    redis.command(&["FLUSHALL"]).await;
    witness.idle(Duration::from_secs(3)).await;
    let mut ann = Client::connect(two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    let of_ann = |(_, data): &(String, serde_json::Value)| data["uid"] == "ann";
    assert!(!witness.heard().await.iter().any(of_ann), "nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_ttl_ends_nobody() {
    let deployment = Deployment::start("").await;
    let mut call = deployment.call().await;
    deployment.redis.pause();
    let start = Instant::now();
    let Call { ann, bob, cat, .. } = &mut call;
    let say = json!({"rid": "r", "data": 1});
    let (refused, (), ()) = tokio::join!(ann.ask("broadcast", say), bob.idle(TTL / 2), cat.idle(TTL / 2));
    assert_eq!(refused["errorCode"], 11);
    assert!(start.elapsed() < Duration::from_secs(5), "it fails fast: {:?}", start.elapsed());
    let unready = async {
        while is_ready(&deployment.one).await {
            call.idle(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, unready).await.expect("not ready in time");
    call.idle((TTL * 2).saturating_sub(start.elapsed())).await;
    deployment.redis.resume();
    for client in [&mut call.ann, &mut call.bob, &mut call.cat] {
        served(client).await;
    }
    // Past the time after which edges sweep again.
    call.idle(TTL + Duration::from_secs(3)).await;
    call.is_whole().await;
    deployment.one.ready().await;
    let seen = async {
        while metric(&deployment.one, "sluice_edge_store_seen").await < 0.5 {
            call.idle(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("the store is not seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_empty_is_filled_again() {
    let mut deployment = Deployment::start("").await;
    let mut call = deployment.call().await;
    deployment.redis.stop();
    assert_eq!(call.ann.ask("broadcast", json!({"rid": "r", "data": 1})).await["errorCode"], 11);
    call.idle(TTL).await;
    deployment.redis.start_again().await;
    for client in [&mut call.ann, &mut call.bob, &mut call.cat] {
        served(client).await;
    }
    call.idle(HEALED).await;
    call.is_whole().await;
    assert!(metric(&deployment.one, "sluice_edge_store_resets_total").await > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_replies_lose_no_request_and_no_member() {
    let (redis, sfu) = (Redis::start().await, TestSfu::start("sfu-1", "boot-1").await);
    let wire = Wire::to(redis.port()).await;
    let edge = |id: &str| TestEdge::connected(&settings(id, wire.port(), sfu.address, ""));
    let deployment = Deployment { one: edge("one"), two: edge("two"), redis, sfu };
    deployment.one.ready().await;
    deployment.two.ready().await;
    let mut call = deployment.call().await;
    wire.delay(Duration::from_millis(500));
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until {
        call.is_whole().await;
    }
    wire.mend();
    call.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_deaf_for_longer_than_the_log_reaches_back_has_its_clients_join_again() {
    const SAID: usize = 200;
    let further = "limits: {message_burst: 100000, uid_message_burst: 100000, room_message_burst: 100000, \
                      room_broadcast_bytes: 1000000000}\n";
    let (redis, sfu) = (Redis::start().await, TestSfu::start("sfu-1", "boot-1").await);
    let wire = Wire::to(redis.port()).await;
    let edge = |id: &str, port| {
        let settings = settings(id, port, sfu.address, further).replace("ttl: 5s", "ttl: 60s");
        TestEdge::connected(&settings)
    };
    let (one, two) = (edge("one", redis.port()), edge("two", wire.port()));
    one.ready().await;
    two.ready().await;
    let mut ann = Client::joined(one.address, "ann", "r").await;
    let mut bob = Client::connect(two.address, "bob").await;
    let joined = bob.done("join", json!({"rid": "r"})).await;
    wire.cut();
    // More than a log keeps.
    for n in 0..SAID {
        ann.done("broadcast", json!({"rid": "r", "data": format!("{n} {}", "x".repeat(8_000))})).await;
    }
    wire.mend();
    assert_eq!(bob.closed().await, (1012, "rejoin".to_owned()));
    assert!(metric(&two, "sluice_edge_log_entries_missed_total").await >= SAID as f64);
    let mut bob = Client::connect(two.address, "bob").await;
    let since = json!({"epoch": joined["epoch"], "seq": joined["seq"]});
    let again = bob.done("join", json!({"rid": "r", "session": joined["session"], "since": since})).await;
    assert_eq!((&again["resync"], &again["session"]), (&json!(true), &joined["session"]), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_edge_sends_its_clients_away_over_time_and_nobody_else_notices() {
    const SPREAD: Duration = Duration::from_secs(2);
    let deployment = Deployment::start("drain: {spread: 2s}\n").await;
    let Call { mut ann, mut bob, cat: _cat, mid } = deployment.call().await;
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(Client::joined(deployment.one.address, &format!("peer{n}"), "other").await);
    }
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    let start = Instant::now();
    deployment.one.drain();
    let refused = async {
        loop {
            match Client::with(deployment.one.address, "peer=late", &[]).await {
                Err(Error::Http(answer)) => return answer,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let refusal = timeout(PATIENCE, refused).await.expect("refused in time");
    assert_eq!(refusal.status(), 503);
    assert!(refusal.headers().contains_key("retry-after"));
    assert!(!is_ready(&deployment.one).await);
    let mut ends = Vec::new();
    for mut client in others {
        assert_eq!(client.closed().await.0, 1001);
        ends.push(start.elapsed());
    }
    assert_eq!(ann.closed().await.0, 1001);
    ends.sort();
    assert!(ends[ends.len() - 1] > SPREAD / 4, "spread over time: {ends:?}");
    let mut ann = Client::connect(deployment.two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!(resumed["own"]["pubs"][0]["mid"], mid);
    let Deployment { one, redis: _redis, two: _two, sfu: _sfu } = deployment;
    one.stop().await;
    assert_eq!(bob.heard().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_before_a_drained_edge_closes() {
    let (redis, sfu) = (Redis::start().await, TestSfu::start("sfu-1", "boot-1").await);
    let wire = Wire::to(redis.port()).await;
    let edge = TestEdge::connected(&settings("one", wire.port(), sfu.address, "drain: {spread: 1ms}\n"));
    edge.ready().await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    wire.delay(Duration::from_millis(500));
    let id = ann.send("keepalive", &json!({"rid": "r"})).await;
    // It has been read: what is sent after it is answered without the store.
    ann.ask("nothing", json!({})).await;
    edge.drain();
    assert_eq!(ann.answer(id).await["ok"], true);
    assert_eq!(ann.closed().await.0, 1001);
}
