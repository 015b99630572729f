//! What of a command and its end is kept beside the store, so that it can be put back: a session's streams and subscriptions, whether
//! it is to be put back at all, and what it says until its room has told it.

use room_store::{Actor, ConnectionId, Hold, StoreError};

use super::Shared;
use crate::members::Held;
use crate::session::{Command, Completion};

/// Whose command it is, and on which socket.
pub(super) struct Record<'a> {
    shared: &'a Shared,
    actor: &'a Actor,
    connection: ConnectionId,
    /// Its client has asked to leave before this, and what came of that is not known.
    pub(super) was_leaving: bool,
}

impl<'a> Record<'a> {
    pub(super) fn of(shared: &'a Shared, actor: &'a Actor, connection: ConnectionId) -> Self {
        let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection };
        let was_leaving = shared.members.is_leaving(&actor.room, &hold);
        Self { shared, actor, connection, was_leaving }
    }

    /// Before the store is asked. What its node has already is put back from now on: should the store lose everything between its
    /// answer and ours, nobody else would know. Who leaves is not: a member that was put back after it had left would be there for
    /// as long as its socket is.
    pub(super) fn begin(&self, command: &Command) {
        match command {
            Command::ConfirmPublication { mid, .. } => self.keep(|held| held.carried(mid)),
            Command::ConfirmSubscription { sid, .. } => self.keep(|held| held.carried_subscription(sid)),
            Command::Broadcast(broadcast) => self.shared.rooms.saying(&broadcast.actor.room, broadcast.entry),
            Command::Leave { .. } => self.set_leaving(true),
            _ => {}
        }
    }

    /// The store does not know the session; puts back what is held of the room, itself included, also if it is to leave: that it did
    /// not do yet. Whether the store is to be asked again.
    pub(super) async fn put_back(&self, command: &Command) -> bool {
        if self.was_leaving || !self.shared.members.has(self.actor, self.connection) {
            return false;
        }
        let leaves = matches!(command, Command::Leave { .. });
        if leaves {
            self.set_leaving(false);
        }
        let is_back = self.shared.rooms.put_back(&self.actor.room).await.is_ok();
        if leaves {
            self.set_leaving(true);
        }
        is_back
    }

    /// After it has answered, or not.
    pub(super) fn end(&self, command: &Command, completion: &Completion) {
        match (command, completion) {
            (Command::ReservePublication(_), Completion::Publication(Ok(publication))) => {
                self.keep(|held| held.reserved(publication));
            }
            (Command::ReserveSubscription(_), Completion::Reserved(Ok(reserved))) => {
                self.keep(|held| held.reserved_subscription(&reserved.subscription));
            }
            (Command::Mute { .. } | Command::SetRecording(_), Completion::Publication(Ok(publication))) => {
                self.keep(|held| held.updated(publication));
            }
            (Command::ConfirmPublication { mid, .. }, Completion::Publication(Err(error))) if ends(*error) => {
                self.keep(|held| held.removed(mid));
            }
            (Command::ConfirmSubscription { sid, .. }, Completion::Subscription(Err(error))) if ends(*error) => {
                self.keep(|held| held.removed_subscription(sid));
            }
            (Command::RemovePublication { mid, .. }, Completion::Released(Ok(_))) => {
                self.keep(|held| held.removed(mid));
            }
            (Command::RemoveSubscription { sid, .. }, Completion::Released(Ok(_))) => {
                self.keep(|held| held.removed_subscription(sid));
            }
            (Command::Broadcast(broadcast), Completion::Said(said)) => {
                self.shared.rooms.said(&broadcast.actor.room, broadcast.entry, said.is_ok());
            }
            (Command::Leave { .. }, Completion::Left(left)) => {
                let may_have_left = match left {
                    Ok(left) => left.ended,
                    Err(StoreError::Timeout | StoreError::NotMember) => true,
                    Err(StoreError::Unavailable) => self.was_leaving,
                    Err(_) => false,
                };
                self.set_leaving(may_have_left);
            }
            _ => {}
        }
    }

    fn keep(&self, change: impl FnOnce(&mut Held)) {
        self.shared.members.change(self.actor, self.connection, change);
    }

    fn set_leaving(&self, leaving: bool) {
        self.shared.members.set_leaving(self.actor, self.connection, leaving);
    }
}

/// Whether the stream is not there, rather than perhaps.
fn ends(error: StoreError) -> bool {
    !error.is_transient()
}
