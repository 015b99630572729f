//! The rooms a socket is in.

use std::collections::{HashMap, HashSet};

use proto::ids::{PeerId, Position, RoomId, SessionId};
use proto::signalling::Notification;
use room_store::{Actor, ConnectionId, LossReason};

use super::{Output, Outputs};
use crate::notice::{Notice, Signal};

/// What a signal means for the whole socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    /// The peer is somewhere else now: this socket is finished.
    Superseded,
    /// The same, and by another client: this one is not to come back, to any room.
    TakenOver,
    /// What this socket missed cannot be told any more: it has to come back and join anew.
    Reset,
}

/// One room.
#[derive(Debug)]
struct Membership {
    actor: Actor,
    /// Up to where the client has been told.
    position: Position,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    rooms: HashMap<RoomId, Membership>,
    /// Those it is about to be in.
    joining: HashSet<RoomId>,
}

impl Memberships {
    /// A join begins; `false`: with the rooms the socket is in, or about to be, it would be in more than `max`.
    pub(super) fn begin(&mut self, rid: &RoomId, max: usize) -> bool {
        let others = self.joining.iter().filter(|room| !self.rooms.contains_key(*room)).count();
        let fits = self.rooms.contains_key(rid) || self.rooms.len() + others < max;
        if fits {
            self.joining.insert(rid.clone());
        }
        fits
    }

    /// The join has come to its end, whichever.
    pub(super) fn joined(&mut self, rid: &RoomId) {
        self.joining.remove(rid);
    }

    /// The room that the socket is in, if it is in one.
    pub(super) fn only(&self) -> Option<&RoomId> {
        let mut rooms = self.rooms.keys();
        rooms.next().filter(|_| rooms.next().is_none())
    }

    pub(super) fn actor(&self, rid: &RoomId) -> Option<Actor> {
        self.rooms.get(rid).map(|membership| membership.actor.clone())
    }

    /// The socket is in the room from here on.
    pub(super) fn enter(&mut self, actor: Actor, position: Position) {
        self.rooms.insert(actor.room.clone(), Membership { actor, position });
    }

    /// The socket is not in the room any more.
    pub(super) fn lose(&mut self, rid: &RoomId, out: &mut Outputs) {
        if self.rooms.remove(rid).is_some() {
            out.push_back(Output::Unfollow(rid.clone()));
        }
    }

    /// The rooms it is in or about to be in.
    pub(super) fn names(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys().chain(&self.joining)
    }

    /// Ends all, and says which they were.
    pub(super) fn take(&mut self) -> Vec<Actor> {
        self.rooms.drain().map(|(_, membership)| membership.actor).collect()
    }

    /// Passes on what a room tells.
    pub(super) fn hear(
        &mut self,
        rid: &RoomId,
        signal: &Signal,
        me: (&PeerId, ConnectionId),
        out: &mut Outputs,
    ) -> Verdict {
        let (peer, connection) = me;
        let Some(membership) = self.rooms.get_mut(rid) else { return Verdict::GoOn };
        let held = (connection, membership.actor.session.clone());
        let is_mine = |connection: &ConnectionId, session: &SessionId| held.0 == *connection && held.1 == *session;
        match signal {
            Signal::Notice(notice) => return membership.hear(notice, peer, out),
            Signal::Superseded { connection, session, resumed } if is_mine(connection, session) => {
                self.rooms.remove(rid);
                if !resumed {
                    let reason = "superseded";
                    let kick = Notification::PeerKick { rid: rid.clone(), uid: peer.clone(), reason };
                    out.push_back(Output::Send(kick.to_frame().into()));
                    return Verdict::TakenOver;
                }
                return Verdict::Superseded;
            }
            Signal::Lost { connection, session, reason } if is_mine(connection, session) => match reason {
                LossReason::Gone => self.lose(rid, out),
                LossReason::Superseded => {
                    self.rooms.remove(rid);
                    return Verdict::Superseded;
                }
            },
            Signal::Migrate { owner, frame } if owner == peer => out.push_back(Output::Send(frame.clone())),
            Signal::Contested { connection, session } if is_mine(connection, session) => return Verdict::Reset,
            Signal::Superseded { .. } | Signal::Lost { .. } | Signal::Contested { .. } | Signal::Migrate { .. } => {}
            Signal::Converge { from, to, notices } => return membership.converge(*from, *to, notices, peer, out),
        }
        Verdict::GoOn
    }
}

impl Membership {
    /// Sends an entry that is the next one; one that the client knows already (it was in its snapshot) is skipped.
    fn hear(&mut self, notice: &Notice, peer: &PeerId, out: &mut Outputs) -> Verdict {
        let same_epoch = notice.position.epoch == self.position.epoch;
        if same_epoch && notice.position.seq <= self.position.seq {
            return Verdict::GoOn;
        }
        if !same_epoch || notice.position != self.position.next() {
            return Verdict::Reset;
        }
        self.position = notice.position;
        pass_on(notice, peer, out);
        Verdict::GoOn
    }

