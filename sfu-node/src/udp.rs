//! A shard's UDP socket: batches in, batches out, and the wait between them.
//!
//! It knows what the kernel can do (GRO, GSO, buffer sizes) and what to do when it cannot; of RTP it knows nothing.

mod offload;
mod sending;
mod sys;
mod wake;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use offload::Offload;
use rustix::time::{ClockId, clock_gettime};
use sending::{Kernel, Sending};
use sfu_core::{Histogram, RxBatch, TxBatch};
use socket2::{Domain, Protocol, Socket, Type};
use sys::{Outgoing, ReceiveScratch, SEND_MESSAGES};

pub(crate) use sending::Patience;
pub(crate) use wake::{WakeReceiver, Waker, wake_pair};

/// Size asked for of both socket buffers. It holds some 25 ms at 1 Gbit/s: longer than any stall of a shard that is not
/// already a fault. Less loses bursts; more only delays what is late anyway.
const BUFFER_BYTES: i32 = 4 * 1024 * 1024;

/// A non-blocking UDP socket with its batches' scratch memory.
pub(crate) struct MediaSocket {
    socket: UdpSocket,
    /// An IPv6 socket that also carries IPv4.
    mapped: bool,
    offload: Offload,
    scratch: Box<ReceiveScratch>,
    totals: SocketTotals,
    overflows: u32,
    waits: Histogram,
}

/// What a socket counts, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketTotals {
    /// Receive calls that brought datagrams.
    pub(crate) receive_calls: u64,
    /// Errors on receiving, such as ICMP messages about what was sent.
    pub(crate) receive_errors: u64,
    /// Datagrams the kernel dropped because the shard did not fetch them in time.
    pub(crate) receive_overflows: u64,
    /// Send calls.
    pub(crate) send_calls: u64,
    /// Datagrams dropped because the send buffer stayed full.
    pub(crate) send_congested: u64,
    /// Datagrams the kernel refused: no route, filtered, no such address.
    pub(crate) send_refused: u64,
    /// Runs that had to be cut into datagrams here.
    pub(crate) send_split: u64,
}

impl MediaSocket {
    /// Binds to `address`; port 0 takes a free one. An unspecified address is all of the host's, of IPv6 the IPv4 ones, too; then
    /// datagrams tell which of them they came to, and leave from the one that they are given.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let mapped = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified());
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!mapped)?;
        }
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        // Optional in the kernel: without GRO datagrams come one by one, without RXQ_OVFL drops stay uncounted, without TIMESTAMPNS
        // nobody knows how long they waited.
        let options = [
            (libc::SOL_UDP, libc::UDP_GRO),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
        ];
        for (level, name) in options {
            if let Err(error) = sys::set_option(socket.as_fd(), level, name, 1) {
                tracing::info!(%error, level, name, "socket option not available");
            }
        }
        if address.ip().is_unspecified() {
            let (level, name) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            sys::set_option(socket.as_fd(), level, name, 1)?;
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            mapped,
            offload: Offload::default(),
            scratch: ReceiveScratch::new(),
            totals: SocketTotals::default(),
            overflows: 0,
            waits: Histogram::default(),
        })
    }

    /// Where it is bound.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Totals so far.
    pub(crate) fn totals(&self) -> &SocketTotals {
        &self.totals
    }

    /// How long the first datagram of each receive call was in the kernel's queue, where the kernel tells.
    pub(crate) fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// Waits until datagrams can be received, `wake` is raised or `timeout` has passed.
    pub(crate) fn wait(&self, wake: &WakeReceiver, timeout: Duration) -> Readable {
        let [datagrams, woken] = sys::wait([self.socket.as_fd(), wake.as_fd()], None, timeout)
            .expect("invariant: ppoll fails only for bad arguments or without memory");
        Readable { datagrams, woken }
    }

    /// Fills the empty `batch` with what has arrived, and returns how many of its buffers that took: 0 when nothing has.
    pub(crate) fn receive(&mut self, batch: &mut RxBatch) -> usize {
        match sys::receive(self.socket.as_fd(), batch, &mut self.scratch) {
            Ok(report) => {
                self.totals.receive_calls += 1;
                if let Some(overflows) = report.overflows {
                    // The kernel counts in 32 bits and wraps.
                    self.totals.receive_overflows += u64::from(overflows.wrapping_sub(self.overflows));
                    self.overflows = overflows;
                }
                if let Some(came) = report.came {
                    self.waits.record(since_epoch().saturating_sub(came), 1);
                }
                report.buffers
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            // An error that was waiting at the socket, such as an ICMP message: reported once, and gone with that.
            Err(_) => {
                self.totals.receive_errors += 1;
                0
            }
        }
    }

    /// Sends `batch`. What cannot be sent is dropped and counted, as a network would.
    pub(crate) fn send(&mut self, batch: &TxBatch, patience: &mut Patience) {
        let mut sending = self.sending(patience);
        for runs in batch.runs().chunks(SEND_MESSAGES) {
            let mut outgoing = [Outgoing { to: runs[0].to, bytes: &[], segment: 0 }; SEND_MESSAGES];
            for (slot, run) in outgoing.iter_mut().zip(runs) {
                *slot = Outgoing { to: run.to, bytes: batch.bytes(run), segment: run.segment };
            }
            sending.send(&outgoing[..runs.len()]);
        }
    }

    fn sending<'a>(&'a mut self, patience: &'a mut Patience) -> Sending<'a, Wire<'a>> {
        let kernel = Wire { socket: self.socket.as_fd(), mapped: self.mapped };
        Sending { kernel, offload: &mut self.offload, totals: &mut self.totals, patience }
    }
}

