//! What is live, as messages for edges: snapshots of rooms, and pages of everything.

use std::collections::VecDeque;
use std::ops::Bound;

use proto::ids::{Mid, RoomId, TransportId};
use proto::sfu::{LivePublication, LiveSubscription, Snapshot};
use sfu_core::TransportHandle;

use super::Refusal;
use super::registry::{Registry, Transport};
use super::request::Metadata;

/// Bytes of ids and metadata after which what is live is continued in a further message. Below what gRPC clients accept by
/// default (4 MiB), with the transport that crosses it: that has 64 publications' metadata at most.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Transports in one page of a survey. The lock is held for as long as it takes to copy them, which is a millisecond or less.
pub(crate) const PAGE_TRANSPORTS: usize = 1_000;

/// Where a survey goes on: after this transport. Transports are numbered as they come, so that those that come and end meanwhile
/// neither shift nor repeat others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor(u64);

/// A page of what is live.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) live: Live,
    /// There is more.
    pub(crate) next: Option<Cursor>,
}

/// Publications and subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) publications: Vec<LivePublication>,
    pub(crate) subscriptions: Vec<LiveSubscription>,
    /// About, encoded.
    bytes: usize,
}

/// Not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor of a survey")]
pub(crate) struct NoCursor;

impl Cursor {
    /// As an edge gives it; empty: from the beginning.
    pub(crate) fn parse(text: &str) -> Result<Self, NoCursor> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.parse().map(Self).map_err(|_| NoCursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Registry {
    /// What lives in the first of the rooms, which are taken out of them: as many whole rooms as make one message.
    pub(super) fn snapshot(&self, rooms: &mut VecDeque<RoomId>) -> Snapshot {
        let (mut room_ids, mut live) = (Vec::new(), Live::default());
        while live.bytes <= MESSAGE_BYTES
            && let Some(room) = rooms.pop_front()
        {
            live.bytes += room.as_str().len();
            for transport in self.rooms.get(&room).into_iter().flatten() {
                self.add_live(&mut live, transport);
            }
            room_ids.push(room.to_string());
        }
        Snapshot { room_ids, publications: live.publications, subscriptions: live.subscriptions }
    }

    /// A page of all that lives, from the cursor on.
    pub(super) fn page(&self, cursor: Cursor) -> Page {
        let mut page = Page::default();
        let after = (Bound::Excluded(TransportHandle(cursor.0)), Bound::Unbounded);
        let mut last = cursor;
        for (count, (handle, id)) in self.handles.range(after).enumerate() {
            if count == PAGE_TRANSPORTS || page.live.bytes > MESSAGE_BYTES {
                page.next = Some(last);
                break;
            }
            self.add_live(&mut page.live, id);
            last = Cursor(handle.0);
        }
        page
    }

    /// Replaces what a publication's edge says of it.
    pub(super) fn set_metadata(&mut self, id: &Mid, metadata: Metadata) -> Result<(), Refusal> {
        let publication = self.publications.get_mut(id).ok_or_else(|| Refusal::NoPublication(id.clone()))?;
        publication.metadata = metadata;
        Ok(())
    }

    fn add_live(&self, live: &mut Live, id: &TransportId) {
        let Some(transport) = self.transports.get(id) else { return };
        for publication in &transport.publications {
            let known = self.publications.get(publication);
            let metadata = known.map(|known| known.metadata.to_vec()).unwrap_or_default();
            let recording_id = known.and_then(|known| known.recordings.running()).map(ToString::to_string);
            let recording_id = recording_id.unwrap_or_default();
            live.bytes += transport.names(id) + publication.as_str().len() + metadata.len() + recording_id.len();
            live.publications.push(LivePublication {
                room_id: transport.room.to_string(),
                client_id: transport.client.to_string(),
                transport_id: id.to_string(),
                publication_id: publication.to_string(),
                metadata,
                recording_id,
            });
        }
        for subscription in &transport.subscriptions {
            let publication = self.subscriptions.get(subscription).map(|s| s.publication.to_string());
            let publication_id = publication.unwrap_or_default();
            live.bytes += transport.names(id) + subscription.as_str().len() + publication_id.len();
            live.subscriptions.push(LiveSubscription {
                room_id: transport.room.to_string(),
                client_id: transport.client.to_string(),
                transport_id: id.to_string(),
                subscription_id: subscription.to_string(),
                publication_id,
            });
        }
    }
}

impl Transport {
    /// Bytes of the names that each of its streams is told with.
    fn names(&self, id: &TransportId) -> usize {
        self.room.as_str().len() + self.client.as_str().len() + id.as_str().len()
    }
}
