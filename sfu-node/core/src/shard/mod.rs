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
//! When there is more to do than can be done, `shedding.rs` says what is left out.
//!
//! Nothing here allocates, locks or starts a task per packet; a new track's ring alone allocates each place when it first comes to
//! it, and then never again. Handshakes and commands are cold: they are done one at a time,
//! between two rounds of packets.

mod counters;
mod fanout;
mod feedback;
mod inbound;
mod lifecycle;
mod output;
mod pace;
mod receive;
mod recent;
mod shedding;
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
use self::{
    fanout::{Ready, Retransmission},
    output::Output,
    source::SourceTrack,
    transport::{ProvenAddress, Transport},
    wheel::Wheel,
};
use crate::{
    CandidatePair,
    batch::{RxBatch, TxBatch},
    command::{Command, Event, SiblingMessage},
    dtls::Identity,
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
    histogram::Histogram,
    sdp::MediaKind,
};

/// Tracks per publication that are carried; further ones are ignored. (The edge publishes one audio and one video track.)
pub const MAX_TRACKS: usize = 16;

/// Shards of a node, and whoever else is lent packets like one (a recorder): a set of them is the bits of a word.
pub const MAX_SIBLINGS: usize = 64;

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
    /// Keys of proven addresses.
    addresses: HashMap<SocketAddr, usize>,
    proven: Slab<ProvenAddress>,
    wheel: Wheel<usize>,
    /// Sources whose packets wait for the end of a burst.
    windowed: Vec<usize>,
    /// Sources whose packets are to be fanned out now.
    ready: Ready,
    retransmissions: VecDeque<Retransmission>,
    /// Datagrams of control protocols to send: answers to checks, handshakes, RTCP.
    control: TxBatch,
    /// Handshake datagrams that wait for their turn.
    handshakes: VecDeque<Handshake>,
    events: VecDeque<Event>,
    /// Messages to siblings, each with the siblings that have not had it, a bit per shard.
    to_siblings: VecDeque<(u64, SiblingMessage)>,
    /// Sources fed by siblings whose keyframe requests wait for the throttle.
    owed_keyframes: Vec<usize>,
    next_housekeeping: Instant,
    /// Transports that are due, in the order of their turns.
    due: VecDeque<usize>,
    scratch: Vec<u8>,
    lost: Vec<u16>,
    /// How much video is left out, 0 to [`Self::MAX_SHEDDING`].
    shedding: u8,
    delays: Histogram,
    counters: Counters,
}

/// A DTLS datagram from a proven address.
struct Handshake {
    transport: TransportHandle,
    from: CandidatePair,
    datagram: Box<[u8]>,
}

impl Shard {
    /// Handshake datagrams that wait at most. A handshake is six of them; what is beyond comes again by retransmission.
    const MAX_HANDSHAKES: usize = 1_024;
    /// The largest DTLS datagram that an endpoint looks at.
    const MAX_HANDSHAKE_BYTES: usize = 2_048;
    /// Retransmissions that wait at most for the next round; more are asked for again.
    const MAX_RETRANSMISSIONS: usize = 4_096;
    /// Messages to siblings that wait at most, each for any number of them: those of two receive calls. The older half may be
    /// waiting for a sibling that is behind; what a call brings always finds room.
    const MAX_TO_SIBLINGS: usize = 2 * RxBatch::DATAGRAMS;
    /// Datagrams that one transport may have to send when it is due: a sender report for each of up to 64 m-lines above all.
    const ROOM_FOR_A_TURN: usize = 128;
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
            proven: Slab::new(),
            wheel: Wheel::new(now),
            windowed: Vec::new(),
            ready: Ready::default(),
            retransmissions: VecDeque::with_capacity(Self::MAX_RETRANSMISSIONS),
            control: TxBatch::new(),
            handshakes: VecDeque::new(),
            events: VecDeque::new(),
            to_siblings: VecDeque::with_capacity(Self::MAX_TO_SIBLINGS),
            owed_keyframes: Vec::new(),
            next_housekeeping: now + Self::HOUSEKEEPING,
            due: VecDeque::new(),
            scratch: vec![0; TxBatch::DATAGRAM_BYTES],
            lost: Vec::new(),
            shedding: 0,
            delays: Histogram::default(),
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