/// The sending half of the socket.
struct Wire<'a> {
    socket: BorrowedFd<'a>,
    mapped: bool,
}

impl Kernel for Wire<'_> {
    fn send(&self, outgoing: &[Outgoing<'_>]) -> io::Result<usize> {
        sys::send(self.socket, outgoing, self.mapped)
    }

    fn wait(&self, at_most: Duration) -> Duration {
        let begun = Instant::now();
        // Room or not: the next call tells.
        let _ = sys::wait([], Some(self.socket), at_most);
        begun.elapsed()
    }
}

/// What a wait ended for; both may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readable {
    pub(crate) datagrams: bool,
    pub(crate) woken: bool,
}

/// By the clock that the kernel stamps datagrams with. It may be set: what is measured by it can be wrong once, but not negative.
fn since_epoch() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), time.tv_nsec as u32)
}

/// The kernel cuts a size above its limit silently, unless the process may force it.
fn enlarge_buffers(socket: &Socket) {
    let forced = [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)];
    for (force, ask) in forced {
        if sys::set_option(socket.as_fd(), libc::SOL_SOCKET, force, BUFFER_BYTES).is_err()
            && let Err(error) = sys::set_option(socket.as_fd(), libc::SOL_SOCKET, ask, BUFFER_BYTES)
        {
            tracing::warn!(%error, "socket buffers keep their default size: bursts may be lost");
        }
    }
    // The kernel doubles what it is given, for its own bookkeeping.
    let sizes = [("net.core.rmem_max", socket.recv_buffer_size()), ("net.core.wmem_max", socket.send_buffer_size())];
    for (limit, size) in sizes {
        if let Ok(size) = size
            && size < 2 * BUFFER_BYTES as usize
        {
            tracing::info!(
                size,
                "socket buffer smaller than asked for, bursts may be lost: raise {limit} to {BUFFER_BYTES}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sfu_core::CandidatePair;

    use super::*;

    fn socket(address: &str) -> MediaSocket {
        MediaSocket::bind(address.parse().expect("an address")).expect("bound")
    }

    /// Of a socket that has only one.
    fn address(socket: &MediaSocket) -> CandidatePair {
        socket.local_addr().expect("bound").into()
    }

    /// Everything that arrives within a second, until `enough` datagrams have.
    fn arrivals(socket: &mut MediaSocket, enough: usize) -> Vec<(CandidatePair, Vec<u8>)> {
        let (_waker, wake) = wake_pair().expect("an eventfd");
        let deadline = Instant::now() + Duration::from_secs(1);
        let (mut batch, mut all) = (RxBatch::new(), Vec::new());
        while all.len() < enough && Instant::now() < deadline {
            socket.wait(&wake, Duration::from_millis(50));
            socket.receive(&mut batch);
            for (from, datagram) in batch.datagrams() {
                all.push((from, datagram.to_vec()));
            }
            batch.clear();
        }
        all
    }

    fn numbered(count: usize, size: usize) -> Vec<u8> {
        (0..count).flat_map(|number| vec![number as u8; size]).collect()
    }

    fn send(socket: &mut MediaSocket, runs: &[Outgoing<'_>]) {
        let mut patience = Patience::new();
        runs.chunks(SEND_MESSAGES).for_each(|few| socket.sending(&mut patience).send(few));
    }

    #[test]
    fn runs_arrive_as_their_datagrams() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = address(&receiver);
        let (full, short) = (numbered(50, 1_200), numbered(1, 700));
        let mut run = full.clone();
        run.extend_from_slice(&short);
        send(&mut sender, &[Outgoing { to, bytes: &run, segment: 1_200 }, Outgoing { to, bytes: b"one", segment: 3 }]);
        let received = arrivals(&mut receiver, 52);
        let from = address(&sender);
        assert!(received.iter().all(|(source, _)| *source == from));
        let expected: Vec<&[u8]> = full.chunks(1_200).chain([&short[..], b"one"]).collect();
        assert_eq!(received.iter().map(|(_, datagram)| &datagram[..]).collect::<Vec<_>>(), expected);
        assert_eq!(sender.totals().send_calls, 1, "one call for all");
        assert!(receiver.totals().receive_calls < 10, "coalesced: {:?}", receiver.totals());
        assert_eq!(*sender.totals(), SocketTotals { send_calls: 1, ..SocketTotals::default() });
    }

    #[test]
    fn how_long_datagrams_waited_in_the_kernel_is_known() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = address(&receiver);
        // The first socket of a machine that wants the time switches its keeping on, which the kernel does when it comes to it.
        std::thread::sleep(Duration::from_millis(100));
        send(&mut sender, &[Outgoing { to, bytes: b"first", segment: 5 }]);
        std::thread::sleep(Duration::from_millis(40));
        send(&mut sender, &[Outgoing { to, bytes: b"second", segment: 6 }]);
        arrivals(&mut receiver, 2);
        let waits = receiver.waits();
        assert!(waits.count() >= 1 && waits.sum() >= Duration::from_millis(39), "{waits:?}");
        assert!(waits.sum() < Duration::from_secs(20), "{waits:?}");
    }

    #[test]
    fn more_runs_than_one_call_takes_all_arrive() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = address(&receiver);
        let payloads: Vec<[u8; 2]> = (0..200_u16).map(u16::to_be_bytes).collect();
        let runs: Vec<_> = payloads.iter().map(|bytes| Outgoing { to, bytes, segment: 2 }).collect();
        send(&mut sender, &runs);
        let received: Vec<_> = arrivals(&mut receiver, 200).into_iter().map(|(_, datagram)| datagram).collect();
        assert_eq!(received, payloads);
    }

    #[test]
    fn a_run_the_kernel_refuses_is_cut_and_the_next_one_is_not() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = address(&receiver);
        // More segments than any kernel's UDP_MAX_SEGMENTS gives EINVAL, as does a segment above the path's MTU.
        let (refused, fine) = (numbered(200, 10), numbered(10, 100));
        send(
            &mut sender,
            &[Outgoing { to, bytes: &refused, segment: 10 }, Outgoing { to, bytes: &fine, segment: 100 }],
        );
        assert_eq!(arrivals(&mut receiver, 210).len(), 210);
        assert_eq!((sender.totals().send_split, sender.totals().send_refused), (1, 0));
    }

    #[test]
    fn an_address_that_cannot_be_sent_to_costs_nobody_else() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = address(&receiver);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        // Broadcast needs a permission the socket does not have.
        let forbidden = SocketAddr::from(([255, 255, 255, 255], 9)).into();
        let run = numbered(3, 100);
        send(
            &mut sender,
            &[
                Outgoing { to: nowhere, bytes: &run, segment: 100 },
                Outgoing { to, bytes: b"a", segment: 1 },
                Outgoing { to: forbidden, bytes: b"x", segment: 1 },
                Outgoing { to, bytes: b"b", segment: 1 },
            ],
        );
        let received: Vec<_> = arrivals(&mut receiver, 2).into_iter().map(|(_, datagram)| datagram).collect();
        assert_eq!(received, [b"a", b"b"]);
        assert_eq!(sender.totals().send_refused, 4);
    }

    #[test]
    fn a_closed_port_at_the_other_end_does_not_stop_the_socket() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let closed = address(&socket("127.0.0.1:0"));
        let to = address(&receiver);
        for _ in 0..10 {
            send(&mut sender, &[Outgoing { to: closed, bytes: b"x", segment: 1 }]);
            sender.receive(&mut RxBatch::new());
        }
        send(&mut sender, &[Outgoing { to, bytes: b"alive", segment: 5 }]);
        assert_eq!(arrivals(&mut receiver, 1)[0].1, b"alive");
    }

    #[test]
    fn an_unspecified_ipv6_socket_carries_both_families() {
        let Ok(mut dual) = MediaSocket::bind("[::]:0".parse().expect("an address")) else {
            // A kernel without IPv6 has no such socket to test.
            assert!(UdpSocket::bind("[::1]:0").is_err());
            return;
        };
        let port = dual.local_addr().expect("bound").port();
        for peer in ["127.0.0.1:0", "[::1]:0"] {
            let mut peer = socket(peer);
            let from = peer.local_addr().expect("bound");
            let to = SocketAddr::new(from.ip(), port);
            send(&mut peer, &[Outgoing { to: to.into(), bytes: b"hello", segment: 5 }]);
            let received = arrivals(&mut dual, 1);
            let pair = CandidatePair { remote: from, local: Some(from.ip()) };
            assert_eq!(received, [(pair, b"hello".to_vec())]);
            send(&mut dual, &[Outgoing { to: pair, bytes: b"hi", segment: 2 }]);
            assert_eq!(arrivals(&mut peer, 1), [(to.into(), b"hi".to_vec())]);
        }
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        // Where the routing table decides, all would leave from 127.0.0.1.
        let asked = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        for any in ["0.0.0.0:0", "[::]:0"] {
            let Ok(mut node) = MediaSocket::bind(any.parse().expect("an address")) else {
                assert!(UdpSocket::bind("[::1]:0").is_err(), "only IPv6 may be missing here");
                continue;
            };
            let port = node.local_addr().expect("bound").port();
            let mut client = socket("127.0.0.1:0");
            for asked in asked {
                let to = SocketAddr::from((asked, port));
                send(&mut client, &[Outgoing { to: to.into(), bytes: b"hello", segment: 5 }]);
                let pair = arrivals(&mut node, 1)[0].0;
                assert_eq!(pair.local, Some(asked.into()));
                // A run takes two control messages, a single datagram one.
                let run = numbered(3, 100);
                send(
                    &mut node,
                    &[
                        Outgoing { to: pair, bytes: &run, segment: 100 },
                        Outgoing { to: pair, bytes: b"one", segment: 3 },
                    ],
                );
                let from: Vec<_> = arrivals(&mut client, 4).into_iter().map(|(from, _)| from.remote).collect();
                assert_eq!(from, [to; 4], "{any}");
            }
        }
    }

    #[test]
    fn what_overflows_the_receive_buffer_is_counted() {
        let (mut sender, mut receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        sys::set_option(receiver.socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4_096).expect("smaller");
        let to = address(&receiver);
        let datagram = [7; 1_200];
        for _ in 0..50 {
            send(&mut sender, &[Outgoing { to, bytes: &datagram, segment: 1_200 }]);
        }
        let before = arrivals(&mut receiver, 50).len();
        send(&mut sender, &[Outgoing { to, bytes: b"after", segment: 5 }]);
        assert_eq!(arrivals(&mut receiver, 1).len(), 1);
        assert_eq!(receiver.totals().receive_overflows as usize + before, 50);
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let (_waker, wake) = wake_pair().expect("an eventfd");
        let begun = Instant::now();
        let readable = socket("127.0.0.1:0").wait(&wake, Duration::from_micros(1_500));
        assert_eq!(readable, Readable { datagrams: false, woken: false });
        assert!(begun.elapsed() >= Duration::from_micros(1_500));
    }
}
