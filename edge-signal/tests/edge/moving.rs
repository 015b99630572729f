//! Edges that know each other by etcd, and what they do with their clients when one of them, or all, do not see Redis.

use std::time::Duration;

use room_store::etcd::{EtcdConfig, EtcdDirectory};
use room_store::{NodeRegistration, NodeRegistry as _};
use serde_json::json;
use servers::{Etcd, Redis};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;

use crate::cluster::{Deployment, served};
use crate::rig::call::Call;
use crate::rig::client::Client;
use crate::rig::directory::record;
use crate::rig::sfu::TestSfu;
use crate::rig::wire::Wire;
use crate::rig::{PATIENCE, SECRET, TestEdge};

/// Two edges that know each other and the node by etcd; the first reaches Redis through a wire.
struct Registered {
    deployment: Deployment,
    wire: Wire,
    _etcd: Etcd,
    _node: Box<dyn NodeRegistration>,
}

impl Registered {
    async fn start() -> Self {
        let (redis, etcd) = tokio::join!(Redis::start(), Etcd::start());
        let sfu = TestSfu::start("sfu-1", "boot-1").await;
        let wire = Wire::to(redis.port()).await;
        let config = EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() };
        let directory = EtcdDirectory::connect(&config).expect("good settings");
        let node = directory.register(record("sfu-1", "boot-1", sfu.address)).await.expect("registered");
        let edge = |id: &str, port: u16| {
            TestEdge::connected(&format!(
                "id: {id}\nredis: {{url: 'redis://127.0.0.1:{port}'}}\netcd: {{endpoints: ['{}']}}\n\
                 session: {{ttl: 20s, grace: 10s, secret: {SECRET}}}\n",
                etcd.endpoint()
            ))
        };
        let (one, two) = (edge("one", wire.port()), edge("two", redis.port()));
        one.ready().await;
        two.ready().await;
        Self { deployment: Deployment { redis, sfu, one, two }, wire, _etcd: etcd, _node: node }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_alone_does_not_see_the_store_sends_its_clients_to_another_and_takes_them_again_later() {
    let Registered { deployment, wire, .. } = &Registered::start().await;
    let Call { mut ann, mut bob, mut cat, mid } = deployment.call().await;
    let session = ann.done("join", json!({"rid": "r"})).await["session"].clone();
    wire.cut();
    let (ann_closed, cat_closed, ()) = tokio::join!(ann.closed(), cat.closed(), bob.idle(Duration::from_secs(1)));
    assert_eq!((ann_closed.0, cat_closed.0), (1001, 1001));
    assert!(
        matches!(Client::with(deployment.one.address, "peer=ann", &[]).await, Err(Error::Http(answer)) if answer.status() == 503)
    );
    let mut ann = Client::connect(deployment.two.address, "ann").await;
    let resumed = ann.done("join", json!({"rid": "r", "session": session})).await;
    assert_eq!((&resumed["session"], &resumed["own"]["pubs"][0]["mid"]), (&session, &mid), "{resumed}");
    let heard = bob.heard().await;
    assert_eq!(heard, [], "nobody else noticed");
    wire.mend();
    let welcome = async {
        while Client::with(deployment.one.address, "peer=dan", &[]).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, welcome).await.expect("clients are taken again");
    deployment.one.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_all_have_lost_the_store_keep_their_clients() {
    let Registered { deployment, .. } = &Registered::start().await;
    let mut call = deployment.call().await;
    deployment.redis.pause();
    call.idle(Duration::from_secs(10)).await;
    deployment.redis.resume();
    for client in [&mut call.ann, &mut call.bob, &mut call.cat] {
        served(client).await;
    }
    call.idle(Duration::from_secs(1)).await;
    call.is_whole().await;
}
