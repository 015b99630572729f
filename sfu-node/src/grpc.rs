//! The gRPC service for edges: messages to types and back, statuses for refusals. It decides nothing.

mod watching;

use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use proto::ids::{IdError, Mid, RecordingId, RoomId, TransportId};
use proto::sfu::sfu_node_server::SfuNode;
use proto::sfu::{
    CloseTransportsRequest, CloseTransportsResponse, DescribeRequest, DescribeResponse, Load, NegotiateRequest,
    NegotiateResponse, NegotiatedPublication, RecordRequest, RecordResponse, RestartRequest, RestartResponse,
    SetMetadataRequest, SetMetadataResponse, SurveyRequest, SurveyResponse, WatchEvent, WatchRequest,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::field::{DisplayValue, display};

use crate::control::{
    Control, Cursor, Negotiation, NoCursor, OfferText, Outcome, Page, Refusal, RequestError, WatchRefusal, metadata,
};
use crate::metrics::catalogue::REFUSED;
use crate::node::Identification;
use watching::OpenWatch;

/// Largest message taken: an offer of 256 KiB, 64 bindings' metadata of 16 KiB at most, and names.
pub(crate) const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// Longest time a call may take. All but `Watch`, which is answered at once and streams on, are a matter of microseconds:
/// this only bounds a stalled sender.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Transports in one `CloseTransports`, and rooms in one `WatchRequest`; more take further calls.
const MAX_IDS: usize = 10_000;

/// The service; clones serve the same node.
#[derive(Clone)]
pub(crate) struct SfuService {
    control: Arc<Control>,
    identification: Identification,
    load: watch::Receiver<room_store::Load>,
    shutdown: CancellationToken,
}

impl SfuService {
    pub(crate) fn new(
        control: Arc<Control>,
        identification: Identification,
        load: watch::Receiver<room_store::Load>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { control, identification, load, shutdown }
    }
}

#[tonic::async_trait]
impl SfuNode for SfuService {
    async fn negotiate(&self, request: Request<NegotiateRequest>) -> Result<Response<NegotiateResponse>, Status> {
        self.accepting()?;
        let request = request.into_inner();
        self.meant(&request.boot_id)?;
        let request = Negotiation::try_from(request)?;
        let outcome = self.control.negotiate(&request).inspect_err(|refusal| {
            if let Some(reason) = refusal.reason() {
                REFUSED.counter(&[("reason", reason)]).increment(1);
            }
            tracing::debug!(transport = %request.transport, room = %request.room, %refusal, "negotiation refused");
        })?;
        tracing::debug!(transport = %request.transport, room = %request.room, "negotiated");
        Ok(Response::new(outcome.into()))
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        self.accepting()?;
        let request = request.into_inner();
        self.meant(&request.boot_id)?;
        let transport = TransportId::new(&request.transport_id).map_err(RequestError::from)?;
        let offer = OfferText::parse(&request.offer_sdp).map_err(RequestError::from)?;
        let answer = self.control.restart(&transport, &offer)?;
        let room = || self.control.room_of_transport(&transport).map(display);
        tracing::debug!(%transport, room = room(), "ICE restarted");
        Ok(Response::new(RestartResponse { answer_sdp: answer.to_string() }))
    }

    async fn close_transports(
        &self,
        request: Request<CloseTransportsRequest>,
    ) -> Result<Response<CloseTransportsResponse>, Status> {
        let ids: Vec<TransportId> = read_ids(&request.into_inner().transport_ids)?;
        self.control.close_transports(&ids);
        tracing::debug!(transports = ids.len(), "closed");
        Ok(Response::new(CloseTransportsResponse {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.accepting()?;
        let queue = self.control.open_watch()?;
        tracing::info!(address = request.remote_addr().map(display), "watch opened");
        let requests = request.into_inner();
        let watch = OpenWatch::new(self.control.clone(), &self.identification, queue, requests);
        Ok(Response::new(Box::pin(watch.events())))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let Identification { node, boot, region } = &self.identification;
        let phase = *self.control.phase().borrow();
        let load = *self.load.borrow();
        Ok(Response::new(DescribeResponse {
            node_id: node.to_string(),
            boot_id: boot.to_string(),
            region: region.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: phase.state().into(),
            load: Some(Load {
                cpu: load.cpu,
                egress_bps: load.egress_bps,
                tracks: load.tracks,
                packets_per_second: load.packets_per_second,
                loss: load.loss,
                transports: self.control.transports() as u64,
                busy: load.busy,
                delay_us: load.delay_us,
                memory: load.memory,
                pressure: load.pressure,
            }),
            drain_deadline_ms: phase.left(Instant::now()).as_millis() as u64,
            records: self.control.records(),
        }))
    }

    async fn survey(&self, request: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        let request = request.into_inner();
        self.meant(&request.boot_id)?;
        let Page { live, next } = self.control.survey(Cursor::parse(&request.cursor)?);
        Ok(Response::new(SurveyResponse {
            node_id: self.identification.node.to_string(),
            boot_id: self.identification.boot.to_string(),
            publications: live.publications,
            subscriptions: live.subscriptions,
            next_cursor: next.map(|cursor| cursor.to_string()).unwrap_or_default(),
        }))
    }

    async fn set_metadata(
        &self,
        request: Request<SetMetadataRequest>,
    ) -> Result<Response<SetMetadataResponse>, Status> {
        let request = request.into_inner();
        self.meant(&request.boot_id)?;
        let publication = Mid::new(&request.publication_id).map_err(RequestError::from)?;
        self.control.set_metadata(&publication, metadata(&request.metadata)?)?;
        tracing::debug!(mid = %publication, room = self.room_of(&publication), "metadata replaced");
        Ok(Response::new(SetMetadataResponse {}))
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let request = request.into_inner();
        self.meant(&request.boot_id)?;
        let publication = Mid::new(&request.publication_id).map_err(RequestError::from)?;
        let recording = RecordingId::new(&request.recording_id).map_err(RequestError::from)?;
        let begun = self.control.record(&publication, &recording, request.on).inspect_err(|refusal| {
            let room = self.room_of(&publication);
            tracing::debug!(mid = %publication, room, %recording, on = request.on, %refusal, "recording refused");
        })?;
        if let Some(beginning) = begun {
            // What comes after the answer is recorded.
            beginning.begun().await;
        }
        let room = || self.room_of(&publication);
        tracing::debug!(mid = %publication, room = room(), %recording, on = request.on, "told what to record");
        Ok(Response::new(RecordResponse {}))
    }
}

impl SfuService {
    fn accepting(&self) -> Result<(), Status> {
        if self.shutdown.is_cancelled() { Err(Status::unavailable("the node is going away")) } else { Ok(()) }
    }

    /// For lines of the log: those of one room are to be found by it.
    fn room_of(&self, publication: &Mid) -> Option<DisplayValue<RoomId>> {
        self.control.room_of(publication).map(display)
    }

    /// What was begun with an earlier start of the node must not go on here: its caller has noted that one.
    fn meant(&self, boot: &str) -> Result<(), Status> {
        if boot.is_empty() || boot == self.identification.boot.as_str() {
            return Ok(());
        }
        Err(Status::failed_precondition("the node has been started anew since"))
    }
}

fn read_ids<T: FromStr<Err = IdError>>(ids: &[String]) -> Result<Vec<T>, Status> {
    if ids.len() > MAX_IDS {
        return Err(Status::invalid_argument(format!("more than {MAX_IDS} ids in one message")));
    }
    ids.iter().map(|id| id.parse().map_err(|error: IdError| Status::invalid_argument(error.to_string()))).collect()
}

impl From<Outcome> for NegotiateResponse {
    fn from(outcome: Outcome) -> Self {
        let publications = outcome.publications.into_iter();
        Self {
            answer_sdp: outcome.answer.to_string(),
            publications: publications
                .map(|(id, audio, video)| NegotiatedPublication { publication_id: id.to_string(), audio, video })
                .collect(),
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let reason = refusal.to_string();
        match refusal {
            Refusal::Invalid(_) | Refusal::NothingFor(_) => Self::invalid_argument(reason),
            Refusal::NoPublication(_) | Refusal::NoTransport(_) => Self::not_found(reason),
            Refusal::Conflict(_) => Self::already_exists(reason),
            Refusal::NoTransports(why) => why.status(reason),
            Refusal::NoRecording(why) => why.status(reason),
            Refusal::Busy(_) => Self::unavailable(reason),
        }
    }
}

impl From<NoCursor> for Status {
    fn from(error: NoCursor) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<WatchRefusal> for Status {
    fn from(refusal: WatchRefusal) -> Self {
        let reason = refusal.to_string();
        match refusal {
            WatchRefusal::TooManyRooms | WatchRefusal::TooManyWatchers => Self::resource_exhausted(reason),
            WatchRefusal::Ended => Self::aborted(reason),
            WatchRefusal::Ending => Self::unavailable(reason),
        }
    }
}
