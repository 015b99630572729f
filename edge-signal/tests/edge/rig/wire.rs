//! A TCP connection's middle: it passes bytes on, late or not at all, as told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// What the server says comes this much later.
    Late(Duration),
    /// Connections are cut, and new ones, too.
    Cut,
}

/// A proxy on loopback in front of one server.
pub(crate) struct Wire {
    address: SocketAddr,
    passing: Arc<watch::Sender<Passing>>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// In front of a server on this port.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let passing = Arc::new(watch::Sender::new(Passing::Late(Duration::ZERO)));
        let accepting = tokio::spawn(accept(listener, port, Arc::clone(&passing)));
        Self { address, passing, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts what there is, and refuses what comes.
    pub(crate) fn cut(&self) {
        self.passing.send_replace(Passing::Cut);
    }

    /// Passes everything on again.
    pub(crate) fn mend(&self) {
        self.delay(Duration::ZERO);
    }

    /// Passes on what the server says this much later.
    pub(crate) fn delay(&self, by: Duration) {
        self.passing.send_replace(Passing::Late(by));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.passing.send_replace(Passing::Cut);
    }
}

async fn accept(listener: TcpListener, port: u16, passing: Arc<watch::Sender<Passing>>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut state = passing.subscribe();
        if *state.borrow() == Passing::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let delays = passing.subscribe();
        tokio::spawn(async move {
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pass(from_client, to_server, None) => {}
                () = pass(from_server, to_client, Some(delays)) => {}
                _ = state.wait_for(|passing| *passing == Passing::Cut) => {}
            }
        });
    }
}

/// Copies until the end. Each piece is held for as long as it is late when it comes, and overtakes none.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delays: Option<watch::Receiver<Passing>>) {
    let (pieces, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1_024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let delay = delays.as_ref().map_or(Duration::ZERO, |delays| match *delays.borrow() {
                Passing::Late(by) => by,
                Passing::Cut => Duration::ZERO,
            });
            if pieces.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = waiting.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
