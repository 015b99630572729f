//! Where a client is, and which nodes its streams go to.

use std::sync::Arc;

use crate::rig::client::Client;
use crate::rig::directory::TestDirectory;
use crate::rig::sfu::TestSfu;
use crate::rig::{TestEdge, store};

/// A node in each of two regions, and an edge in the first.
async fn two_regions() -> (TestSfu, TestSfu, TestEdge) {
    let (home, away) = (TestSfu::start("sfu-home", "boot-1").await, TestSfu::start("sfu-away", "boot-2").await);
    let directory = TestDirectory::of(&[]).await;
    directory.register_in("home", "sfu-home", "boot-1", &format!("http://{}", home.address)).await;
    directory.register_in("away", "sfu-away", "boot-2", &format!("http://{}", away.address)).await;
    let edge = TestEdge::of("region: home\n", Arc::new(store()), directory);
    edge.ready().await;
    home.state.described().await;
    away.state.described().await;
    (home, away, edge)
}

/// The node that a client with this query publishes on.
async fn node_for(edge: &TestEdge, query: &str) -> String {
    let room = format!("room of {query}");
    let mut client = Client::with(edge.address, query, &[]).await.expect("connects");
    client.done("join", serde_json::json!({"rid": room})).await;
    let published = client.publish(&room).await;
    published["data"]["sfuid"].as_str().unwrap_or_else(|| panic!("{published}")).to_owned()
}

#[tokio::test]
async fn a_client_is_served_where_it_says_it_is_else_where_its_edge_is() {
    let (_home, _away, edge) = two_regions().await;
    assert_eq!(node_for(&edge, "peer=ann&region=away").await, "sfu-away");
    assert_eq!(node_for(&edge, "peer=bob&region=home").await, "sfu-home");
    assert_eq!(node_for(&edge, "peer=carl").await, "sfu-home");
    assert_eq!(node_for(&edge, "peer=dora&region=atlantis").await, "sfu-home", "nobody knows it");
}

#[tokio::test]
async fn a_region_that_is_no_name_is_refused_for_good() {
    let (_home, _away, edge) = two_regions().await;
    for region in ["", "a%20b", "%00", &"x".repeat(65)] {
        let mut client = Client::with(edge.address, &format!("peer=ann&region={region}"), &[]).await.expect("connects");
        let (code, reason) = client.closed().await;
        assert_eq!(code, 4000, "{reason}");
        assert!(reason.contains("region"), "{reason}");
    }
}

#[tokio::test]
async fn a_region_without_a_node_that_answers_hands_over_to_another() {
    let (_home, away, edge) = two_regions().await;
    away.die();
    assert_eq!(node_for(&edge, "peer=ann&region=away").await, "sfu-home");
}
