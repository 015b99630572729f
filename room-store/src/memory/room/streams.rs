//! Publications, subscriptions, broadcasts.

use std::{collections::BTreeSet, sync::Arc};

use proto::ids::{Mid, PeerId, Sid};

use super::{
    PublicationState, Room, Step, SubscriptionState, ops::Done, release_publication, release_subscription, same_place,
};
use crate::{
    change::{Broadcast, ReservePublication, ReserveSubscription, SetBy, SetRecording, SubscriptionReserved},
    error::{Conflict, StoreError},
    log::{Event, RemoveReason},
    record::{Actor, Attachment, Placement, Publication, Released, Subscription},
    witness::{Fact, UnsubscribeReason},
};

/// Candidates looked at for a publication: placement needs few, and each costs a comparison per stream.
const CANDIDATES: usize = 16;

/// Broadcasts of a session that are known again when their call is repeated. An edge makes one after the other and repeats
/// only the last; a few more for those that a slow network brings late.
const SAID: usize = 8;

impl Room {
    pub(in crate::memory) fn reserve_publication(
        &mut self,
        step: &mut Step<'_>,
        request: &ReservePublication,
    ) -> Result<Arc<Publication>, StoreError> {
        let actor = &request.actor;
        let publishing = self.acting(step, actor)?.publications.len();
        let earlier = match self.ops.recall(step.now, &actor.peer, request.op.as_ref()) {
            Some(Done::Published(mid)) => Some(mid.clone()),
            Some(_) => return Err(Conflict::OpReused.into()),
            None => None,
        };
        if let Some(mid) = earlier {
            let state = self.publications.get(&mid).filter(|state| state.record.owner == actor.peer);
            return state.map(|state| Arc::clone(&state.record)).ok_or(Conflict::OpSpent.into());
        }
        if let Some(state) = self.publications.get(&request.mid) {
            let repeated = state.record.owner == actor.peer;
            return if repeated { Ok(Arc::clone(&state.record)) } else { Err(Conflict::IdTaken.into()) };
        }
        if self.subscriptions.contains_key(request.mid.as_str()) {
            return Err(Conflict::IdTaken.into());
        }
        if publishing >= step.settings.limits.publications {
            return Err(Conflict::TooManyPublications.into());
        }
        self.ops.admit(step, &actor.peer, request.op.as_ref())?;
        let record = Arc::new(Publication {
            mid: request.mid.clone(),
            owner: actor.peer.clone(),
            minfo: request.minfo.clone(),
            placement: self.place(&request.candidates)?.clone(),
            confirmed: false,
            recording: request.recording.clone(),
            always_recorded: request.always_recorded,
        });
        let reserved_until = Some(step.after(step.settings.reservation));
        self.insert_publication(PublicationState { record: Arc::clone(&record), reserved_until });
        self.ops.remember(step, &actor.peer, request.op.as_ref(), Done::Published(record.mid.clone()));
        Ok(record)
    }

