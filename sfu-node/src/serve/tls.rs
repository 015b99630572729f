//! Mutual TLS on the gRPC port. Certificates are looked at for every connection and read anew when their files have changed, so
//! that renewing one moves no stream: connections are few and live long.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use telemetry::settings::Contradiction;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::field::{DisplayValue, display};

use crate::config::GrpcTls;

/// Longest that a handshake may take: an edge on another continent needs three round trips.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes at a time. One takes about a millisecond of a CPU and 50 KB; edges that all come back at once wait their turn.
const HANDSHAKES: usize = 256;

/// Connections that wait to be served, which takes no time.
const CONNECTIONS: usize = 16;

/// After an error of the listener, which is mostly a lack of file descriptors: until some have been closed.
const PAUSE: Duration = Duration::from_millis(100);

/// Least time between two failed handshakes that are said.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A connection that has shaken hands.
type Secured = io::Result<TlsStream<TcpStream>>;

/// What a file's change is noticed by.
type Stamp = Option<(SystemTime, u64)>;

/// What stands in the files, which is usable.
#[derive(Clone)]
pub(crate) struct Certificates {
    files: GrpcTls,
    stamps: [Stamp; 3],
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads them; an error names the key.
    pub(crate) fn read(files: &GrpcTls) -> Result<Self, Contradiction> {
        // Before reading: what is written meanwhile is noticed as a change.
        let stamps = stamps(files);
        Ok(Self { config: Arc::new(config(files)?), files: files.clone(), stamps })
    }

    /// What holds now.
    fn current(&mut self) -> Arc<ServerConfig> {
        let stamps = stamps(&self.files);
        if stamps != self.stamps {
            self.stamps = stamps;
            match config(&self.files) {
                Ok(config) => {
                    self.config = Arc::new(config);
                    tracing::info!("certificates of gRPC read anew");
                }
                // Half of them may be written yet: the next change is looked at again.
                Err(error) => tracing::warn!(%error, "certificates of gRPC have changed and cannot be used: as before"),
            }
        }
        self.config.clone()
    }
}

/// Connections with TLS, for as long as somebody takes them.
pub(crate) async fn accept(listener: TcpListener, mut certificates: Certificates, accepted: mpsc::Sender<Secured>) {
    let refusals = Arc::<Mutex<Refusals>>::default();
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    while !accepted.is_closed() {
        let turn = turns.clone().acquire_owned().await.expect("invariant: nobody closes it");
        while handshakes.try_join_next().is_some() {}
        tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => match connection {
                Ok((socket, _)) => {
                    let acceptor = TlsAcceptor::from(certificates.current());
                    handshakes.spawn(shake_hands(acceptor, socket, accepted.clone(), refusals.clone(), turn));
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// A bounded queue for [`accept`].
pub(crate) fn connections() -> (mpsc::Sender<Secured>, mpsc::Receiver<Secured>) {
    mpsc::channel(CONNECTIONS)
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    accepted: mpsc::Sender<Secured>,
    refusals: Arc<Mutex<Refusals>>,
    turn: OwnedSemaphorePermit,
) {
    let peer = socket.peer_addr();
    let shaken = async {
        socket.set_nodelay(true)?;
        acceptor.accept(socket).await
    };
    match timeout(HANDSHAKE, shaken).await {
        // Nobody takes it: the node ends.
        Ok(Ok(connection)) => drop(accepted.send(Ok(connection)).await),
        // Who looks whether the port is open.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(address = address(&peer), %error, "TLS refused");
        }
        Ok(Err(error)) => say(&refusals, &peer, &error.to_string()),
        Err(_) => say(&refusals, &peer, "it took too long"),
    }
    drop(turn);
}

fn address(peer: &io::Result<SocketAddr>) -> Option<DisplayValue<SocketAddr>> {
    peer.as_ref().ok().copied().map(display)
}

/// A handshake has failed: mostly an edge's certificate or ours, of which nothing else would speak.
fn say(refusals: &Mutex<Refusals>, peer: &io::Result<SocketAddr>, cause: &str) {
    let said = refusals.lock().unwrap_or_else(PoisonError::into_inner).handle_refusal(Instant::now());
    if let Some(unsaid) = said {
        tracing::info!(address = address(peer), cause, unsaid, "TLS handshake failed");
    } else {
        tracing::debug!(address = address(peer), cause, "TLS handshake failed");
    }
}

/// Failed handshakes, of which strangers can make as many as they like: not each is said.
#[derive(Default)]
struct Refusals {
    said: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    /// One more. `Some`: it is to be said, with how many were not since the last.
    fn handle_refusal(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn stamps(files: &GrpcTls) -> [Stamp; 3] {
    [&files.cert, &files.key, &files.ca].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn config(files: &GrpcTls) -> Result<ServerConfig, Contradiction> {
    const CERT: &str = "grpc.tls.cert";
    const KEY: &str = "grpc.tls.key";
    const CA: &str = "grpc.tls.ca";
    let chain = certificates(CERT, &files.cert)?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(KEY, &files.key, "private key", &error))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(CA, &files.ca)? {
        let wrong = |error| Contradiction::new(CA, format!("{}: {error}", files.ca.display()));
        roots.add(root).map_err(wrong)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| Contradiction::new(CA, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(clients).with_single_cert(chain, key))
        .map_err(|error| Contradiction::new(KEY, format!("cannot be used with {}: {error}", files.cert.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Contradiction> {
    let wrong = |error| unusable(key, path, "certificate", &error);
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong(PemError::NoItemsFound)) } else { Ok(found) }
}

fn unusable(key: &str, path: &Path, what: &str, error: &PemError) -> Contradiction {
    let reason = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => format!("holds no {what} in PEM"),
        error => error.to_string(),
    };
    Contradiction::new(key, format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_failed_handshakes_one_is_said_now_and_then_and_none_is_lost_from_the_count() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.handle_refusal(start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(refusals.handle_refusal(start + SAY_EVERY - Duration::from_millis(1)), None);
        }
        assert_eq!(refusals.handle_refusal(start + SAY_EVERY), Some(1_000));
        assert_eq!(refusals.handle_refusal(start + 2 * SAY_EVERY), Some(0));
    }
}
