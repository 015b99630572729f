//! What ends by a client's doing, and what of it is then closed on nodes. The store names what it has released once, to whoever ended
//! it: when that answer is lost, the call that is repeated finds the end already there, and releases nothing. So what is known here to
//! be on nodes is closed as well, as soon as the store says that it has ended.

use std::collections::{BTreeSet, HashSet};

use proto::ids::{Mid, RecordingId, RoomId};
use room_store::{Actor, Attachment, ConnectionId, EndedBy, Hold, Placement, Released, SetRecording, StoreError};

use super::Shared;
use crate::members::Members;
use crate::nodes::Nodes;
use crate::reconcile::insist;
use crate::session::{Command, Completion, Detached};

/// What a call is to end, as far as it is known here to be on nodes.
pub(super) struct AtStake {
    room: RoomId,
    had: Released,
}

impl AtStake {
    /// `None`: the command ends nothing.
    pub(super) fn by_command(members: &Members, command: &Command, connection: ConnectionId) -> Option<Self> {
        match command {
            Command::Leave { actor, .. } => Some(Self::of(members, actor, connection, None)),
            Command::RemovePublication { actor, mid } => Some(Self::of(members, actor, connection, Some(mid.as_str()))),
            Command::RemoveSubscription { actor, sid } => {
                Some(Self::of(members, actor, connection, Some(sid.as_str())))
            }
            _ => None,
        }
    }

    /// The same, of what nobody waits for. A session whose client may come back does not end, unless that has asked to leave.
    pub(super) fn by_detached(members: &Members, detached: &Detached, connection: ConnectionId) -> Option<Self> {
        match detached {
            Detached::SocketClosed { actor, for_good } => {
                let hold = Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection };
                let ends = *for_good || members.is_leaving(&actor.room, &hold);
                ends.then(|| Self::of(members, actor, connection, None))
            }
            Detached::RemovePublication { actor, mid } => {
                Some(Self::of(members, actor, connection, Some(mid.as_str())))
            }
            Detached::RemoveSubscription { actor, sid } => {
                Some(Self::of(members, actor, connection, Some(sid.as_str())))
            }
            Detached::EndRecording { .. } | Detached::Close(_) => None,
        }
    }

    /// `only`: one stream or subscription, and not all that the session has.
    fn of(members: &Members, actor: &Actor, connection: ConnectionId, only: Option<&str>) -> Self {
        let mut had = members.on_nodes(actor, connection);
        if let Some(only) = only {
            had.publications.retain(|(mid, _)| mid.as_str() == only);
            had.subscriptions.retain(|(sid, _)| sid.as_str() == only);
        }
        Self { room: actor.room.clone(), had }
    }

    /// After the command.
    pub(super) fn settle_by(&self, nodes: &Nodes, completion: &Completion) {
        match completion {
            Completion::Left(Ok(left)) if left.ended => self.settle(nodes, Ok(&left.released)),
            Completion::Released(Ok(released)) => self.settle(nodes, Ok(released)),
            Completion::Left(Err(error)) | Completion::Released(Err(error)) => self.settle(nodes, Err(*error)),
            _ => {}
        }
    }

    /// After the call: closes what of it the answer does not name. Where none came, the room is compared with its nodes.
    fn settle(&self, nodes: &Nodes, ended: Result<&Released, StoreError>) {
        match ended {
            Ok(released) => nodes.close(&without(&self.had, released)),
            Err(error) if error.is_transient() => {
                let publications = self.had.publications.iter().map(|(_, placement)| &placement.node);
                let subscriptions = self.had.subscriptions.iter().map(|(_, placement)| &placement.node);
                for node in publications.chain(subscriptions).collect::<BTreeSet<_>>() {
                    nodes.compare_later(node, &self.room);
                }
            }
            Err(StoreError::NotMember | StoreError::UnknownPublication | StoreError::UnknownSubscription) => {
                nodes.close(&self.had);
            }
            Err(_) => {}
        }
    }
}

/// Carries out what nobody waits for: repeated for a while if need be.
pub(super) async fn carry_out(
    shared: &Shared,
    attachment: Attachment,
    detached: Detached,
    at_stake: Option<AtStake>,
) -> Result<(), StoreError> {
    let store = &shared.store;
    let ended = match detached {
        Detached::SocketClosed { actor, for_good } => {
            let closed = insist(|| store.socket_closed(actor.clone(), attachment.clone(), for_good)).await;
            match closed {
                // It was not the session's socket, or is not any more.
                Ok(released) if released.is_empty() && at_stake.as_ref().is_some_and(|it| !it.had.is_empty()) => {
                    match insist(|| store.publications(actor.clone(), None, 1)).await {
                        // The session goes on, and so does all it has.
                        Ok(_) => return Ok(()),
                        Err(error) => Err(error),
                    }
                }
                closed => closed,
            }
        }
        Detached::RemovePublication { actor, mid } => {
            insist(|| store.remove_publication(&mid, EndedBy::Client(actor.clone()))).await
        }
        Detached::RemoveSubscription { actor, sid } => {
            insist(|| store.remove_subscription(&sid, EndedBy::Client(actor.clone()))).await
        }
        Detached::EndRecording { room, mid, recording, placement } => {
            return end_recording(shared, room, mid, recording, placement).await;
        }
        Detached::Close(released) => Ok(released),
    };
    if let Ok(released) = &ended {
        shared.nodes.close(released);
    }
    if let Some(at_stake) = at_stake {
        at_stake.settle(&shared.nodes, ended.as_ref().map_err(|error| *error));
    }
    ended.map(drop)
}

/// The node first: it must not go on with what nobody knows of.
async fn end_recording(
    shared: &Shared,
    room: RoomId,
    mid: Mid,
    recording: RecordingId,
    placement: Option<Placement>,
) -> Result<(), StoreError> {
    if let Some(placement) = placement {
        shared.nodes.stop_recording(&room, &mid, &placement, &recording);
    }
    let set = SetRecording::ended(room, mid, recording);
    insist(|| shared.store.set_recording(set.clone())).await.map(drop)
}

/// What of `had` is not among the released.
pub(crate) fn without(had: &Released, released: &Released) -> Released {
    let mids: HashSet<_> = released.publications.iter().map(|(mid, _)| mid).collect();
    let sids: HashSet<_> = released.subscriptions.iter().map(|(sid, _)| sid).collect();
    let publications = had.publications.iter().filter(|(mid, _)| !mids.contains(mid)).cloned();
    let subscriptions = had.subscriptions.iter().filter(|(sid, _)| !sids.contains(sid)).cloned();
    Released { publications: publications.collect(), subscriptions: subscriptions.collect() }
}

#[cfg(test)]
mod tests {
    use proto::ids::{BootId, Mid, Sid};
    use room_store::Placement;

    use super::*;

    #[test]
    fn what_the_store_has_named_is_not_closed_twice() {
        let place =
            Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "r".parse().expect("valid") };
        let mid = |name: &str| -> (Mid, Placement) { (name.parse().expect("valid"), place.clone()) };
        let sid = |name: &str| -> (Sid, Placement) { (name.parse().expect("valid"), place.clone()) };
        let had = Released { publications: vec![mid("m1"), mid("m2")], subscriptions: vec![sid("s1"), sid("s2")] };
        let released = Released { publications: vec![mid("m1")], subscriptions: vec![sid("s2"), sid("others")] };
        let rest = Released { publications: vec![mid("m2")], subscriptions: vec![sid("s1")] };
        assert_eq!(without(&had, &released), rest);
        assert_eq!(without(&had, &Released::default()), had);
    }
}
