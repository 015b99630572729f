//! How many TCP connections a listener holds, in all and of one address, whether they are ever upgraded or not: each is an open
//! file, and without a bound one client could take them all.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::gate::{Gate, GateLimits, Place};
use crate::proxies::Network;

/// Accepts connections for which there is a place, and drops the others without a word: who is told why is who asks for a
/// WebSocket too many, and their limits (`ws`) are lower.
#[derive(Debug, Clone)]
pub(crate) struct BoundedAcceptor {
    gate: Gate,
    trusted_proxies: Vec<Network>,
}

impl BoundedAcceptor {
    /// Connections in all and of one address; those of a trusted proxy, which has its clients' connections, count in all only.
    pub(crate) fn new(connections: usize, per_address: usize, trusted_proxies: Vec<Network>) -> Self {
        Self { gate: Gate::new(GateLimits { connections, per_address, rate: None }), trusted_proxies }
    }

    fn admit(&self, stream: TcpStream) -> io::Result<Held> {
        // Frames are small and answers waited for: they must not wait for an acknowledgement of the ones before.
        stream.set_nodelay(true)?;
        let address = self.counted(stream.peer_addr()?.ip());
        match self.gate.enter(address, Instant::now()) {
            Ok(place) => Ok(Held { stream, _place: place }),
            Err(_) => Err(io::Error::other("too many connections")),
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
    _place: Place,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
