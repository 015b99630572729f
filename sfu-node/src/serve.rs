//! Where the gRPC service is reached: a TCP port with or without mutual TLS, or a pipe inside the process.

mod metered;
mod tls;
mod traced;

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use proto::sfu::sfu_node_server::SfuNodeServer;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::service_fn;

use crate::grpc::{CALL_TIMEOUT, MAX_MESSAGE, SfuService};
use metered::Metered;
pub(crate) use tls::Certificates;
use traced::Traced;

/// Bytes that a pipe inside the process holds in each direction: a message of usual size passes in one go.
const PIPE_BYTES: usize = 64 * 1024;

/// Connections inside the process that wait to be accepted; there is one per client.
const PIPES: usize = 16;

/// An edge is pinged this often; one that does not answer for as long is gone, and its watch with it.
const KEEPALIVE: Duration = Duration::from_secs(10);

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
pub(crate) async fn port(
    served: (SfuService, HealthServer<HealthService>),
    listener: TcpListener,
    certificates: Option<Certificates>,
    shutdown: CancellationToken,
) {
    let router = router(Server::builder(), served);
    let ended = shutdown.clone().cancelled_owned();
    let served = if let Some(certificates) = certificates {
        let (accepted, connections) = tls::connections();
        let serve = router.serve_with_incoming_shutdown(ReceiverStream::new(connections), ended);
        let accept = shutdown.run_until_cancelled(tls::accept(listener, certificates, accepted));
        tokio::join!(serve, accept).0
    } else {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        router.serve_with_incoming_shutdown(incoming, ended).await
    };
    if let Err(error) = served {
        tracing::error!(%error, "gRPC has ended");
    }
}

fn router(server: Server, (service, health): (SfuService, HealthServer<HealthService>)) -> Router {
    let service = SfuNodeServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    server
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .add_service(Metered::new(Traced(service)))
        .add_service(health)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::ids::{BootId, NodeId, RegionId};
    use room_store::Load;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;
    use tokio::time::Instant;
    use tonic_health::server::HealthReporter;

    use super::*;
    use crate::control::Control;
    use crate::node::Identification;

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_answers_no_ping_is_cut_off() {
        /// A client's preface and its empty settings (RFC 9113, section 3.4).
        const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let identification = Identification {
            node: NodeId::new("node-1").expect("valid"),
            boot: BootId::of(1),
            region: RegionId::new("sz").expect("valid"),
        };
        let (_measured, load) = watch::channel(Load::default());
        let shutdown = CancellationToken::new();
        let control = Arc::new(Control::without_shards());
        let service = SfuService::new(control, identification, load, shutdown.clone());
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let (in_process, accepted) = in_process();
        let server = tokio::spawn(connections(service, health, accepted, shutdown.clone()));
        let (mut edge, accepted) = tokio::io::duplex(PIPE_BYTES);
        in_process.connections.send(accepted).await.expect("the server lives");
        edge.write_all(HELLO).await.expect("room");
        let begun = Instant::now();
        let mut said = Vec::new();
        edge.read_to_end(&mut said).await.expect("closed in order");
        assert_eq!(begun.elapsed().as_secs(), 2 * KEEPALIVE.as_secs(), "{said:?}");
        shutdown.cancel();
        server.await.expect("ended");
    }
}
