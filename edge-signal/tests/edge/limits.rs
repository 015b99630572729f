//! What is too much: each limit as a client meets it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;

use crate::rig::client::Client;
use crate::rig::{PATIENCE, SECRET, TestEdge};

/// The answer to the first of these requests that is refused for now, of at most so many.
async fn limited(client: &mut Client, most: usize, method: &str, data: &Value) -> (usize, Value) {
    for done in 0..most {
        let answer = client.ask(method, data.clone()).await;
        if answer["errorCode"] == 429 {
            assert_eq!(answer["error"], "rate_limited");
            assert!(answer["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
            return (done, answer);
        }
        assert_eq!(answer["ok"], true, "{answer}");
    }
    panic!("{most} were not too many");
}

async fn count(edge: &TestEdge, limit: &str) -> f64 {
    let metrics = edge.http("/metrics", "").await;
    let start = format!("sluice_edge_limited_total{{limit=\"{limit}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&start)).expect("registered").parse().expect("a number")
}

fn in_r() -> Value {
    json!({"rid": "r"})
}

#[tokio::test]
async fn requests_of_a_connection_of_a_uid_and_of_all_together_are_limited() {
    for (settings, limit, reason, most) in [
        ("limits: {message_rate: 1, message_burst: 20}\n", "connection", "too many requests", 60),
        ("limits: {uid_message_rate: 1, uid_message_burst: 20}\n", "uid", "too many requests of this uid", 60),
        ("limits: {edge_message_rate: 1, edge_message_burst: 20}\n", "edge", "the edge is asked too much", 60),
    ] {
        let edge = TestEdge::alone(settings);
        let mut ann = Client::joined(edge.address, "ann", "r").await;
        let before = count(&edge, limit).await;
        let (done, answer) = limited(&mut ann, most, "keepalive", &in_r()).await;
        assert!(done >= 19, "{limit}: {done}");
        assert_eq!(answer["errorReason"], reason);
        assert!(count(&edge, limit).await > before, "{limit}");
    }
}

#[tokio::test]
async fn a_uid_gets_no_more_by_more_connections_and_others_get_theirs() {
    let edge = TestEdge::alone("limits: {uid_message_rate: 1, uid_message_burst: 20}\n");
    let mut one = Client::joined(edge.address, "ann", "r").await;
    limited(&mut one, 60, "keepalive", &in_r()).await;
    let mut two = Client::connect(edge.address, "ann").await;
    assert_eq!(two.ask("join", json!({"rid": "s"})).await["errorCode"], 429);
    Client::joined(edge.address, "bob", "r").await;
}

#[tokio::test]
async fn what_a_room_is_told_is_limited_and_other_rooms_are_not() {
    let edge = TestEdge::alone("limits: {room_message_rate: 1, room_message_burst: 20}\n");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::joined(edge.address, "bob", "r").await;
    let (done, answer) = limited(&mut ann, 60, "broadcast", &json!({"rid": "r", "data": 1})).await;
    assert!(done >= 20);
    assert_eq!(answer["errorReason"], "too much is said in this room");
    assert_eq!(bob.ask("broadcast", json!({"rid": "r", "data": 1})).await["errorCode"], 429);
    bob.done("keepalive", in_r()).await;
    bob.done("join", json!({"rid": "s"})).await;
    bob.done("broadcast", json!({"rid": "s", "data": 1})).await;
}

#[tokio::test]
async fn joins_of_a_room_are_limited_and_those_of_others_are_not() {
    let edge = TestEdge::alone("limits: {room_join_rate: 1, room_join_burst: 20}\n");
    let _ann = Client::joined(edge.address, "ann", "r").await;
    let mut bob = Client::connect(edge.address, "bob").await;
    let before = count(&edge, "room_joins").await;
    let refused = async {
        for done in 0..60 {
            let answer = bob.ask("join", in_r()).await;
            if answer["errorCode"] == 429 {
                return (done, answer);
            }
            bob.done("leave", in_r()).await;
        }
        panic!("60 were not too many");
    };
    let (done, answer) = refused.await;
    assert!(done >= 19, "{done}");
    assert_eq!(answer["errorReason"], "too many join this room");
    assert!(count(&edge, "room_joins").await > before);
    bob.done("join", json!({"rid": "s"})).await;
}

#[tokio::test]
async fn bytes_of_broadcasts_in_a_room_are_limited_and_those_in_others_are_not() {
    let edge = TestEdge::alone("limits: {room_broadcast_bytes: 1}\n");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    let text = "x".repeat(100_000);
    let (done, answer) = limited(&mut ann, 9, "broadcast", &json!({"rid": "r", "data": text})).await;
    assert_eq!((done, &answer["errorReason"]), (2, &json!("too much is said in this room")));
    ann.done("join", json!({"rid": "s"})).await;
    ann.done("broadcast", json!({"rid": "s", "data": text})).await;
}

#[tokio::test]
async fn a_connection_is_in_so_many_rooms_at_a_time() {
    let edge = TestEdge::alone("limits: {rooms_per_connection: 2}\n");
    let mut ann = Client::joined(edge.address, "ann", "r").await;
    ann.done("join", json!({"rid": "s"})).await;
    let refusal = ann.ask("join", json!({"rid": "t"})).await;
    assert_eq!(
        (&refusal["errorCode"], &refusal["errorReason"]),
        (&json!(409), &json!("this connection is in too many rooms"))
    );
    ann.done("join", in_r()).await;
    ann.done("leave", in_r()).await;
    ann.done("join", json!({"rid": "t"})).await;
}

/// More than sockets take between them, and less than the largest queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_kept_for_as_long_as_what_waits_for_it_is_allowed_to() {
    const SAID: usize = 100;
    let rates = ["message", "room_message", "edge_message", "uid_message"].map(|what| format!("{what}_rate: 100000"));
    for (queued_bytes, is_kept) in [(256 * 1_024, false), (16 * 1_024 * 1_024, true)] {
        let edge = TestEdge::alone(&format!(
            "limits: {{queued_bytes: {queued_bytes}, room_broadcast_bytes: 1000000000, {}}}\n",
            rates.join(", ")
        ));
        let mut slow = Client::joined(edge.address, "slow", "r").await;
        let mut talker = Client::joined(edge.address, "talker", "r").await;
        let text = "x".repeat(100_000);
        for _ in 0..SAID {
            talker.done("broadcast", json!({"rid": "r", "data": text})).await;
        }
        if is_kept {
            let heard = slow.heard().await;
            assert_eq!(heard.iter().filter(|(method, _)| method == "broadcast").count(), SAID);
        } else {
            slow.ended().await;
        }
    }
}

#[tokio::test]
async fn a_uid_with_as_many_connections_as_it_may_have_is_told_to_come_back() {
    let edge = TestEdge::alone("limits: {connections_per_uid: 2}\n");
    let held = [Client::connect(edge.address, "ann").await, Client::connect(edge.address, "ann").await];
    let Err(Error::Http(refusal)) = Client::with(edge.address, "peer=ann", &[]).await else { panic!("let in") };
    assert_eq!(refusal.status(), 503);
    assert!(refusal.headers().contains_key("retry-after"));
    Client::connect(edge.address, "bob").await;
    drop(held);
    let back = async { while Client::with(edge.address, "peer=ann", &[]).await.is_err() {} };
    tokio::time::timeout(PATIENCE, back).await.expect("room again");
}

#[tokio::test]
async fn new_connections_of_all_together_come_no_faster_than_the_edge_takes_them() {
    let settings = "limits: {edge_connection_rate: 1, edge_connection_burst: 3}\ntrusted_proxies: [127.0.0.0/8]\n";
    let edge = TestEdge::alone(settings);
    let from = async |n: u8| {
        let address = format!("192.0.2.{n}");
        Client::with(edge.address, "peer=ann", &[("x-forwarded-for", &address)]).await
    };
    let refused = async {
        for n in 0.. {
            match from(n).await {
                Ok(_) => assert!(n < 100),
                Err(error) => return (n, error),
            }
        }
        unreachable!()
    };
    let (let_in, refusal) = tokio::time::timeout(PATIENCE, refused).await.expect("slowed down");
    assert!(let_in >= 3);
    assert!(matches!(&refusal, Error::Http(answer) if answer.status() == 503), "{refusal}");
}

/// How a client reconnects that means well: after what it is told.
async fn persistent(edge: &TestEdge, peer: String) -> (Client, usize) {
    let mut refusals = 0;
    loop {
        match Client::with(edge.address, &format!("peer={peer}"), &[]).await {
            Ok(client) => return (client, refusals),
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 503);
                let after = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
                tokio::time::sleep(Duration::from_secs(after)).await;
            }
            // The listener's queue is full for a moment.
            Err(Error::Io(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => panic!("{error}"),
        }
        refusals += 1;
    }
}

/// One network behind one address, such as a company's, comes back after a cut.
#[tokio::test]
async fn two_thousand_clients_of_one_address_are_all_in_within_fifteen_seconds_of_coming_at_once() {
    const CLIENTS: usize = 2_000;
    let edge = std::sync::Arc::new(TestEdge::alone(""));
    let begun = Instant::now();
    let mut coming = JoinSet::new();
    for n in 0..CLIENTS {
        let edge = std::sync::Arc::clone(&edge);
        coming.spawn(async move {
            let (mut client, _) = persistent(&edge, format!("peer{n}")).await;
            client.done("join", json!({"rid": format!("room{}", n / 10)})).await;
            client
        });
    }
    let clients = coming.join_all().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(clients.len(), CLIENTS);
}

#[tokio::test]
async fn who_is_slowed_down_gets_in_by_doing_as_told() {
    let edge = TestEdge::alone("limits: {connection_rate: 1, connection_burst: 2}\n");
    let slowed_down = async {
        for n in 0.. {
            if persistent(&edge, format!("peer{n}")).await.1 > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, slowed_down).await.expect("in, in time");
}

/// Asks for the configuration until that is refused for now, and gives the refusal.
async fn configured_too_often(edge: &TestEdge, headers: &str) -> String {
    for _ in 0..60 {
        let answer = edge.http("/rtc-config", headers).await;
        if answer.starts_with("HTTP/1.1 503") {
            return answer;
        }
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    panic!("60 were not too many");
}

#[tokio::test]
async fn checks_of_tokens_are_limited_where_the_configuration_is_asked_for() {
    const FROM: [&str; 2] = ["X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.2\r\n"];
    let settings = format!("auth: {{hs256_secret: {SECRET:?}}}\ntrusted_proxies: [127.0.0.1]\n");
    let edge = TestEdge::alone(&format!("{settings}limits: {{connection_rate: 1, connection_burst: 20}}\n"));
    let refusal = configured_too_often(&edge, FROM[0]).await.to_lowercase();
    assert!(refusal.contains("\r\nretry-after: "), "{refusal}");
    assert!(refusal.contains("\r\naccess-control-allow-origin: *\r\n"), "pages are to know: {refusal}");
    let other = edge.http("/rtc-config", FROM[1]).await;
    assert!(other.starts_with("HTTP/1.1 401"), "another address has its own: {other}");
    let edge = TestEdge::alone(&format!("{settings}limits: {{edge_connection_rate: 1, edge_connection_burst: 20}}\n"));
    configured_too_often(&edge, FROM[0]).await;
    let other = edge.http("/rtc-config", FROM[1]).await;
    assert!(other.starts_with("HTTP/1.1 503"), "all together have theirs: {other}");
}
