//! An SFU node for tests of what can go wrong between an edge and a node: it speaks the real service over real sockets, carries
//! no media, and fails, is slow, forgets or dies as told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proto::refusal::{NoRecording, NoTransport};
use proto::sfu::sfu_node_server::{SfuNode, SfuNodeServer};
use proto::sfu::watch_event::Event;
use proto::sfu::{
    CloseTransportsRequest, CloseTransportsResponse, DescribeRequest, DescribeResponse, Draining, GoneReason,
    LivePublication, LiveSubscription, NegotiateRequest, NegotiateResponse, NegotiatedPublication, NodeState,
    RecordRequest, RecordResponse, RecordingEnd, RecordingEnded, RestartRequest, RestartResponse, SetMetadataRequest,
    SetMetadataResponse, Snapshot, SubscriptionBinding, SurveyRequest, SurveyResponse, TransportGone, WatchEvent,
    WatchRequest,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::rig::PATIENCE;

/// What the next calls get.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    Works,
    Fails(Status),
    /// The first this many calls fail like this, the others work.
    FailsFirst(usize, Status),
    NeverAnswers,
}

/// A node of the test.
pub(crate) struct TestSfu {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    /// Its own, so that it can die as a process does: with all its connections.
    runtime: Option<Runtime>,
    frozen: Arc<Frozen>,
}

/// Whether the node stands still.
#[derive(Default)]
struct Frozen {
    is: Mutex<bool>,
    thawed: Condvar,
}

pub(crate) struct State {
    id: String,
    boot: String,
    inner: Mutex<Inner>,
}

type Events = mpsc::Sender<Result<WatchEvent, Status>>;

struct Inner {
    behaviour: Behaviour,
    calls: usize,
    describes: usize,
    /// By transport.
    live: BTreeMap<String, Live>,
    closed: Vec<String>,
    /// Where the events of each watch go, and the rooms it is about.
    watchers: Vec<(Events, Vec<String>)>,
    drain_deadline_ms: Option<u64>,
    /// By publication.
    recordings: BTreeMap<String, String>,
    /// Those that are over.
    recorded: Vec<String>,
    /// Why it records nothing, if it does not.
    no_recording: Option<NoRecording>,
}

/// What a transport carries.
struct Live {
    room: String,
    client: String,
    /// What the edge left with them, by id.
    publications: BTreeMap<String, Vec<u8>>,
    /// Whose streams they are to, by id.
    subscriptions: BTreeMap<String, String>,
}

