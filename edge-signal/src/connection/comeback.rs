//! A join of a client that comes back with its session. Just after the store has lost everything, or its last writes, the session may
//! still have to be put back: let in before that, the client would be another member, without the streams that flow on.

use std::time::Duration;

use proto::ids::{RoomId, SessionId};
use room_store::{Actor, Assertion, Hold, Join, JoinKind, Joined, LossReason, Reassert, StoreError};
use tokio::time::{Instant, sleep};

use super::{Deadline, Shared, in_time};
use crate::members::Away;
use crate::rooms::has_lost;

/// How long after a loss was noticed it may take until all members without a socket are put back (`revival`), also by an edge that
/// notices it later than this one. More: who comes back to a membership that is gone waits longer for a new one.
const REVIVED: Duration = Duration::from_millis(4_500);
/// Mean pause between two looks whether the session is there.
const PAUSE: Duration = Duration::from_millis(250);

/// Joins; with a session that the store has just lost, once that is there again.
pub(super) async fn join(shared: &Shared, join: Join, deadline: Deadline) -> Result<Joined, StoreError> {
    let joining = |join| in_time(deadline, shared.store.join(join));
    let Some(session) = join.resume.clone() else { return joining(join).await };
    let back = ComingBack::new(shared, &join, session);
    if shared.sight.borrow().was_emptied_within(REVIVED, Instant::now()) {
        back.be_there(deadline).await?;
        return joining(join).await;
    }
    let joined = joining(join.clone()).await?;
    if joined.how != JoinKind::New || !(back.was_lost(deadline).await || is_emptied_unseen(shared, deadline).await) {
        return Ok(joined);
    }
    // Nobody is let in beside a session that is about to be put back.
    let stranger = Actor { room: join.room.clone(), peer: join.peer.clone(), session: joined.session };
    in_time(deadline, shared.store.leave(stranger, None)).await?;
    back.be_there(deadline).await?;
    joining(join).await
}

/// Whether the store has lost everything since it was last looked at.
async fn is_emptied_unseen(shared: &Shared, deadline: Deadline) -> bool {
    let life = in_time(deadline, shared.store.ping()).await;
    life.is_ok_and(|life| shared.sight.borrow().is_outlived_by(life))
}

/// A session that a client comes back with, on its new socket.
struct ComingBack<'a> {
    shared: &'a Shared,
    room: RoomId,
    hold: Hold,
    /// What it had, if it was here.
    departed: Option<Away>,
}

impl<'a> ComingBack<'a> {
    fn new(shared: &'a Shared, join: &Join, session: SessionId) -> Self {
        let (room, connection) = (join.room.clone(), join.attachment.connection);
        let hold = Hold { peer: join.peer.clone(), session, connection };
        // Looked up now: what this join makes of an empty room may be told as the peer's end.
        let departed = shared.members.departed_session(&room, &hold, Instant::now());
        Self { shared, room, hold, departed }
    }

    /// Whether the session was here lately, and is gone because the store has lost writes: not because it has left or expired.
    async fn was_lost(&self, deadline: Deadline) -> bool {
        let Some(place) = self.departed.as_ref().and_then(|departed| departed.place) else { return false };
        in_time(deadline, has_lost(&*self.shared.store, &self.room, place)).await.unwrap_or(false)
    }

    /// Has the session be there again: at once if this edge knows it, else as soon as another edge or a node has said what it has.
    /// [`StoreError::Unavailable`]: not within this call. When all have said what they know, it is gone, and that is no failure.
    async fn be_there(&self, deadline: Deadline) -> Result<(), StoreError> {
        let Shared { store, edge, .. } = self.shared;
        loop {
            let holds = vec![self.hold.clone()];
            let refreshed = in_time(deadline, store.refresh(&self.room, edge, holds)).await?;
            if !refreshed.lost.iter().any(|(_, reason)| *reason == LossReason::Gone) {
                return Ok(());
            }
            if let Some(departed) = &self.departed {
                return self.put_back(departed.assertion.clone(), deadline).await;
            }
            if self.is_revived() {
                return Ok(());
            }
            let pause = PAUSE.mul_f64(rand::random_range(0.5..1.5));
            if Instant::now() + pause >= deadline {
                return Err(StoreError::Unavailable);
            }
            sleep(pause).await;
        }
    }

    /// Whether by now everybody who is to be put back is. Not before this edge itself has noticed the loss.
    fn is_revived(&self) -> bool {
        let sight = *self.shared.sight.borrow();
        sight.is_another() && sight.seen_for(Instant::now()) >= REVIVED
    }

    async fn put_back(&self, departed: Assertion, deadline: Deadline) -> Result<(), StoreError> {
        let Shared { store, edge, nodes, metrics, .. } = self.shared;
        let places: Vec<_> = departed.publications.iter().map(|stream| stream.placement.node.clone()).collect();
        let reassert = Reassert { room: self.room.clone(), edge: edge.clone(), sessions: vec![departed] };
        in_time(deadline, store.reassert(reassert)).await?;
        metrics.sessions_put_back.increment(1);
        // They may have ended while there was nobody to write it down.
        for node in places {
            nodes.compare_later(&node, &self.room);
        }
        Ok(())
    }
}
