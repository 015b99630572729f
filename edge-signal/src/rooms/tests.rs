use proto::ids::{BootId, Mid, PeerId, SessionId};
use proto::json::RawJson;
use proto::signalling::Minfo;
use room_store::{
    Actor, Attachment, ConnectionId, Join, MemoryRooms, Placement, ReservePublication, RoomSettings, StaticNodes,
};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::EdgeMetrics;
use crate::nodes::{NodesConfig, TcpConnector};
use crate::settings::{EdgeSettings, NodeSettings};

/// Lets every task run until it waits.
async fn settle() {
    sleep(Duration::from_millis(10)).await;
}

async fn publish(store: &MemoryRooms, actor: &Actor, node: &NodeId) {
    let mid = Mid::of(&actor.peer, 1);
    let minfo = Minfo::new(RawJson::new(r#"{"audio":true}"#.to_owned()).expect("JSON")).expect("an object");
    let placement = Placement { node: node.clone(), boot: BootId::of(1), region: "default".parse().expect("valid") };
    let candidates = vec![placement];
    let request = ReservePublication { actor: actor.clone(), mid: mid.clone(), minfo, candidates, op: None };
    store.reserve_publication(request).await.expect("reserved");
    store.confirm_publication(actor.clone(), &mid).await.expect("confirmed");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_ends_while_a_stream_is_added_is_not_watched_afterwards() {
    let store = MemoryRooms::new(RoomSettings::default());
    let node: NodeId = "node".parse().expect("valid");
    let grpc = "http://127.0.0.1:9".to_owned();
    let listed = NodeSettings { id: node.clone(), region: None, grpc, weight: 1 };
    let settings = EdgeSettings { nodes: vec![listed], ..EdgeSettings::default() };
    let members = Arc::new(Members::new(Arc::new(store.clone())));
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let nodes = Nodes::start(NodesConfig {
        connector: Arc::new(TcpConnector),
        directory: Arc::new(StaticNodes::new(settings.node_records())),
        region: settings.region.clone(),
        members: Arc::clone(&members),
        events: mpsc::channel(1).0,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        metrics: EdgeMetrics::register(),
    });
    let rooms =
        Rooms::new(settings.edge_id(), Arc::new(store.clone()), members, nodes.clone(), tasks, shutdown.clone());

    let (room, peer): (RoomId, PeerId) = ("r".parse().expect("valid"), "ann".parse().expect("valid"));
    let attachment = Attachment { edge: settings.edge_id(), connection: ConnectionId(1) };
    let (resume, since, fresh, op) = (None, None, SessionId::of(1), None);
    let join = Join { room: room.clone(), peer: peer.clone(), attachment, resume, since, fresh, op };
    let (following, _signals) = rooms.follow(&room).await.expect("followed");
    let joined = store.join(join).await.expect("joined");
    following.entered(Head { position: joined.position, id: joined.head });
    settle().await;
    assert!(!nodes.watches(&node, &room), "nothing is on the node");

    // The room's task is woken for the stream, and ended before it runs.
    publish(&store, &Actor { room: room.clone(), peer, session: joined.session }, &node).await;
    drop(following);
    settle().await;
    assert!(!nodes.watches(&node, &room));

    let (following, _signals) = rooms.follow(&room).await.expect("followed");
    following.entered(Head { position: joined.position, id: joined.head });
    settle().await;
    assert!(nodes.watches(&node, &room), "as long as somebody is there");
    shutdown.cancel();
}
