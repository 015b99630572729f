//! What operators are shown of the rooms that this edge has sockets in.

use std::sync::Arc;

use proto::ids::RoomId;
use room_store::{Member, Publication};
use serde::Serialize;

use super::{Room, Rooms};

/// A room as its members here were told it is.
#[derive(Debug)]
pub(crate) struct RoomShown {
    pub(crate) id: RoomId,
    /// In the order of their ids.
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) publications: Vec<Arc<Publication>>,
}

/// How much there is of everything.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    rooms: usize,
    members: usize,
    streams: usize,
}

impl Rooms {
    /// Rooms in the order of their ids, at most `limit` of those after `after`; and whether there are more.
    pub(crate) fn shown(&self, after: Option<&RoomId>, limit: usize) -> (Vec<RoomShown>, bool) {
        let mut rooms: Vec<Arc<Room>> = {
            let all = self.lock();
            let later = all.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
            later.map(|(_, open)| Arc::clone(&open.room)).collect()
        };
        let more = rooms.len() > limit;
        if more {
            rooms.select_nth_unstable_by(limit, |one, other| one.id.cmp(&other.id));
            rooms.truncate(limit);
        }
        rooms.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        (rooms.iter().map(|room| room.shown()).collect(), more)
    }

    /// Of all rooms.
    pub(crate) fn counts(&self) -> Counts {
        let rooms: Vec<Arc<Room>> = self.lock().values().map(|open| Arc::clone(&open.room)).collect();
        rooms.iter().fold(Counts::default(), |Counts { rooms, members, streams }, room| {
            let model = room.model();
            let (here, sent) = (model.members().count(), model.streams().count());
            Counts { rooms: rooms + 1, members: members + here, streams: streams + sent }
        })
    }
}

impl Room {
    fn shown(&self) -> RoomShown {
        let model = self.model();
        let members = model.members().cloned().collect();
        RoomShown { id: self.id.clone(), members, publications: model.streams().cloned().collect() }
    }
}
