//! What each request needs: a grant, a place in the order, and the flow that carries it out.

use proto::ids::{Mid, OpId, RoomId};
use proto::signalling::{Request, StreamRef};

use super::flow::Flow;
use super::join::JoinFlow;
use super::order::Claims;
use super::publish::PublishFlow;
use super::record::RecordFlow;
use super::refresh::RefreshFlow;
use super::restart::RestartFlow;
use super::single::{MAX_BROADCAST_BYTES, SingleFlow};
use super::subscribe::SubscribeFlow;
use crate::auth::Grant;

/// The grant a request needs beside the room. Ending what is one's own needs none.
pub(super) fn needed(request: &Request) -> Option<Grant> {
    match request {
        Request::Publish(_) | Request::Mute { .. } | Request::Restart { stream: StreamRef::Publication(_), .. } => {
            Some(Grant::Publish)
        }
        Request::Subscribe(_) | Request::Restart { stream: StreamRef::Subscription(_), .. } => Some(Grant::Subscribe),
        Request::Broadcast { .. } => Some(Grant::Broadcast),
        Request::Record { .. } => Some(Grant::Record),
        Request::Join(_)
        | Request::Leave { .. }
        | Request::KeepAlive { .. }
        | Request::Unpublish { .. }
        | Request::Unsubscribe { .. }
        | Request::GetUsers { .. }
        | Request::GetPubs { .. }
        | Request::Refresh { .. } => None,
    }
}

/// What a broadcast's frame costs each member beside its `data`: the notification around that, and its place in the queue.
const BROADCAST_OVERHEAD: usize = 256;

/// What the other members of a room are all told by a request.
pub(super) struct Told<'a> {
    pub(super) room: &'a RoomId,
    pub(super) times: u32,
    /// Of broadcasts.
    pub(super) bytes: u32,
}

/// What is told by it, of a request of this cost, beside who comes and goes.
pub(super) fn told(request: &Request, cost: u32) -> Option<Told<'_>> {
    match request {
        // One that is too long is refused, and nobody hears of it.
        Request::Broadcast { rid, data } => {
            let length = data.get().len();
            let bytes = if length > MAX_BROADCAST_BYTES { 0 } else { length + BROADCAST_OVERHEAD };
            Some(Told { room: rid, times: cost, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) })
        }
        Request::Mute { rid, .. } | Request::Record { rid, .. } => Some(Told { room: rid, times: cost, bytes: 0 }),
        // Its end is told, too, and never refused.
        Request::Publish(publish) => Some(Told { room: &publish.rid, times: cost.saturating_add(1), bytes: 0 }),
        _ => None,
    }
}

/// The stream it names, or whose subscription it names.
pub(super) fn mid(request: &Request) -> Option<&Mid> {
    match request {
        Request::Unpublish { mid, .. }
        | Request::Unsubscribe { mid, .. }
        | Request::Mute { mid, .. }
        | Request::Record { mid, .. }
        | Request::Restart { stream: StreamRef::Publication(mid), .. } => Some(mid),
        Request::Subscribe(subscribe) => Some(&subscribe.mid),
        _ => None,
    }
}

/// What a request must not run beside.
pub(super) fn claims(request: &Request) -> Claims {
    let streams = match request {
        Request::Unpublish { mid, .. }
        | Request::Mute { mid, .. }
        | Request::Record { mid, .. }
        | Request::Restart { stream: StreamRef::Publication(mid), .. } => vec![mid.to_string()],
        Request::Subscribe(subscribe) => vec![subscribe.mid.to_string()],
        Request::Unsubscribe { mid, sid, .. } => vec![mid.to_string(), sid.to_string()],
        Request::Restart { stream: StreamRef::Subscription(sid), .. } => vec![sid.to_string()],
        Request::Join(_)
        | Request::Leave { .. }
        | Request::KeepAlive { .. }
        | Request::Publish(_)
        | Request::GetUsers { .. }
        | Request::GetPubs { .. } => Vec::new(),
        // What one peer says keeps its order, too. No stream has this id.
        Request::Broadcast { .. } => vec!["\0broadcast".to_owned()],
        Request::Refresh { .. } => vec!["\0refresh".to_owned()],
    };
    let exclusive = matches!(request, Request::Join(_) | Request::Leave { .. });
    let leaves = matches!(request, Request::Leave { .. });
    let snapshot = matches!(request, Request::Join(_));
    Claims { room: request.rid().map(ToString::to_string), exclusive, leaves, snapshot, streams }
}

/// How a request is carried out.
pub(super) fn flow(request: Request, op: Option<OpId>) -> Box<dyn Flow> {
    match request {
        Request::Join(join) => Box::new(JoinFlow::new(join, op)),
        Request::Publish(publish) => Box::new(PublishFlow::new(publish, op)),
        Request::Subscribe(subscribe) => Box::new(SubscribeFlow::new(subscribe, op)),
        Request::Restart { rid, stream, offer } => Box::new(RestartFlow::new(rid, stream, offer)),
        Request::Record { rid, mid, on } => Box::new(RecordFlow::new(rid, mid, on, op)),
        Request::Refresh { access_token } => Box::new(RefreshFlow::new(access_token)),
        single => Box::new(SingleFlow::new(single, op)),
    }
}
