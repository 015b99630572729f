//! `join`: the snapshot, in a frame of bounded size, and what follows it.

use std::sync::Arc;

use proto::ids::{OpId, RoomId, SessionId};
use proto::signalling::answer::{JoinAnswer, Own, Pub, Sub, User};
use proto::signalling::{Cursor, ErrorCode, Join};
use rand::RngExt as _;
use room_store::{Actor, Attachment, Head, Joined, Member, Missed, Publication, Subscription};

use super::command::{Command, Completion, Detached};
use super::flow::{Context, Flow, Next, Reply, not_for_this_room};
use super::paging::{SNAPSHOT_BYTES, fit};
use super::rest::{Missing, Rest};
use super::{Arrival, Note, Output};
use crate::members::Held;
use crate::rooms::Known;

/// A `join` being carried out.
pub(super) struct JoinFlow {
    request: Join,
    op: Option<OpId>,
}

impl JoinFlow {
    pub(super) fn new(request: Join, op: Option<OpId>) -> Self {
        Self { request, op }
    }

    fn actor(&self, cx: &Context<'_>, session: &SessionId) -> Actor {
        Actor { room: self.request.rid.clone(), peer: cx.peer.clone(), session: session.clone() }
    }
}

impl Flow for JoinFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        let room = &self.request.rid;
        // It may have waited, and the token that it came with may have been replaced.
        if !cx.standing.access().allows_room(room.as_str()) {
            return not_for_this_room().into();
        }
        if !cx.rooms.begin(room, cx.config.max_rooms) {
            return Next::reject(ErrorCode::Conflict, "this connection is in too many rooms");
        }
        // A token that proves nothing counts as none: the peer's own state then decides how it joins.
        let proven = |token| cx.config.sessions.verify(room, cx.peer, token);
        let join = room_store::Join {
            room: room.clone(),
            peer: cx.peer.clone(),
            attachment: Attachment { edge: cx.config.edge.clone(), connection: cx.connection },
            resume: self.request.session.as_ref().and_then(proven),
            since: self.request.since,
            fresh: SessionId::of(cx.rng.random()),
            op: self.op.clone(),
        };
        // What the room tells while the snapshot is made belongs after it.
        cx.out.push_back(Output::Park(room.clone()));
        Next::Run(Command::Join(join))
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        let room = self.request.rid.clone();
        cx.rooms.joined(&room);
        match completion {
            Completion::Joined(Ok(joined)) => {
                let actor = self.actor(cx, &joined.session);
                cx.rooms.enter(actor.clone(), joined.position);
                cx.out.push_back(Output::Note(Note::Joined { room: room.clone(), how: joined.how, trace: cx.trace }));
                let arrival = Some(Box::new(arrival(cx, &joined)));
                cx.out.push_back(Output::Deliver { actor, arrival });
                if !joined.released.is_empty() {
                    cx.detach(Detached::Close(joined.released.clone()));
                }
                let how = joined.how;
                let (answer, rest) = snapshot(cx, &self.request, *joined);
                Next::Finish(Ok(Reply::Joined(Box::new(answer), Box::new(rest), how)))
            }
            Completion::Joined(Err(error)) => {
                match cx.rooms.actor(&room) {
                    // The earlier membership of this socket goes on.
                    Some(actor) => cx.out.push_back(Output::Deliver { actor, arrival: None }),
                    None => cx.out.push_back(Output::Unfollow(room.clone())),
                }
                cx.store_failed(&room, error)
            }
            other => cx.mismatch(&other),
        }
    }

    /// The membership exists, but its socket was told otherwise or is gone: the store holds it for the grace, unless the
    /// client is not to come back.
    fn give_up(&mut self, cx: &mut Context<'_>, completion: Completion) {
        cx.rooms.joined(&self.request.rid);
        if let Completion::Joined(Ok(joined)) = completion {
            if !joined.released.is_empty() {
                cx.detach(Detached::Close(joined.released.clone()));
            }
            let actor = self.actor(cx, &joined.session);
            cx.detach(Detached::SocketClosed { actor, for_good: cx.for_good });
        }
        cx.rooms.lose(&self.request.rid, cx.out);
        cx.out.push_back(Output::Unfollow(self.request.rid.clone()));
    }
}

