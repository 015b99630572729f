//! A shard: the transports, publications and subscriptions that one thread owns.
//!
//! What happens in which file:
//!
//! ```text
//!  datagram ─▶ receive.rs ─▶ transport.rs (ICE, DTLS) ─▶ events
//!                 │ media
//!                 ▼
//!              inbound.rs ─▶ source.rs (ring) ─▶ fanout.rs ─▶ output.rs ─▶ TxBatch
//!                                  └──▶ siblings        ▲
//!  RTCP  ──▶ feedback.rs (both directions) ─────────────┘ retransmissions
//! ```
//!
//! Nothing here allocates, locks or starts a task per packet. Handshakes and commands are cold: they are done one at a time,
//! between two rounds of packets.

mod counters;
mod fanout;
mod feedback;
mod inbound;
mod lifecycle;
mod output;
mod receive;
mod source;
#[cfg(test)]
mod tests;
mod transport;
mod wheel;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

pub use self::counters::Counters;
use self::{fanout::Retransmission, output::Output, source::SourceTrack, transport::Transport, wheel::Wheel};
use crate::{
    batch::{RxBatch, TxBatch},
    command::{Command, Event, SiblingMessage},
    dtls::Identity,
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
};

/// Tracks per publication that are carried; further ones are ignored. (The edge publishes one audio and one video track.)
pub const MAX_TRACKS: usize = 16;

/// What a shard has to know from the start.
pub struct ShardConfig {
    /// Which shard of the node this is.
    pub index: ShardIndex,
    /// The node's DTLS certificate and key.
    pub identity: Arc<Identity>,
}

/// The media state of one thread. See the module's documentation.
pub struct Shard {
    index: ShardIndex,
    identity: Arc<Identity>,
    transports: Slab<Transport>,
    sources: Slab<SourceTrack>,
    outputs: Slab<Output>,
    transport_keys: HashMap<TransportHandle, usize>,
    /// Keys of the sources of a publication, by position.
    publications: HashMap<PublicationHandle, Vec<Option<usize>>>,
    subscriptions: HashMap<SubscriptionHandle, Vec<usize>>,
    ufrags: HashMap<Box<str>, usize>,
    addresses: HashMap<SocketAddr, usize>,
    wheel: Wheel<usize>,
    /// Sources whose packets wait for the end of a burst.
    windowed: Vec<usize>,
    /// Sources whose packets are to be fanned out now.
    ready: VecDeque<usize>,
    retransmissions: VecDeque<Retransmission>,
    /// Datagrams of control protocols to send: answers to checks, handshakes, RTCP.
    control: TxBatch,
    /// Handshake datagrams that wait for their turn.
    handshakes: VecDeque<Handshake>,
    events: VecDeque<Event>,
    to_siblings: VecDeque<(ShardIndex, SiblingMessage)>,
    next_housekeeping: Instant,
    due: Vec<usize>,
    scratch: Vec<u8>,
    lost: Vec<u16>,
    counters: Counters,
}

/// A DTLS datagram from a proven address.
struct Handshake {
    transport: TransportHandle,
    datagram: Box<[u8]>,
}

impl Shard {
    /// Handshake datagrams that wait at most. A handshake is six of them; what is beyond comes again by retransmission.
    const MAX_HANDSHAKES: usize = 1_024;
    /// The largest DTLS datagram that an endpoint looks at.
    const MAX_HANDSHAKE_BYTES: usize = 2_048;
    /// Retransmissions that wait at most for the next round; more are asked for again.
    const MAX_RETRANSMISSIONS: usize = 4_096;
    /// Messages to siblings that wait at most for the shell to take them.
    const MAX_TO_SIBLINGS: usize = 4_096;
    /// Interval of what only repairs: lost messages between siblings, keyframes that did not come.
    const HOUSEKEEPING: Duration = Duration::from_secs(1);

