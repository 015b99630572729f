//! Settings of the way to Redis: each has an effect.

use std::path::PathBuf;

use serde_json::json;
use servers::{Certificates, Redis, Reply};

use crate::cluster::served;
use crate::rig::client::Client;
use crate::rig::{SECRET, TestEdge};

/// `errorCode` of a store that does not answer.
const STORE_UNAVAILABLE: i64 = 11;

fn edge(redis: &str) -> TestEdge {
    TestEdge::connected(&format!("id: one\nredis: {{{redis}}}\nsession: {{secret: {SECRET}}}\n"))
}

/// Connections over which commands come, but the one that asks.
async fn lanes(redis: &Redis) -> usize {
    let reply = redis.command(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    let Reply::Text(clients) = reply else { panic!("{reply:?}") };
    clients.lines().filter(|client| !client.contains("cmd=client")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_connections_to_a_server_carry_commands_as_are_set() {
    for most in [1, 3] {
        let redis = Redis::start().await;
        let edge = edge(&format!("url: '{}', pool_size: {most}", redis.url()));
        let mut clients = Vec::new();
        for n in 0..12 {
            clients.push(Client::joined(edge.address, &format!("peer{n}"), "r").await);
        }
        // None is answered before all are on their way.
        redis.pause();
        let mut asked = Vec::new();
        for client in &mut clients {
            asked.push(client.send("keepalive", &json!({"rid": "r"})).await);
            client.ask("nothing", json!({})).await;
        }
        redis.resume();
        for (client, id) in clients.iter_mut().zip(asked) {
            client.answer(id).await;
            served(client).await;
        }
        assert_eq!(lanes(&redis).await, most);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_can_be_in_a_redis_that_asks_for_certificates() {
    let redis = Redis::tls().await;
    let (own, foreign) = (redis.certificates().expect("TLS"), Certificates::new());
    let with = |ca: PathBuf, client: Option<&Certificates>| {
        let identity = client.map(|made| format!(", cert: {:?}, key: {:?}", made.client(), made.client_key()));
        edge(&format!("url: '{}', tls: {{ca: {ca:?}{}}}", redis.url(), identity.unwrap_or_default()))
    };
    let good = with(own.ca(), Some(own));
    Client::joined(good.address, "ann", "r").await;
    for (why, bad) in [
        ("the server asks for a certificate", with(own.ca(), None)),
        ("of its own authority", with(own.ca(), Some(&foreign))),
        ("the server's is another authority's", with(foreign.ca(), Some(own))),
    ] {
        let mut bob = Client::connect(bad.address, "bob").await;
        assert_eq!(bob.refused("join", json!({"rid": "r"})).await, STORE_UNAVAILABLE, "{why}");
    }
}
