//! A whole edge over real sockets: who gets in, what frames may be, how it ends, and two edges of one deployment.

use std::time::{Duration, SystemTime};

use crate::rig::client::Client;
use crate::rig::{PATIENCE, SECRET, TestEdge, store};
use edge_signal::auth::{Grant, SharedSecret, SigningKey, TokenRequest, mint};
use room_store::{MemoryRooms, RoomSettings};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

fn with_auth() -> String {
    format!("auth: {{hs256_secret: {SECRET:?}}}\n")
}

fn token(peer: &str, rid: &str, grants: &[Grant], ttl: u64) -> String {
    let request = TokenRequest {
        peer: peer.into(),
        rid: rid.into(),
        grants: grants.to_vec(),
        ttl: Duration::from_secs(ttl),
        id: None,
        record: false,
        issuer: None,
        audience: None,
    };
    mint(&SigningKey::shared_secret(&SharedSecret::new(SECRET).expect("long enough")), &request, SystemTime::now())
        .expect("mints")
}

fn chosen(client: &Client) -> Option<String> {
    let header = client.response.headers().get("sec-websocket-protocol")?;
    Some(header.to_str().expect("text").to_owned())
}

#[tokio::test]
async fn protoo_is_chosen_when_offered_and_nothing_else_ever_is() {
    let edge = TestEdge::alone("");
    let address = edge.address;
    let offering = async |offer: &str| Client::with(address, "peer=ann", &[("sec-websocket-protocol", offer)]).await;
    assert_eq!(chosen(&offering("protoo").await.expect("let in")).as_deref(), Some("protoo"));
    assert_eq!(chosen(&offering("bearer.a.b.c, protoo").await.expect("let in")).as_deref(), Some("protoo"));
    let mut plain = Client::connect(edge.address, "ann").await;
    assert_eq!(chosen(&plain), None);
    plain.done("join", json!({"rid": "r"})).await;
    // This client library insists on an answer to its offer; a refusal to choose is seen as its error.
    assert!(matches!(offering("bearer.a.b.c").await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn who_can_never_be_let_in_is_told_so_by_a_final_close() {
    let edge = TestEdge::alone(&with_auth());
    let good = token("ann", "r", &[], 60);
    for (query, reason) in [
        (String::new(), "uid is empty"),
        ("peer=a%2Fb".to_owned(), "uid contains a character that is not allowed"),
        ("peer=ann".to_owned(), "access token missing"),
        ("peer=ann&access_token=x.y.z".to_owned(), "access token invalid"),
        (format!("peer=bob&access_token={good}"), "access token is for another peer"),
        (format!("peer=ann&access_token={}", token("ann", "r", &[], 0)), "access token expired"),
    ] {
        let mut client = Client::with(edge.address, &query, &[]).await.expect("upgraded");
        assert_eq!(client.closed().await, (4000, reason.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_token_is_taken_from_header_query_or_subprotocol() {
    let edge = TestEdge::alone(&with_auth());
    let good = token("ann", "team-*", &[Grant::Publish], 60);
    let bearer = format!("Bearer {good}");
    let protocol = format!("protoo, bearer.{good}");
    let ways: [(String, Vec<(&'static str, &str)>); 4] = [
        (format!("peer=ann&access_token={good}"), vec![]),
        ("peer=ann".into(), vec![("authorization", bearer.as_str())]),
        ("peerId=ann".into(), vec![("sec-websocket-protocol", protocol.as_str())]),
        ("peer=ann&access_token=bad".into(), vec![("authorization", bearer.as_str())]),
    ];
    for (query, headers) in ways {
        let mut client = Client::with(edge.address, &query, &headers).await.expect("upgraded");
        client.done("join", json!({"rid": "team-1"})).await;
        assert_eq!(client.refused("join", json!({"rid": "other"})).await, 403);
        assert_eq!(client.refused("broadcast", json!({"rid": "team-1", "data": 1})).await, 403);
        assert_ne!(chosen(&client).unwrap_or_default(), format!("bearer.{good}"));
    }
}

#[tokio::test]
async fn a_token_that_expires_ends_the_connection() {
    /// Ends at a whole second: enough to connect in it, however busy the machine.
    const LIFE: Duration = Duration::from_secs(10);
    let edge = TestEdge::alone(&with_auth());
    let soon = token("ann", "r", &[], LIFE.as_secs());
    let mut client = Client::with(edge.address, &format!("peer=ann&access_token={soon}"), &[]).await.expect("let in");
    let left = client.notified("token-expiring").await["inMs"].as_u64().expect("a number");
    assert!(Duration::from_millis(left) <= LIFE, "{left}");
    assert_eq!(client.closed().await, (4000, "token expired".to_owned()));
}

#[tokio::test]
async fn oversized_and_foreign_frames_are_survived() {
    let edge = TestEdge::alone("");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    bob.send_message(Message::binary(vec![1, 2, 3])).await;
    for text in ["", "nonsense", "[1", r#"{"request":true}"#] {
        bob.send_message(Message::text(text)).await;
    }
    assert_eq!(bob.refused("broadcast", json!({"rid": "r", "data": "x".repeat(1024 * 1024)})).await, 413);
    bob.done("broadcast", json!({"rid": "r", "data": "still here"})).await;
    assert_eq!(ann.notified("broadcast").await["data"], "still here");
    let mut mallory = Client::joined(edge.address, "mallory", "r").await;
    mallory.send("broadcast", &json!({"rid": "r", "data": "x".repeat(2 * 1024 * 1024)})).await;
    assert_eq!(mallory.closed().await, (1009, "message too big".to_owned()));
    bob.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn a_client_that_closes_is_answered_with_a_close_frame() {
    let edge = TestEdge::alone("");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let frame = CloseFrame { code: 3_000.into(), reason: "enough".into() };
    ann.send_message(Message::Close(Some(frame))).await;
    assert_eq!(ann.closed().await, (3_000, "enough".to_owned()));
}

#[tokio::test]
async fn buffers_grown_by_oversized_frames_are_bounded_in_number() {
    let edge = TestEdge::alone("");
    let big = "x".repeat(300 * 1024);
    let mut holders = Vec::new();
    for n in 0..64 {
        let mut client = Client::joined(edge.address, &format!("peer{n}"), "r").await;
        assert_eq!(client.ask("broadcast", json!({"rid": "r", "data": big})).await["errorCode"], 413);
        holders.push(client);
    }
    let mut further = Client::joined(edge.address, "further", "r").await;
    assert_eq!(further.ask("broadcast", json!({"rid": "r", "data": big})).await["errorCode"], 413);
    assert_eq!(further.closed().await, (1009, "message too big".to_owned()));
    let first = &mut holders[0];
    assert_eq!(first.ask("broadcast", json!({"rid": "r", "data": big})).await["errorCode"], 413);
    assert_eq!(first.ask("keepalive", json!({"rid": "r"})).await["ok"], true);
    drop(holders);
    let freed = async {
        loop {
            let mut late = Client::joined(edge.address, "late", "r").await;
            assert_eq!(late.ask("broadcast", json!({"rid": "r", "data": big})).await["errorCode"], 413);
            if late.survives().await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("places are given back");
}

#[tokio::test]
async fn a_full_edge_says_when_to_come_back() {
    let edge = TestEdge::alone("limits: {connections: 1}\n");
    let client = Client::connect(edge.address, "ann").await;
    let Err(Error::Http(refusal)) = Client::with(edge.address, "peer=bob", &[]).await else { panic!("let in") };
    assert_eq!(refusal.status(), 503);
    let after: u64 = refusal.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!(after >= 1);
    drop(client);
    let back = async { while Client::with(edge.address, "peer=bob", &[]).await.is_err() {} };
    tokio::time::timeout(PATIENCE, back).await.expect("room again");
}

#[tokio::test]
async fn an_address_that_reconnects_too_fast_is_slowed_down() {
    let settings = "limits: {connection_rate: 1, connection_burst: 2}\n";
    let edge = TestEdge::alone(settings);
    for _ in 0..2 {
        Client::connect(edge.address, "ann").await;
    }
    // On a machine that is slow, too, some more are let in meanwhile.
    let refused = async {
        loop {
            if let Err(error) = Client::with(edge.address, "peer=ann", &[]).await {
                return error;
            }
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, refused).await.expect("slowed down");
    assert!(matches!(&refusal, Error::Http(answer) if answer.status() == 503), "{refusal}");
}

#[tokio::test]
async fn limits_count_the_client_behind_a_trusted_proxy() {
    let settings = "limits: {connections_per_address: 1}\ntrusted_proxies: [127.0.0.0/8]\n";
    let edge = TestEdge::alone(settings);
    let from = async |address: &str| Client::with(edge.address, "peer=ann", &[("x-forwarded-for", address)]).await;
    let _first = from("192.0.2.1").await.expect("let in");
    assert!(from("192.0.2.1").await.is_err());
    let _second = from("192.0.2.2").await.expect("let in");
}

/// What the edge answers a connection that sends this first, up to its end.
async fn answer(edge: &TestEdge, sent: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(edge.address).await.expect("connects");
    stream.write_all(sent).await.expect("taken");
    let mut answer = String::new();
    // One that is cut has answered nothing.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time");
    read.map_or_else(|_| String::new(), |_| answer)
}

/// A request of a client at 192.0.2.`last`, as a load balancer of connections passes it on.
fn proxied(last: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, last, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let request = b"GET /rtc-config HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n";
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..], request].concat()
}

#[tokio::test]
async fn limits_count_the_client_that_a_trusted_proxys_header_names() {
    let settings = "limits: {connection_rate: 1, connection_burst: 1}\nauth: {insecure_no_auth: true}\n";
    let edge = TestEdge::alone(&format!("{settings}trusted_proxies: [127.0.0.0/8]\n"));
    assert!(answer(&edge, &proxied(1)).await.starts_with("HTTP/1.1 200"));
    assert!(answer(&edge, &proxied(1)).await.starts_with("HTTP/1.1 503"));
    assert!(answer(&edge, &proxied(2)).await.starts_with("HTTP/1.1 200"));
    // Who is not trusted has sent something that is no request, and is told that at most.
    let edge = TestEdge::alone(settings);
    let answer = answer(&edge, &proxied(1)).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_stopping_edge_sends_its_clients_away_within_two_seconds() {
    let edge = TestEdge::alone("");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let start = std::time::Instant::now();
    edge.drain();
    assert_eq!(ann.closed().await.0, 1001);
    edge.stop().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_and_does_not_hold_up_the_others() {
    let edge = TestEdge::alone(
        "limits: {message_rate: 100000, message_burst: 100000, room_message_burst: 100000, \
         room_broadcast_bytes: 1000000000}\n",
    );
    let _deaf = Client::joined(edge.address, "deaf", "r").await;
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let data = "x".repeat(110 * 1024);
    let mut said = 0;
    // The deaf client's socket buffers take some; then its queue runs full, and it leaves after the grace, or at once as
    // seen here: a keepalive of its own would come too late.
    while edge.http("/metrics", "").await.lines().all(|line| !line.starts_with("sluice_edge_slow_clients_total 1")) {
        ann.done("broadcast", json!({"rid": "r", "data": data})).await;
        assert_eq!(bob.notified("broadcast").await["uid"], "ann");
        said += 1;
        assert!(said < 1_000, "the queue is bounded");
    }
}

#[tokio::test]
async fn rtc_config_tells_servers_and_limits_to_those_with_a_token() {
    let servers = "rtc: {ice_servers: [{urls: ['turn:turn.test:3478'], username: u, credential: c0ffee}]}\n";
    let edge = TestEdge::alone(&(with_auth() + servers));
    let refused = edge.http("/rtc-config", "").await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains(r#""error":"unauthenticated""#), "{refused}");
    let token = token("ann", "r", &[], 60);
    let answer = edge.http(&format!("/rtc-config?access_token={token}"), "").await;
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["iceServers"], json!([{"urls": ["turn:turn.test:3478"], "username": "u", "credential": "c0ffee"}]));
    assert_eq!(body["limits"]["inboundBytes"], 262_144);
    assert_eq!(body["limits"]["graceMs"], 30_000);
    assert!(answer.to_lowercase().contains("access-control-allow-origin: *"));
}

#[tokio::test]
async fn health_and_metrics_are_on_the_admin_address() {
    let edge = TestEdge::alone("");
    assert!(edge.http("/healthz", "").await.starts_with("HTTP/1.1 200"));
    assert!(edge.http("/readyz", "").await.starts_with("HTTP/1.1 503"), "no SFU node has been heard of");
    Client::joined(edge.address, "ann", "r").await;
    let metrics = edge.http("/metrics", "").await;
    assert!(metrics.contains("sluice_edge_requests_total{method=\"join\",error=\"none\"}"), "{metrics}");
}

#[tokio::test]
async fn members_of_one_room_meet_across_edges() {
    let rooms = store();
    let one = TestEdge::start(&format!("id: one\n{}", with_auth()), &rooms, &[]);
    let two = TestEdge::start(&format!("id: two\n{}", with_auth()), &rooms, &[]);
    let all = [Grant::Broadcast];
    let query = |peer: &str| format!("peer={peer}&access_token={}", token(peer, "r", &all, 600));
    let mut ann = Client::with(one.address, &query("ann"), &[]).await.expect("let in");
    let mut bob = Client::with(two.address, &query("bob"), &[]).await.expect("let in");
    ann.done("join", json!({"rid": "r"})).await;
    let joined = bob.done("join", json!({"rid": "r"})).await;
    assert_eq!(joined["users"][0]["signalid"], "one");
    assert_eq!(ann.notified("peer-join").await["bizid"], "two");
    bob.done("broadcast", json!({"rid": "r", "data": 1})).await;
    assert_eq!(ann.notified("broadcast").await["uid"], "bob");
    bob.done("leave", json!({"rid": "r"})).await;
    assert_eq!(ann.notified("peer-leave").await["uid"], "bob");
    ann.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn a_client_of_a_stopped_edge_resumes_on_another_and_misses_nothing() {
    let rooms = store();
    let one = TestEdge::start(&format!("id: one\n{}", with_auth()), &rooms, &[]);
    let two = TestEdge::start(&format!("id: two\n{}", with_auth()), &rooms, &[]);
    let all = [Grant::Broadcast];
    let query = |peer: &str| format!("peer={peer}&access_token={}", token(peer, "r", &all, 600));
    let mut ann = Client::with(one.address, &query("ann"), &[]).await.expect("let in");
    let mut bob = Client::with(two.address, &query("bob"), &[]).await.expect("let in");
    let joined = ann.done("join", json!({"rid": "r"})).await;
    bob.done("join", json!({"rid": "r"})).await;
    let seen = ann.notified("peer-join").await;
    one.stop().await;
    assert_eq!(ann.closed().await.0, 1001);
    for n in 0..3 {
        bob.done("broadcast", json!({"rid": "r", "data": n})).await;
    }
    let mut ann = Client::with(two.address, &query("ann"), &[]).await.expect("let in");
    let since = json!({"epoch": seen["epoch"], "seq": seen["seq"]});
    let resumed = ann.done("join", json!({"rid": "r", "session": joined["session"], "since": since})).await;
    assert_eq!(resumed["session"], joined["session"]);
    for n in 0..3 {
        assert_eq!(ann.notified("broadcast").await["data"], n);
    }
    bob.done("broadcast", json!({"rid": "r", "data": "after"})).await;
    let after = ann.notified("broadcast").await;
    assert_eq!(after["data"], "after");
    assert_eq!(after["seq"], seen["seq"].as_u64().expect("a number") + 4);
    assert_eq!(bob.heard().await, [], "nobody else saw anything");
}

#[tokio::test]
async fn the_newest_connection_wins_on_whatever_edge() {
    let rooms = store();
    let one = TestEdge::start(&format!("id: one\n{}", with_auth()), &rooms, &[]);
    let two = TestEdge::start(&format!("id: two\n{}", with_auth()), &rooms, &[]);
    let query = format!("peer=ann&access_token={}", token("ann", "r", &[], 600));
    let mut old = Client::with(one.address, &query, &[]).await.expect("let in");
    old.done("join", json!({"rid": "r"})).await;
    let mut new = Client::with(two.address, &query, &[]).await.expect("let in");
    new.done("join", json!({"rid": "r"})).await;
    assert_eq!(old.notified("peer-kick").await, json!({"rid": "r", "uid": "ann", "reason": "superseded"}));
    assert_eq!(old.closed().await.0, 4000);
    new.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn who_does_not_come_back_is_gone_after_the_grace_exactly_once() {
    let settings = RoomSettings { grace: Duration::from_millis(300), ..RoomSettings::default() };
    let rooms = MemoryRooms::new(settings);
    let one = TestEdge::start("id: one\n", &rooms, &[]);
    let two = TestEdge::start("id: two\n", &rooms, &[]);
    let ann = Client::joined(one.address, "ann", "r").await;
    let mut bob = Client::joined(two.address, "bob", "r").await;
    drop(ann);
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    bob.done("broadcast", json!({"rid": "r", "data": 1})).await;
    assert_eq!(bob.heard().await, []);
}

#[tokio::test]
async fn who_only_answers_pings_stays_a_member_however_short_the_ttl() {
    let (ttl, grace) = (Duration::from_secs(3), Duration::from_secs(1));
    let rooms = MemoryRooms::new(RoomSettings { ttl, grace, ..RoomSettings::default() });
    let edge = TestEdge::start("", &rooms, &[]);
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    // Three pings are a ttl.
    tokio::join!(ann.pinged(8), bob.pinged(8));
    assert_eq!(bob.heard().await, []);
    ann.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn clients_are_told_how_often_to_be_heard_of() {
    for (settings, keepalive) in [("", 20_000), ("session: {ttl: 6s, grace: 5s}\n", 2_000)] {
        let edge = TestEdge::alone(settings);
        let answer = edge.http("/rtc-config", "").await;
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["limits"]["keepaliveMs"], keepalive);
    }
}

#[tokio::test]
async fn a_room_of_many_hears_everything_in_order() {
    let edge = TestEdge::alone("limits: {message_burst: 1000}\n");
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(Client::joined(edge.address, &format!("peer{n}"), "r").await);
    }
    for n in 0..100 {
        clients[n % 20].send("broadcast", &json!({"rid": "r", "data": n})).await;
    }
    let mut orders = Vec::new();
    for client in &mut clients {
        let (mut last, mut heard) = (0, Vec::new());
        // Each hears all but its own five.
        while heard.len() < 95 {
            let said = client.notified("broadcast").await;
            let seq = said["seq"].as_u64().expect("a number");
            assert!(seq > last, "in order");
            last = seq;
            heard.push((seq, said["data"].as_u64().expect("a number")));
        }
        orders.push(heard);
    }
    let all: std::collections::BTreeSet<(u64, u64)> = orders.into_iter().flatten().collect();
    assert_eq!(all.len(), 100, "one order for all");
}
