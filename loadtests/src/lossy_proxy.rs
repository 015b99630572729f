//! A UDP proxy between one client and a server that is as bad as a [`Link`] each way. Each client gets a proxy of its own, so that
//! the server sees as many addresses as there are clients.

use crate::network::{Link, LinkStats, Quality};
use std::{io, net::SocketAddr, time::Instant};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::sleep_until,
};

/// Larger than any datagram of a client or server that keeps to an MTU.
const DATAGRAM: usize = 2_048;

/// A running proxy; it ends when dropped.
pub struct LossyProxy {
    address: SocketAddr,
    task: JoinHandle<(LinkStats, LinkStats)>,
    end: Option<oneshot::Sender<()>>,
}

impl LossyProxy {
    /// Starts a proxy to `server` on a loopback port of its own.
    pub async fn start(server: SocketAddr, quality: Quality, seed: u64) -> io::Result<Self> {
        let client_side = UdpSocket::bind("127.0.0.1:0").await?;
        let server_side = UdpSocket::bind("127.0.0.1:0").await?;
        server_side.connect(server).await?;
        let address = client_side.local_addr()?;
        let (end, ended) = oneshot::channel();
        let links = (Link::new(quality, seed), Link::new(quality, !seed));
        let task = tokio::spawn(run(client_side, server_side, links, ended));
        Ok(Self { address, task, end: Some(end) })
    }

    /// Where the client sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; what its links towards the server and from it did.
    pub async fn end(mut self) -> Result<(LinkStats, LinkStats), JoinError> {
        drop(self.end.take());
        (&mut self.task).await
    }
}

impl Drop for LossyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    client_side: UdpSocket,
    server_side: UdpSocket,
    (mut up, mut down): (Link<Vec<u8>>, Link<Vec<u8>>),
    mut ended: oneshot::Receiver<()>,
) -> (LinkStats, LinkStats) {
    let mut client = None;
    let (mut from_client, mut from_server) = ([0; DATAGRAM], [0; DATAGRAM]);
    loop {
        let arrival = [up.next_arrival(), down.next_arrival()].into_iter().flatten().min();
        tokio::select! {
            received = client_side.recv_from(&mut from_client) => {
                // An error is the echo of an ICMP message about an earlier datagram; the next call is fine again.
                if let Ok((len, from)) = received {
                    client = Some(from);
                    up.send(Instant::now(), from_client[..len].to_vec());
                }
            }
            received = server_side.recv(&mut from_server) => {
                if let Ok(len) = received {
                    down.send(Instant::now(), from_server[..len].to_vec());
                }
            }
            _ = &mut ended => return (up.stats(), down.stats()),
            () = sleep_until(arrival.unwrap_or_else(Instant::now).into()), if arrival.is_some() => {}
        }
        let now = Instant::now();
        while let Some(datagram) = up.receive(now) {
            let _ = server_side.send(&datagram).await;
        }
        while let (Some(client), Some(datagram)) = (client, down.receive(now)) {
            let _ = client_side.send_to(&datagram, client).await;
        }
    }
}
