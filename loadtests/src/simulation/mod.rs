//! Whole calls in virtual time: shards of the core, clients, and the bad networks between them, in one thread and without a socket.
//!
//! The simulation plays the node's shell (moving datagrams, messages between shards, timers) and its control side (answering
//! offers). It adds no policy of its own.

mod control;
mod replay;

use crate::{
    network::{Link, LinkStats, Quality},
    peer::{Certificate, PeerConfig, PeerError, PeerEvent, Section, TestPeer},
};
use control::Published;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sfu_core::{
    Command, Event, PublicationHandle, RxBatch, Shard, ShardConfig, ShardIndex, SiblingMessage, SubscriptionHandle,
    TransportHandle, TxBatch, dtls::Identity,
};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rounds at one moment after which something talks to itself for ever.
const MAX_ROUNDS: usize = 100_000;

/// What a client's sections are for.
#[derive(Debug, Clone)]
pub enum Binding {
    /// These sections are a publication.
    Publish(Vec<usize>),
    /// These sections are a subscription to a publication, the n-th audio section to its n-th audio track, and so on.
    Subscribe(PublicationHandle, Vec<usize>),
}

/// Names a client of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(usize);

/// What came of opening a client.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The client.
    pub client: ClientId,
    /// Its transport.
    pub transport: TransportHandle,
    /// Its publications, in the order of the bindings.
    pub publications: Vec<PublicationHandle>,
    /// Its subscriptions, likewise.
    pub subscriptions: Vec<SubscriptionHandle>,
}

/// A client with its path to its shard.
pub struct Client {
    /// The peer.
    pub peer: TestPeer,
    /// What happened to it since somebody last took it.
    pub events: Vec<PeerEvent>,
    /// Why it failed, if it did.
    pub failure: Option<PeerError>,
    address: SocketAddr,
    shard: usize,
    up: Link<Vec<u8>>,
    down: Link<Vec<u8>>,
    sent_to_it: HashMap<(u32, u16), u32>,
    recording: Option<Vec<Vec<u8>>>,
}

impl Client {
    /// Keeps what the client sends from now on.
    pub fn record(&mut self) {
        self.recording = Some(Vec::new());
    }

    /// What it sent since.
    pub fn recorded(&self) -> &[Vec<u8>] {
        self.recording.as_deref().unwrap_or_default()
    }

    /// How often the shard sent each packet to this client, by SSRC and sequence number, before the network did its work.
    pub fn sent_to_it(&self) -> &HashMap<(u32, u16), u32> {
        &self.sent_to_it
    }

    /// What the links towards the shard and from it did.
    pub fn links(&self) -> (LinkStats, LinkStats) {
        (self.up.stats(), self.down.stats())
    }

    /// Changes the network from now on, both ways.
    pub fn set_quality(&mut self, quality: Quality) {
        self.up.set_quality(quality);
        self.down.set_quality(quality);
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Moves it to another address, as a change of network does.
    pub fn set_address(&mut self, address: SocketAddr) {
        self.address = address;
    }
}

struct SimulatedShard {
    shard: Shard,
    address: SocketAddr,
    rx: RxBatch,
    tx: TxBatch,
    inbox: VecDeque<SiblingMessage>,
}

/// Shards and clients at one moment in time.
pub struct Simulation {
    now: Instant,
    identity: Arc<Identity>,
    certificate: Certificate,
    shards: Vec<SimulatedShard>,
    clients: Vec<Client>,
    published: HashMap<PublicationHandle, Published>,
    events: Vec<Event>,
    random: StdRng,
    handles: u64,
}

impl Simulation {
    /// A node of so many shards. Everything but the keys of certificates and handshakes follows from `seed`; see [`Self::disturb`].
    pub fn new(seed: u64, shards: u8) -> anyhow::Result<Self> {
        let now = Instant::now();
        let identity = Arc::new(Identity::generate()?);
        let shards = (0..shards)
            .map(|index| SimulatedShard {
                shard: Shard::new(ShardConfig { index: ShardIndex(index), identity: identity.clone() }, now),
                address: SocketAddr::from(([192, 0, 2, 1], 40_000 + u16::from(index))),
                rx: RxBatch::new(),
                tx: TxBatch::new(),
                inbox: VecDeque::new(),
            })
            .collect();
        Ok(Self {
            now,
            identity,
            certificate: Certificate::generate()?,
            shards,
            clients: Vec::new(),
            published: HashMap::new(),
            events: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            handles: 0,
        })
    }

    /// The moment it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A client.
    pub fn client(&mut self, id: ClientId) -> &mut Client {
        &mut self.clients[id.0]
    }

    /// A shard.
    pub fn shard(&self, index: usize) -> &Shard {
        &self.shards[index].shard
    }

    /// What the shards told the control side, taken out.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Opens a client with these sections on a shard.
    pub fn open(
        &mut self,
        shard: usize,
        quality: Quality,
        sections: &[Section],
        bindings: &[Binding],
    ) -> anyhow::Result<Opened> {
        let config = PeerConfig::new(self.random.random(), self.certificate.clone(), sections.to_vec());
        self.open_with(shard, quality, config, bindings)
    }

