//! Who is in which room through this edge: the sessions it holds, for refreshing their leases; and what the store knows of
//! such rooms' streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::{Mid, NodeId, RoomId};
use room_store::{Actor, ConnectionId, Hold, Placement, RoomStore};

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

    /// The room's confirmed streams on the node, as the store has them; none when it cannot be asked.
    pub(crate) async fn streams_on(&self, room: &RoomId, node: &NodeId) -> Vec<(Mid, Placement)> {
        let snapshot = match self.store.snapshot(room).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::debug!(%room, %error, "the room's streams cannot be listed");
                return Vec::new();
            }
        };
        let streams = snapshot.into_iter().flat_map(|snapshot| snapshot.publications);
        let there = streams.filter(|stream| stream.placement.node == *node);
        there.map(|stream| (stream.mid.clone(), stream.placement.clone())).collect()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, HashMap<ConnectionId, Local>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
