//! After the store has lost everything: members whose clients are between two connections. No socket speaks for them; what does is the
//! edge that saw their sockets close, and the nodes that still carry their streams. They are put back as what they are, members without
//! a socket, whose grace begins anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::{EdgeId, PeerId, RoomId};
use room_store::{Actor, Assertion, Attachment, Hold, Reassert, RoomStore, Snapshot, StoreError};
use tokio::time::{Instant, sleep};

use crate::members::Members;
use crate::metrics::EdgeMetrics;
use crate::nodes::{Nodes, Survey};

/// How long edges are given to put back the sessions on their sockets: those come first, as only they know that they are alive.
const AFTER: Duration = Duration::from_millis(1_250);
/// And at most so much more, so that not all edges begin at once. Together with how late a loss is noticed it is less than rooms wait
/// for who is missing (`rooms::heal`).
const JITTER: Duration = Duration::from_millis(250);
/// How long nodes have to say what they carry. Each page is a matter of milliseconds, and one that hangs must not hold up the others'
/// members until rooms have given them up.
const SURVEY_TIME: Duration = Duration::from_millis(1_500);
/// Rooms put back at once.
const ROOMS: usize = 16;

/// Puts back members without a socket.
pub(crate) struct Revival {
    pub(crate) edge: EdgeId,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) metrics: EdgeMetrics,
}

impl Revival {
    /// Once, after a loss.
    pub(crate) async fn run(&self) {
        sleep(AFTER + JITTER.mul_f64(rand::random())).await;
        let departed = self.members.departed(Instant::now());
        self.put_back_all(departed).await;
        self.survey().await;
    }

    /// Members of whom no edge knows, for theirs died or was started anew: the nodes that carry their streams know whose those are.
    async fn survey(&self) {
        let survey = self.nodes.survey(|_| true, Instant::now() + SURVEY_TIME).await;
        if !survey.unheard.is_empty() || survey.left_out > 0 || survey.unreadable > 0 {
            let Survey { unheard, left_out, unreadable, .. } = &survey;
            tracing::warn!(?unheard, left_out, unreadable, "the survey of what nodes carry is not whole");
        }
        self.put_back_all(survey.into_assertions()).await;
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

#[cfg(test)]
mod tests {
    use proto::ids::{Epoch, Position, Seq, SessionId};
    use room_store::{ConnectionId, Head, Member};

    use super::*;

    #[test]
    fn who_is_a_member_is_left_alone() {
        let asserted = |name: &str| Assertion {
            hold: Hold { peer: name.parse().expect("valid"), session: SessionId::of(1), connection: ConnectionId(1) },
            publications: Vec::new(),
            subscriptions: Vec::new(),
        };
        let both = || vec![asserted("ann"), asserted("bob")];
        let member = Member { peer: "ann".parse().expect("valid"), edge: "e".parse().expect("valid") };
        let position = Position { epoch: Epoch::of(1), seq: Seq::START };
        let snapshot =
            Snapshot { head: Head { position, id: None }, members: vec![Arc::new(member)], publications: Vec::new() };
        let names = |left: Vec<Assertion>| -> Vec<String> {
            left.iter().map(|assertion| assertion.hold.peer.to_string()).collect()
        };
        assert_eq!(names(absent(both(), Some(&snapshot))), ["bob"]);
        assert_eq!(names(absent(both(), None)), ["ann", "bob"]);
    }
}
