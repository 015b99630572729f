//! Putting back into the store what this edge holds of a room, after the store has lost it. Idempotent: what the store knows stays as
//! it is.

use proto::ids::RoomId;
use room_store::{Actor, Assertion, Attachment, Reassert, StoreError};
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
}
