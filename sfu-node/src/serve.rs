//! Where the gRPC service is reached: a TCP port with or without mutual TLS, or a pipe inside the process.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use proto::sfu::sfu_node_server::SfuNodeServer;
use telemetry::settings::Contradiction;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Certificate, Channel, Endpoint, Identity, Server, ServerTlsConfig};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::service_fn;

use crate::config::GrpcTls;
use crate::grpc::{CALL_TIMEOUT, MAX_MESSAGE, SfuService};
use crate::node::StartError;

/// Bytes that a pipe inside the process holds in each direction: a message of usual size passes in one go.
const PIPE_BYTES: usize = 64 * 1024;

/// Connections inside the process that wait to be accepted; there is one per client.
const PIPES: usize = 16;

/// An edge that does not answer a ping for this long is gone, and its watch with it.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Longest that a TLS handshake may take: an edge on another continent needs three round trips.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Streams of one connection at a time: requests of an edge whose clients all publish at once, and its watch.
const STREAMS: u32 = 1_024;

/// The client's end of the way inside the process.
#[derive(Debug, Clone)]
pub(crate) struct InProcess {
    connections: mpsc::Sender<DuplexStream>,
}

impl InProcess {
    /// A channel that connects when it is first used.
    pub(crate) fn channel(&self) -> Channel {
        let connections = self.connections.clone();
        // The authority is never resolved; HTTP/2 wants one.
        let endpoint = Endpoint::from_static("http://sfu-node.invalid");
        endpoint.connect_with_connector_lazy(service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (client, server) = tokio::io::duplex(PIPE_BYTES);
                let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the node has ended");
                connections.send(server).await.map_err(gone)?;
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        }))
    }
}

/// Both ends of the way inside the process.
pub(crate) fn in_process() -> (InProcess, mpsc::Receiver<DuplexStream>) {
    let (connections, accepted) = mpsc::channel(PIPES);
    (InProcess { connections }, accepted)
}

/// Serves connections made inside the process until `shutdown`.
pub(crate) async fn connections(
    service: SfuService,
    health: HealthServer<HealthService>,
    connections: mpsc::Receiver<DuplexStream>,
    shutdown: CancellationToken,
) {
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let server =
        router(Server::builder(), (service, health)).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "gRPC inside the process has ended");
    }
}

/// Serves a port until `shutdown`.
pub(crate) fn port(
    served: (SfuService, HealthServer<HealthService>),
    listener: TcpListener,
    tls: Option<&ServerTlsConfig>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, StartError> {
    let server = match tls {
        Some(tls) => secured(tls)?,
        None => Server::builder(),
    };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let ended = router(server, served).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned());
    Ok(async move {
        if let Err(error) = ended.await {
            tracing::error!(%error, "gRPC has ended");
        }
    })
}

/// What stands in the files of mutual TLS, which is usable.
pub(crate) fn tls(config: &GrpcTls) -> Result<ServerTlsConfig, Contradiction> {
    let read = |key: &str, file: &Path| {
        std::fs::read(file).map_err(|error| Contradiction::new(key, format!("{}: {error}", file.display())))
    };
    let cert = read("grpc.tls.cert_file", &config.cert_file)?;
    let key = read("grpc.tls.key_file", &config.key_file)?;
    let client_ca = read("grpc.tls.client_ca_file", &config.client_ca_file)?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(client_ca))
        .timeout(HANDSHAKE);
    secured(&tls)?;
    Ok(tls)
}

fn secured(tls: &ServerTlsConfig) -> Result<Server, Contradiction> {
    Server::builder().tls_config(tls.clone()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Contradiction::new("grpc.tls", format!("{error}{cause}"))
    })
}

fn router(server: Server, (service, health): (SfuService, HealthServer<HealthService>)) -> Router {
    let service = SfuNodeServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    server
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .add_service(service)
        .add_service(health)
}
