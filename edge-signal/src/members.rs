//! Who is in which room through this edge: the sessions it holds, for refreshing their leases; and what the store knows of
//! such rooms' streams.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::{Mid, NodeId, PeerId, RoomId, Sid};
use room_store::{Actor, ConnectionId, Hold, Placement, Publication, RoomStore, StoreError};

/// Subscriptions asked of the store at a time.
const PAGE: usize = 1_000;

/// What of a room is on a node.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) publications: Vec<(Mid, Placement)>,
    pub(crate) subscriptions: Vec<(Sid, Placement)>,
}

impl Carried {
    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.subscriptions.is_empty()
    }

    /// What of it is not among `live`.
    pub(crate) fn without(self, live: &HashSet<&str>) -> Self {
        let Self { mut publications, mut subscriptions } = self;
        publications.retain(|(id, _)| !live.contains(id.as_str()));
        subscriptions.retain(|(id, _)| !live.contains(id.as_str()));
        Self { publications, subscriptions }
    }

    /// What is where `there` says, and the rest.
    pub(crate) fn partition(self, there: impl Fn(&Placement) -> bool) -> (Self, Self) {
        let (publications, other_publications) = self.publications.into_iter().partition(|(_, place)| there(place));
        let (subscriptions, other_subscriptions) = self.subscriptions.into_iter().partition(|(_, place)| there(place));
        let rest = Self { publications: other_publications, subscriptions: other_subscriptions };
        (Self { publications, subscriptions }, rest)
    }
}

/// The sessions on this edge's sockets, by room.
pub(crate) struct Members {
    store: Arc<dyn RoomStore>,
    rooms: Mutex<HashMap<RoomId, HashMap<ConnectionId, Local>>>,
}

struct Local {
    hold: Hold,
    /// Heard of since the last refresh.
    touched: bool,
}

impl Members {
    pub(crate) fn new(store: Arc<dyn RoomStore>) -> Self {
        Self { store, rooms: Mutex::default() }
    }

    /// A socket has become a member's.
    pub(crate) fn enter(&self, actor: Actor, connection: ConnectionId) {
        let Actor { room, peer, session } = actor;
        let hold = Hold { peer, session, connection };
        self.rooms().entry(room).or_default().insert(connection, Local { hold, touched: false });
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

    /// Peers of the room on this edge's sockets.
    pub(crate) fn peers(&self, room: &RoomId) -> HashSet<PeerId> {
        let rooms = self.rooms();
        rooms.get(room).into_iter().flat_map(HashMap::values).map(|local| local.hold.peer.clone()).collect()
    }

    /// What of the room the node should carry, as the store has it.
    pub(crate) async fn carried_by(&self, node: &NodeId, room: &RoomId) -> Result<Carried, StoreError> {
        let streams = self.streams_on(node, room).await?;
        let publications = streams.iter().map(|stream| (stream.mid.clone(), stream.placement.clone())).collect();
        Ok(Carried { publications, subscriptions: self.list_subscriptions(node, room).await? })
    }

    /// The room's confirmed streams on the node, likewise.
    pub(crate) async fn streams_on(&self, node: &NodeId, room: &RoomId) -> Result<Vec<Arc<Publication>>, StoreError> {
        let snapshot = self.store.snapshot(room).await?;
        let streams = snapshot.into_iter().flat_map(|snapshot| snapshot.publications);
        Ok(streams.filter(|stream| stream.placement.node == *node).collect())
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

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, HashMap<ConnectionId, Local>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
