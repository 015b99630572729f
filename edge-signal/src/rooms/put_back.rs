//! Putting back into the store what this edge holds of a room, after the store has lost it. Idempotent: what the store knows stays as
//! it is.

use std::collections::HashSet;

use proto::ids::{PeerId, RoomId};
use room_store::{Actor, Assertion, Attachment, Head, Hold, LogRead, Reassert, RoomStore, Snapshot, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Room, Rooms};

/// Sessions put back in one step: each comes with its streams, and others wait for the step to end.
const MAX_SESSIONS: usize = 128;

/// When the last putting back of a room began; held while one is under way, so that all who notice a loss at once share one.
#[derive(Default)]
pub(super) struct PutBack(Mutex<Option<Instant>>);

impl Rooms {
    /// Puts back all sessions this edge has in the room. Those that are held elsewhere by now are told to their sockets. When this
    /// returns, it was done after it was called.
    pub(crate) async fn put_back(&self, id: &RoomId) -> Result<(), StoreError> {
        let asked = Instant::now();
        let Some(room) = self.room(id) else { return Ok(()) };
        let mut last = room.put_back.0.lock().await;
        if last.is_some_and(|begun| begun > asked) {
            return Ok(());
        }
        let begun = Instant::now();
        let sessions = self.inner.config.members.assertions(id);
        for few in sessions.chunks(MAX_SESSIONS) {
            self.put_back_few(&room, few.to_vec()).await?;
        }
        *last = Some(begun);
        Ok(())
    }

    async fn put_back_few(&self, room: &Room, sessions: Vec<Assertion>) -> Result<(), StoreError> {
        let config = &self.inner.config;
        let holds: Vec<_> = sessions.iter().map(|assertion| assertion.hold.clone()).collect();
        let reassert = Reassert { room: room.id.clone(), edge: config.edge.clone(), sessions };
        let answer = config.store.reassert(reassert).await?;
        config.metrics.sessions_put_back.increment(holds.len() as u64);
        self.refreshed(&room.id, answer);
        for hold in holds {
            let actor = Actor { room: room.id.clone(), peer: hold.peer, session: hold.session };
            if !config.members.has(&actor, hold.connection) {
                // Its socket closed meanwhile, and what that meant was said before there was anything to say it of.
                let attachment = Attachment { edge: config.edge.clone(), connection: hold.connection };
                config.store.socket_closed(actor, attachment, false).await?;
            }
        }
        Ok(())
    }

    /// Puts back those of the sessions whose peers are no members, as members without a socket: their grace begins anew. `again`: an
    /// earlier call for them has failed, and may have put them back all the same, as members on a socket that nobody has.
    pub(crate) async fn put_back_absent(
        &self,
        room: &RoomId,
        sessions: Vec<Assertion>,
        again: bool,
    ) -> Result<(), StoreError> {
        let config = &self.inner.config;
        if sessions.is_empty() {
            return Ok(());
        }
        let holds_of =
            |sessions: &[Assertion]| -> Vec<Hold> { sessions.iter().map(|assertion| assertion.hold.clone()).collect() };
        let all = again.then(|| holds_of(&sessions));
        let snapshot = config.store.snapshot(room).await?;
        let sessions = absent(sessions, snapshot.as_ref());
        let absent = holds_of(&sessions);
        if !absent.is_empty() {
            tracing::info!(%room, members = absent.len(), "members without a socket are put back");
            config.store.reassert(Reassert { room: room.clone(), edge: config.edge.clone(), sessions }).await?;
            config.metrics.sessions_put_back.increment(absent.len() as u64);
        }
        // Of one that is on another socket by now, or on none, this changes nothing.
        for Hold { peer, session, connection } in all.unwrap_or(absent) {
            let attachment = Attachment { edge: config.edge.clone(), connection };
            let actor = Actor { room: room.clone(), peer, session };
            config.store.socket_closed(actor, attachment, false).await?;
        }
        Ok(())
    }
}

/// Whether the store has lost what a room's log had at this place: its epoch is another by now, or another entry is there, or none.
pub(crate) async fn has_lost(store: &dyn RoomStore, room: &RoomId, place: Head) -> Result<bool, StoreError> {
    Ok(match store.log_after(room, place.position, place.id, 1).await? {
        LogRead::Entries(_) => false,
        LogRead::Lost { head, diverged } => {
            diverged || head.is_none_or(|head| head.position.epoch != place.position.epoch)
        }
    })
}

/// Those who are no members.
fn absent(mut sessions: Vec<Assertion>, snapshot: Option<&Snapshot>) -> Vec<Assertion> {
    let members: HashSet<&PeerId> =
        snapshot.into_iter().flat_map(|snapshot| &snapshot.members).map(|member| &member.peer).collect();
    sessions.retain(|assertion| !members.contains(&assertion.hold.peer));
    sessions
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::ids::{Epoch, Position, Seq, SessionId};
    use room_store::{ConnectionId, Member};

    use super::*;

    #[test]
    fn who_is_a_member_is_left_alone() {
        let asserted = |name: &str| Assertion {
            hold: Hold { peer: name.parse().expect("valid"), session: SessionId::of(1), connection: ConnectionId(1) },
            publications: Vec::new(),
            subscriptions: Vec::new(),
        };
        let both = || vec![asserted("ann"), asserted("bob")];
        let member = Member { peer: "ann".parse().expect("valid"), edge: "e".parse().expect("valid") };
        let position = Position { epoch: Epoch::of(1), seq: Seq::START };
        let snapshot =
            Snapshot { head: Head { position, id: None }, members: vec![Arc::new(member)], publications: Vec::new() };
        let names = |left: Vec<Assertion>| -> Vec<String> {
            left.iter().map(|assertion| assertion.hold.peer.to_string()).collect()
        };
        assert_eq!(names(absent(both(), Some(&snapshot))), ["bob"]);
        assert_eq!(names(absent(both(), None)), ["ann", "bob"]);
    }
}
