//! A call as tests of outages need it: members on two edges, a stream, a subscription.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::TestEdge;
use crate::rig::client::Client;

/// Three members of the room `r` over two edges.
pub(crate) struct Call {
    pub(crate) ann: Client,
    pub(crate) bob: Client,
    pub(crate) cat: Client,
    /// Ann's stream.
    pub(crate) mid: Value,
}

impl Call {
    /// Ann and Cat on one edge, Bob on the other; Ann publishes, Bob is subscribed.
    pub(crate) async fn between(one: &TestEdge, two: &TestEdge) -> Self {
        let mut ann = Client::joined(one.address, "ann", "r").await;
        let mut bob = Client::joined(two.address, "bob", "r").await;
        let cat = Client::joined(one.address, "cat", "r").await;
        let mid = ann.publish("r").await["data"]["mid"].clone();
        assert_eq!(bob.notified("stream-add").await["mid"], mid);
        assert_eq!(bob.subscribe("r", &mid).await["ok"], true);
        let mut call = Self { ann, bob, cat, mid };
        call.everybody_hears_of_cat().await;
        call
    }

    async fn everybody_hears_of_cat(&mut self) {
        for client in [&mut self.ann, &mut self.bob] {
            while client.notified("peer-join").await["uid"] != "cat" {}
        }
        self.cat.notified("stream-add").await;
        for client in [&mut self.ann, &mut self.bob, &mut self.cat] {
            client.heard().await;
        }
    }

    /// Time passes, and everybody stays connected.
    pub(crate) async fn idle(&mut self, time: Duration) {
        tokio::join!(self.ann.idle(time), self.bob.idle(time), self.cat.idle(time));
    }

    /// Everybody is there, the stream is there, all hear what is said, and nobody has heard anything else.
    pub(crate) async fn is_whole(&mut self) {
        for (client, others) in
            [(&mut self.ann, ["bob", "cat"]), (&mut self.bob, ["ann", "cat"]), (&mut self.cat, ["ann", "bob"])]
        {
            let users = client.done("getusers", json!({"rid": "r"})).await;
            assert_eq!(uids(&users["users"]), others);
        }
        let pubs = self.bob.done("getpubs", json!({"rid": "r"})).await;
        assert_eq!((pubs["pubs"].as_array().map(Vec::len), &pubs["pubs"][0]["mid"]), (Some(1), &self.mid));
        self.bob.done("broadcast", json!({"rid": "r", "data": "all there?"})).await;
        for client in [&mut self.ann, &mut self.cat] {
            assert_eq!(client.notified("broadcast").await["data"], "all there?");
            assert_eq!(client.heard().await, []);
        }
        assert_eq!(self.bob.heard().await, []);
    }
}

fn uids(users: &Value) -> Vec<&str> {
    users.as_array().expect("a list").iter().map(|user| user["uid"].as_str().expect("text")).collect()
}
