//! The control side of a node: requests of edges in, orders to shards and events to watchers out.
//!
//! It runs on tokio's threads, behind one lock that is held for the microseconds an answer takes and never over an await.
//! Media does not pass here: shards go on without it.

mod bind;
mod census;
mod closing;
mod live;
mod negotiate;
mod phase;
mod plan;
mod recording;
mod registry;
mod request;
mod restart;
mod watch;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::{Mid, RoomId, TransportId};
use proto::refusal::{NoRecording, NoTransport};
use proto::sfu::{GoneReason, watch_event};
use sfu_core::sdp::Fingerprint;
use sfu_core::{Command, Event, ShardIndex};
use tokio::sync::Notify;

use crate::drive::Order;
use crate::overload::Level;
use crate::shard::{Busy, ShardHandle};
use registry::{MAX_CONNECTING, Orders, Registry};
use restart::Restart;

#[cfg(test)]
pub(crate) use census::Census;
pub(crate) use census::REFUSALS;
pub(crate) use live::{Cursor, NoCursor, Page};
pub(crate) use phase::{Drained, Phase};
pub(crate) use recording::{Beginning, Records, StartRecording, StartTrack};
pub(crate) use registry::Outcome;
pub(crate) use request::{Metadata, Negotiation, OfferText, RequestError, metadata};
pub(crate) use watch::{Told, WatchQueue, WatchRefusal, WatcherId, Watchers};

/// What answers say about this node.
#[derive(Debug)]
pub(crate) struct Local {
    /// Of the node's certificate.
    pub(crate) fingerprint: Fingerprint,
    /// By shard.
    pub(crate) candidates: Vec<Vec<SocketAddr>>,
    /// Transports at a time.
    pub(crate) max_transports: usize,
}

/// Why a well-formed request is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It cannot be, as it stands.
    #[error("{0}")]
    Invalid(String),
    /// None of the offer's m-lines can carry it.
    #[error("{0}: the offer has no usable m-line for it")]
    NothingFor(String),
    /// A subscription to what is not here.
    #[error("publication {0} is not on this node")]
    NoPublication(Mid),
    /// A restart of what is not here.
    #[error("transport {0} is not on this node")]
    NoTransport(TransportId),
    /// An id that means something else already.
    #[error("{0}")]
    Conflict(String),
    /// No further transport.
    #[error("{}", no_transport(*.0))]
    NoTransports(NoTransport),
    /// No recording.
    #[error("{}", no_recording(*.0))]
    NoRecording(NoRecording),
    /// A shard is behind with its orders.
    #[error(transparent)]
    Busy(#[from] Busy),
}

fn no_transport(why: NoTransport) -> String {
    match why {
        NoTransport::Full => "the node is full".to_owned(),
        NoTransport::Draining => "the node is going away".to_owned(),
        NoTransport::Superseded => "another process goes by this node's id".to_owned(),
        NoTransport::Overloaded => "the node is overloaded".to_owned(),
        NoTransport::Connecting => {
            format!("{MAX_CONNECTING} streams of this client are still connecting: retry when some are connected")
        }
    }
}

fn no_recording(why: NoRecording) -> &'static str {
    match why {
        NoRecording::Never => "this node does not record, or no more",
        NoRecording::Ended => "this recording has ended already",
        NoRecording::Outgrown => "this recording lacks a kind that a further offer has added",
        NoRecording::Full => "the node makes as many recordings as it may, or has no room for more",
    }
}

/// The registry, and the shards it orders about.
pub(crate) struct Control {
    registry: Mutex<Registry>,
    shards: Vec<ShardHandle>,
    /// Some shard had no room for what ends on it.
    late: Notify,
    local: Local,
    /// `None`: nothing is recorded here.
    records: Option<Arc<dyn Records>>,
}

impl Control {
    /// Of a node with these shards, nothing on it.
    pub(crate) fn new(shards: Vec<ShardHandle>, local: Local, watchers: Watchers) -> Self {
        let registry = Mutex::new(Registry::new(shards.len(), watchers));
        Self { registry, shards, late: Notify::new(), local, records: None }
    }

    /// Carries out a `Negotiate`; the same request again gets the same answer.
    pub(crate) fn negotiate(&self, request: &Negotiation) -> Result<Outcome, Refusal> {
        let mut registry = self.lock();
        if let Some(outcome) = registry.answered_before(request) {
            return Ok(outcome);
        }
        let mut prepared = registry.prepare(request, &self.local, &mut rand::rng())?;
        self.order(&mut registry, prepared.shard, std::mem::take(&mut prepared.commands))?;
        let outcome = prepared.outcome.clone();
        let orders = registry.commit(prepared);
        self.close_on_shards(&mut registry, orders);
        Ok(outcome)
    }

