//! Joining, staying, leaving, expiring.

use std::sync::Arc;

use proto::ids::{EdgeId, OpId, PeerId};

use super::{MemberState, Room, Step, ops::Done};
use crate::{
    change::{Expired, Hold, Join, JoinKind, Joined, Left, LossReason, Missed, Refreshed},
    error::{Conflict, StoreError},
    feed::RoomEvent,
    log::{Event, LogRead, RemoveReason},
    record::{Actor, Attachment, Member, Released},
    witness::{Fact, LeaveReason},
};

impl Room {
    pub(in crate::memory) fn join(&mut self, step: &mut Step<'_>, join: &Join) -> Result<Joined, StoreError> {
        let earlier = self.ops.recall(step.now, &join.peer, join.op.as_ref());
        if !matches!(earlier, None | Some(Done::Joined(_))) {
            return Err(Conflict::OpReused.into());
        }
        self.ops.admit(step, &join.peer, join.op.as_ref())?;
        let how = self.join_kind(step, join);
        let missed = self.missed(join, how);
        let mut released = Released::default();
        let superseded = match how {
            JoinKind::Resumed => self.resume(step, join),
            JoinKind::TookOver => {
                let (old, streams) = self.take_over(step, join);
                released = streams;
                old
            }
            JoinKind::New => {
                if self.members.len() >= step.settings.limits.members {
                    return Err(Conflict::RoomFull.into());
                }
                let member = Arc::new(Member { peer: join.peer.clone(), edge: join.attachment.edge.clone() });
                self.admit(step, member, join);
                None
            }
        };
        let session = self.members[&join.peer].session.clone();
        self.ops.remember(step, &join.peer, join.op.as_ref(), Done::Joined(session));
        Ok(self.joined(join, how, missed, superseded, released))
    }

    /// Its decision is all that a join depends on.
    fn join_kind(&self, step: &Step<'_>, join: &Join) -> JoinKind {
        let Some(member) = self.members.get(&join.peer) else { return JoinKind::New };
        let by_op = match self.ops.recall(step.now, &join.peer, join.op.as_ref()) {
            Some(Done::Joined(session)) => *session == member.session,
            _ => false,
        };
        let proven = by_op || member.session == join.fresh || join.resume.as_ref() == Some(&member.session);
        let same_socket = member.attachment.as_ref().is_none_or(|held| *held == join.attachment);
        if proven || same_socket { JoinKind::Resumed } else { JoinKind::TookOver }
    }

    fn admit(&mut self, step: &mut Step<'_>, member: Arc<Member>, join: &Join) {
        let begun = self.log.head().position.next();
        let state = MemberState::new(step, member, join.fresh.clone(), join.attachment.clone(), begun);
        self.insert_member(step, state);
    }

    fn resume(&mut self, step: &mut Step<'_>, join: &Join) -> Option<Attachment> {
        let member = self.members.get_mut(&join.peer)?;
        let old = member.attach(step, &join.attachment)?;
        let (peer, session, attachment) = (join.peer.clone(), member.session.clone(), old.clone());
        step.events.push(RoomEvent::Superseded { peer, session, attachment, resumed: true });
        Some(old)
    }

    fn take_over(&mut self, step: &mut Step<'_>, join: &Join) -> (Option<Attachment>, Released) {
        let released = self.end_streams(step, &join.peer, RemoveReason::OwnerLeft);
        let member = Arc::new(Member { peer: join.peer.clone(), edge: join.attachment.edge.clone() });
        let begun = self.log.head().position;
        let state = MemberState::new(step, member, join.fresh.clone(), join.attachment.clone(), begun);
        let old = self
            .members
            .insert(join.peer.clone(), Box::new(state))
            .and_then(|old| Some((old.session, old.attachment?)));
        if let Some((session, attachment)) = old.clone() {
            let peer = join.peer.clone();
            step.events.push(RoomEvent::Superseded { peer, session, attachment, resumed: false });
        }
        self.note(step, Fact::PeerLeft { peer: join.peer.clone(), why: LeaveReason::Superseded });
        self.note(step, Fact::PeerJoined { peer: join.peer.clone() });
        (old.map(|(_, attachment)| attachment), released)
    }

    /// Looked up before the join's own entries are appended. What was before the session began was not for it.
    fn missed(&self, join: &Join, how: JoinKind) -> Missed {
        let Some(since) = join.since else { return Missed::NotAsked };
        let resumed = self.members.get(&join.peer).filter(|_| how == JoinKind::Resumed);
        if resumed.is_none_or(|member| member.begun_after(since)) {
            return Missed::Resync;
        }
        match self.log.read(since, None, usize::MAX) {
            LogRead::Lost { .. } => Missed::Resync,
            LogRead::Entries(mut entries) => {
                entries.retain(|entry| entry.concerns(&join.peer));
                Missed::Entries(entries)
            }
        }
    }

