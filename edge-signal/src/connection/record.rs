//! What of a command and its end is kept beside the store, so that it can be put back: a session's streams and subscriptions, and
//! what it says until its room has told it.

use room_store::StoreError;

use super::Shared;
use crate::members::Held;
use crate::session::{Command, Completion};

/// Before the store is asked. What its node has already is put back from now on: should the store lose everything between its answer
/// and ours, nobody else would know.
pub(super) fn begin(shared: &Shared, command: &Command, keep: impl Fn(&dyn Fn(&mut Held))) {
    match command {
        Command::ConfirmPublication { mid, .. } => keep(&|held| held.carried(mid)),
        Command::ConfirmSubscription { sid, .. } => keep(&|held| held.carried_subscription(sid)),
        Command::Broadcast(broadcast) => shared.rooms.saying(&broadcast.actor.room, broadcast.entry),
        _ => {}
    }
}

/// After it has answered, or not.
pub(super) fn end(shared: &Shared, command: &Command, completion: &Completion, keep: impl Fn(&dyn Fn(&mut Held))) {
    match (command, completion) {
        (Command::ReservePublication(_), Completion::Publication(Ok(publication))) => {
            keep(&|held| held.reserved(publication));
        }
        (Command::ReserveSubscription(_), Completion::Reserved(Ok(reserved))) => {
            keep(&|held| held.reserved_subscription(&reserved.subscription));
        }
        (Command::ConfirmPublication { mid, .. }, Completion::Publication(Err(error))) if ends(*error) => {
            keep(&|held| held.removed(mid));
        }
        (Command::ConfirmSubscription { sid, .. }, Completion::Subscription(Err(error))) if ends(*error) => {
            keep(&|held| held.removed_subscription(sid));
        }
        (Command::RemovePublication { mid, .. }, Completion::Released(Ok(_))) => keep(&|held| held.removed(mid)),
        (Command::RemoveSubscription { sid, .. }, Completion::Released(Ok(_))) => {
            keep(&|held| held.removed_subscription(sid));
        }
        (Command::Broadcast(broadcast), Completion::Said(said)) => {
            shared.rooms.said(&broadcast.actor.room, broadcast.entry, said.is_ok());
        }
        _ => {}
    }
}

/// Whether the stream is not there, rather than perhaps.
fn ends(error: StoreError) -> bool {
    !error.is_transient()
}
