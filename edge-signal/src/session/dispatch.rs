//! What each request needs: a grant, a place in the order, and the flow that carries it out.

use proto::ids::{OpId, RoomId};
use proto::signalling::{Request, StreamRef};

use super::flow::Flow;
use super::join::JoinFlow;
use super::order::Claims;
use super::publish::PublishFlow;
use super::refresh::RefreshFlow;
use super::restart::RestartFlow;
use super::single::SingleFlow;
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

/// The room whose other members are all told something by it, each at some cost.
pub(super) fn told(request: &Request) -> Option<&RoomId> {
    matches!(request, Request::Broadcast { .. } | Request::Mute { .. }).then(|| request.rid()).flatten()
}

/// What a request must not run beside.
pub(super) fn claims(request: &Request) -> Claims {
    let streams = match request {
        Request::Unpublish { mid, .. }
        | Request::Mute { mid, .. }
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
        Request::Refresh { access_token } => Box::new(RefreshFlow::new(access_token)),
        single => Box::new(SingleFlow::new(single, op)),
    }
}