impl TestSfu {
    /// Starts a node on a free port.
    pub(crate) async fn start(id: &str, boot: &str) -> Self {
        Self::start_at(id, boot, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts a node at this address, which may have just been another's.
    pub(crate) async fn start_at(id: &str, boot: &str, address: SocketAddr) -> Self {
        Self::start_with(id, boot, address, Server::builder()).await
    }

    /// Starts a node on a free port that speaks TLS like this.
    pub(crate) async fn start_tls(id: &str, boot: &str, tls: ServerTlsConfig) -> Self {
        let server = Server::builder().tls_config(tls).expect("good certificates");
        Self::start_with(id, boot, SocketAddr::from(([127, 0, 0, 1], 0)), server).await
    }

    async fn start_with(id: &str, boot: &str, address: SocketAddr, mut server: Server) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let bind = || {
            let _in_it = runtime.enter();
            TcpIncoming::bind(address)
        };
        let incoming = loop {
            match bind() {
                Ok(incoming) => break incoming,
                // The one before has not let go of it yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let address = incoming.local_addr().expect("bound");
        let inner = Inner {
            behaviour: Behaviour::Works,
            calls: 0,
            describes: 0,
            live: BTreeMap::new(),
            closed: Vec::new(),
            watchers: Vec::new(),
            drain_deadline_ms: None,
            recordings: BTreeMap::new(),
            recorded: Vec::new(),
            no_recording: None,
        };
        let state = Arc::new(State { id: id.to_owned(), boot: boot.to_owned(), inner: Mutex::new(inner) });
        let service = SfuNodeServer::new(Service(Arc::clone(&state)));
        runtime.spawn(server.add_service(service).serve_with_incoming(incoming));
        Self { address, state, runtime: Some(runtime), frozen: Arc::default() }
    }

    /// Stands still like a process that was sent SIGSTOP: connections stay, new ones are made by the kernel, nothing is answered.
    pub(crate) fn freeze(&self) {
        let frozen = Arc::clone(&self.frozen);
        *frozen.is.lock().expect("not poisoned") = true;
        // The only thread it has.
        self.runtime.as_ref().expect("runs").spawn(async move {
            let is = frozen.is.lock().expect("not poisoned");
            drop(frozen.thawed.wait_while(is, |is| *is).expect("not poisoned"));
        });
    }

    /// Goes on.
    pub(crate) fn thaw(&self) {
        *self.frozen.is.lock().expect("not poisoned") = false;
        self.frozen.thawed.notify_all();
    }

    /// Dies: connections are cut, and new ones refused.
    pub(crate) fn die(self) -> SocketAddr {
        self.address
    }
}

impl Drop for TestSfu {
    fn drop(&mut self) {
        self.thaw();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        let mut inner = self.lock();
        inner.behaviour = behaviour;
        inner.calls = 0;
    }

    /// Calls since the behaviour was set.
    pub(crate) fn calls(&self) -> usize {
        self.lock().calls
    }

    pub(crate) fn live(&self) -> Vec<String> {
        self.lock().live.keys().cloned().collect()
    }

    pub(crate) fn closed(&self) -> Vec<String> {
        self.lock().closed.clone()
    }

    /// Loses a transport without telling anybody.
    pub(crate) fn forget(&self, transport: &str) {
        self.lock().live.remove(transport).expect("live");
    }

    /// Cuts all watches.
    pub(crate) fn cut_watches(&self) {
        self.lock().watchers.clear();
    }

    /// Waits until somebody has asked who this is, and heard it.
    pub(crate) async fn described(&self) {
        self.until(|| self.lock().describes > 0 && !self.lock().watchers.is_empty()).await;
    }

    /// Waits until somebody watches the room.
    pub(crate) async fn watched(&self, room: &str) {
        let watched = || self.lock().watchers.iter().any(|(_, rooms)| rooms.iter().any(|known| known == room));
        self.until(watched).await;
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How often it was asked who it is.
    pub(crate) fn describes(&self) -> usize {
        self.lock().describes
    }

    /// How many watch the room.
    pub(crate) fn watchers_of(&self, room: &str) -> usize {
        self.lock().watchers.iter().filter(|(_, rooms)| rooms.iter().any(|known| known == room)).count()
    }

    /// Takes no new publications any more, and has not said so yet.
    pub(crate) fn drain_silently(&self, deadline_ms: u64) {
        self.lock().drain_deadline_ms = Some(deadline_ms);
    }

    /// Takes publications again.
    pub(crate) fn drain_no_more(&self) {
        self.lock().drain_deadline_ms = None;
    }

    /// Takes no new publications any more, and says so.
    pub(crate) async fn drain(&self, deadline_ms: u64) {
        let watchers: Vec<Events> = {
            let mut inner = self.lock();
            inner.drain_deadline_ms = Some(deadline_ms);
            inner.watchers.iter().map(|(to, _)| to.clone()).collect()
        };
        for watcher in watchers {
            let _ = watcher.send(Ok(self.event(Event::Draining(Draining { deadline_ms })))).await;
        }
    }

    /// Ends a transport by itself, and tells.
    pub(crate) async fn lose(&self, transport: &str) {
        self.lose_because(GoneReason::ConsentExpired, transport).await;
    }

    /// Likewise, for a reason.
    pub(crate) async fn lose_because(&self, reason: GoneReason, transport: &str) {
        let (event, watchers) = {
            let mut inner = self.lock();
            let ended = inner.live.remove(transport).expect("live");
            let gone = TransportGone {
                room_id: ended.room,
                client_id: ended.client,
                transport_id: transport.to_owned(),
                publication_ids: ended.publications.into_keys().collect(),
                subscription_ids: ended.subscriptions.into_keys().collect(),
                reason: reason.into(),
            };
            (
                self.event(Event::TransportGone(gone)),
                inner.watchers.iter().map(|(to, _)| to.clone()).collect::<Vec<_>>(),
            )
        };
        for watcher in watchers {
            let _ = watcher.send(Ok(event.clone())).await;
        }
    }

    /// What is being recorded of a publication.
    pub(crate) fn recording(&self, publication: &str) -> Option<String> {
        self.lock().recordings.get(publication).cloned()
    }

    /// Records nothing, for this reason, or whatever it is told.
    pub(crate) fn record_nothing(&self, why: Option<NoRecording>) {
        self.lock().no_recording = why;
    }

    /// Does not record a publication any more, and tells nobody.
    pub(crate) fn end_recording_silently(&self, publication: &str) {
        let mut inner = self.lock();
        let ended = inner.recordings.remove(publication).expect("is recorded");
        inner.recorded.push(ended);
    }

    /// Its disk is full.
    pub(crate) async fn end_recording(&self, publication: &str) {
        let (event, watchers) = {
            let mut inner = self.lock();
            let recording_id = inner.recordings.remove(publication).expect("is recorded");
            inner.recorded.push(recording_id.clone());
            let live = inner.live.values().find(|live| live.publications.contains_key(publication)).expect("live");
            let ended = RecordingEnded {
                room_id: live.room.clone(),
                publication_id: publication.to_owned(),
                recording_id,
                reason: RecordingEnd::DiskFull.into(),
                traceparent: String::new(),
            };
            let watchers: Vec<Events> = inner.watchers.iter().map(|(to, _)| to.clone()).collect();
            (self.event(Event::RecordingEnded(ended)), watchers)
        };
        for watcher in watchers {
            let _ = watcher.send(Ok(event.clone())).await;
        }
    }

    fn event(&self, event: Event) -> WatchEvent {
        WatchEvent { node_id: self.id.clone(), boot_id: self.boot.clone(), event: Some(event) }
    }

    fn meant(&self, boot: &str) -> Result<(), Status> {
        if boot == self.boot { Ok(()) } else { Err(Status::failed_precondition("another start")) }
    }

    async fn misbehave(&self) -> Result<(), Status> {
        let behaviour = {
            let mut inner = self.lock();
            inner.calls += 1;
            match &inner.behaviour {
                Behaviour::FailsFirst(count, status) if inner.calls <= *count => Behaviour::Fails(status.clone()),
                Behaviour::FailsFirst(..) => Behaviour::Works,
                other => other.clone(),
            }
        };
        match behaviour {
            Behaviour::Fails(status) => Err(status),
            Behaviour::NeverAnswers => std::future::pending().await,
            Behaviour::Works | Behaviour::FailsFirst(..) => Ok(()),
        }
    }
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl SfuNode for Service {
    async fn negotiate(&self, request: Request<NegotiateRequest>) -> Result<Response<NegotiateResponse>, Status> {
        self.0.misbehave().await?;
        let request = request.into_inner();
        self.0.meant(&request.boot_id)?;
        if !request.publications.is_empty() && self.0.lock().drain_deadline_ms.is_some() {
            return Err(NoTransport::Draining.status("the node drains"));
        }
        let kinds = |audio: bool, video: bool| {
            (audio && request.offer_sdp.contains("m=audio"), video && request.offer_sdp.contains("m=video"))
        };
        let publications: Vec<NegotiatedPublication> = request
            .publications
            .iter()
            .map(|binding| {
                let (audio, video) = kinds(binding.audio, binding.video);
                NegotiatedPublication { publication_id: binding.publication_id.clone(), audio, video }
            })
            .collect();
        let to_stream = |binding: SubscriptionBinding| (binding.subscription_id, binding.publication_id);
        let live = Live {
            room: request.room_id,
            client: request.client_id,
            publications: request.publications.into_iter().map(|it| (it.publication_id, it.metadata)).collect(),
            subscriptions: request.subscriptions.into_iter().map(to_stream).collect(),
        };
        self.0.lock().live.insert(request.transport_id, live);
        Ok(Response::new(NegotiateResponse { answer_sdp: "v=0\r\n".to_owned(), publications }))
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        self.0.misbehave().await?;
        let request = request.into_inner();
        self.0.meant(&request.boot_id)?;
        if self.0.lock().live.contains_key(&request.transport_id) {
            Ok(Response::new(RestartResponse { answer_sdp: "v=0\r\n".to_owned() }))
        } else {
            Err(Status::not_found("no such transport"))
        }
    }

    async fn close_transports(
        &self,
        request: Request<CloseTransportsRequest>,
    ) -> Result<Response<CloseTransportsResponse>, Status> {
        self.0.misbehave().await?;
        let mut inner = self.0.lock();
        for transport in request.into_inner().transport_ids {
            inner.live.remove(&transport);
            inner.closed.push(transport);
        }
        Ok(Response::new(CloseTransportsResponse {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (events, stream) = mpsc::channel(64);
        let mut requests = request.into_inner();
        let state = Arc::clone(&self.0);
        state.lock().watchers.push((events.clone(), Vec::new()));
        let (mine, events) = (events.clone(), events.downgrade());
        drop(mine);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Some(events) = events.upgrade() else { return };
                let snapshot = {
                    let mut inner = state.lock();
                    if let Some((_, rooms)) = inner.watchers.iter_mut().find(|(to, _)| to.same_channel(&events)) {
                        rooms.extend(request.add_rooms.iter().cloned());
                        rooms.retain(|room| !request.remove_rooms.contains(room));
                    }
                    snapshot(&inner, request.add_rooms)
                };
                let _ = events.send(Ok(state.event(Event::Snapshot(snapshot)))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let mut inner = self.0.lock();
        inner.describes += 1;
        let state = if inner.drain_deadline_ms.is_some() { NodeState::Draining } else { NodeState::Ready };
        Ok(Response::new(DescribeResponse {
            node_id: self.0.id.clone(),
            boot_id: self.0.boot.clone(),
            region: "default".to_owned(),
            version: "test".to_owned(),
            state: state.into(),
            drain_deadline_ms: inner.drain_deadline_ms.unwrap_or_default(),
            records: inner.no_recording.is_none(),
            ..DescribeResponse::default()
        }))
    }

    async fn survey(&self, _: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        let inner = self.0.lock();
        let rooms = inner.live.values().map(|live| live.room.clone()).collect();
        let Snapshot { publications, subscriptions, .. } = snapshot(&inner, rooms);
        let (node_id, boot_id) = (self.0.id.clone(), self.0.boot.clone());
        let next_cursor = String::new();
        Ok(Response::new(SurveyResponse { node_id, boot_id, publications, subscriptions, next_cursor }))
    }

    async fn set_metadata(
        &self,
        request: Request<SetMetadataRequest>,
    ) -> Result<Response<SetMetadataResponse>, Status> {
        let SetMetadataRequest { publication_id, metadata, .. } = request.into_inner();
        let mut inner = self.0.lock();
        let mut kept = inner.live.values_mut().filter_map(|live| live.publications.get_mut(&publication_id));
        let kept = kept.next().ok_or_else(|| Status::not_found(publication_id.clone()))?;
        *kept = metadata;
        Ok(Response::new(SetMetadataResponse {}))
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        self.0.misbehave().await?;
        let RecordRequest { publication_id, recording_id, on, boot_id } = request.into_inner();
        self.0.meant(&boot_id)?;
        let mut inner = self.0.lock();
        if !inner.live.values().any(|live| live.publications.contains_key(&publication_id)) {
            return Err(Status::not_found(publication_id));
        }
        if !on {
            if inner.recordings.get(&publication_id) == Some(&recording_id) {
                inner.recordings.remove(&publication_id);
            }
            inner.recorded.push(recording_id);
            return Ok(Response::new(RecordResponse {}));
        }
        if inner.recorded.contains(&recording_id) {
            return Err(NoRecording::Ended.status("over"));
        }
        if let Some(why) = inner.no_recording {
            inner.recorded.push(recording_id);
            return Err(why.status("not here"));
        }
        inner.recordings.insert(publication_id, recording_id);
        Ok(Response::new(RecordResponse {}))
    }
}

fn snapshot(inner: &Inner, room_ids: Vec<String>) -> Snapshot {
    let mut snapshot = Snapshot { room_ids, ..Snapshot::default() };
    for (transport, live) in inner.live.iter().filter(|(_, live)| snapshot.room_ids.contains(&live.room)) {
        snapshot.publications.extend(live.publications.iter().map(|(id, metadata)| LivePublication {
            room_id: live.room.clone(),
            client_id: live.client.clone(),
            transport_id: transport.clone(),
            publication_id: id.clone(),
            metadata: metadata.clone(),
            recording_id: inner.recordings.get(id).cloned().unwrap_or_default(),
        }));
        snapshot.subscriptions.extend(live.subscriptions.iter().map(|(id, stream)| LiveSubscription {
            room_id: live.room.clone(),
            client_id: live.client.clone(),
            transport_id: transport.clone(),
            subscription_id: id.clone(),
            publication_id: stream.clone(),
        }));
    }
    snapshot
}
