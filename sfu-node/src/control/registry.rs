//! What is live on the node, by its names outside: rooms, clients, transports, publications, subscriptions. It decides
//! what a request changes; the shards are told by the orders it gives back.
//!
//! No I/O and no lock: `Control` wraps it in one. Every change is prepared first and committed after the shard has taken
//! its order, so that a refusal leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use proto::ids::{Mid, PeerId, RoomId, Sid, TransportId};
use proto::sfu::{GoneReason, TransportGone, watch_event};
use sfu_core::sdp::{Answer, Fingerprint, IceCredentials, ReceiveTrack, SectionPlan, SendTrack};
use sfu_core::{CloseReason, Command, PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle};
use tokio::sync::watch;
use tokio::time::Instant;

use super::census::{PUBLICATION_ENDED, none_closed};
use super::closing::Closings;
use super::phase::{Phase, draining};
use super::recording::RecordingHistory;
use super::request::{Bindings, Metadata, OfferText};
use super::watch::{WatchQueue, WatchRefusal, Watchers};
use crate::overload::Level;

/// Transports of one client, in all its rooms, that may be connecting at a time: as many as someone subscribes to who enters a
/// large room. Each takes one of the node's places until it is connected or given up, which costs who asks nothing.
pub(crate) const MAX_CONNECTING: usize = 256;

/// Orders for shards, in order.
pub(crate) type Orders = Vec<(ShardIndex, Command)>;

/// A client of a room: its transports share a shard.
#[derive(Debug)]
struct Client {
    shard: ShardIndex,
    transports: usize,
}

#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) handle: TransportHandle,
    pub(crate) shard: ShardIndex,
    pub(crate) room: RoomId,
    pub(crate) client: PeerId,
    /// It has been connected once.
    pub(crate) connected: bool,
    /// The client's certificate: the DTLS association is tied to it.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) local_ice: IceCredentials,
    pub(crate) session_id: u64,
    pub(crate) session_version: u64,
    /// SSRC of our RTCP.
    pub(crate) rtcp_ssrc: u32,
    /// Every SSRC we have ever used on it: one used again would repeat nonces.
    pub(crate) ssrcs: HashSet<u32>,
    /// The last negotiation, to be answered the same when it comes again.
    pub(crate) negotiated: Negotiated,
    /// The last restart, likewise: its offer and answer.
    pub(crate) restarted: Option<(Arc<str>, Arc<str>)>,
    /// What is in force.
    pub(crate) applied: Applied,
    pub(crate) publications: BTreeSet<Mid>,
    pub(crate) subscriptions: BTreeSet<Sid>,
}

#[derive(Debug, Clone)]
pub(crate) struct Negotiated {
    pub(crate) offer: Arc<str>,
    pub(crate) bindings: Bindings,
    pub(crate) outcome: Outcome,
}

/// What a negotiation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answer: Arc<str>,
    /// Publications with whether they carry audio and video, in the order of the request.
    pub(crate) publications: Vec<(Mid, bool, bool)>,
}

/// The last offer applied and what it was answered with. The offer is kept as text, which is a fraction of what it is
/// parsed: only a restart needs it again.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) offer: Arc<str>,
    /// The client's credentials in it.
    pub(crate) ice: IceCredentials,
    /// Its number of m-lines.
    pub(crate) sections: usize,
    pub(crate) plans: Vec<SectionPlan>,
    pub(crate) answer: Answer,
}

impl Applied {
    pub(crate) fn new(offer: &OfferText, plans: Vec<SectionPlan>, answer: Answer) -> Self {
        let sections = offer.offer.sections.len();
        Self { offer: offer.text.clone(), ice: offer.offer.ice.clone(), sections, plans, answer }
    }
}

#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) transport: TransportId,
    pub(crate) room: RoomId,
    pub(crate) shard: ShardIndex,
    pub(crate) metadata: Metadata,
    pub(crate) labels: Labels,
    pub(crate) tracks: Vec<PublishedTrack>,
    pub(crate) subscribers: BTreeSet<Sid>,
    pub(crate) recordings: RecordingHistory,
}

/// Names that subscribers see in SDP: random, so that they tell nothing about the publisher.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    pub(crate) stream: Arc<str>,
    pub(crate) cname: Arc<str>,
}

#[derive(Debug, Clone)]
pub(crate) struct PublishedTrack {
    pub(crate) spec: ReceiveTrack,
    pub(crate) label: Arc<str>,
    /// How its shard knows it. Tracks of later offers have handles of their own.
    pub(crate) handle: PublicationHandle,
    pub(crate) position: u8,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) transport: TransportId,
    pub(crate) publication: Mid,
    pub(crate) tracks: Vec<SubscribedTrack>,
}