    /// A shard without transports.
    pub fn new(config: ShardConfig, now: Instant) -> Self {
        Self {
            index: config.index,
            identity: config.identity,
            transports: Slab::new(),
            sources: Slab::new(),
            outputs: Slab::new(),
            transport_keys: HashMap::new(),
            publications: HashMap::new(),
            subscriptions: HashMap::new(),
            ufrags: HashMap::new(),
            addresses: HashMap::new(),
            wheel: Wheel::new(now),
            windowed: Vec::new(),
            ready: VecDeque::new(),
            retransmissions: VecDeque::with_capacity(Self::MAX_RETRANSMISSIONS),
            control: TxBatch::new(),
            handshakes: VecDeque::new(),
            events: VecDeque::new(),
            to_siblings: VecDeque::with_capacity(Self::MAX_TO_SIBLINGS),
            next_housekeeping: now + Self::HOUSEKEEPING,
            due: Vec::new(),
            scratch: vec![0; TxBatch::DATAGRAM_BYTES],
            lost: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one receive call's datagrams in and empties the batch.
    pub fn handle_datagrams(&mut self, now: Instant, rx: &mut RxBatch) {
        rx.for_each(|from, datagram| self.handle_datagram(now, from, datagram));
        rx.clear();
    }

    /// Carries out an order of the control side.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::OpenTransport(open) => self.open_transport(now, &open),
            Command::Publish { transport, publication, tracks } => self.publish(transport, publication, tracks),
            Command::Subscribe { transport, subscription, source, tracks } => {
                self.subscribe(now, transport, subscription, source, tracks);
            }
            Command::RestartIce { transport, local } => self.restart_ice(now, transport, &local),
            Command::CloseTransport(transport) => self.close_commanded(now, transport),
            Command::ClosePublication(publication) => self.close_publication(publication),
            Command::CloseSubscription(subscription) => self.close_subscription(subscription),
        }
    }

    /// Takes in what another shard of the node has said. Messages may be lost between shards: all of them are repeated or
    /// repaired by [`Self::handle_timeout`].
    pub fn handle_sibling(&mut self, now: Instant, message: SiblingMessage) {
        match message {
            SiblingMessage::Attach(publication, sibling) => self.attach(now, publication, sibling),
            SiblingMessage::Detach(publication, sibling) => self.detach(publication, sibling),
            SiblingMessage::Media(publication, track, packet) => self.relay(now, publication, track, packet),
            SiblingMessage::Clock(publication, track, clock) => {
                if let Some(source) = self.source_key(publication, track) {
                    self.sources[source].clock = clock;
                }
            }
            SiblingMessage::KeyframeRequest(publication, track) => {
                if let Some(source) = self.source_key(publication, track) {
                    self.request_keyframe(now, source);
                }
            }
            SiblingMessage::Closed(publication) => self.close_relayed(publication),
        }
    }

    /// Does what is due: timers, batches whose window is over, one waiting handshake datagram.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for transport in due.drain(..) {
            self.transport_timeout(now, transport);
        }
        self.due = due;
        self.end_batch_windows(now);
        self.handle_next_handshake(now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now + Self::HOUSEKEEPING;
            self.housekeep(now);
        }
    }

    /// When [`Self::handle_timeout`] is to be called next; in the past if at once.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        if !self.handshakes.is_empty() {
            return now;
        }
        let windows = self.windowed.iter().filter_map(|key| self.sources.get(*key)?.flush_deadline());
        windows.chain(self.wheel.next()).fold(self.next_housekeeping, Instant::min)
    }

    /// Fills the empty batch `tx` with datagrams to send. True when there are more than fit: send, clear and call again.
    pub fn poll_transmit(&mut self, now: Instant, tx: &mut TxBatch) -> bool {
        debug_assert!(tx.is_empty());
        if !self.control.is_empty() {
            std::mem::swap(tx, &mut self.control);
            return true;
        }
        self.retransmit(tx) || self.fan_out(now, tx)
    }

    /// What the control side has to know. Call until `None`; every event matters.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What other shards have to know. Call until `None`; what finds the queue between two shards full may be dropped.
    pub fn poll_sibling(&mut self) -> Option<(ShardIndex, SiblingMessage)> {
        self.to_siblings.pop_front()
    }

    /// Totals so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Transports alive.
    pub fn transports(&self) -> usize {
        self.transports.len()
    }

    fn source_key(&self, publication: PublicationHandle, track: u8) -> Option<usize> {
        *self.publications.get(&publication)?.get(usize::from(track))?
    }

    fn tell_sibling(&mut self, sibling: ShardIndex, message: SiblingMessage) {
        if self.to_siblings.len() < Self::MAX_TO_SIBLINGS {
            self.to_siblings.push_back((sibling, message));
        } else {
            self.counters.dropped_sibling += 1;
        }
    }
}
