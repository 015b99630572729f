//! `restart`: ICE restart of one stream of this peer's, published or subscribed.

use proto::ids::{RoomId, TransportId};
use proto::sfu::RestartRequest;
use proto::signalling::answer::{Answer, RestartAnswer};
use proto::signalling::{ErrorCode, Offer, StreamRef};
use room_store::Placement;

use super::command::{Command, Completion};
use super::flow::{Context, Flow, Next, Reply};
use crate::nodes::SfuError;

/// A `restart` being carried out.
pub(super) struct RestartFlow {
    rid: RoomId,
    stream: StreamRef,
    offer: Offer,
}

impl RestartFlow {
    pub(super) fn new(rid: RoomId, stream: StreamRef, offer: Offer) -> Self {
        Self { rid, stream, offer }
    }

    fn found(&self, placement: &Placement) -> Next {
        let transport_id = match &self.stream {
            StreamRef::Publication(mid) => TransportId::from(mid),
            StreamRef::Subscription(sid) => TransportId::from(sid),
        };
        let request = RestartRequest {
            transport_id: transport_id.to_string(),
            offer_sdp: self.offer.0.clone(),
            boot_id: placement.boot.to_string(),
        };
        Next::Run(Command::Restart { node: placement.node.clone(), request })
    }

    fn refused(&self, error: SfuError) -> Next {
        let (gone, failed) = match self.stream {
            StreamRef::Publication(_) => (ErrorCode::BadMid, ErrorCode::PublishFailed),
            StreamRef::Subscription(_) => (ErrorCode::BadSid, ErrorCode::SubscribeFailed),
        };
        match error {
            SfuError::Unreachable => Next::reject(ErrorCode::SfuUnreachable, "the SFU did not answer in time: retry"),
            SfuError::BadSdp(reason) => Next::reject(ErrorCode::BadSdp, reason),
            SfuError::NotFound | SfuError::Restarted => Next::reject(gone, "the stream is not on its SFU any more"),
            SfuError::Full(reason) | SfuError::Connecting(reason) | SfuError::Failed(reason) => {
                Next::reject(failed, reason)
            }
            SfuError::NoRecording(_) => Next::reject(failed, error.to_string()),
        }
    }
}

impl Flow for RestartFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        let actor = match cx.actor(&self.rid) {
            Ok(actor) => actor,
            Err(rejection) => return rejection.into(),
        };
        Next::Run(match &self.stream {
            StreamRef::Publication(mid) => Command::Publication { actor, mid: mid.clone() },
            StreamRef::Subscription(sid) => Command::Subscription { actor, sid: sid.clone() },
        })
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        match completion {
            Completion::Publication(Ok(stream)) if stream.owner != *cx.peer => {
                Next::reject(ErrorCode::BadMid, "the stream belongs to another peer")
            }
            Completion::Publication(Ok(stream)) => self.found(&stream.placement),
            Completion::Subscription(Ok(subscription)) => self.found(&subscription.placement),
            Completion::Publication(Err(error)) | Completion::Subscription(Err(error)) => {
                cx.store_failed(&self.rid, error)
            }
            Completion::Restarted(Ok(answer)) => {
                Next::Finish(Ok(Reply::Restarted(RestartAnswer { jsep: Answer(answer.answer_sdp) })))
            }
            Completion::Restarted(Err(error)) => self.refused(error),
            other => cx.mismatch(&other),
        }
    }
}
