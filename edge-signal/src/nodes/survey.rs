//! What lives on the nodes, asked of the nodes themselves: for an edge whose store has lost it. Reads only; what becomes of it is for
//! the asker. What a node says comes from outside: what is malformed is left out and counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proto::ids::{BootId, Mid, NodeId, PeerId, RecordingId, RoomId, SessionId, Sid};
use proto::sfu::{LivePublication, LiveSubscription, SurveyRequest, SurveyResponse};
use room_store::{Assertion, ConnectionId, Hold, Placement, Publication, Subscription};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::metadata::Metadata;
use super::node::Node;
use super::{Inner, SfuError};
use crate::metrics::SfuCall;

/// Nodes asked at a time.
const MAX_NODES: usize = 16;
/// Streams and subscriptions kept in all: some hundred bytes each, with descriptions up to 4 KiB. Past that the survey is not whole.
const MAX_STREAMS: usize = 200_000;
/// Pages read of one node: a thousand transports each. A node that goes on beyond goes in circles.
const MAX_PAGES: usize = 1_000;
/// Largest page: what a node puts into one, with room to spare.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// What nodes said.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) rooms: HashMap<RoomId, SurveyedRoom>,
    /// Nodes that did not answer, or not to the end.
    pub(crate) unheard: Vec<NodeId>,
    /// Streams left out because there were too many.
    pub(crate) left_out: usize,
    /// Streams of which a node said nothing that can be used.
    pub(crate) unreadable: usize,
    kept: usize,
}

/// A room's live streams.
#[derive(Debug, Default)]
pub(crate) struct SurveyedRoom {
    pub(crate) publications: Vec<SurveyedPublication>,
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
}

/// A live publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurveyedPublication {
    /// Its owner's session.
    pub(crate) session: SessionId,
    /// When that was last heard of, Unix time.
    pub(crate) at_ms: u64,
    pub(crate) record: Arc<Publication>,
}

/// Surveys all nodes known.
pub(super) async fn of(inner: &Inner, wanted: &impl Fn(&RoomId) -> bool, deadline: Instant) -> Survey {
    let nodes: Vec<Arc<Node>> = inner.known().values().cloned().collect();
    let mut survey = Survey::default();
    let mut waiting = nodes.into_iter();
    let mut asking: FuturesUnordered<_> =
        waiting.by_ref().take(MAX_NODES).map(|node| read_page(node, first(), deadline)).collect();
    while let Some((node, reading, page)) = asking.next().await {
        let next = match page {
            Ok(page) => survey.take(&node, page, wanted, &reading),
            Err(error) => {
                tracing::warn!(node = %node.id, %error, "node cannot be surveyed");
                survey.unheard.push(node.id.clone());
                None
            }
        };
        match next {
            Some(reading) => asking.push(read_page(node, reading, deadline)),
            None => asking.extend(waiting.next().map(|node| read_page(node, first(), deadline))),
        }
    }
    survey
}

/// How far a node has been read.
struct Reading {
    cursor: String,
    boot: Option<BootId>,
    pages: usize,
}

fn first() -> Reading {
    Reading { cursor: String::new(), boot: None, pages: 0 }
}

async fn read_page(
    node: Arc<Node>,
    reading: Reading,
    deadline: Instant,
) -> (Arc<Node>, Reading, Result<SurveyResponse, SfuError>) {
    let boot_id = reading.boot.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = SurveyRequest { cursor: reading.cursor.clone(), boot_id };
    let calling = node.call(SfuCall::Survey, deadline, || {
        let mut client = node.client.clone().max_decoding_message_size(MAX_PAGE_BYTES);
        let request = request.clone();
        async move { client.survey(request).await }
    });
    let page = timeout_at(deadline, calling).await.unwrap_or(Err(SfuError::Unreachable));
    let page = page.and_then(|page| {
        if page.node_id == node.id.as_str() {
            Ok(page)
        } else {
            Err(Status::failed_precondition("another node").into())
        }
    });
    (node, reading, page)
}

