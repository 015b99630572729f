use std::sync::Arc;

use proto::sfu::sfu_node_server::{SfuNode, SfuNodeServer};
use proto::sfu::{
    CloseTransportsRequest, CloseTransportsResponse, DescribeRequest, DescribeResponse, NegotiateRequest,
    NegotiateResponse, RestartRequest, RestartResponse, SetMetadataRequest, SetMetadataResponse, SurveyRequest,
    SurveyResponse,
};
use room_store::{MemoryRooms, StaticNodes};
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

/// A node with nothing on it that counts the rooms it is asked about, and takes no more while its answers are not taken.
struct Counting {
    rooms: watch::Sender<usize>,
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
        let (mut requests, rooms) = (request.into_inner(), self.rooms.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let snapshot = Snapshot { room_ids: request.add_rooms, ..Snapshot::default() };
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
        _: Request<CloseTransportsRequest>,
    ) -> Result<Response<CloseTransportsResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn survey(&self, _: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }

    async fn set_metadata(&self, _: Request<SetMetadataRequest>) -> Result<Response<SetMetadataResponse>, Status> {
        Err(Status::unimplemented("carries nothing"))
    }
}

#[tokio::test]
async fn a_watch_of_more_rooms_than_fit_on_the_way_opens() {
    let (counted, mut rooms) = watch::channel(0);
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = incoming.local_addr().expect("bound");
    let service = SfuNodeServer::new(Counting { rooms: counted });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let settings: EdgeSettings =
        Sources::text("edge.yaml", format!("nodes: [{{id: node, grpc: 'http://{address}'}}]\n"))
            .load()
            .expect("good settings");
    let (events, _told) = mpsc::channel(1);
    let nodes = Nodes::start(NodesConfig {
        connector: Arc::new(TcpConnector::default()),
        directory: Arc::new(StaticNodes::new(settings.node_records())),
        region: settings.region.clone(),
        members: Arc::new(Members::new(Arc::new(MemoryRooms::new(settings.room_settings())))),
        events,
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
        metrics: EdgeMetrics::register(),
    });
    let room = |number: usize| RoomId::new(format!("room{number}")).expect("valid");
    let node = settings.nodes[0].id.clone();
    let placement =
        Placement { node: node.clone(), boot: BootId::new("boot-1").expect("valid"), region: settings.region.clone() };
    while !nodes.watches(&node, &room(0)) {
        nodes.watch_room(&placement, &room(0));
        tokio::task::yield_now().await;
    }
    let count = MAX_ROOMS_PER_REQUEST * (MAX_REQUESTS + 2);
    for number in 1..count {
        nodes.watch_room(&placement, &room(number));
    }
    let asked = timeout(Duration::from_secs(20), rooms.wait_for(|asked| *asked >= count)).await;
    assert_eq!(*asked.expect("asked in time").expect("the node runs"), count, "about each once");
}
