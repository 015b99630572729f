//! What the store says of this edge's steps: life events of rooms, each told by the edge whose step caused it, and how long calls took.

use std::time::Duration;

use proto::ids::RoomId;
use room_store::{CallKind, CallResult, Deed, Fact, Witness};
use telemetry::events::{Event, EventSink, InRoom};

use crate::metrics::EdgeMetrics;

/// Sees what this edge's steps did, and tells it.
pub(crate) struct RoomEvents {
    pub(crate) events: EventSink,
    pub(crate) metrics: EdgeMetrics,
}

impl Witness for RoomEvents {
    fn saw(&self, room: &RoomId, deeds: &[Deed], restored: bool) {
        for Deed { position, fact } in deeds {
            self.events.emit(event(InRoom { room, position: *position, restored }, fact));
        }
    }

    fn took(&self, kind: CallKind, result: CallResult, time: Duration) {
        self.metrics.called_store(kind, result, time);
    }
}

fn event(at: InRoom<'_>, fact: &Fact) -> Event {
    match fact {
        Fact::RoomOpened => Event::room_opened(at),
        Fact::RoomClosed => Event::room_closed(at),
        Fact::PeerJoined { peer } => Event::peer_joined(at, peer),
        Fact::PeerLeft { peer, why } => Event::peer_left(at, peer, why.name()),
        Fact::StreamPublished { owner, mid, node } => Event::stream_published(at, owner, mid, node),
        Fact::StreamUnpublished { owner, mid, why } => Event::stream_unpublished(at, owner, mid, why.name()),
        Fact::StreamSubscribed { subscriber, sid, mid, node } => {
            Event::stream_subscribed(at, subscriber, sid, mid, node)
        }
        Fact::StreamUnsubscribed { subscriber, sid, mid, why } => {
            Event::stream_unsubscribed(at, subscriber, sid, mid, why.name())
        }
    }
}
