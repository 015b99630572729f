use std::sync::Arc;

use proto::ids::{PeerId, SessionId};
use proto::json::RawJson;
use proto::sfu::sfu_node_server::{SfuNode, SfuNodeServer};
use proto::sfu::{
    CloseTransportsRequest, CloseTransportsResponse, DescribeRequest, DescribeResponse, LivePublication,
    NegotiateRequest, NegotiateResponse, RecordRequest, RecordResponse, RestartRequest, RestartResponse,
    SetMetadataRequest, SetMetadataResponse, SurveyRequest, SurveyResponse,
};
use proto::signalling::Minfo;
use room_store::{
    Actor, Attachment, ConnectionId, Join, MemoryRooms, ReservePublication, RoomSettings, RoomStore as _, StaticNodes,
};
use telemetry::settings::Sources;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response};

use super::super::{Nodes, NodesConfig, TcpConnector};
use super::*;
use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::settings::EdgeSettings;
use crate::sight::Sight;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that counts the rooms it is asked about, and takes no more while its answers are not taken.
#[derive(Clone)]
struct Counting {
    rooms: watch::Sender<usize>,
    /// Transports in the room `r`, each of a publication of the same id.
    live: watch::Sender<BTreeSet<String>>,
}

impl Counting {
    fn new(live: &[&str]) -> Self {
        Self { rooms: watch::Sender::new(0), live: watch::Sender::new(live.iter().map(ToString::to_string).collect()) }
    }

    /// Starts it; the nodes as an edge with this store and nothing else sees them.
    fn start(&self, store: MemoryRooms) -> (Nodes, Placement, mpsc::Receiver<NodeEvent>) {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = incoming.local_addr().expect("bound");
        let service = SfuNodeServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        let settings: EdgeSettings =
            Sources::text("edge.yaml", format!("nodes: [{{id: node, grpc: 'http://{address}'}}]\n"))
                .load()
                .expect("good settings");
        let (events, told) = mpsc::channel(16);
        let nodes = Nodes::start(NodesConfig {
            connector: Arc::new(TcpConnector::default()),
            directory: Arc::new(StaticNodes::new(settings.node_records())),
            region: settings.region.clone(),
            members: Arc::new(Members::new(Arc::new(store))),
            sight: Sight::steady(),
            events,
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            metrics: EdgeMetrics::register(),
        });
        let (node, boot) = (settings.nodes[0].id.clone(), BootId::new("boot-1").expect("valid"));
        (nodes, Placement { node, boot, region: settings.region }, told)
    }
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).expect("valid")
}

async fn watch_room(nodes: &Nodes, placement: &Placement, room: &RoomId) {
    while !nodes.watches(&placement.node, room) {
        nodes.watch_room(placement, room);
        tokio::task::yield_now().await;
    }
}

#[tonic::async_trait]
impl SfuNode for Counting {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let (node_id, boot_id) = ("node".to_owned(), "boot-1".to_owned());
        let region = "default".to_owned();
        Ok(Response::new(DescribeResponse { node_id, boot_id, region, ..DescribeResponse::default() }))
    }

    type WatchStream = ReceiverStream<Result<WatchEvent, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (events, stream) = mpsc::channel(1);
        let (mut requests, Self { rooms, live }) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let mut snapshot = Snapshot { room_ids: request.add_rooms, ..Snapshot::default() };
                if snapshot.room_ids.iter().any(|room| room == "r") {
                    snapshot.publications.extend(live.borrow().iter().map(|id| LivePublication {
                        room_id: "r".to_owned(),
                        transport_id: id.clone(),
                        publication_id: id.clone(),
                        ..LivePublication::default()
                    }));
                }
                rooms.send_modify(|count| *count += snapshot.room_ids.len());
                let (node_id, boot_id) = ("node".to_owned(), "boot-1".to_owned());
                let event = WatchEvent { node_id, boot_id, event: Some(Event::Snapshot(snapshot)) };
                if events.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn negotiate(&self, _: Request<NegotiateRequest>) -> Result<Response<NegotiateResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn restart(&self, _: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn close_transports(
        &self,
        request: Request<CloseTransportsRequest>,
    ) -> Result<Response<CloseTransportsResponse>, Status> {
        let closed = request.into_inner().transport_ids;
        self.live.send_modify(|live| live.retain(|id| !closed.contains(id)));
        Ok(Response::new(CloseTransportsResponse {}))
    }

    async fn survey(&self, _: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn set_metadata(&self, _: Request<SetMetadataRequest>) -> Result<Response<SetMetadataResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn record(&self, _: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }
}

#[tokio::test]
async fn a_watch_of_more_rooms_than_fit_on_the_way_opens() {
    let node = Counting::new(&[]);
    let mut rooms = node.rooms.subscribe();
    let (nodes, placement, _told) = node.start(MemoryRooms::new(RoomSettings::default()));
    let nth = |number: usize| room(&format!("room{number}"));
    watch_room(&nodes, &placement, &nth(0)).await;
    let count = MAX_ROOMS_PER_REQUEST * (MAX_REQUESTS + 2);
    for number in 1..count {
        nodes.watch_room(&placement, &nth(number));
    }
    let asked = timeout(PATIENCE, rooms.wait_for(|asked| *asked >= count)).await;
    assert_eq!(*asked.expect("asked in time").expect("the node runs"), count, "about each once");
}

/// A store that has Ann in the room `r` with this stream.
async fn with_stream(settings: RoomSettings, mid: &str, placement: &Placement) -> MemoryRooms {
    let store = MemoryRooms::new(settings);
    let (peer, session) = ("ann".parse::<PeerId>().expect("valid"), SessionId::of(1));
    let join = Join {
        room: room("r"),
        peer: peer.clone(),
        attachment: Attachment { edge: "edge-1".parse().expect("valid"), connection: ConnectionId(1) },
        resume: None,
        since: None,
        fresh: session.clone(),
        op: None,
    };
    store.join(join).await.expect("joined");
    let (actor, mid) = (Actor { room: room("r"), peer, session }, mid.parse::<Mid>().expect("valid"));
    let reserve = ReservePublication {
        actor: actor.clone(),
        mid: mid.clone(),
        minfo: Minfo::new(RawJson::new("{}").expect("JSON")).expect("a minfo"),
        candidates: vec![placement.clone()],
        recording: None,
        always_recorded: false,
        op: None,
    };
    store.reserve_publication(reserve).await.expect("reserved");
    store.confirm_publication(actor, &mid).await.expect("confirmed");
    store
}

#[tokio::test]
async fn a_transport_that_has_long_had_no_record_is_closed_and_no_other() {
    let node = Counting::new(&["recorded", "orphan"]);
    let mut live = node.live.subscribe();
    // Nobody refreshes the session, and nobody sweeps it.
    let (ttl, reservation) = (Duration::from_millis(200), Duration::from_millis(200));
    let settings = RoomSettings { ttl, reservation, ..RoomSettings::default() };
    let boot = BootId::new("boot-1").expect("valid");
    let place = Placement { node: "node".parse().expect("valid"), boot, region: "default".parse().expect("valid") };
    let (nodes, placement, _told) = node.start(with_stream(settings, "recorded", &place).await);
    assert_eq!(placement, place);
    watch_room(&nodes, &placement, &room("r")).await;
    let closed = timeout(PATIENCE, live.wait_for(|live| !live.contains("orphan"))).await;
    assert_eq!(*closed.expect("closed in time").expect("the node runs"), ["recorded".to_owned()].into());
    let compared = *node.rooms.borrow();
    assert!(compared >= 2, "it was closed when it was found once");
}
