//! Who is in which room through this edge: the sessions it holds, for refreshing their leases and for putting them back with all
//! they have; and what the store knows of such rooms' streams.

mod departed;
mod held;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{Mid, NodeId, PeerId, RecordingId, RoomId, Sid};
use proto::signalling::Muted;
use room_store::{
    Actor, Assertion, ConnectionId, Event, Head, Hold, Placement, Publication, Released, RemoveReason, RoomStore,
    StoreError,
};
use tokio::time::Instant;

pub(crate) use self::departed::Away;
use self::departed::Departed;
pub(crate) use self::held::Held;

/// Subscriptions asked of the store at a time.
const PAGE: usize = 1_000;

/// What of a room is on a node.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) publications: Vec<(Mid, Placement)>,
    pub(crate) subscriptions: Vec<(Sid, Placement)>,
    /// What is recorded of the publications.
    pub(crate) recordings: HashMap<Mid, RecordingId>,
}

impl Carried {
    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.subscriptions.is_empty()
    }

    /// What of it is not among `live`.
    pub(crate) fn without(self, live: &HashSet<&str>) -> Self {
        let Self { mut publications, mut subscriptions, recordings } = self;
        publications.retain(|(id, _)| !live.contains(id.as_str()));
        subscriptions.retain(|(id, _)| !live.contains(id.as_str()));
        Self { publications, subscriptions, recordings }
    }

    /// What is where `there` says, and the rest.
    pub(crate) fn partition(self, there: impl Fn(&Placement) -> bool) -> (Self, Self) {
        let (publications, other_publications) = self.publications.into_iter().partition(|(_, place)| there(place));
        let (subscriptions, other_subscriptions) = self.subscriptions.into_iter().partition(|(_, place)| there(place));
        let recordings = HashMap::new();
        let rest = Self { publications: other_publications, subscriptions: other_subscriptions, recordings };
        (Self { publications, subscriptions, recordings: self.recordings }, rest)
    }
}

/// The sessions on this edge's sockets, by room.
pub(crate) struct Members {
    store: Arc<dyn RoomStore>,
    rooms: Mutex<Locals>,
    departed: Mutex<Departed>,
}

/// How much of it there is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) members: usize,
    pub(crate) streams: usize,
}

type Locals = HashMap<RoomId, HashMap<ConnectionId, Local>>;

struct Local {
    hold: Hold,
    /// Heard of since the last refresh.
    touched: bool,
    /// Its client has asked to leave, and whether that was done is not known: it is not to be put back.
    leaving: bool,
    held: Held,
}

impl Local {
    fn assertion(&self) -> Assertion {
        Assertion {
            hold: self.hold.clone(),
            publications: self.held.publications(),
            subscriptions: self.held.subscriptions(),
        }
    }
}

impl Members {
    pub(crate) fn new(store: Arc<dyn RoomStore>) -> Self {
        Self { store, rooms: Mutex::default(), departed: Mutex::default() }
    }

    /// How long a living stream may be without a record at most: within a ttl its session's lease is refreshed, which shows its edge what
    /// the store has lost, and one that is only reserved is confirmed or given up within its time.
    pub(crate) fn unrecorded_for(&self) -> Duration {
        let settings = self.store.settings();
        settings.ttl.max(settings.reservation)
    }

    /// How many members there are, and streams of theirs.
    pub(crate) fn counted(&self) -> Counted {
        // Room by room: whoever joins or refreshes meanwhile does not wait for all of them.
        let rooms: Vec<RoomId> = self.rooms().keys().cloned().collect();
        rooms.iter().fold(Counted::default(), |counted, room| {
            let rooms = self.rooms();
            let locals = rooms.get(room).into_iter().flat_map(HashMap::values);
            locals.fold(counted, |counted, local| Counted {
                members: counted.members + 1,
                streams: counted.streams + local.held.published(),
            })
        })
    }

    /// A socket has become a member's, with what the session has.
    pub(crate) fn enter(&self, actor: Actor, connection: ConnectionId, held: Held) {
        let Actor { room, peer, session } = actor;
        let hold = Hold { peer, session, connection };
        self.departed_lock().remove(&room, &hold.peer);
        self.rooms().entry(room).or_default().insert(connection, Local { hold, touched: false, leaving: false, held });
    }

    /// What a session has is another from now on.
    pub(crate) fn change(&self, actor: &Actor, connection: ConnectionId, change: impl FnOnce(&mut Held)) {
        let mut rooms = self.rooms();
        if let Some(local) = local_mut(&mut rooms, actor, connection) {
            change(&mut local.held);
        }
    }

