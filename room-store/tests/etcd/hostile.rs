//! Whoever may write to etcd may write anything.

use std::time::Duration;

use room_store::{Revocations, Revoked};
use servers::Etcd;

use super::{PATIENCE, directory, directory_at, node, nodes, register, writer};

const GOOD: &str = r#"{"v":1,"boot":"b","address":"http://192.0.2.1:7000","weight":1,
    "capacity":{"egress_bps":1,"tracks":1},"state":"ready","reports":1,"version":"1",
    "load":{"cpu":0.5,"egress_bps":1,"tracks":1,"packets_per_second":1,"loss":0.0}}"#;

/// Keys below the prefix, and values that are none.
fn hostile() -> Vec<(String, Vec<u8>)> {
    let nested = vec![b'['; 100_000];
    let values: [&[u8]; 8] = [
        b"",
        b"\xff\xfe",
        b"null",
        b"{\"v\":1,\"weight\":-1}",
        b"{\"v\":99}",
        &nested,
        br#"{"v":1,"at_ms":-1,"until_ms":1e99,"weight":"x"}"#,
        br#"{"v":1,"weight":1,"distances":{"../..":1}}"#,
    ];
    let keys = [
        "nodes/eu/bad",
        "nodes/eu",
        "nodes/a b/c",
        "edges/bad",
        "regions/bad",
        "revoked/peer/bad",
        "revoked/token/%%",
        "answered/n/q",
    ];
    let pairs = keys.iter().flat_map(|key| values.iter().map(move |value| (format!("/sluice/{key}"), value.to_vec())));
    let mut all: Vec<_> = pairs.collect();
    all.push(("/sluice/nodes/eu/address".to_owned(), GOOD.replace("http://", "file://").into_bytes()));
    all.push(("/sluice/nodes/eu/load".to_owned(), GOOD.replace("0.5", "1e400").into_bytes()));
    all
}

#[tokio::test]
async fn what_cannot_be_read_is_ignored_and_what_can_is_not() {
    let etcd = Etcd::start().await;
    let (before, mut other) = (directory(&etcd).await, writer(&etcd).await);
    for (key, value) in hostile() {
        other.put(key, value, None).await.expect("written");
    }
    other.put("/sluice/nodes/eu/good", GOOD, None).await.expect("written");
    let after = directory(&etcd).await;
    for directory in [&before, &after] {
        let map = nodes(directory, |map| map.nodes.contains_key("good")).await;
        assert_eq!(map.nodes.len(), 1, "{:?}", map.nodes.keys());
        assert_eq!(map.nodes["good"].load.tracks, 1);
        assert!(map.regions.is_empty() && Revocations::watch(directory).borrow().0.is_empty());
    }
    let held = register(&before, node("n")).await;
    nodes(&after, |map| map.nodes.contains_key("n")).await;
    after.revoke(Revoked::Token("t".to_owned()), Duration::from_mins(1)).await.expect("written");
    drop(held);
}

#[tokio::test]
async fn a_value_that_went_bad_leaves_the_last_good_one() {
    let etcd = Etcd::start().await;
    let (reader, mut other) = (directory(&etcd).await, writer(&etcd).await);
    other.put("/sluice/nodes/eu/n", GOOD, None).await.expect("written");
    nodes(&reader, |map| map.nodes.contains_key("n")).await;
    other.put("/sluice/nodes/eu/n", "garbage", None).await.expect("written");
    other.put("/sluice/nodes/eu/later", GOOD, None).await.expect("written");
    let map = nodes(&reader, |map| map.nodes.contains_key("later")).await;
    assert!(map.nodes.contains_key("n"));
}

#[tokio::test]
async fn values_too_large_for_one_answer_are_read_in_smaller_ones() {
    let etcd = Etcd::start().await;
    let mut other = writer(&etcd).await;
    // Ten of a megabyte each: a client takes four at once.
    for index in 0..10 {
        other.put(format!("/sluice/regions/large{index}"), vec![b'x'; 1_000_000], None).await.expect("written");
    }
    other.put("/sluice/nodes/eu/good", GOOD, None).await.expect("written");
    let reader = directory_at([etcd.endpoint()]);
    assert!(reader.loaded(PATIENCE).await, "read in time");
    let map = nodes(&reader, |map| map.nodes.contains_key("good")).await;
    assert!(map.regions.is_empty());
}