impl SurveyedRoom {
    fn into_assertions(mut self) -> Vec<Assertion> {
        let mut members: BTreeMap<PeerId, Assertion> = BTreeMap::new();
        let begin = |peer: &PeerId, session| Assertion {
            hold: Hold { peer: peer.clone(), session, connection: ConnectionId(rand::random()) },
            publications: Vec::new(),
            subscriptions: Vec::new(),
        };
        // Streams of an earlier session are what its node has not been told to close yet.
        self.publications.sort_by_key(|publication| Reverse(publication.at_ms));
        for SurveyedPublication { session, record, .. } in self.publications {
            let assertion =
                members.entry(record.owner.clone()).or_insert_with(|| begin(&record.owner, session.clone()));
            if assertion.hold.session == session {
                assertion.publications.push(record);
            }
        }
        for record in self.subscriptions {
            let peer = record.subscriber.clone();
            let assertion = members.entry(peer.clone()).or_insert_with(|| begin(&peer, SessionId::of(rand::random())));
            assertion.subscriptions.push(record);
        }
        members.into_values().collect()
    }
}

impl Survey {
    /// What there is of each member, as if it had a socket: the one it had, or none, is for others to know. The session of one that only
    /// subscribes is not known: it gets a new one, which who comes by its name takes over as it does any member's without a socket.
    pub(crate) fn into_assertions(self) -> HashMap<RoomId, Vec<Assertion>> {
        self.rooms.into_iter().map(|(room, streams)| (room, streams.into_assertions())).collect()
    }

    /// Takes a page in; how to go on, if there is more.
    fn take(
        &mut self,
        node: &Node,
        page: SurveyResponse,
        wanted: &impl Fn(&RoomId) -> bool,
        reading: &Reading,
    ) -> Option<Reading> {
        let Ok(boot) = BootId::new(&page.boot_id) else {
            self.unheard.push(node.id.clone());
            return None;
        };
        let placement = Placement { node: node.id.clone(), boot: boot.clone(), region: node.region.clone() };
        for live in page.publications {
            self.add(wanted, publication(&live, &placement), |room, publication| room.publications.push(publication));
        }
        for live in page.subscriptions {
            self.add(wanted, subscription(&live, &placement), |room, subscription| {
                room.subscriptions.push(Arc::new(subscription));
            });
        }
        if page.next_cursor.is_empty() {
            return None;
        }
        let pages = reading.pages + 1;
        if pages >= MAX_PAGES {
            self.unheard.push(node.id.clone());
            return None;
        }
        Some(Reading { cursor: page.next_cursor, boot: Some(boot), pages })
    }

    fn add<T>(
        &mut self,
        wanted: impl Fn(&RoomId) -> bool,
        read: Option<(RoomId, T)>,
        push: impl FnOnce(&mut SurveyedRoom, T),
    ) {
        match read {
            Some((room, _)) if !wanted(&room) => {}
            Some(_) if self.kept >= MAX_STREAMS => self.left_out += 1,
            Some((room, stream)) => {
                self.kept += 1;
                push(self.rooms.entry(room).or_default(), stream);
            }
            None => self.unreadable += 1,
        }
    }
}

fn publication(live: &LivePublication, placement: &Placement) -> Option<(RoomId, SurveyedPublication)> {
    let room = RoomId::new(&live.room_id).ok()?;
    let Metadata { session, at_ms, always_recorded, minfo } = Metadata::read(&live.metadata)
        .inspect_err(
            |error| tracing::debug!(node = %placement.node, mid = live.publication_id, %error, "metadata says nothing"),
        )
        .ok()?;
    let record = Publication {
        mid: Mid::new(&live.publication_id).ok()?,
        owner: PeerId::new(&live.client_id).ok()?,
        minfo,
        placement: placement.clone(),
        confirmed: true,
        recording: RecordingId::new(&live.recording_id).ok(),
        always_recorded,
    };
    Some((room, SurveyedPublication { session, at_ms, record: Arc::new(record) }))
}

fn subscription(live: &LiveSubscription, placement: &Placement) -> Option<(RoomId, Subscription)> {
    let room = RoomId::new(&live.room_id).ok()?;
    let record = Subscription {
        sid: Sid::new(&live.subscription_id).ok()?,
        subscriber: PeerId::new(&live.client_id).ok()?,
        mid: Mid::new(&live.publication_id).ok()?,
        placement: placement.clone(),
        confirmed: true,
    };
    Some((room, record))
}

#[cfg(test)]
mod tests;
