//! How many TCP connections a listener holds, in all and of one address, whether they are ever upgraded or not: each is an open
//! file, and without a bound one client could take them all. And how fast each is read: whatever is in its bytes has to be looked
//! at, also what never becomes a frame.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use crate::gate::{Gate, GateLimits, Place};
use crate::metrics::EdgeMetrics;
use crate::proxies::Network;
use crate::rate::{Rate, TokenBucket};

/// Accepts connections for which there is a place, and drops the others without a word: who is told why is who asks for a
/// WebSocket too many, and their limits (`ws`) are lower.
#[derive(Clone)]
pub(crate) struct BoundedAcceptor {
    gate: Gate,
    trusted_proxies: Vec<Network>,
    /// Bytes read of one connection.
    bytes: Rate,
    metrics: EdgeMetrics,
}

impl BoundedAcceptor {
    /// Connections in all and of one address; those of a trusted proxy, which has its clients' connections, count in all only. And
    /// how many bytes of each are read.
    pub(crate) fn new(
        connections: usize,
        per_address: usize,
        trusted_proxies: Vec<Network>,
        bytes: Rate,
        metrics: EdgeMetrics,
    ) -> Self {
        let gate = Gate::new(GateLimits { connections, per_address, rate: None, total_rate: None });
        Self { gate, trusted_proxies, bytes, metrics }
    }

    fn admit(&self, stream: TcpStream) -> io::Result<Held> {
        // Frames are small and answers waited for: they must not wait for an acknowledgement of the ones before.
        stream.set_nodelay(true)?;
        let address = self.counted(stream.peer_addr()?.ip());
        let now = now();
        match self.gate.enter(address, now) {
            Ok(place) => Ok(Held { stream, bytes: TokenBucket::new(self.bytes, now), paying: None, _place: place }),
            Err(refusal) => {
                self.metrics.refused((&refusal).into());
                Err(io::Error::other("too many connections"))
            }
        }
    }

    fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        (!self.trusted_proxies.iter().any(|network| network.contains(address))).then_some(address)
    }
}

impl<S> Accept<TcpStream, S> for BoundedAcceptor {
    type Stream = Held;
    type Service = S;
    type Future = Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.admit(stream).map(|held| (held, service)))
    }
}

/// A connection and its place.
#[derive(Debug)]
pub(crate) struct Held {
    stream: TcpStream,
    bytes: TokenBucket,
    /// Until the bytes that were read are paid for.
    paying: Option<Pin<Box<Sleep>>>,
    _place: Place,
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

    #[tokio::test(start_paused = true)]
    async fn bytes_are_read_no_faster_than_they_are_allowed_and_all_of_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        client.write_all(&[7; 5_000]).await.expect("taken");
        drop(client);
        let (stream, _) = listener.accept().await.expect("accepted");
        let acceptor = BoundedAcceptor::new(1, 1, Vec::new(), Rate::new(1_000, 1_000), EdgeMetrics::register());
        let mut held = acceptor.admit(stream).expect("there is a place");
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
