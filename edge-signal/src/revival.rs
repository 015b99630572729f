//! After the store has lost everything: members whose clients are between two connections. No socket speaks for them; what does is the
//! edge that saw their sockets close, and the nodes that still carry their streams. They are put back as what they are, members without
//! a socket, whose grace begins anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::{EdgeId, PeerId, RoomId, SessionId};
use room_store::{Actor, Assertion, Attachment, ConnectionId, Hold, Reassert, RoomStore, Snapshot, StoreError};
use tokio::time::{Instant, sleep};

use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::nodes::{Nodes, SurveyedRoom};

/// How long edges are given to put back the sessions on their sockets: those come first, as only they know that they are alive.
const AFTER: Duration = Duration::from_millis(1_500);
/// And at most so much more, so that not all edges begin at once.
const JITTER: Duration = Duration::from_millis(500);
/// How long the nodes may take to say what they carry. Longer: rooms are taken for healed without their members in grace.
const SURVEY_TIME: Duration = Duration::from_secs(5);
/// Rooms put back at once.
const ROOMS: usize = 16;

/// Puts back members without a socket.
pub(crate) struct Revival {
    pub(crate) edge: EdgeId,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) metrics: EdgeMetrics,
    /// Numbers of sockets that there are not.
    pub(crate) next: AtomicU64,
}

impl Revival {
    /// Once, after a loss.
    pub(crate) async fn run(&self) {
        sleep(AFTER + JITTER.mul_f64(rand::random())).await;
        let departed = self.members.departed(Instant::now());
        self.put_back_all(departed).await;
        let survey = self.nodes.survey(|_| true, Instant::now() + SURVEY_TIME).await;
        if !survey.unheard.is_empty() || survey.left_out > 0 {
            tracing::warn!(unheard = survey.unheard.len(), left_out = survey.left_out, "not all nodes' streams are known");
        }
        let next = || ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let rooms = survey.rooms.into_iter().map(|(room, surveyed)| (room, assertions(surveyed, next))).collect();
        self.put_back_all(rooms).await;
    }

    async fn put_back_all(&self, rooms: HashMap<RoomId, Vec<Assertion>>) {
        let one = |(room, assertions): (RoomId, Vec<Assertion>)| async move {
            if let Err(error) = self.put_back(&room, assertions).await {
                tracing::warn!(%room, %error, "members without a socket cannot be put back");
            }
        };
        stream::iter(rooms).for_each_concurrent(ROOMS, one).await;
    }

    async fn put_back(&self, room: &RoomId, assertions: Vec<Assertion>) -> Result<(), StoreError> {
        let snapshot = self.store.snapshot(room).await?;
        let sessions = absent(assertions, snapshot.as_ref());
        if sessions.is_empty() {
            return Ok(());
        }
        tracing::info!(%room, members = sessions.len(), "members without a socket are put back");
        self.metrics.sessions_put_back.increment(sessions.len() as u64);
        let holds: Vec<Hold> = sessions.iter().map(|assertion| assertion.hold.clone()).collect();
        self.store.reassert(Reassert { room: room.clone(), edge: self.edge.clone(), sessions }).await?;
        for Hold { peer, session, connection } in holds {
            let attachment = Attachment { edge: self.edge.clone(), connection };
            let actor = Actor { room: room.clone(), peer, session };
            self.store.socket_closed(actor, attachment, false).await?;
        }
        Ok(())
    }
}

/// Those who are no members.
fn absent(mut assertions: Vec<Assertion>, snapshot: Option<&Snapshot>) -> Vec<Assertion> {
    let members: HashSet<&PeerId> =
        snapshot.into_iter().flat_map(|snapshot| &snapshot.members).map(|member| &member.peer).collect();
    assertions.retain(|assertion| !members.contains(&assertion.hold.peer));
    assertions
}

/// A room's members by what nodes carry for them. One who only subscribes is known by name and not by session: it gets a new one, and
/// takes it over as any member without a socket is by who comes with its name.
fn assertions(room: SurveyedRoom, next: impl Fn() -> ConnectionId) -> Vec<Assertion> {
    let mut peers: HashMap<PeerId, Assertion> = HashMap::new();
    let begin = |peer: &PeerId, session| Assertion {
        hold: Hold { peer: peer.clone(), session, connection: next() },
        publications: Vec::new(),
        subscriptions: Vec::new(),
    };
    for publication in room.publications {
        let peer = &publication.record.owner;
        let known = peers.entry(peer.clone()).or_insert_with(|| begin(peer, publication.session.clone()));
        // Streams of an earlier session that its node has not been told to close yet are no member's any more.
        if known.hold.session == publication.session {
            known.publications.push(publication.record);
        }
    }
    for subscription in room.subscriptions {
        let peer = &subscription.subscriber;
        let known = peers.entry(peer.clone()).or_insert_with(|| begin(peer, SessionId::of(rand::random())));
        known.subscriptions.push(subscription);
    }
    peers.into_values().collect()
}