#[derive(Debug, Clone)]
pub(crate) struct SubscribedTrack {
    pub(crate) send: SendTrack,
    /// Index among the publication's tracks.
    pub(crate) source: usize,
    pub(crate) handle: SubscriptionHandle,
}

/// Everything live on the node.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) transports: HashMap<TransportId, Transport>,
    pub(crate) publications: HashMap<Mid, Publication>,
    pub(crate) subscriptions: HashMap<Sid, Subscription>,
    /// In the order in which they came.
    pub(super) handles: BTreeMap<TransportHandle, TransportId>,
    pub(super) rooms: HashMap<RoomId, BTreeSet<TransportId>>,
    clients: HashMap<(RoomId, PeerId), Client>,
    /// How many of a client's transports have not been connected yet.
    connecting: HashMap<PeerId, usize>,
    /// Transports by shard.
    load: Vec<usize>,
    next_handle: u64,
    pub(crate) watchers: Watchers,
    pub(crate) closings: Closings,
    /// Whether anything new is taken.
    pub(super) phase: watch::Sender<Phase>,
    /// Likewise, as its load has it.
    pub(super) level: Level,
    /// Transports that have ended, by reason.
    pub(super) closed: BTreeMap<&'static str, u64>,
    /// Number of transports.
    pub(super) live: watch::Sender<usize>,
}

impl Registry {
    /// Nothing yet, on this many shards.
    pub(crate) fn new(shards: usize, watchers: Watchers) -> Self {
        Self {
            transports: HashMap::new(),
            publications: HashMap::new(),
            subscriptions: HashMap::new(),
            handles: BTreeMap::new(),
            rooms: HashMap::new(),
            clients: HashMap::new(),
            connecting: HashMap::new(),
            load: vec![0; shards],
            next_handle: 0,
            watchers,
            closings: Closings::new(shards),
            phase: watch::Sender::new(Phase::Ready),
            level: Level::Normal,
            closed: none_closed(),
            live: watch::Sender::new(0),
        }
    }

    /// A number that names something for the first time.
    pub(crate) fn next_handle(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }

    /// Rooms with anything live.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Clients with anything live, by room.
    pub(crate) fn peers(&self) -> usize {
        self.clients.len()
    }

    /// The shard for a client's next transport: that of its others, else the one with the fewest.
    pub(crate) fn shard_for(&self, room: &RoomId, client: &PeerId) -> ShardIndex {
        if let Some(client) = self.clients.get(&(room.clone(), client.clone())) {
            return client.shard;
        }
        let fewest = (0..self.load.len()).min_by_key(|shard| self.load[*shard]);
        ShardIndex(fewest.expect("invariant: a node has a shard") as u8)
    }

    /// Takes a new transport in.
    pub(crate) fn insert(&mut self, id: &TransportId, transport: Transport) {
        self.load[usize::from(transport.shard.0)] += 1;
        self.rooms.entry(transport.room.clone()).or_default().insert(id.clone());
        let client = (transport.room.clone(), transport.client.clone());
        self.clients.entry(client).or_insert(Client { shard: transport.shard, transports: 0 }).transports += 1;
        *self.connecting.entry(transport.client.clone()).or_default() += 1;
        self.handles.insert(transport.handle, id.clone());
        self.transports.insert(id.clone(), transport);
        self.live.send_replace(self.transports.len());
    }

    /// Whether the client has as many transports connecting as it may.
    pub(crate) fn is_busy_connecting(&self, client: &PeerId) -> bool {
        self.connecting.get(client).is_some_and(|count| *count >= MAX_CONNECTING)
    }