    /// Whether its client is about to leave, or may have left; from now on, or no longer.
    pub(crate) fn set_leaving(&self, actor: &Actor, connection: ConnectionId, leaving: bool) {
        if let Some(local) = local_mut(&mut self.rooms(), actor, connection) {
            local.leaving = leaving;
        }
    }

    /// The same, as it is.
    pub(crate) fn is_leaving(&self, room: &RoomId, hold: &Hold) -> bool {
        let rooms = self.rooms();
        let local = rooms.get(room).and_then(|members| members.get(&hold.connection));
        local.is_some_and(|local| local.leaving && local.hold == *hold)
    }

    /// The room's log tells.
    pub(crate) fn hear(&self, room: &RoomId, event: &Event) {
        let change: &dyn Fn(&mut Local) = match event {
            // A session that was taken for dead and is alive here is put back with its streams.
            Event::StreamRemove { owner, mid, reason: RemoveReason::OwnerExpired } => &|local| {
                if local.hold.peer != *owner {
                    local.held.removed(mid);
                }
            },
            Event::StreamRemove { mid, .. } => &|local| local.held.removed(mid),
            Event::StreamUpdate(publication) | Event::Recording { stream: publication, .. } => {
                &|local| local.held.updated(publication)
            }
            // Wherever it had come back to.
            Event::PeerLeave(peer) => return self.departed_lock().remove(room, peer),
            _ => return,
        };
        if let Some(members) = self.rooms().get_mut(room) {
            members.values_mut().for_each(change);
        }
    }

    /// What the session on that socket has on nodes, as far as is known here: also what only may be there.
    pub(crate) fn on_nodes(&self, actor: &Actor, connection: ConnectionId) -> Released {
        let mut rooms = self.rooms();
        local_mut(&mut rooms, actor, connection).map(|local| local.held.on_nodes()).unwrap_or_default()
    }

    /// Whether the session is on that socket of this edge.
    pub(crate) fn has(&self, actor: &Actor, connection: ConnectionId) -> bool {
        let rooms = self.rooms();
        let local = rooms.get(&actor.room).and_then(|members| members.get(&connection));
        local.is_some_and(|local| local.hold.session == actor.session)
    }

    /// This edge's sessions in the room, with what they have: all that are to stay.
    pub(crate) fn assertions(&self, room: &RoomId) -> Vec<Assertion> {
        let rooms = self.rooms();
        let locals = rooms.get(room).into_iter().flat_map(HashMap::values);
        locals.filter(|local| !local.leaving).map(Local::assertion).collect()
    }

    /// Of streams of sessions here that the store has otherwise, what their owners have muted: who says so on which socket.
    pub(crate) fn muted_otherwise(
        &self,
        room: &RoomId,
        streams: &[Arc<Publication>],
    ) -> Vec<(Actor, ConnectionId, Arc<Publication>)> {
        let rooms = self.rooms();
        let locals = rooms.get(room).into_iter().flat_map(HashMap::values).filter(|local| !local.leaving);
        let of_one = |local: &Local| {
            let Hold { peer, session, connection } = local.hold.clone();
            let actor = Actor { room: room.clone(), peer, session };
            let held = local.held.publications();
            let is_other = |held: &Arc<Publication>| {
                streams.iter().any(|it| it.mid == held.mid && it.minfo.muted() != held.minfo.muted())
            };
            held.into_iter().filter(is_other).map(move |held| (actor.clone(), connection, held)).collect::<Vec<_>>()
        };
        locals.flat_map(of_one).collect()
    }

    /// What of a stream of the session on that socket is muted, as its owner has it.
    pub(crate) fn muted(&self, actor: &Actor, connection: ConnectionId, mid: &Mid) -> Option<Muted> {
        let mut rooms = self.rooms();
        let local = local_mut(&mut rooms, actor, connection).filter(|local| !local.leaving)?;
        local.held.muted(mid)
    }

    /// A member's socket has closed, and its client may come back. `place`: where the room's log is.
    pub(crate) fn depart(&self, actor: &Actor, connection: ConnectionId, place: Option<Head>) {
        let local = self.rooms().get_mut(&actor.room).and_then(|members| members.remove(&connection));
        let stays = |local: &Local| local.hold.session == actor.session && !local.leaving;
        if let Some(Local { hold, held, .. }) = local.filter(stays) {
            let grace = self.store.settings().grace;
            self.departed_lock().add(&actor.room, hold, held, place, Instant::now(), grace);
        }
        self.leave(&actor.room, connection);
    }

    /// The member does not come back. What it had on nodes, if its socket closed here.
    pub(crate) fn forget(&self, actor: &Actor) -> Released {
        self.departed_lock().take(actor).map(|held| held.on_nodes()).unwrap_or_default()
    }

