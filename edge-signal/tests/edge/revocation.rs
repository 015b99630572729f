//! Access that is withdrawn while it is used.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use edge_signal::auth::{Grant, SharedSecret, SigningKey, TokenRequest, mint};
use room_store::contract::{Fault, FaultyRooms};
use room_store::{MemoryRevocations, MemoryRooms};
use serde_json::json;
use servers::{Etcd, Redis};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::rig::client::Client;
use crate::rig::directory::TestDirectory;
use crate::rig::sfu::TestSfu;
use crate::rig::{PATIENCE, SECRET, TestEdge, store};

/// Within this a revoked client is closed, wherever it is.
const A_SECOND: Duration = Duration::from_secs(1);

/// One for room `r` that was made so many seconds ago.
fn token(peer: &str, id: &str, age: u64) -> String {
    mint_for(peer, "r", &[Grant::Publish, Grant::Subscribe, Grant::Broadcast], id, age)
}

fn mint_for(peer: &str, rid: &str, grants: &[Grant], id: &str, age: u64) -> String {
    let key = SigningKey::shared_secret(&SharedSecret::new(SECRET).expect("long enough"));
    let request = TokenRequest {
        peer: peer.into(),
        rid: rid.into(),
        grants: grants.to_vec(),
        ttl: Duration::from_mins(10),
        id: Some(id.into()),
        record: false,
        issuer: None,
        audience: None,
    };
    mint(&key, &request, SystemTime::now() - Duration::from_secs(age)).expect("mints")
}

fn operator() -> String {
    format!("Authorization: Bearer {}\r\n", mint_for("operator", "*", &[Grant::Admin], "op", 0))
}

async fn with_token(edge: &TestEdge, peer: &str, token: &str) -> Client {
    Client::with(edge.address, &format!("peer={peer}&access_token={token}"), &[]).await.expect("upgraded")
}

async fn joined(edge: &TestEdge, peer: &str, token: &str) -> Client {
    let mut client = with_token(edge, peer, token).await;
    client.done("join", json!({"rid": "r"})).await;
    client
}

/// Two edges of one deployment.
struct Both {
    one: TestEdge,
    two: TestEdge,
    sfu: TestSfu,
}

impl Both {
    async fn start() -> Self {
        let (rooms, revocations): (MemoryRooms, _) = (store(), MemoryRevocations::default());
        let sfu = TestSfu::start("sfu-1", "boot-1").await;
        let edge = |id: &str| {
            let settings = format!("id: {id}\nadmin_listen: 127.0.0.1:0\nauth: {{hs256_secret: {SECRET:?}}}\n");
            TestEdge::sharing(&settings, &rooms, &[("sfu-1", sfu.address)], &revocations)
        };
        let (one, two) = (edge("one"), edge("two"));
        one.ready().await;
        two.ready().await;
        Self { one, two, sfu }
    }
}