    fn no_longer_connecting(&mut self, client: &PeerId) {
        if let Some(count) = self.connecting.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.connecting.remove(client);
            }
        }
    }

    /// A shard says that a transport is connected.
    pub(crate) fn connected(&mut self, handle: TransportHandle) {
        let Some(id) = self.handles.get(&handle) else { return };
        let Some(transport) = self.transports.get_mut(id) else { return };
        if !std::mem::replace(&mut transport.connected, true) {
            let client = transport.client.clone();
            self.no_longer_connecting(&client);
        }
    }

    /// A shard says that a transport has ended. Gives orders for what ends with it.
    pub(crate) fn closed(&mut self, handle: TransportHandle, reason: CloseReason) -> Orders {
        // Unknown: closed by command, and forgotten then.
        let Some(id) = self.handles.get(&handle).cloned() else { return Orders::new() };
        let reason = match reason {
            CloseReason::Commanded => GoneReason::Closed,
            CloseReason::NeverConnected => GoneReason::NeverConnected,
            CloseReason::ConsentExpired => GoneReason::ConsentExpired,
            CloseReason::DtlsFailed => GoneReason::DtlsFailed,
            CloseReason::ClosedByClient => GoneReason::ClosedByClient,
        };
        let mut orders = Orders::new();
        self.end_transport(&id, reason, &mut orders);
        orders
    }

    /// Forgets a transport with everything bound to it, tells watchers, and orders the end of what depended on it. The
    /// transport's own shard is told by the caller, if it does not know already.
    pub(crate) fn end_transport(&mut self, id: &TransportId, reason: GoneReason, orders: &mut Orders) {
        let Some(transport) = self.forget_transport(id, reason.name(), orders) else { return };
        let gone = TransportGone {
            room_id: transport.room.to_string(),
            client_id: transport.client.to_string(),
            transport_id: id.to_string(),
            publication_ids: transport.publications.iter().map(ToString::to_string).collect(),
            subscription_ids: transport.subscriptions.iter().map(ToString::to_string).collect(),
            reason: reason.into(),
        };
        self.watchers.tell_room(&transport.room, &watch_event::Event::TransportGone(gone).into());
    }

    fn forget_transport(&mut self, id: &TransportId, reason: &'static str, orders: &mut Orders) -> Option<Transport> {
        let transport = self.transports.remove(id)?;
        *self.closed.entry(reason).or_default() += 1;
        self.live.send_replace(self.transports.len());
        self.handles.remove(&transport.handle);
        if !transport.connected {
            self.no_longer_connecting(&transport.client);
        }
        self.load[usize::from(transport.shard.0)] -= 1;
        if let Some(room) = self.rooms.get_mut(&transport.room) {
            room.remove(id);
            if room.is_empty() {
                self.rooms.remove(&transport.room);
            }
        }
        let client = (transport.room.clone(), transport.client.clone());
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.transports -= 1;
            if entry.transports == 0 {
                self.clients.remove(&client);
            }
        }
        for subscription in &transport.subscriptions {
            self.forget_subscription(subscription);
        }
        for publication in &transport.publications {
            self.end_publication(publication, orders);
        }
        Some(transport)
    }

    /// Forgets a publication, and ends its subscriptions; a transport that had nothing else goes with them. Watchers are not
    /// told of each: there may be thousands, and that the publication has ended says it.
    pub(crate) fn end_publication(&mut self, id: &Mid, orders: &mut Orders) {
        let Some(publication) = self.publications.remove(id) else { return };
        for subscription in publication.subscribers {
            let Some(ended) = self.subscriptions.remove(&subscription) else { continue };
            let Some(transport) = self.transports.get_mut(&ended.transport) else { continue };
            let (shard, handle) = (transport.shard, transport.handle);
            if transport.publications.is_empty() && transport.subscriptions.len() == 1 {
                orders.push((shard, Command::CloseTransport(handle)));
                self.forget_transport(&ended.transport, PUBLICATION_ENDED, orders);
            } else {
                transport.subscriptions.remove(&subscription);
                orders.extend(close_subscription(shard, &ended));
            }
        }
    }

    /// Forgets a subscription, and gives it back.
    pub(crate) fn forget_subscription(&mut self, id: &Sid) -> Option<Subscription> {
        let ended = self.subscriptions.remove(id)?;
        if let Some(publication) = self.publications.get_mut(&ended.publication) {
            publication.subscribers.remove(id);
        }
        if let Some(transport) = self.transports.get_mut(&ended.transport) {
            transport.subscriptions.remove(id);
        }
        Some(ended)
    }

    /// Opens a watch; that the node is going away is the first it hears.
    pub(crate) fn open_watch(&mut self) -> Result<WatchQueue, WatchRefusal> {
        let phase = *self.phase.borrow();
        if phase == Phase::Ending {
            return Err(WatchRefusal::Ending);
        }
        let queue = self.watchers.open()?;
        if matches!(phase, Phase::Draining { .. }) {
            self.watchers.tell(queue.id, &draining(phase.left(Instant::now())).into());
        }
        Ok(queue)
    }
}

/// Commands that end a subscription on its shard.
pub(crate) fn close_subscription(shard: ShardIndex, ended: &Subscription) -> Orders {
    let handles: BTreeSet<SubscriptionHandle> = ended.tracks.iter().map(|track| track.handle).collect();
    handles.into_iter().map(|handle| (shard, Command::CloseSubscription(handle))).collect()
}

/// Commands that end a publication on its shard.
pub(crate) fn close_publication(ended: &Publication) -> Orders {
    let handles: BTreeSet<PublicationHandle> = ended.tracks.iter().map(|track| track.handle).collect();
    handles.into_iter().map(|handle| (ended.shard, Command::ClosePublication(handle))).collect()
}