    /// Gives a shard an order.
    pub fn command(&mut self, shard: usize, command: Command) {
        self.shards[shard].shard.handle_command(self.now, command);
    }

    /// Puts a datagram of any origin into a shard.
    pub fn inject(&mut self, shard: usize, from: SocketAddr, datagram: &[u8]) {
        let SimulatedShard { shard, rx, .. } = &mut self.shards[shard];
        if !rx.push_datagram(from, datagram) {
            shard.handle_datagrams(self.now, rx);
            rx.push_datagram(from, datagram);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let next = self.next_moment();
            if next > end {
                self.now = end;
                return self.settle();
            }
            self.now = self.now.max(next);
        }
    }

    /// Lets time pass until all clients are connected; false if that takes longer than `limit`.
    pub fn connect_all(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if self.clients.iter().all(|client| client.peer.is_connected()) {
                return true;
            }
            self.run_for(Duration::from_millis(20));
        }
        false
    }

    /// Gives every client a network of this quality, whose choices follow from the simulation's seed and what is sent from now on.
    ///
    /// Keys, and with them the lengths of handshake records, cannot be seeded. A call that is set up before on networks that lose
    /// nothing owes nothing to them: no timer of a handshake has run, so everybody is where they always are at this moment.
    pub fn disturb(&mut self, quality: Quality) {
        for client in &mut self.clients {
            client.set_quality(quality);
            client.up.reseed(self.random.random());
            client.down.reseed(self.random.random());
        }
    }

    fn next_moment(&self) -> Instant {
        let clients = self.clients.iter().flat_map(|client| {
            [client.up.next_arrival(), client.down.next_arrival(), client.peer.poll_timeout()].into_iter().flatten()
        });
        let shards = self.shards.iter().map(|shard| shard.shard.poll_timeout(self.now));
        clients.chain(shards).min().unwrap_or(self.now)
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut busy = false;
            for index in 0..self.clients.len() {
                busy |= self.run_client(index);
            }
            for index in 0..self.shards.len() {
                busy |= self.run_shard(index);
            }
            if !busy {
                return;
            }
        }
        panic!("something is due for ever at {:?}", self.now);
    }

    fn run_client(&mut self, index: usize) -> bool {
        let now = self.now;
        let client = &mut self.clients[index];
        let mut busy = false;
        while let Some(datagram) = client.down.receive(now) {
            busy = true;
            client.fail_with(|peer| peer.handle_datagram(now, &datagram));
        }
        if client.failure.is_none() && client.peer.poll_timeout().is_some_and(|at| at <= now) {
            busy = true;
            client.fail_with(|peer| peer.handle_timeout(now));
        }
        client.events.extend(std::iter::from_fn(|| client.peer.poll_event()));
        while let Some(datagram) = client.peer.poll_transmit() {
            busy = true;
            if let Some(recording) = &mut client.recording {
                recording.push(datagram.clone());
            }
            client.up.send(now, datagram);
        }
        let (address, shard) = (client.address, client.shard);
        while let Some(datagram) = self.clients[index].up.receive(now) {
            busy = true;
            self.inject(shard, address, &datagram);
        }
        busy
    }

    fn run_shard(&mut self, index: usize) -> bool {
        let now = self.now;
        let SimulatedShard { shard, rx, tx, inbox, .. } = &mut self.shards[index];
        let mut busy = !rx.is_empty() || !inbox.is_empty();
        shard.handle_datagrams(now, rx);
        for message in inbox.drain(..) {
            shard.handle_sibling(now, message);
        }
        if shard.poll_timeout(now) <= now {
            busy = true;
            shard.handle_timeout(now);
        }
        loop {
            let more = shard.poll_transmit(now, tx);
            busy |= !tx.is_empty();
            for (to, datagram) in tx.datagrams() {
                let Some(client) = self.clients.iter_mut().find(|client| client.address == to) else { continue };
                client.note_sent(datagram);
                client.down.send(now, datagram.to_vec());
            }
            tx.clear();
            if !more {
                break;
            }
        }
        self.events.extend(std::iter::from_fn(|| shard.poll_event()));
        let mut messages = Vec::new();
        shard.tell_siblings(|to, message| {
            messages.push((to, message));
            Ok(())
        });
        busy |= !messages.is_empty();
        for (to, message) in messages {
            self.shards[usize::from(to.0)].inbox.push_back(message);
        }
        busy
    }
}

impl Client {
    fn fail_with(&mut self, act: impl FnOnce(&mut TestPeer) -> Result<(), PeerError>) {
        if self.failure.is_none() {
            self.failure = act(&mut self.peer).err();
        }
    }

    fn note_sent(&mut self, datagram: &[u8]) {
        let Some(&[_, _, s0, s1, _, _, _, _, a, b, c, d]) = datagram.first_chunk() else { return };
        if is_media(datagram) {
            let packet = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([s0, s1]));
            *self.sent_to_it.entry(packet).or_default() += 1;
        }
    }
}

/// RTP, and not RTCP (RFC 7983, RFC 5761).
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, kind, ..] if !(192..=223).contains(kind))
}
