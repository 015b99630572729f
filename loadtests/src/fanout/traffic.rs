//! The generator at work: one thread that sends the publishers' bursts and empties the subscribers' sockets.

use super::{
    payload,
    publisher::{Publisher, Stream},
};
use crate::{
    os::{self, Readiness, Receiver},
    peer::{PeerEvent, TestPeer},
};
use hdrhistogram::Histogram;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// One packet in so many is opened, for its time of sending. A prime, so that every position in a burst has its turn.
const SAMPLE: u64 = 7;
/// Between two looks at the peers' own timers (checks, reports).
const TIMERS: Duration = Duration::from_millis(20);
/// After the last burst, for what is still under way.
const DRAIN: Duration = Duration::from_millis(500);
/// Longer delays than this are counted as this.
const MAX_DELAY_NS: u64 = 10_000_000_000;

/// A connected peer with its socket.
pub struct Endpoint {
    peer: TestPeer,
    socket: UdpSocket,
    remote: SocketAddr,
    tracks: Vec<Track>,
}

/// What a subscriber knows of one section.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// Which publisher it carries.
    publisher: usize,
    /// Index of the publisher's packet 0 in this subscriber's numbering, from an opened packet. Below zero when the
    /// subscriber joined later and counts from a low number.
    origin: Option<i64>,
}

impl Endpoint {
    /// Takes a connected peer; `publishers` says which publisher each of its sections carries.
    pub fn new(peer: TestPeer, socket: UdpSocket, remote: SocketAddr, publishers: &[usize]) -> Self {
        let tracks = publishers.iter().map(|publisher| Track { publisher: *publisher, ..Track::default() }).collect();
        Self { peer, socket, remote, tracks }
    }
}

/// What arrived at the subscribers between two moments.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// Media packets.
    pub packets: u64,
    /// From a packet's handing to the kernel to its arrival in the subscriber's socket, nanoseconds.
    pub delay_ns: Histogram<u64>,
}

/// Totals of a whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Packets that should have arrived at all subscribers together.
    pub expected: u64,
    /// Of these, how many did not.
    pub lost: u64,
    /// Packets that arrived twice.
    pub repeated: u64,
    /// Keyframes that the server asked for.
    pub keyframe_requests: u64,
}

/// A running generator.
pub struct Traffic {
    publishers: Vec<(Endpoint, Publisher)>,
    subscribers: Vec<Endpoint>,
    readiness: Readiness,
    receiver: Receiver,
    next_timers: Instant,
    arrivals: Arrivals,
    keyframe_requests: u64,
}

impl Traffic {
    /// Takes connected peers over. The first bursts are due at once, publishers evenly spread over their interval. `paced`: see
    /// [`Publisher::new`]; `coalesce`: see [`os::prepare_receiver`].
    pub fn new(
        publishers: Vec<(Endpoint, Stream)>,
        subscribers: Vec<Endpoint>,
        paced: bool,
        coalesce: bool,
    ) -> io::Result<Self> {
        let readiness = Readiness::new()?;
        let start = Instant::now() + TIMERS;
        let count = publishers.len() as u32;
        let publishers: Vec<_> = publishers
            .into_iter()
            .zip(0..)
            .map(|((endpoint, stream), position)| {
                let phase = Duration::from_millis(20) * position / count;
                (endpoint, Publisher::new(stream, paced, start + phase))
            })
            .collect();
        let sockets = publishers.iter().map(|(endpoint, _)| endpoint).chain(&subscribers);
        for (number, endpoint) in sockets.enumerate() {
            os::prepare_receiver(&endpoint.socket, 8 << 20, coalesce)?;
            readiness.watch(&endpoint.socket, number as u64)?;
        }
        let arrivals = Arrivals { packets: 0, delay_ns: new_histogram() };
        Ok(Self {
            publishers,
            subscribers,
            readiness,
            receiver: Receiver::default(),
            next_timers: start,
            arrivals,
            keyframe_requests: 0,
        })
    }