    fn joined(
        &self,
        join: &Join,
        how: JoinKind,
        missed: Missed,
        superseded: Option<Attachment>,
        released: Released,
    ) -> Joined {
        let me = &self.members[&join.peer];
        let others = self.members.values().filter(|state| state.member.peer != join.peer);
        let confirmed = self.publications.values().map(|state| &state.record).filter(|record| record.confirmed);
        let (own, foreign) = confirmed.cloned().partition(|record| record.owner == join.peer);
        let subscriptions = me.subscriptions.iter().filter_map(|sid| self.subscriptions.get(sid));
        let head = self.log.head();
        Joined {
            session: me.session.clone(),
            how,
            position: head.position,
            head: head.id,
            members: others.map(|state| Arc::clone(&state.member)).collect(),
            publications: foreign,
            own_publications: own,
            own_subscriptions: subscriptions
                .map(|state| Arc::clone(&state.record))
                .filter(|record| record.confirmed)
                .collect(),
            missed,
            superseded,
            released,
        }
    }

    pub(in crate::memory) fn leave(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        op: Option<&OpId>,
    ) -> Result<Left, StoreError> {
        match self.ops.recall(step.now, &actor.peer, op) {
            Some(Done::Left) => {
                let ended = self.members.get(&actor.peer).is_none_or(|member| member.session != actor.session);
                return Ok(Left { released: Released::default(), ended });
            }
            Some(_) => return Err(Conflict::OpReused.into()),
            None => {}
        }
        self.acting(step, actor)?;
        // Nobody is kept from leaving: asked again where this cannot be remembered, it says that there is no such member.
        let remembers = self.ops.admit(step, &actor.peer, op).is_ok();
        let released = self.end(step, &actor.peer, LeaveReason::Left);
        if remembers {
            self.ops.remember(step, &actor.peer, op, Done::Left);
        }
        Ok(Left { released, ended: true })
    }

    /// Ends a membership: streams first, then the member.
    fn end(&mut self, step: &mut Step<'_>, peer: &PeerId, why: LeaveReason) -> Released {
        let timed_out = why == LeaveReason::TimedOut;
        let reason = if timed_out { RemoveReason::OwnerExpired } else { RemoveReason::OwnerLeft };
        let released = self.end_streams(step, peer, reason);
        self.members.remove(peer);
        self.append(step, Some(peer), Event::PeerLeave(peer.clone()));
        self.note(step, Fact::PeerLeft { peer: peer.clone(), why });
        if self.members.is_empty() {
            self.empty_since = Some(step.now);
            self.note(step, Fact::RoomClosed);
            // Nobody may read it any more: who comes next is told only what is said from then on.
            self.log.forget_what_was_said();
            step.after(step.settings.ttl);
        }
        released
    }

    pub(in crate::memory) fn refresh(&mut self, step: &mut Step<'_>, edge: &EdgeId, holds: &[Hold]) -> Refreshed {
        let lost = holds.iter().filter_map(|hold| {
            let reason = self.refresh_one(step, edge, hold).err()?;
            Some((hold.clone(), reason))
        });
        let lost = lost.collect();
        Refreshed { head: Some(self.log.head()), lost }
    }

    pub(super) fn refresh_one(&mut self, step: &mut Step<'_>, edge: &EdgeId, hold: &Hold) -> Result<(), LossReason> {
        let member = self.members.get_mut(&hold.peer).ok_or(LossReason::Gone)?;
        let attachment = Attachment { edge: edge.clone(), connection: hold.connection };
        let elsewhere = member.attachment.as_ref().is_some_and(|held| *held != attachment);
        if member.session != hold.session || elsewhere {
            return Err(LossReason::Superseded);
        }
        // A refresh that was overtaken by the close of its socket comes too late.
        if member.closed.as_ref() != Some(&attachment) {
            member.attach(step, &attachment);
        }
        Ok(())
    }

    pub(in crate::memory) fn socket_closed(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        attachment: &Attachment,
        for_good: bool,
    ) -> Released {
        let held = self.members.get_mut(&actor.peer);
        let held =
            held.filter(|member| member.session == actor.session && member.attachment.as_ref() == Some(attachment));
        match held {
            None => Released::default(),
            Some(_) if for_good => self.end(step, &actor.peer, LeaveReason::Closed),
            Some(member) => {
                member.closed = member.attachment.take();
                member.deadline = member.deadline.min(step.after(step.settings.grace));
                Released::default()
            }
        }
    }

    pub(in crate::memory) fn expire_due(&mut self, step: &mut Step<'_>, limit: usize) -> Expired {
        let mut released = self.drop_due_reservations(step, limit);
        let mut left = limit.saturating_sub(released.publications.len() + released.subscriptions.len());
        let mut peers = Vec::new();
        for state in self.members.values().filter(|state| state.deadline <= step.now) {
            let entries = state.publications.len() + 1;
            // A session's end is one step, however many streams it has: the first may take more than the limit.
            if entries > left && left < limit {
                break;
            }
            left = left.saturating_sub(entries);
            peers.push(state.member.peer.clone());
        }
        for peer in &peers {
            released.extend(self.end(step, peer, LeaveReason::TimedOut));
        }
        self.ops.forget_old(step.now);
        let more = !self.is_empty() && self.next_due(step.settings.ttl).is_some_and(|due| due <= step.now);
        Expired { peers, released, more }
    }
}

impl Refreshed {
    /// The answer where there is no room.
    pub(in crate::memory) fn without_room(holds: Vec<Hold>) -> Self {
        Self { head: None, lost: holds.into_iter().map(|hold| (hold, LossReason::Gone)).collect() }
    }
}