    /// Rooms with sessions whose sockets closed here and whose grace has not ended.
    pub(crate) fn rooms_of_departed(&self, now: Instant) -> Vec<RoomId> {
        self.departed_lock().rooms(now)
    }

    /// Such sessions.
    pub(crate) fn departed(&self, room: &RoomId, now: Instant) -> Vec<Away> {
        self.departed_lock().of_room(room, now)
    }

    /// Such a session, as its peer holds it on this socket from now on.
    pub(crate) fn departed_session(&self, room: &RoomId, hold: &Hold, now: Instant) -> Option<Away> {
        let away = self.departed_lock().session(room, &hold.peer, &hold.session, now)?;
        Some(Away { assertion: Assertion { hold: hold.clone(), ..away.assertion }, ..away })
    }

    /// Forgets those whose grace has ended.
    pub(crate) fn forget_departed(&self, now: Instant) {
        self.departed_lock().forget_old(now);
    }

    /// A socket is no member's any more.
    pub(crate) fn leave(&self, room: &RoomId, connection: ConnectionId) {
        let mut rooms = self.rooms();
        if let Some(members) = rooms.get_mut(room) {
            members.remove(&connection);
            if members.is_empty() {
                rooms.remove(room);
            }
        }
    }

    /// The socket was heard of.
    pub(crate) fn touch(&self, room: &RoomId, connection: ConnectionId) {
        if let Some(local) = self.rooms().get_mut(room).and_then(|members| members.get_mut(&connection)) {
            local.touched = true;
        }
    }

    /// Whose leases in the room are to be refreshed: those heard of since the last time.
    pub(crate) fn take_touched(&self, room: &RoomId) -> Vec<Hold> {
        let mut rooms = self.rooms();
        let Some(members) = rooms.get_mut(room) else { return Vec::new() };
        let take = |local: &mut Local| std::mem::take(&mut local.touched).then(|| local.hold.clone());
        members.values_mut().filter_map(take).collect()
    }

    /// Their leases could not be refreshed: the next time is for them, too.
    pub(crate) fn touch_again(&self, room: &RoomId, holds: &[Hold]) {
        let mut rooms = self.rooms();
        let Some(members) = rooms.get_mut(room) else { return };
        for hold in holds {
            if let Some(local) = members.get_mut(&hold.connection).filter(|local| local.hold == *hold) {
                local.touched = true;
            }
        }
    }

    /// Streams of the room on the node that are this edge's sessions' own, as far as is known here.
    pub(crate) fn streams_on(&self, node: &NodeId, room: &RoomId) -> Vec<(PeerId, Mid)> {
        let rooms = self.rooms();
        let locals = rooms.get(room).into_iter().flat_map(HashMap::values);
        let streams = locals.flat_map(|local| local.held.publications());
        streams.filter(|it| it.placement.node == *node).map(|it| (it.owner.clone(), it.mid.clone())).collect()
    }

    /// What of the room the node should carry, as the store has it.
    pub(crate) async fn carried_by(&self, node: &NodeId, room: &RoomId) -> Result<Carried, StoreError> {
        let snapshot = self.store.snapshot(room).await?;
        let streams = snapshot.into_iter().flat_map(|snapshot| snapshot.publications);
        let streams: Vec<_> = streams.filter(|stream| stream.placement.node == *node).collect();
        let recorded = |stream: &Arc<Publication>| Some((stream.mid.clone(), stream.recording.clone()?));
        let recordings = streams.iter().filter_map(recorded).collect();
        let publications = streams.iter().map(|stream| (stream.mid.clone(), stream.placement.clone())).collect();
        Ok(Carried { publications, subscriptions: self.list_subscriptions(node, room).await?, recordings })
    }

    async fn list_subscriptions(&self, node: &NodeId, room: &RoomId) -> Result<Vec<(Sid, Placement)>, StoreError> {
        let mut subscriptions: Vec<(Sid, Placement)> = Vec::new();
        loop {
            let after = subscriptions.last().map(|(sid, _)| sid.clone());
            let page = self.store.subscriptions_on(room, node, after, PAGE).await?;
            subscriptions.extend(page.items.iter().map(|there| (there.sid.clone(), there.placement.clone())));
            if !page.more {
                return Ok(subscriptions);
            }
        }
    }

    fn departed_lock(&self) -> MutexGuard<'_, Departed> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rooms(&self) -> MutexGuard<'_, Locals> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session, on that socket.
fn local_mut<'a>(rooms: &'a mut Locals, actor: &Actor, connection: ConnectionId) -> Option<&'a mut Local> {
    let local = rooms.get_mut(&actor.room)?.get_mut(&connection)?;
    (local.hold.session == actor.session).then_some(local)
}
