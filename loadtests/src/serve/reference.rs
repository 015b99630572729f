//! The reference: the same fan-out, made of the `webrtc` crate's peer connections the way its examples do it. It answers the calls
//! of an SFU node that the generator makes, so that one generator drives both.

use proto::sfu::{
    CloseTransportsRequest, CloseTransportsResponse, DescribeRequest, DescribeResponse, NegotiateRequest,
    NegotiateResponse, NegotiatedPublication, RecordRequest, RecordResponse, RestartRequest, RestartResponse,
    SetMetadataRequest, SetMetadataResponse, SurveyRequest, SurveyResponse, WatchEvent, WatchRequest,
    sfu_node_server::{SfuNode, SfuNodeServer},
};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Notify};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use webrtc::{
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
    },
};

/// Gathering host candidates of one loopback address takes milliseconds.
const GATHERING: Duration = Duration::from_secs(5);

/// A subscriber's track and the SSRC that it is sent with.
type Subscriber = (Arc<TrackLocalStaticRTP>, u32);
/// A publication's subscribers; replaced as a whole, so that the forwarding task reads without waiting.
type Subscribers = Arc<RwLock<Arc<Vec<Subscriber>>>>;

/// The node.
#[derive(Default)]
struct Reference {
    publications: Mutex<HashMap<String, (Subscribers, RtpCodecKind)>>,
    connections: Mutex<HashMap<String, Arc<dyn PeerConnection>>>,
    next_ssrc: AtomicU32,
}

/// Hears what happens to one connection.
struct Handler {
    gathered: Arc<Notify>,
    /// Where to forward what arrives, for publishers.
    subscribers: Option<Subscribers>,
}

#[tonic::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Failed {
            eprintln!("reference: a connection failed");
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        if let Some(subscribers) = self.subscribers.clone() {
            tokio::spawn(forward(track, subscribers));
        }
    }
}

/// Hands every packet to every subscriber, until the track ends.
async fn forward(track: Arc<dyn TrackRemote>, subscribers: Subscribers) {
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(mut packet) = event else { continue };
        // The publisher's extension ids mean nothing to subscribers.
        packet.header.extension = false;
        packet.header.extensions.clear();
        let now = subscribers.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (subscriber, ssrc) in now.iter() {
            packet.header.ssrc = *ssrc;
            // A subscriber that is gone, or not there yet, loses the packet.
            let _ = subscriber.write_rtp(packet.clone()).await;
        }
    }
}

impl Reference {
    async fn connect(
        &self,
        request: &NegotiateRequest,
        subscribers: Option<Subscribers>,
        tracks: Vec<Arc<TrackLocalStaticRTP>>,
    ) -> Result<String, webrtc::error::Error> {
        let gathered = Arc::new(Notify::new());
        let mut engine = MediaEngine::default();
        engine.register_default_codecs()?;
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let settings = SettingEngineBuilder::new().with_include_loopback_candidate(true).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Handler { gathered: gathered.clone(), subscribers }))
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build();
        // Boxed: the crate's futures are large.
        let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(connection).await?);
        for track in tracks {
            connection.add_track(track as Arc<dyn TrackLocal>).await?;
        }
        connection.set_remote_description(RTCSessionDescription::offer(request.offer_sdp.clone())?).await?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer).await?;
        // What was gathered so far is what the answer says, if gathering takes longer.
        let _ = tokio::time::timeout(GATHERING, gathered.notified()).await;
        let local = connection.local_description().await.map(|description| description.sdp).unwrap_or_default();
        self.lock_connections().insert(request.transport_id.clone(), connection);
        Ok(local)
    }

    fn lock_connections(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn PeerConnection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, request: &NegotiateRequest) -> Option<Subscribers> {
        let binding = request.publications.first()?;
        let kind = if binding.video { RtpCodecKind::Video } else { RtpCodecKind::Audio };
        let subscribers = Subscribers::default();
        let mut publications = self.publications.lock().unwrap_or_else(PoisonError::into_inner);
        publications.insert(binding.publication_id.clone(), (subscribers.clone(), kind));
        Some(subscribers)
    }

    fn subscribe(&self, request: &NegotiateRequest) -> Result<Vec<Arc<TrackLocalStaticRTP>>, Status> {
        let publications = self.publications.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tracks = Vec::new();
        for binding in &request.subscriptions {
            let (subscribers, kind) =
                publications.get(&binding.publication_id).ok_or_else(|| Status::not_found("no such publication"))?;
            let ssrc = 1_000 + self.next_ssrc.fetch_add(1, Relaxed);
            let track = Arc::new(TrackLocalStaticRTP::new(outgoing(&binding.subscription_id, *kind, ssrc)));
            let mut current = subscribers.write().unwrap_or_else(PoisonError::into_inner);
            let mut next = current.as_ref().clone();
            next.push((track.clone(), ssrc));
            *current = Arc::new(next);
            tracks.push(track);
        }
        Ok(tracks)
    }
}