async fn revoked(edge: &TestEdge, order: serde_json::Value) {
    let answer = edge.revoke(&order.to_string(), &operator()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_revoked_peer_is_closed_wherever_it_is_and_nothing_of_it_stays() {
    let Both { one, two, sfu: _sfu } = Both::start().await;
    let mut ann = joined(&two, "ann", &token("ann", "t1", 5)).await;
    let mut bob = joined(&one, "bob", &token("bob", "t2", 5)).await;
    assert_eq!(ann.publish("r").await["ok"], true);
    bob.notified("stream-add").await;
    let begun = Instant::now();
    revoked(&one, json!({"peer": "ann"})).await;
    assert_eq!(ann.closed().await, (4000, "access revoked".to_owned()));
    assert!(begun.elapsed() < A_SECOND, "{:?}", begun.elapsed());
    assert_eq!(bob.notified("stream-remove").await["uid"], "ann");
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    for edge in [&one, &two] {
        let mut again = with_token(edge, "ann", &token("ann", "t3", 5)).await;
        assert_eq!(again.closed().await, (4000, "access revoked".to_owned()));
    }
    bob.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn the_media_of_a_revoked_peer_end_though_the_stores_answers_to_that_are_lost() {
    let (rooms, sfu) = (store(), TestSfu::start("sfu-1", "boot-1").await);
    let faulty = FaultyRooms::new(Arc::new(rooms.clone()));
    let settings = format!("admin_listen: 127.0.0.1:0\nauth: {{hs256_secret: {SECRET:?}}}\n");
    let nodes = TestDirectory::of(&[("sfu-1", "boot-1", sfu.address)]).await;
    let one = TestEdge::of(&format!("id: one\n{settings}"), Arc::new(faulty.clone()), nodes);
    let two = TestEdge::start(&format!("id: two\n{settings}"), &rooms, &[("sfu-1", sfu.address)]);
    one.ready().await;
    two.ready().await;
    let mut bob = joined(&two, "bob", &token("bob", "b", 5)).await;
    let mut ann = joined(&one, "ann", &token("ann", "a", 5)).await;
    assert_eq!(ann.publish("r").await["ok"], true);
    let bobs = bob.publish("r").await["data"]["mid"].clone();
    ann.notified("stream-add").await;
    assert_eq!(ann.subscribe("r", &bobs).await["ok"], true);
    assert_eq!(sfu.state.live().len(), 3);
    // What ann's edge asks for is done, and it does not hear so.
    faulty.fail_all(Some(Fault::LostReply));
    revoked(&one, json!({"peer": "ann"})).await;
    assert_eq!(ann.closed().await.0, 4000);
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    faulty.fail_all(None);
    sfu.state.until(|| sfu.state.live() == [bobs.as_str().expect("a mid")]).await;
}

#[tokio::test]
async fn a_token_made_after_its_peer_was_revoked_is_good() {
    let Both { one, two, sfu: _sfu } = Both::start().await;
    revoked(&one, json!({"peer": "ann"})).await;
    // `iat` counts whole seconds, and the one of the revocation counts as before it.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    joined(&two, "ann", &token("ann", "t1", 0)).await;
}

#[tokio::test]
async fn one_token_can_be_revoked_and_the_peers_other_ones_stay_good() {
    let Both { one, two, sfu: _sfu } = Both::start().await;
    let mut lost = joined(&one, "ann", &token("ann", "lost", 5)).await;
    let kept = with_token(&two, "ann", &token("ann", "kept", 5)).await;
    revoked(&two, json!({"token": "lost"})).await;
    assert_eq!(lost.closed().await, (4000, "access revoked".to_owned()));
    assert!(kept.survives().await);
    let mut again = with_token(&two, "ann", &token("ann", "lost", 5)).await;
    assert_eq!(again.closed().await.0, 4000);
}

#[tokio::test]
async fn a_revoked_peer_that_is_away_does_not_stay_a_member_for_its_grace() {
    let Both { one, two, sfu: _sfu } = Both::start().await;
    let mut ann = joined(&two, "ann", &token("ann", "t1", 5)).await;
    let mut bob = joined(&one, "bob", &token("bob", "t2", 5)).await;
    // Its edge has seen the socket close when it answers that.
    ann.send_message(Message::Close(None)).await;
    ann.ended().await;
    assert_eq!(bob.heard().await, [], "away, and nobody sees it");
    let begun = Instant::now();
    revoked(&one, json!({"peer": "ann"})).await;
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    assert!(begun.elapsed() < Duration::from_secs(5), "long before the grace: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_is_closed_within_a_second_while_the_end_of_others_waits_for_the_store() {
    let (redis, sfu) = (Redis::start().await, TestSfu::start("sfu-1", "boot-1").await);
    let edge = TestEdge::connected(&format!(
        "id: one\nadmin_listen: 127.0.0.1:0\nauth: {{hs256_secret: {SECRET:?}}}\nredis: {{url: '{}'}}\n\
         nodes: [{{id: sfu-1, grpc: 'http://{}'}}]\n",
        redis.url(),
        sfu.address
    ));
    edge.ready().await;
    let mut ann = joined(&edge, "ann", &token("ann", "a", 5)).await;
    let mut cat = joined(&edge, "cat", &token("cat", "c", 5)).await;
    let mut bob = with_token(&edge, "bob", &token("bob", "b", 5)).await;
    let mut dan = with_token(&edge, "dan", &token("dan", "d", 5)).await;
    // Answered, they no longer look by themselves, as one does that was just let in.
    assert_eq!((bob.heard().await, dan.heard().await), (vec![], vec![]));
    ann.send_message(Message::Close(None)).await;
    ann.ended().await;
    redis.pause();
    revoked(&edge, json!({"peer": "ann"})).await;
    // When the second is revoked, the end of ann is under way for certain.
    for (peer, client) in [("bob", &mut bob), ("dan", &mut dan)] {
        let begun = Instant::now();
        revoked(&edge, json!({"peer": peer})).await;
        assert_eq!(client.closed().await, (4000, "access revoked".to_owned()));
        assert!(begun.elapsed() < A_SECOND, "{peer}: {:?}", begun.elapsed());
    }
    redis.resume();
    assert_eq!(cat.notified("peer-leave").await["uid"], "ann");
}

#[tokio::test]
async fn who_has_gone_on_with_another_token_is_not_ended_with_the_first() {
    let Both { one, two, sfu: _sfu } = Both::start().await;
    let mut first = with_token(&one, "ann", &token("ann", "first", 5)).await;
    let session = first.done("join", json!({"rid": "r"})).await["session"].clone();
    drop(first);
    let mut second = with_token(&two, "ann", &token("ann", "second", 5)).await;
    assert_eq!(second.done("join", json!({"rid": "r", "session": session})).await["session"], session);
    let mut bob = joined(&one, "bob", &token("bob", "b", 5)).await;
    revoked(&one, json!({"token": "first"})).await;
    tokio::time::sleep(A_SECOND).await;
    second.done("keepalive", json!({"rid": "r"})).await;
    assert_eq!(bob.heard().await, []);
}

#[tokio::test]
async fn a_token_that_was_refreshed_counts_and_the_one_before_does_not() {
    let Both { one, two: _two, sfu: _sfu } = Both::start().await;
    let mut ann = joined(&one, "ann", &token("ann", "old", 5)).await;
    ann.done("refresh", json!({"access_token": token("ann", "new", 5)})).await;
    revoked(&one, json!({"token": "old"})).await;
    tokio::time::sleep(A_SECOND / 2).await;
    assert_eq!(ann.refused("refresh", json!({"access_token": token("ann", "old", 5)})).await, 401);
    assert_eq!(ann.refused("refresh", json!({"access_token": token("bob", "b", 5)})).await, 401);
    ann.done("keepalive", json!({"rid": "r"})).await;
    revoked(&one, json!({"token": "new"})).await;
    assert_eq!(ann.closed().await, (4000, "access revoked".to_owned()));
}

#[tokio::test]
async fn a_connection_outlives_its_first_token_by_a_refresh() {
    const LIFE: Duration = Duration::from_secs(3);
    let edge = TestEdge::alone(&format!("auth: {{hs256_secret: {SECRET:?}}}\n"));
    // Made so long ago that it ends in a moment.
    let ending = token("ann", "old", 600 - LIFE.as_secs());
    let mut ann = joined(&edge, "ann", &ending).await;
    ann.notified("token-expiring").await;
    ann.done("refresh", json!({"access_token": token("ann", "new", 0)})).await;
    tokio::time::sleep(LIFE + A_SECOND).await;
    ann.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test]
async fn nobody_revokes_at_the_clients_address_of_an_edge_that_lets_everybody_in() {
    for (settings, status) in [
        ("auth: {insecure_no_auth: true}\n", "404"),
        ("auth: {insecure_no_auth: true}\nadmin_listen: 127.0.0.1:0\n", "200"),
        ("", "200"),
    ] {
        let edge = TestEdge::alone(settings);
        let answer = edge.revoke(r#"{"peer": "ann"}"#, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{settings}: {answer}");
    }
}

/// Two edges that have etcd in common and nothing else.
fn registered(etcd: &Etcd, id: &str) -> TestEdge {
    TestEdge::connected(&format!(
        "id: {id}\nadmin_listen: 127.0.0.1:0\nauth: {{hs256_secret: {SECRET:?}}}\netcd: {{endpoints: ['{}']}}\n",
        etcd.endpoint()
    ))
}

/// Waits until the edge lists what was revoked.
async fn lists(edge: &TestEdge, revoked: &str) {
    let listed = async {
        while !TestEdge::http_at(edge.admin_address, "/revocations", &operator()).await.contains(revoked) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap_or_else(|_| panic!("{revoked} is not listed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_edge_revokes_another_ends_within_a_second_by_etcd() {
    let etcd = Etcd::start().await;
    let (one, two) = (registered(&etcd, "one"), registered(&etcd, "two"));
    revoked(&one, json!({"token": "settled"})).await;
    lists(&two, "settled").await;
    let mut ann = joined(&two, "ann", &token("ann", "t1", 5)).await;
    let mut bob = joined(&two, "bob", &token("bob", "t2", 5)).await;
    let begun = Instant::now();
    revoked(&one, json!({"peer": "ann"})).await;
    assert_eq!(ann.closed().await, (4000, "access revoked".to_owned()));
    assert!(begun.elapsed() < A_SECOND, "{:?}", begun.elapsed());
    assert_eq!(bob.notified("peer-leave").await["uid"], "ann");
    lists(&one, r#""peer":"ann""#).await;
    // An edge that starts later knows it, too.
    let three = registered(&etcd, "three");
    lists(&three, r#""peer":"ann""#).await;
    let mut again = with_token(&three, "ann", &token("ann", "t3", 5)).await;
    assert_eq!(again.closed().await, (4000, "access revoked".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_starts_while_etcd_is_away_lets_nobody_in_before_it_knows_what_was_revoked() {
    /// So old that all of this comes after they were made.
    const AGE: u64 = 300;
    let etcd = Etcd::start().await;
    let one = registered(&etcd, "one");
    revoked(&one, json!({"peer": "ann"})).await;
    etcd.pause();
    let two = registered(&etcd, "two");
    for peer in ["ann", "bob"] {
        let query = format!("peer={peer}&access_token={}", token(peer, peer, AGE));
        let Err(Error::Http(refusal)) = Client::with(two.address, &query, &[]).await else { panic!("{peer}: let in") };
        assert_eq!(refusal.status(), 503);
        assert!(refusal.headers().contains_key("retry-after"));
    }
    let readyz = TestEdge::http_at(two.admin_address, "/readyz", "").await;
    assert!(readyz.contains("revocations: what was revoked has not been read yet"), "{readyz}");
    let order = TestEdge::http_at(two.admin_address, "/revocations", &operator()).await;
    assert!(order.starts_with("HTTP/1.1 503") && order.contains("revocations_unavailable"), "{order}");
    let mut dan = joined(&one, "dan", &token("dan", "d", 5)).await;
    etcd.resume();
    lists(&two, r#""peer":"ann""#).await;
    let mut ann = with_token(&two, "ann", &token("ann", "t1", AGE)).await;
    assert_eq!(ann.closed().await, (4000, "access revoked".to_owned()));
    joined(&two, "bob", &token("bob", "t2", 5)).await;
    let readyz = TestEdge::http_at(two.admin_address, "/readyz", "").await;
    assert!(!readyz.contains("revocations"), "{readyz}");
    dan.done("keepalive", json!({"rid": "r"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_what_was_revoked_stays_so_and_nothing_new_can_be() {
    let mut etcd = Etcd::start().await;
    let edge = registered(&etcd, "one");
    revoked(&edge, json!({"peer": "ann"})).await;
    etcd.stop();
    let order = json!({"peer": "bob"}).to_string();
    let answer = edge.revoke(&order, &operator()).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("revocations_unavailable"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    let mut ann = with_token(&edge, "ann", &token("ann", "t1", 5)).await;
    assert_eq!(ann.closed().await, (4000, "access revoked".to_owned()));
    let mut bob = joined(&edge, "bob", &token("bob", "t2", 5)).await;
    etcd.start_again().await;
    let again = async {
        while !edge.revoke(&order, &operator()).await.starts_with("HTTP/1.1 200") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("kept again");
    assert_eq!(bob.closed().await, (4000, "access revoked".to_owned()));
}
