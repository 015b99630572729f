//! `subscribe`: keep the subscription's place, have the stream's node send it, confirm it.
//!
//! ```text
//! Reserving ──▶ Negotiating ──▶ Confirming ──▶ answer
//! ```

use std::sync::Arc;

use proto::ids::{OpId, RoomId, Sid, TransportId};
use proto::sfu::{NegotiateRequest, SubscriptionBinding};
use proto::signalling::answer::{Answer, SubscribeAnswer};
use proto::signalling::{ErrorCode, Rejection, Subscribe};
use rand::RngExt as _;
use room_store::{Actor, Conflict, Released, ReserveSubscription, StoreError, Subscription};

use super::BACK_OFF;
use super::command::{Command, Completion, Detached};
use super::flow::{Context, Flow, Next, Reply};
use crate::nodes::SfuError;

/// How often an id is drawn anew that is taken: of 10¹⁰ it is, practically never.
const MAX_DRAWS: u32 = 3;

/// A `subscribe` being carried out.
pub(super) struct SubscribeFlow {
    request: Subscribe,
    op: Option<OpId>,
    draws: u32,
    step: Step,
}

enum Step {
    Starting,
    Reserving { actor: Actor, sid: Sid },
    Negotiating { actor: Actor, subscription: Arc<Subscription> },
    Confirming { actor: Actor, subscription: Arc<Subscription>, answer_sdp: String },
}

impl SubscribeFlow {
    pub(super) fn new(request: Subscribe, op: Option<OpId>) -> Self {
        Self { request, op, draws: 0, step: Step::Starting }
    }

    fn room(&self) -> &RoomId {
        &self.request.rid
    }

    fn reserve(&mut self, cx: &mut Context<'_>, actor: Actor) -> Next {
        let sid = Sid::of(cx.peer, cx.rng.random());
        let request = ReserveSubscription {
            actor: actor.clone(),
            sid: sid.clone(),
            mid: self.request.mid.clone(),
            placement: None,
            op: self.op.clone(),
        };
        self.step = Step::Reserving { actor, sid };
        Next::Run(Command::ReserveSubscription(request))
    }

    fn reserved(&mut self, actor: Actor, subscription: Arc<Subscription>) -> Next {
        let request = NegotiateRequest {
            transport_id: TransportId::from(&subscription.sid).to_string(),
            room_id: self.room().to_string(),
            client_id: actor.peer.to_string(),
            offer_sdp: self.request.offer.0.clone(),
            publications: Vec::new(),
            subscriptions: vec![SubscriptionBinding {
                subscription_id: subscription.sid.to_string(),
                publication_id: subscription.mid.to_string(),
                sections: None,
            }],
            boot_id: subscription.placement.boot.to_string(),
        };
        let node = subscription.placement.node.clone();
        self.step = Step::Negotiating { actor, subscription };
        Next::Run(Command::Negotiate { node, request })
    }

    fn refused(&mut self, cx: &mut Context<'_>, actor: Actor, subscription: &Subscription, error: SfuError) -> Next {
        // With an `op` the place stays: asked again, the same node gets the same offer.
        if !(error == SfuError::Unreachable && self.op.is_some()) {
            take_back(cx, actor, subscription);
        }
        match error {
            SfuError::Unreachable => Next::reject(ErrorCode::SfuUnreachable, "the SFU did not answer in time: retry"),
            SfuError::BadSdp(reason) => Next::reject(ErrorCode::BadSdp, reason),
            SfuError::NotFound | SfuError::Restarted => {
                Next::reject(ErrorCode::BadMid, "the stream is not on its SFU any more")
            }
            SfuError::Full(reason) | SfuError::Failed(reason) => Next::reject(ErrorCode::SubscribeFailed, reason),
            SfuError::NoRecording(_) => Next::reject(ErrorCode::SubscribeFailed, error.to_string()),
            SfuError::Connecting(_) => Rejection::rate_limited(BACK_OFF).into(),
        }
    }

    fn not_confirmed(
        &mut self,
        cx: &mut Context<'_>,
        actor: Actor,
        subscription: &Subscription,
        error: StoreError,
    ) -> Next {
        if !(error.is_transient() && self.op.is_some()) {
            take_back(cx, actor, subscription);
        }
        match error {
            StoreError::UnknownSubscription | StoreError::UnknownPublication => {
                Next::reject(ErrorCode::BadMid, "the stream ended while it was being subscribed to")
            }
            error => cx.store_failed(&self.request.rid, error),
        }
    }
}

impl Flow for SubscribeFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        match cx.actor(self.room()) {
            Ok(actor) => self.reserve(cx, actor),
            Err(rejection) => rejection.into(),
        }
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        match (std::mem::replace(&mut self.step, Step::Starting), completion) {
            (Step::Reserving { actor, .. }, Completion::Reserved(Ok(reserved))) => {
                self.reserved(actor, reserved.subscription)
            }
            (Step::Reserving { actor, .. }, Completion::Reserved(Err(StoreError::Conflict(Conflict::IdTaken))))
                if self.draws < MAX_DRAWS =>
            {
                self.draws += 1;
                self.reserve(cx, actor)
            }
            (Step::Reserving { actor, sid }, Completion::Reserved(Err(error))) => {
                if error == StoreError::Timeout && self.op.is_none() {
                    cx.detach(Detached::RemoveSubscription { actor, sid });
                }
                cx.store_failed(&self.request.rid, error)
            }
            (Step::Negotiating { actor, subscription }, Completion::Negotiated(Ok(answer))) => {
                let command = Command::ConfirmSubscription { actor: actor.clone(), sid: subscription.sid.clone() };
                self.step = Step::Confirming { actor, subscription, answer_sdp: answer.answer_sdp };
                Next::Run(command)
            }
            (Step::Negotiating { actor, subscription }, Completion::Negotiated(Err(error))) => {
                self.refused(cx, actor, &subscription, error)
            }
            (Step::Confirming { subscription, answer_sdp, .. }, Completion::Subscription(Ok(_))) => {
                Next::Finish(Ok(Reply::Subscribed(SubscribeAnswer {
                    jsep: Answer(answer_sdp),
                    sid: subscription.sid.clone(),
                    sfuid: subscription.placement.node.clone(),
                })))
            }
            (Step::Confirming { actor, subscription, .. }, Completion::Subscription(Err(error))) => {
                self.not_confirmed(cx, actor, &subscription, error)
            }
            (_, other) => cx.mismatch(&other),
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>, completion: Completion) {
        if self.op.is_some() {
            return;
        }
        match (std::mem::replace(&mut self.step, Step::Starting), completion) {
            (Step::Reserving { actor, .. }, Completion::Reserved(Ok(reserved))) => {
                take_back(cx, actor, &reserved.subscription);
            }
            (Step::Reserving { actor, sid }, _) => cx.detach(Detached::RemoveSubscription { actor, sid }),
            (Step::Negotiating { actor, subscription } | Step::Confirming { actor, subscription, .. }, _) => {
                take_back(cx, actor, &subscription);
            }
            (Step::Starting, _) => {}
        }
    }
}

/// Ends the subscription in the store, and on its node whether the store still knew it or not.
fn take_back(cx: &mut Context<'_>, actor: Actor, subscription: &Subscription) {
    let sid = subscription.sid.clone();
    let subscriptions = vec![(sid.clone(), subscription.placement.clone())];
    cx.detach(Detached::RemoveSubscription { actor, sid });
    cx.detach(Detached::Close(Released { publications: Vec::new(), subscriptions }));
}
