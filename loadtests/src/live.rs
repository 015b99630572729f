//! A [`TestPeer`] on a real socket, driven by tokio: for tests and for setting up load. What sends and receives at high rates
//! takes the socket over once the peer is connected.

use crate::peer::{PeerError, PeerEvent, TestPeer};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, time::timeout_at};

/// Why a live peer failed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The socket.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What was waited for did not happen.
    #[error("nothing of the kind within {0:?}")]
    TimedOut(Duration),
}

/// A peer with its socket.
pub struct LivePeer {
    /// The peer itself.
    pub peer: TestPeer,
    socket: UdpSocket,
    remote: Option<SocketAddr>,
    buffer: Vec<u8>,
    events: VecDeque<PeerEvent>,
}

impl LivePeer {
    /// Gives the peer a loopback socket.
    pub async fn bind(peer: TestPeer) -> io::Result<Self> {
        Ok(Self::on(peer, UdpSocket::bind("127.0.0.1:0").await?))
    }

    /// Gives the peer this socket.
    pub fn on(peer: TestPeer, socket: UdpSocket) -> Self {
        Self { peer, socket, remote: None, buffer: vec![0; 2_048], events: VecDeque::new() }
    }

    /// Sends to `remote` instead of the answer's candidate.
    pub fn route_through(&mut self, remote: SocketAddr) {
        self.remote = Some(remote);
    }

    /// The socket's address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Where the peer sends to.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote.or_else(|| self.peer.remote_address())
    }

    /// The peer and its socket, for someone else to drive.
    pub fn into_parts(self) -> (TestPeer, UdpSocket) {
        (self.peer, self.socket)
    }

    /// Waits for the next event, at most until `deadline`; `None` then.
    pub async fn event_until(&mut self, deadline: Instant) -> Result<Option<PeerEvent>, LiveError> {
        loop {
            self.flush().await?;
            self.events.extend(std::iter::from_fn(|| self.peer.poll_event()));
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            let wake = self.peer.poll_timeout().map_or(deadline, |at| at.min(deadline)).max(now);
            // An error is the echo of an ICMP message about an earlier datagram, which ICE and DTLS repeat.
            if let Ok(Ok(len)) = timeout_at(wake.into(), self.socket.recv(&mut self.buffer)).await {
                self.peer.handle_datagram(Instant::now(), &self.buffer[..len])?;
            }
            self.peer.handle_timeout(Instant::now())?;
        }
    }

    /// Waits for an event that `wanted` picks; the others are dropped.
    pub async fn wait_for<R>(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(PeerEvent) -> Option<R>,
    ) -> Result<R, LiveError> {
        let deadline = Instant::now() + within;
        while let Some(event) = self.event_until(deadline).await? {
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
        Err(LiveError::TimedOut(within))
    }

    /// Waits until DTLS is up.
    pub async fn connect(&mut self, within: Duration) -> Result<(), LiveError> {
        if self.peer.is_connected() {
            return Ok(());
        }
        self.wait_for(within, |event| matches!(event, PeerEvent::Connected(_)).then_some(())).await
    }

    /// Lets the peer live until `deadline` and gives what happened.
    pub async fn run_until(&mut self, deadline: Instant) -> Result<Vec<PeerEvent>, LiveError> {
        let mut events = Vec::new();
        while let Some(event) = self.event_until(deadline).await? {
            events.push(event);
        }
        Ok(events)
    }

    /// Sends what the peer has to send.
    pub async fn flush(&mut self) -> Result<(), LiveError> {
        while let Some(datagram) = self.peer.poll_transmit() {
            if let Some(remote) = self.remote() {
                // As above: a refused datagram is a lost one.
                let _ = self.socket.send_to(&datagram, remote).await;
            }
        }
        Ok(())
    }

    /// Sends arbitrary bytes from the peer's own address.
    pub async fn send_raw(&self, datagram: &[u8]) -> io::Result<()> {
        if let Some(remote) = self.remote() {
            self.socket.send_to(datagram, remote).await?;
        }
        Ok(())
    }
}