    /// Carries out a `Restart`, and gives the answer; likewise.
    pub(crate) fn restart(&self, transport: &TransportId, offer: &OfferText) -> Result<Arc<str>, Refusal> {
        let mut registry = self.lock();
        match registry.restart(transport, offer, &self.local, &mut rand::rng())? {
            Restart::Before(answer) => Ok(answer),
            Restart::New { shard, command, ice, answer } => {
                self.order(&mut registry, shard, vec![*command])?;
                Ok(registry.commit_restart(transport, offer, ice, *answer))
            }
        }
    }

    /// Refuses what is refused at this level, from now on.
    pub(crate) fn set_level(&self, level: Level) {
        self.lock().level = level;
    }

    /// Ends transports; unknown ones are ignored.
    pub(crate) fn close_transports(&self, ids: &[TransportId]) {
        let mut registry = self.lock();
        let mut orders = Orders::new();
        for id in ids {
            let Some(transport) = registry.transports.get(id) else { continue };
            orders.push((transport.shard, Command::CloseTransport(transport.handle)));
            registry.end_transport(id, GoneReason::Closed, &mut orders);
        }
        self.close_on_shards(&mut registry, orders);
    }

    fn close_all(&self, registry: &mut Registry, reason: GoneReason) {
        let transports = registry.transports.values();
        let orders: Orders =
            transports.map(|transport| (transport.shard, Command::CloseTransport(transport.handle))).collect();
        registry.closings.add(orders);
        for shard in &self.shards {
            // A shard that is too busy to listen ends without further goodbyes.
            let _ = registry.closings.give(shard);
        }
        let ids: Vec<TransportId> = registry.transports.keys().cloned().collect();
        for id in ids {
            registry.end_transport(&id, reason, &mut Orders::new());
        }
        registry.watchers.close_all();
    }

    /// Takes in what a shard says.
    pub(crate) fn handle_event(&self, event: Event) {
        let mut registry = self.lock();
        match event {
            Event::TransportConnected(handle) => registry.connected(handle),
            Event::TransportClosed(handle, reason) => {
                let orders = registry.closed(handle, reason);
                self.close_on_shards(&mut registry, orders);
            }
        }
    }

    /// A page of everything live.
    pub(crate) fn survey(&self, cursor: Cursor) -> Page {
        self.lock().page(cursor)
    }

    /// Replaces what a publication's edge says of it.
    pub(crate) fn set_metadata(&self, publication: &Mid, metadata: Metadata) -> Result<(), Refusal> {
        self.lock().set_metadata(publication, metadata)
    }

    /// Opens a watch of no room yet.
    pub(crate) fn open_watch(&self) -> Result<WatchQueue, WatchRefusal> {
        self.lock().open_watch()
    }

    /// Adds and removes rooms of a watch. What lives in those it is given is its reader's to ask for: see [`Self::snapshot`].
    pub(crate) fn change_watch(&self, id: WatcherId, add: &[RoomId], remove: &[RoomId]) -> Result<(), WatchRefusal> {
        self.lock().watchers.change_rooms(id, add, remove)
    }

    /// What lives in the first of these rooms, which are taken out of them; or, before it, what the watch has to be told.
    pub(crate) fn snapshot(&self, queue: &mut WatchQueue, rooms: &mut VecDeque<RoomId>) -> Told {
        let registry = self.lock();
        // Under the lock, nothing comes in between.
        queue.events.try_recv().unwrap_or_else(|_| Arc::new(watch_event::Event::Snapshot(registry.snapshot(rooms))))
    }

    /// Ends a watch.
    pub(crate) fn close_watch(&self, id: WatcherId) {
        self.lock().watchers.close(id);
    }

    /// The room of a publication, for lines of the log.
    pub(crate) fn room_of(&self, publication: &Mid) -> Option<RoomId> {
        self.lock().publications.get(publication).map(|publication| publication.room.clone())
    }

    /// Likewise of a transport.
    pub(crate) fn room_of_transport(&self, transport: &TransportId) -> Option<RoomId> {
        self.lock().transports.get(transport).map(|transport| transport.room.clone())
    }

    /// The shards, in order.
    pub(crate) fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// Gives a shard an order, after everything that has to end there first.
    fn order(&self, registry: &mut Registry, shard: ShardIndex, order: Order) -> Result<(), Busy> {
        let shard = &self.shards[usize::from(shard.0)];
        registry.closings.give(shard)?;
        shard.order(order)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic while it was held has ended one request; what it had not committed is as if it had not been asked for.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Control {
    /// For tests of what goes on around it.
    pub(crate) fn without_shards() -> Self {
        let identity = sfu_core::dtls::Identity::generate().expect("a certificate");
        let local = Local { fingerprint: identity.fingerprint(), candidates: Vec::new(), max_transports: 1 };
        Self::new(Vec::new(), local, Watchers::new(1))
    }
}

#[cfg(test)]
mod tests;
