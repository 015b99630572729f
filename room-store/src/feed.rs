//! What an edge hears of a room while it follows it.
//!
//! A feed is quick, not sure: what it skips is read from the log by position ([`RoomStore::log_after`]). The
//! [`Follower`](crate::Follower) does that bookkeeping.
//!
//! [`RoomStore::log_after`]: crate::RoomStore::log_after

use std::{fmt, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt};
use proto::ids::{PeerId, SessionId};

use crate::{change::Head, log::Entry, record::Attachment};

/// Something about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomEvent {
    /// A new entry of its log.
    Entry(Arc<Entry>),
    /// The log began anew. Whatever was known of the room is to be compared with a snapshot.
    EpochStarted(Head),
    /// A session goes on elsewhere, or was taken over: the socket it was attached to is to be closed. Not in the log; an edge that
    /// misses it learns it at the next refresh.
    Superseded {
        /// Whose.
        peer: PeerId,
        /// The session that was on the socket.
        session: SessionId,
        /// The socket.
        attachment: Attachment,
        /// Whether the peer's new socket proved to be the same session (then nobody is kicked; the socket is just stale).
        resumed: bool,
    },
}

/// What a feed yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedItem {
    /// In order.
    Event(RoomEvent),
    /// The receiver was too slow, or the store's connection was cut: some events are missing here. Read the log.
    Lagged,
}

/// A room's events from the moment of subscription on. Ends (`None`) when the store shuts down. Unsubscribes on drop.
pub struct RoomFeed(Pin<Box<dyn Stream<Item = FeedItem> + Send>>);

impl RoomFeed {
    /// Wraps an implementation's own stream, which must be bounded.
    pub fn new(stream: impl Stream<Item = FeedItem> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next event. Safe to drop half-way.
    pub async fn next(&mut self) -> Option<FeedItem> {
        self.0.next().await
    }
}

impl Stream for RoomFeed {
    type Item = FeedItem;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<FeedItem>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for RoomFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomFeed")
    }
}