    /// The first candidate that carries the room already, else the first.
    fn place<'a>(&self, candidates: &'a [Placement]) -> Result<&'a Placement, StoreError> {
        let carries = |candidate: &&Placement| {
            let mut placements = self.publications.values().map(|state| &state.record.placement);
            placements.any(|placement| same_place(placement, candidate))
        };
        let carrying = candidates.iter().take(CANDIDATES).find(carries);
        carrying.or(candidates.first()).ok_or(Conflict::NoNode.into())
    }

    pub(super) fn insert_publication(&mut self, state: PublicationState) {
        let (mid, owner) = (state.record.mid.clone(), &state.record.owner);
        if let Some(member) = self.members.get_mut(owner) {
            member.publications.insert(mid.clone());
        }
        self.publications.insert(mid, state);
    }

    pub(in crate::memory) fn confirm_publication(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        mid: &Mid,
    ) -> Result<Arc<Publication>, StoreError> {
        let state = self.own_publication(step, actor, mid)?;
        if state.record.confirmed {
            return Ok(Arc::clone(&state.record));
        }
        let record = Arc::new(Publication { confirmed: true, ..(*state.record).clone() });
        *state = PublicationState { record: Arc::clone(&record), reserved_until: None };
        self.append(step, Some(&actor.peer), Event::StreamAdd(Arc::clone(&record)));
        self.note(step, Fact::published(&record));
        Ok(record)
    }

    /// A stream of the member that acts. Reservations of others are nobody's business.
    fn own_publication(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        mid: &Mid,
    ) -> Result<&mut PublicationState, StoreError> {
        self.acting(step, actor)?;
        let state = self.publications.get_mut(mid).ok_or(StoreError::UnknownPublication)?;
        if state.record.owner == actor.peer {
            Ok(state)
        } else if state.record.confirmed {
            Err(StoreError::NotOwner)
        } else {
            Err(StoreError::UnknownPublication)
        }
    }

    pub(in crate::memory) fn unpublish(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        mid: &Mid,
    ) -> Result<Released, StoreError> {
        if let Err(error) = self.own_publication(step, actor, mid) {
            let ended = self
                .members
                .get(&actor.peer)
                .is_some_and(|member| error == StoreError::UnknownPublication && member.retired_mids.contains(mid));
            return if ended { Ok(Released::default()) } else { Err(error) };
        }
        if self.publications.get(mid).is_some_and(|state| !state.record.confirmed) {
            self.ops.forget(&actor.peer, &Done::Published(mid.clone()));
        }
        Ok(self.end_publication(step, mid, Some(&actor.peer), RemoveReason::Unpublished))
    }

    pub(in crate::memory) fn publication_lost(
        &mut self,
        step: &mut Step<'_>,
        mid: &Mid,
        placement: &Placement,
        reason: RemoveReason,
    ) -> Released {
        match self.publications.get(mid) {
            Some(state) if same_place(&state.record.placement, placement) => {
                self.end_publication(step, mid, None, reason)
            }
            _ => Released::default(),
        }
    }

    /// Removes a stream and the subscriptions to it.
    fn end_publication(
        &mut self,
        step: &mut Step<'_>,
        mid: &Mid,
        cause: Option<&PeerId>,
        reason: RemoveReason,
    ) -> Released {
        let mut released = Released::default();
        let Some(PublicationState { record, .. }) = self.publications.remove(mid) else { return released };
        release_publication(&mut released, &record);
        for sid in self.subscribers.remove(mid).unwrap_or_default() {
            self.end_subscription(step, &sid, UnsubscribeReason::StreamEnded, &mut released);
        }
        if let Some(owner) = self.members.get_mut(&record.owner) {
            owner.publications.remove(mid);
            owner.retired_mids.push(mid.clone(), step.settings.retired());
        }
        if record.confirmed {
            let (owner, mid) = (record.owner.clone(), mid.clone());
            let fact = Fact::StreamUnpublished { owner: owner.clone(), mid: mid.clone(), why: reason };
            self.append(step, cause, Event::StreamRemove { owner, mid, reason });
            self.note(step, fact);
        }
        released
    }

    /// All a member's streams and subscriptions.
    pub(super) fn end_streams(&mut self, step: &mut Step<'_>, peer: &PeerId, reason: RemoveReason) -> Released {
        let mut released = Released::default();
        let Some(member) = self.members.get(peer) else { return released };
        let (mids, sids) = (member.publications.clone(), member.subscriptions.clone());
        for sid in sids {
            self.end_subscription(step, &sid, UnsubscribeReason::SubscriberGone, &mut released);
        }
        for mid in mids {
            released.extend(self.end_publication(step, &mid, Some(peer), reason));
        }
        released
    }

    pub(in crate::memory) fn mute(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        attachment: &Attachment,
        mid: &Mid,
        audio: Option<bool>,
        video: Option<bool>,
    ) -> Result<Arc<Publication>, StoreError> {
        if self.members.get(&actor.peer).and_then(|member| member.attachment.as_ref()) != Some(attachment) {
            return Err(StoreError::NotMember);
        }
        let state = self.own_publication(step, actor, mid)?;
        if !state.record.confirmed {
            return Err(StoreError::UnknownPublication);
        }
        let (old, muted) = (state.record.minfo.muted(), state.record.minfo.muted().with(audio, video));
        if muted == old {
            return Ok(Arc::clone(&state.record));
        }
        let minfo = state.record.minfo.with_muted(muted);
        state.record = Arc::new(Publication { minfo, ..(*state.record).clone() });
        let record = Arc::clone(&state.record);
        self.append(step, Some(&actor.peer), Event::StreamUpdate(Arc::clone(&record)));
        Ok(record)
    }

    pub(in crate::memory) fn set_recording(
        &mut self,
        step: &mut Step<'_>,
        request: &SetRecording,
    ) -> Result<Arc<Publication>, StoreError> {
        let SetRecording { by, mid, expected, recording } = request;
        let peer = match by {
            SetBy::Client(actor) => {
                self.acting(step, actor)?;
                Some(&actor.peer)
            }
            SetBy::Edge(_) => None,
        };
        let seen = |record: &Publication| record.confirmed || peer.is_none_or(|peer| record.owner == *peer);
        let state = self.publications.get_mut(mid).filter(|state| seen(&state.record));
        let state = state.ok_or(StoreError::UnknownPublication)?;
        let (Some(told), true) = (recording.as_ref().or(expected.as_ref()), state.record.recording == *expected) else {
            return Ok(Arc::clone(&state.record));
        };
        if recording == expected {
            return Ok(Arc::clone(&state.record));
        }
        state.record = Arc::new(Publication { recording: recording.clone(), ..(*state.record).clone() });
        let stream = Arc::clone(&state.record);
        if stream.confirmed {
            self.append(step, peer, Event::Recording { stream: Arc::clone(&stream), recording: told.clone() });
        }
        Ok(stream)
    }

    pub(in crate::memory) fn reserve_subscription(
        &mut self,
        step: &mut Step<'_>,
        request: &ReserveSubscription,
    ) -> Result<SubscriptionReserved, StoreError> {
        let actor = &request.actor;
        let subscribed = self.acting(step, actor)?.subscriptions.len();
        let earlier = match self.ops.recall(step.now, &actor.peer, request.op.as_ref()) {
            Some(Done::Subscribed(sid)) => Some(sid.clone()),
            Some(_) => return Err(Conflict::OpReused.into()),
            None => None,
        };
        if let Some(sid) = earlier {
            return self.reserved(actor, &sid).ok_or(Conflict::OpSpent.into());
        }
        if self.subscriptions.contains_key(&request.sid) {
            let repeated = self.reserved(actor, &request.sid);
            return repeated.filter(|found| found.publication.mid == request.mid).ok_or(Conflict::IdTaken.into());
        }
        let publication = self.publications.get(&request.mid).map(|state| Arc::clone(&state.record));
        let publication = publication.filter(|record| record.confirmed).ok_or(StoreError::UnknownPublication)?;
        if self.publications.contains_key(request.sid.as_str()) {
            return Err(Conflict::IdTaken.into());
        }
        if subscribed >= step.settings.limits.subscriptions {
            return Err(Conflict::TooManySubscriptions.into());
        }
        self.ops.admit(step, &actor.peer, request.op.as_ref())?;
        let subscription = Arc::new(Subscription {
            sid: request.sid.clone(),
            subscriber: actor.peer.clone(),
            mid: request.mid.clone(),
            placement: request.placement.as_ref().unwrap_or(&publication.placement).clone(),
            confirmed: false,
        });
        let reserved_until = Some(step.after(step.settings.reservation));
        self.insert_subscription(SubscriptionState { record: Arc::clone(&subscription), reserved_until });
        self.ops.remember(step, &actor.peer, request.op.as_ref(), Done::Subscribed(subscription.sid.clone()));
        Ok(SubscriptionReserved { subscription, publication })
    }

    fn reserved(&self, actor: &Actor, sid: &Sid) -> Option<SubscriptionReserved> {
        let state = self.subscriptions.get(sid).filter(|state| state.record.subscriber == actor.peer)?;
        let publication = Arc::clone(&self.publications.get(&state.record.mid)?.record);
        Some(SubscriptionReserved { subscription: Arc::clone(&state.record), publication })
    }

    pub(super) fn insert_subscription(&mut self, state: SubscriptionState) {
        let record = &state.record;
        if let Some(member) = self.members.get_mut(&record.subscriber) {
            member.subscriptions.insert(record.sid.clone());
        }
        self.subscribers.entry(record.mid.clone()).or_default().insert(record.sid.clone());
        self.subscriptions.insert(record.sid.clone(), state);
    }

    pub(in crate::memory) fn confirm_subscription(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        sid: &Sid,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.acting(step, actor)?;
        let state = self.subscriptions.get_mut(sid).filter(|state| state.record.subscriber == actor.peer);
        let state = state.ok_or(StoreError::UnknownSubscription)?;
        if !state.record.confirmed {
            let record = Arc::new(Subscription { confirmed: true, ..(*state.record).clone() });
            *state = SubscriptionState { record: Arc::clone(&record), reserved_until: None };
            self.note(step, Fact::subscribed(&record));
            return Ok(record);
        }
        Ok(Arc::clone(&state.record))
    }

    pub(in crate::memory) fn unsubscribe(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        sid: &Sid,
    ) -> Result<Released, StoreError> {
        let member = self.acting(step, actor)?;
        if !member.subscriptions.contains(sid) {
            let ended = member.retired_sids.contains(sid);
            return if ended { Ok(Released::default()) } else { Err(StoreError::UnknownSubscription) };
        }
        if self.subscriptions.get(sid).is_some_and(|state| !state.record.confirmed) {
            self.ops.forget(&actor.peer, &Done::Subscribed(sid.clone()));
        }
        let mut released = Released::default();
        self.end_subscription(step, sid, UnsubscribeReason::Unsubscribed, &mut released);
        Ok(released)
    }

    pub(in crate::memory) fn subscription_lost(
        &mut self,
        step: &mut Step<'_>,
        sid: &Sid,
        placement: &Placement,
        reason: RemoveReason,
    ) -> Released {
        let mut released = Released::default();
        let there = |state: &SubscriptionState| same_place(&state.record.placement, placement);
        if self.subscriptions.get(sid).is_some_and(there) {
            self.end_subscription(step, sid, reason.into(), &mut released);
        }
        released
    }

    fn end_subscription(&mut self, step: &mut Step<'_>, sid: &Sid, why: UnsubscribeReason, released: &mut Released) {
        let Some(SubscriptionState { record, .. }) = self.subscriptions.remove(sid) else { return };
        release_subscription(released, &record);
        if record.confirmed {
            self.note(step, Fact::unsubscribed(&record, why));
        }
        if let Some(sids) = self.subscribers.get_mut(&record.mid) {
            sids.remove(sid);
            if sids.is_empty() {
                self.subscribers.remove(&record.mid);
            }
        }
        if let Some(member) = self.members.get_mut(&record.subscriber) {
            member.subscriptions.remove(sid);
            member.retired_sids.push(sid.clone(), step.settings.retired());
        }
    }

    /// Reservations nobody confirmed, at most `limit`. Nobody was told of them, nobody is told now.
    pub(super) fn drop_due_reservations(&mut self, step: &mut Step<'_>, limit: usize) -> Released {
        let now = step.now;
        let due = |until: Option<tokio::time::Instant>| until.is_some_and(|until| until <= now);
        let sids = self.subscriptions.iter().filter(|(_, state)| due(state.reserved_until));
        let sids: BTreeSet<_> = sids.map(|(sid, _)| sid.clone()).take(limit).collect();
        let mids = self.publications.iter().filter(|(_, state)| due(state.reserved_until));
        let mids: BTreeSet<_> = mids.map(|(mid, _)| mid.clone()).take(limit - sids.len()).collect();
        let mut released = Released::default();
        for sid in sids {
            self.end_subscription(step, &sid, UnsubscribeReason::SubscriberGone, &mut released);
        }
        for mid in mids {
            released.extend(self.end_publication(step, &mid, None, RemoveReason::OwnerExpired));
        }
        released
    }

    pub(in crate::memory) fn broadcast(
        &mut self,
        step: &mut Step<'_>,
        broadcast: &Broadcast,
    ) -> Result<(), StoreError> {
        let Broadcast { actor, data, entry, op } = broadcast;
        if self.acting(step, actor)?.said.contains(entry) {
            return Ok(());
        }
        match self.ops.recall(step.now, &actor.peer, op.as_ref()) {
            Some(Done::Broadcast) => return Ok(()),
            Some(_) => return Err(Conflict::OpReused.into()),
            None => {}
        }
        self.ops.remember(step, &actor.peer, op.as_ref(), Done::Broadcast);
        self.acting(step, actor)?.said.push(*entry, SAID);
        let event = Event::Broadcast { peer: actor.peer.clone(), data: data.clone() };
        self.append_as(step, *entry, Some(&actor.peer), event);
        Ok(())
    }
}