    /// Takes in what another shard of the node has said. Messages may be lost between shards: what orders is repeated by
    /// [`Self::handle_timeout`], and a packet is lent again when a subscriber asks for it.
    pub fn handle_sibling(&mut self, now: Instant, message: SiblingMessage) {
        match message {
            SiblingMessage::Attach(publication, tracks, sibling) => self.attach(now, publication, tracks, sibling),
            SiblingMessage::Media(publication, track, packet) => self.relay(now, publication, track, packet),
            SiblingMessage::LendAgain(publication, track, index, sibling) => {
                self.lend_again(publication, track, index, sibling);
            }
            SiblingMessage::Clock(publication, track, clock) => {
                if let Some(source) = self.source_key(publication, track) {
                    self.sources[source].clock = clock;
                    self.sources[source].unanswered = 0;
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
        self.wheel.advance(now, &mut self.due);
        // Who has no turn for want of room is first in the next round.
        while self.control.has_room_for(Self::ROOM_FOR_A_TURN)
            && let Some(transport) = self.due.pop_front()
        {
            self.transport_timeout(now, transport);
        }
        self.end_batch_windows(now);
        self.repeat_owed_keyframes(now);
        self.handle_next_handshake(now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now + Self::HOUSEKEEPING;
            self.housekeep(now);
        }
    }

    /// When [`Self::handle_timeout`] is to be called next; in the past if at once.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        if !self.handshakes.is_empty() || !self.due.is_empty() {
            return now;
        }
        let windows = self.windowed.iter().filter_map(|key| self.sources.get(*key)?.flush_deadline());
        let owed = self.owed_keyframes.iter().filter_map(|key| self.sources.get(*key)?.keyframe_owed_at());
        windows.chain(owed).chain(self.wheel.next()).fold(self.next_housekeeping, Instant::min)
    }

    /// Fills the empty batch `tx` with datagrams to send. True when there are more than fit: send, clear and call again, or take in
    /// what has arrived first. What is waited for the most goes first, so that only video is late when there is too much.
    pub fn poll_transmit(&mut self, now: Instant, tx: &mut TxBatch) -> bool {
        debug_assert!(tx.is_empty());
        if !self.control.is_empty() {
            std::mem::swap(tx, &mut self.control);
            return true;
        }
        self.fan_out(now, MediaKind::Audio, tx) || self.retransmit(now, tx) || self.fan_out(now, MediaKind::Video, tx)
    }

    /// What the control side has to know. Call until `None`; every event matters.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Hands over what other shards have to know, in its order for each of them. What finds no room (`send` gives it back) is
    /// kept for the next call, up to a bound; what is beyond is lost and counted. True when anything was kept.
    pub fn tell_siblings(
        &mut self,
        mut send: impl FnMut(ShardIndex, SiblingMessage) -> Result<(), SiblingMessage>,
    ) -> bool {
        let mut full = 0_u64;
        self.to_siblings.retain_mut(|(waiting, message)| {
            let mut untried = *waiting & !full;
            while untried != 0 {
                let sibling = untried.trailing_zeros() as u8;
                untried &= untried - 1;
                match send(ShardIndex(sibling), message.clone()) {
                    Ok(()) => *waiting &= !(1 << sibling),
                    Err(_) => full |= 1 << sibling,
                }
            }
            *waiting != 0
        });
        let excess = self.to_siblings.len().saturating_sub(Self::MAX_TO_SIBLINGS / 2);
        for (waiting, _) in self.to_siblings.drain(..excess) {
            self.counters.dropped_sibling += u64::from(waiting.count_ones());
        }
        !self.to_siblings.is_empty()
    }

    /// Totals so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long packets took from their arrival in the node until they were sent, a subscriber each.
    pub fn delays(&self) -> &Histogram {
        &self.delays
    }

    /// Transports alive.
    pub fn transports(&self) -> usize {
        self.transports.len()
    }

    /// Tracks on their way to subscribers.
    pub fn subscribed_tracks(&self) -> usize {
        self.outputs.len()
    }

    fn source_key(&self, publication: PublicationHandle, track: u8) -> Option<usize> {
        *self.publications.get(&publication)?.get(usize::from(track))?
    }

    fn tell_sibling(&mut self, sibling: ShardIndex, message: SiblingMessage) {
        self.tell_all(1 << sibling.0, message);
    }

    /// Queues a message for these siblings, a bit per shard.
    fn tell_all(&mut self, siblings: u64, message: SiblingMessage) {
        if siblings == 0 {
            return;
        }
        if self.to_siblings.len() < Self::MAX_TO_SIBLINGS {
            self.to_siblings.push_back((siblings, message));
        } else {
            self.counters.dropped_sibling += u64::from(siblings.count_ones());
        }
    }
}