/// All that the room is, as this join was answered.
fn arrival(cx: &Context<'_>, joined: &Joined) -> Arrival {
    let me = Arc::new(Member { peer: cx.peer.clone(), edge: cx.config.edge.clone() });
    let known = Known {
        head: Head { position: joined.position, id: joined.head },
        members: joined.members.iter().cloned().chain([me]).collect(),
        publications: joined.publications.iter().chain(&joined.own_publications).cloned().collect(),
    };
    Arrival { known, held: Held::survived(&joined.own_publications, &joined.own_subscriptions) }
}

/// The answer, and what follows it.
fn snapshot(cx: &mut Context<'_>, request: &Join, mut joined: Joined) -> (JoinAnswer, Rest) {
    let rid = &request.rid;
    let mut budget = SNAPSHOT_BYTES;
    let (own, own_pubs, own_subs) = own(rid, &joined.own_publications, &joined.own_subscriptions, &mut budget);
    let mut half = budget / 2;
    let users = fit(joined.members.iter().map(|member| user(rid, member)), &mut half);
    let mut rest = budget / 2 + half;
    let pubs = fit(joined.publications.iter().map(|publication| entry(rid, publication)), &mut rest);
    let more = (request.paging && (users.is_cut || pubs.is_cut)).then(|| Cursor {
        users_after: users.fitting.last().map(|user| user.uid.clone()),
        pubs_after: pubs.fitting.last().map(|publication| publication.mid.clone()),
    });
    let (mut members, mut publications) = (Vec::new(), Vec::new());
    // Whoever is told what it missed knows the others: the lists' rest, which is newer, would come before that.
    let is_told = matches!(joined.missed, Missed::Entries(_));
    if !request.paging && !is_told {
        members = joined.members.split_off(users.fitting.len());
        publications = joined.publications.split_off(pubs.fitting.len());
    }
    let resync = joined.missed == Missed::Resync;
    let missed = match joined.missed {
        Missed::Entries(entries) => Missing::of(entries),
        Missed::NotAsked | Missed::Resync => Missing::default(),
    };
    let answer = JoinAnswer {
        pubs: pubs.fitting,
        users: users.fitting,
        own,
        session: cx.config.sessions.sign(rid, cx.peer, &joined.session),
        position: joined.position,
        grace: cx.config.grace.as_secs_f64(),
        resync,
        more,
        rest: members.len() + publications.len(),
    };
    let rest = Rest {
        rid: rid.clone(),
        peer: cx.peer.clone(),
        position: joined.position,
        own_publications: joined.own_publications.split_off(own_pubs).into_iter(),
        own_subscriptions: joined.own_subscriptions.split_off(own_subs).into_iter(),
        members: members.into_iter(),
        publications: publications.into_iter(),
        missed,
    };
    (answer, rest)
}

/// What survived, as far as it fits; how many streams and subscriptions those are.
pub(super) fn own(
    rid: &RoomId,
    publications: &[Arc<Publication>],
    subscriptions: &[Arc<Subscription>],
    budget: &mut usize,
) -> (Own, usize, usize) {
    let pubs = fit(publications.iter().map(|publication| entry(rid, publication)), budget);
    let subs = fit(subscriptions.iter().map(|subscription| sub(subscription)), budget);
    let counts = (pubs.fitting.len(), subs.fitting.len());
    (Own { pubs: pubs.fitting, subs: subs.fitting, more: pubs.is_cut || subs.is_cut }, counts.0, counts.1)
}

/// A member as clients see it.
pub(super) fn user(rid: &RoomId, member: &Member) -> User {
    User { rid: rid.clone(), uid: member.peer.clone(), edge: member.edge.clone() }
}

/// A stream as clients see it.
pub(super) fn entry(rid: &RoomId, publication: &Publication) -> Pub {
    Pub {
        rid: rid.clone(),
        uid: publication.owner.clone(),
        mid: publication.mid.clone(),
        sfuid: publication.placement.node.clone(),
        minfo: publication.minfo.clone(),
        recording: publication.recording.clone(),
    }
}

fn sub(subscription: &Subscription) -> Sub {
    Sub { sid: subscription.sid.clone(), mid: subscription.mid.clone(), sfuid: subscription.placement.node.clone() }
}