    /// Sends and receives for `duration` and gives what arrived meanwhile.
    pub fn run(&mut self, duration: Duration) -> anyhow::Result<Arrivals> {
        self.arrivals = Arrivals { packets: 0, delay_ns: new_histogram() };
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.round(end, true)?;
        }
        Ok(self.arrivals.clone())
    }

    /// Waits for what is still under way, and says what the whole run came to.
    pub fn finish(mut self) -> anyhow::Result<Totals> {
        let end = Instant::now() + DRAIN;
        while Instant::now() < end {
            self.round(end, false)?;
        }
        let mut totals = Totals { keyframe_requests: self.keyframe_requests, ..Totals::default() };
        for subscriber in &self.subscribers {
            let stats = subscriber.peer.received().map(|(_, stats)| stats);
            for (track, stats) in subscriber.tracks.iter().zip(stats) {
                let sent = self.publishers[track.publisher].1.sent();
                let Some((origin, (lowest, _))) = track.origin.zip(stats.range) else {
                    totals.expected += sent;
                    totals.lost += sent;
                    continue;
                };
                // From the first packet that came (before it there was no subscription) to the last that was sent.
                let expected = (origin + sent as i64 - lowest as i64).max(0) as u64;
                totals.expected += expected;
                totals.lost += expected.saturating_sub(stats.delivered);
                totals.repeated += stats.repeated;
            }
        }
        Ok(totals)
    }

    fn round(&mut self, end: Instant, sending: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        if sending {
            for (endpoint, publisher) in &mut self.publishers {
                while publisher.next_burst() <= now {
                    publisher.burst(now, &mut endpoint.peer, &endpoint.socket, endpoint.remote)?;
                }
            }
        }
        if self.next_timers <= now {
            self.next_timers = now + TIMERS;
            self.handle_timers(now)?;
        }
        let next_burst = self.publishers.iter().map(|(_, publisher)| publisher.next_burst()).filter(|_| sending).min();
        let wake = next_burst.unwrap_or(end).min(self.next_timers).min(end);
        let ready: Vec<_> = self.readiness.wait(wake.saturating_duration_since(Instant::now()))?.collect();
        for number in ready {
            self.receive(number as usize)?;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> anyhow::Result<()> {
        let now = Instant::now();
        if let Some((endpoint, publisher)) = self.publishers.get_mut(number) {
            let mut failure = None;
            self.receiver.receive(&endpoint.socket, |received| {
                for datagram in received.bytes.chunks(received.segment) {
                    failure = endpoint.peer.handle_datagram(now, datagram).err().or(failure.take());
                }
            })?;
            while let Some(event) = endpoint.peer.poll_event() {
                if let PeerEvent::KeyframeRequest(_) = event {
                    self.keyframe_requests += 1;
                    publisher.want_keyframe();
                }
            }
            return failure.map_or(Ok(()), |error| Err(error.into()));
        }
        let endpoint = &mut self.subscribers[number - self.publishers.len()];
        let arrivals = &mut self.arrivals;
        let mut failure = None;
        // One call per round: whoever has more is readable again in the next, after the others.
        self.receiver.receive(&endpoint.socket, |received| {
            for datagram in received.bytes.chunks_mut(received.segment) {
                let Some((section, index)) = endpoint.peer.count_media(now, datagram) else {
                    failure = endpoint.peer.handle_datagram(now, datagram).err().or(failure.take());
                    continue;
                };
                arrivals.packets += 1;
                if !index.is_multiple_of(SAMPLE) {
                    continue;
                }
                let stamp = endpoint.peer.open_counted(index, datagram).and_then(payload::read);
                if let Some((stamp, at_ns)) = stamp.zip(received.at_ns) {
                    endpoint.tracks[section].origin = Some(index as i64 - stamp.number as i64);
                    arrivals.delay_ns.saturating_record(at_ns.saturating_sub(stamp.sent_ns));
                }
            }
        })?;
        while endpoint.peer.poll_event().is_some() {}
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn handle_timers(&mut self, now: Instant) -> anyhow::Result<()> {
        let publishers = self.publishers.iter_mut().map(|(endpoint, _)| endpoint);
        for endpoint in publishers.chain(&mut self.subscribers) {
            if endpoint.peer.poll_timeout().is_some_and(|at| at <= now) {
                endpoint.peer.handle_timeout(now)?;
            }
            while let Some(datagram) = endpoint.peer.poll_transmit() {
                endpoint.socket.send_to(&datagram, endpoint.remote)?;
            }
        }
        Ok(())
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(MAX_DELAY_NS, 3)
        .expect("invariant: three digits up to ten seconds are within the crate's limits")
}
