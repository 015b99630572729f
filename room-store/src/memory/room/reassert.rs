//! Putting back what a store has lost.

use std::sync::Arc;

use super::{MemberState, PublicationState, Room, Step, SubscriptionState};
use crate::{
    change::{Assertion, Reassert, Refreshed},
    log::Event,
    record::{Attachment, Member, Publication, Subscription},
    witness::Fact,
};

impl Room {
    /// Members first, all of them, then streams, then subscriptions: nobody hears of a stream before its owner.
    pub(in crate::memory) fn reassert(&mut self, step: &mut Step<'_>, reassert: &Reassert) -> Refreshed {
        step.restores = true;
        let mut lost = Vec::new();
        let mut alive = Vec::new();
        for assertion in &reassert.sessions {
            let hold = &assertion.hold;
            if !self.members.contains_key(&hold.peer) {
                let member = Arc::new(Member { peer: hold.peer.clone(), edge: reassert.edge.clone() });
                let attachment = Attachment { edge: reassert.edge.clone(), connection: hold.connection };
                let begun = self.log.head().position.next();
                let state = MemberState::new(step, member, hold.session.clone(), attachment, begun);
                self.insert_member(step, state);
            }
            match self.refresh_one(step, &reassert.edge, hold) {
                Ok(()) => alive.push(assertion),
                Err(reason) => lost.push((hold.clone(), reason)),
            }
        }
        for assertion in &alive {
            for record in &assertion.publications {
                self.reassert_publication(step, assertion, record);
            }
        }
        for assertion in &alive {
            for record in &assertion.subscriptions {
                self.reassert_subscription(step, assertion, record);
            }
        }
        Refreshed { head: Some(self.log.head()), lost }
    }

    fn reassert_publication(&mut self, step: &mut Step<'_>, assertion: &Assertion, record: &Publication) {
        let peer = &assertion.hold.peer;
        let ended = self.members.get(peer).is_none_or(|member| member.retired_mids.contains(&record.mid));
        if ended || record.owner != *peer || self.publications.contains_key(&record.mid) {
            return;
        }
        let record = Arc::new(Publication { confirmed: true, ..record.clone() });
        self.insert_publication(PublicationState { record: Arc::clone(&record), reserved_until: None });
        self.append(step, Some(peer), Event::StreamAdd(Arc::clone(&record)));
        self.note(step, Fact::published(&record));
    }

    fn reassert_subscription(&mut self, step: &mut Step<'_>, assertion: &Assertion, record: &Subscription) {
        let peer = &assertion.hold.peer;
        let ended = self.members.get(peer).is_none_or(|member| member.retired_sids.contains(&record.sid));
        if ended || record.subscriber != *peer || self.subscriptions.contains_key(&record.sid) {
            return;
        }
        let record = Arc::new(Subscription { confirmed: true, ..record.clone() });
        self.note(step, Fact::subscribed(&record));
        self.insert_subscription(SubscriptionState { record, reserved_until: None });
    }
}
