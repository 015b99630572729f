//! How many TCP connections a listener holds, in all and of one address, whether they are ever upgraded or not: each is an open
//! file, and without a bound one client could take them all. And how fast each is read: whatever is in its bytes has to be looked
//! at, also what never becomes a frame. And what the system keeps of each beside: what waits for a client in its queue is bounded
//! where it is queued (`pipe`), what waits in the system is bounded here.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};
use tower::Layer as _;

use crate::gate::{Gate, GateLimits, Place};
use crate::metrics::EdgeMetrics;
use crate::proxies::Network;
use crate::proxy_header::{self, Proxied};
use crate::rate::{Rate, TokenBucket};

/// How long the system goes on with a connection whose peer takes nothing of what waits for it, also when it was closed here. No
/// session is silent for longer (`session::Pace`), so that this ends none before it knows why.
const UNTAKEN_TIME: Duration = Duration::from_mins(1);

/// Accepts connections for which there is a place, and drops the others without a word: who is told why is who asks for a
/// WebSocket too many, and their limits (`ws`) are lower.
#[derive(Clone)]
pub(crate) struct BoundedAcceptor {
    gate: Gate,
    trusted_proxies: Vec<Network>,
    /// Bytes read of one connection.
    bytes: Rate,
    send_buffer: usize,
    metrics: EdgeMetrics,
}

impl BoundedAcceptor {
    /// Connections in all and of one address; those of a trusted proxy, which has its clients' connections, count in all only. And
    /// how many bytes of each are read, and how large its send buffer is: the system keeps up to twice that, its own of each packet
    /// included.
    pub(crate) fn new(
        connections: usize,
        per_address: usize,
        trusted_proxies: Vec<Network>,
        bytes: Rate,
        send_buffer: usize,
        metrics: EdgeMetrics,
    ) -> Self {
        let gate = Gate::new(GateLimits { connections, per_address, rate: None, total_rate: None });
        Self { gate, trusted_proxies, bytes, send_buffer, metrics }
    }

    fn admit(&self, stream: TcpStream) -> io::Result<Held> {
        // Frames are small and answers waited for: they must not wait for an acknowledgement of the ones before.
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_send_buffer_size(self.send_buffer)?;
        socket.set_tcp_user_timeout(Some(UNTAKEN_TIME))?;
        let address = self.counted(stream.peer_addr()?.ip());
        let now = now();
        match self.gate.enter(address, now) {
            Ok(place) => {
                let bytes = TokenBucket::new(self.bytes, now);
                Ok(Held { stream, bytes, paying: None, reset: Reset::default(), _place: place })
            }
            Err(refusal) => {
                self.metrics.refused((&refusal).into());
                Err(io::Error::other("too many connections"))
            }
        }
    }

    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        (!self.is_trusted(address)).then_some(address)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for BoundedAcceptor {
    type Stream = Held;
    type Service = AddExtension<AddExtension<S, Reset>, Proxied>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Held, Self::Service)>> + Send>>;

    /// Requests come with the connection's [`Reset`], and whom its proxy says it is for.
    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = stream.peer_addr().and_then(|peer| Ok((self.is_trusted(peer.ip()), self.admit(stream)?)));
        Box::pin(async move {
            let (trusted, mut held) = admitted?;
            let proxied = if trusted { proxy_header::read(&mut held.stream).await? } else { Proxied(None) };
            let service = Extension(held.reset.clone()).layer(service);
            Ok((held, Extension(proxied).layer(service)))
        })
    }
}

/// How a connection ends when it is dropped: what waits for the client is still sent, for as long as that takes, or, once this is
/// wanted, forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    pub(crate) fn want(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection and its place.
#[derive(Debug)]
pub(crate) struct Held {
    stream: TcpStream,
    bytes: TokenBucket,
    /// Until the bytes that were read are paid for.
    paying: Option<Pin<Box<Sleep>>>,
    reset: Reset,
    _place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.reset.is_wanted() {
            // A socket that is gone already keeps nothing.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(paying) = &mut self.paying {
            ready!(paying.as_mut().poll(cx));
            self.paying = None;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let (read, now) = (buf.filled().len() - before, now());
        self.bytes.charge(u32::try_from(read).unwrap_or(u32::MAX), now);
        self.paying = self.bytes.in_debt_until(now).map(|paid| Box::pin(sleep_until(paid.into())));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// By the clock that sleeps go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Bytes that are asked for.
    const SEND_BUFFER: usize = 64 * 1024;

    fn acceptor(bytes: Rate) -> BoundedAcceptor {
        BoundedAcceptor::new(1, 1, Vec::new(), bytes, SEND_BUFFER, EdgeMetrics::register())
    }

    /// A client and its connection.
    async fn admitted(bytes: Rate) -> (TcpStream, Held) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepted");
        (client, acceptor(bytes).admit(stream).expect("there is a place"))
    }

    #[tokio::test]
    async fn the_system_keeps_no_more_for_a_client_than_it_is_told_and_not_for_ever() {
        let (_client, held) = admitted(Rate::new(1_000, 1_000)).await;
        let socket = SockRef::from(&held.stream);
        assert_eq!(socket.send_buffer_size().expect("asked"), 2 * SEND_BUFFER);
        assert_eq!(socket.tcp_user_timeout().expect("asked"), Some(UNTAKEN_TIME));
    }

    /// What the client, which has read nothing, reads when its connection was dropped.
    async fn after_drop((mut client, mut held): (TcpStream, Held)) -> io::Result<Vec<u8>> {
        held.write_all(b"last words").await.expect("taken");
        drop(held);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.map(|_| read)
    }

    #[tokio::test]
    async fn what_waits_for_a_client_outlives_its_connection_unless_a_reset_is_wanted() {
        let rate = Rate::new(1_000, 1_000);
        assert_eq!(after_drop(admitted(rate).await).await.expect("read"), b"last words");
        let (client, held) = admitted(rate).await;
        held.reset.want();
        let error = after_drop((client, held)).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_read_no_faster_than_they_are_allowed_and_all_of_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        client.write_all(&[7; 5_000]).await.expect("taken");
        drop(client);
        let (stream, _) = listener.accept().await.expect("accepted");
        let mut held = acceptor(Rate::new(1_000, 1_000)).admit(stream).expect("there is a place");
        let (start, mut buf, mut read) = (tokio::time::Instant::now(), [0; 1_000], 0);
        while read < 5_000 {
            read += held.read(&mut buf).await.expect("readable");
        }
        // A thousand at once, and a thousand on credit.
        assert!((3_000..3_100).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(held.read(&mut buf).await.expect("readable"), 0);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