fn outgoing(id: &str, kind: RtpCodecKind, ssrc: u32) -> MediaStreamTrack {
    let codec = match kind {
        RtpCodecKind::Audio => RTCRtpCodec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            ..RTCRtpCodec::default()
        },
        _ => RTCRtpCodec { mime_type: "video/VP8".to_owned(), clock_rate: 90_000, ..RTCRtpCodec::default() },
    };
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() };
    let encoding =
        RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..RTCRtpEncodingParameters::default() };
    MediaStreamTrack::new(id.to_owned(), format!("track-{id}"), id.to_owned(), kind, vec![encoding])
}

#[tonic::async_trait]
impl SfuNode for Reference {
    async fn negotiate(&self, request: Request<NegotiateRequest>) -> Result<Response<NegotiateResponse>, Status> {
        let request = request.into_inner();
        let subscribers = self.publish(&request);
        let tracks = self.subscribe(&request)?;
        let answer_sdp = Box::pin(self.connect(&request, subscribers, tracks))
            .await
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let negotiated = |binding: &proto::sfu::PublicationBinding| NegotiatedPublication {
            publication_id: binding.publication_id.clone(),
            audio: binding.audio,
            video: binding.video,
        };
        let publications = request.publications.iter().map(negotiated).collect();
        Ok(Response::new(NegotiateResponse { answer_sdp, publications }))
    }

    async fn restart(&self, _: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        Err(Status::unimplemented("the reference is not restarted"))
    }

    async fn close_transports(
        &self,
        request: Request<CloseTransportsRequest>,
    ) -> Result<Response<CloseTransportsResponse>, Status> {
        for transport in request.into_inner().transport_ids {
            let connection = self.lock_connections().remove(&transport);
            if let Some(connection) = connection {
                connection.close().await.map_err(|error| Status::internal(error.to_string()))?;
            }
        }
        Ok(Response::new(CloseTransportsResponse {}))
    }

    type WatchStream = Pin<Box<dyn futures_util::Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, _: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("the reference is not watched"))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let version = "webrtc 0.21".to_owned();
        Ok(Response::new(DescribeResponse { node_id: "reference".to_owned(), version, ..DescribeResponse::default() }))
    }

    async fn survey(&self, _: Request<SurveyRequest>) -> Result<Response<SurveyResponse>, Status> {
        Err(Status::unimplemented("the reference is not surveyed"))
    }

    async fn set_metadata(&self, _: Request<SetMetadataRequest>) -> Result<Response<SetMetadataResponse>, Status> {
        Err(Status::unimplemented("the reference keeps no metadata"))
    }

    async fn record(&self, _: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(Status::unimplemented("the reference records nothing"))
    }
}

/// Starts the reference on loopback, on free ports, for as long as the runtime lives.
pub(super) async fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let service = SfuNodeServer::new(Reference::default());
    tokio::spawn(async move {
        let served = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await;
        if let Err(error) = served {
            eprintln!("reference: {error}");
        }
    });
    Ok(address)
}