    /// Takes the client from one place to another by what differs. One that is not at the first, as it joined while the room was
    /// healed, either goes on with the log that follows or has to come back. So has one that missed a part of one and the same log:
    /// what was said in it cannot be told any more, and the answer to its next join tells it so.
    fn converge(
        &mut self,
        from: Position,
        to: Position,
        notices: &[Notice],
        peer: &PeerId,
        out: &mut Outputs,
    ) -> Verdict {
        let has_missed = from.epoch == to.epoch && self.position.seq < to.seq;
        if self.position.epoch == to.epoch && !has_missed {
            return Verdict::GoOn;
        } else if has_missed || self.position != from {
            return Verdict::Reset;
        }
        self.position = to;
        for notice in notices {
            pass_on(notice, peer, out);
        }
        Verdict::GoOn
    }
}

fn pass_on(notice: &Notice, peer: &PeerId, out: &mut Outputs) {
    if notice.concerns(peer) {
        out.push_back(Output::Send(notice.frame.clone()));
    }
    if let Some((_, frame)) = notice.migrate.as_ref().filter(|(owner, _)| owner == peer) {
        out.push_back(Output::Send(frame.clone()));
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{Epoch, Seq};
    use room_store::{Entry, EntryId, Event};

    use super::*;

    const ME: ConnectionId = ConnectionId(7);

    fn place(epoch: u64, seq: u64) -> Position {
        Position { epoch: Epoch::of(epoch), seq: Seq::new(seq).expect("small") }
    }

    fn room() -> RoomId {
        "r".parse().expect("valid")
    }

    fn me() -> PeerId {
        "ann".parse().expect("valid")
    }

    /// A socket in the room, told up to here.
    fn at(position: Position) -> Memberships {
        let mut memberships = Memberships::default();
        memberships.enter(Actor { room: room(), peer: me(), session: SessionId::of(1) }, position);
        memberships
    }

    fn left(name: &str, position: Position) -> Notice {
        let peer: PeerId = name.parse().expect("valid");
        let (id, cause) = (EntryId(1), Some(peer.clone()));
        Notice::new(&room(), &Entry { position, id, cause, event: Event::PeerLeave(peer) })
    }

    fn hear(memberships: &mut Memberships, signal: &Signal) -> (Verdict, usize) {
        let mut out = Outputs::default();
        let verdict = memberships.hear(&room(), signal, (&me(), ME), &mut out);
        (verdict, out.len())
    }

    fn converge(from: Position, to: Position) -> Signal {
        Signal::Converge { from, to, notices: vec![left("bob", to), left("ann", to)] }
    }

    #[test]
    fn who_is_where_the_differences_begin_is_told_them_and_goes_on_from_their_end() {
        let mut memberships = at(place(1, 9));
        assert_eq!(hear(&mut memberships, &converge(place(1, 9), place(2, 3))), (Verdict::GoOn, 1), "not its own");
        assert_eq!(hear(&mut memberships, &Signal::Notice(left("cat", place(2, 3)))), (Verdict::GoOn, 0));
        assert_eq!(hear(&mut memberships, &Signal::Notice(left("cat", place(2, 4)))), (Verdict::GoOn, 1));
    }

    #[test]
    fn who_has_joined_in_the_new_log_hears_that_instead() {
        let mut memberships = at(place(2, 2));
        assert_eq!(hear(&mut memberships, &converge(place(1, 9), place(2, 3))), (Verdict::GoOn, 0));
        assert_eq!(hear(&mut memberships, &Signal::Notice(left("bob", place(2, 3)))), (Verdict::GoOn, 1));
    }

    #[test]
    fn who_missed_a_part_of_the_same_log_has_to_come_back_and_who_joined_after_it_does_not() {
        let signal = converge(place(1, 9), place(1, 2_000));
        assert_eq!(hear(&mut at(place(1, 9)), &signal), (Verdict::Reset, 0));
        assert_eq!(hear(&mut at(place(1, 500)), &signal), (Verdict::Reset, 0));
        assert_eq!(hear(&mut at(place(1, 2_000)), &signal), (Verdict::GoOn, 0));
        assert_eq!(hear(&mut at(place(1, 2_001)), &signal), (Verdict::GoOn, 0));
    }

    #[test]
    fn who_is_anywhere_else_has_to_come_back() {
        assert_eq!(hear(&mut at(place(1, 8)), &converge(place(1, 9), place(2, 3))), (Verdict::Reset, 0));
    }

    #[test]
    fn a_contested_session_has_to_come_back_and_others_do_not() {
        let contested = |connection| Signal::Contested { connection, session: SessionId::of(1) };
        assert_eq!(hear(&mut at(place(1, 1)), &contested(ME)).0, Verdict::Reset);
        assert_eq!(hear(&mut at(place(1, 1)), &contested(ConnectionId(8))).0, Verdict::GoOn);
    }
}
