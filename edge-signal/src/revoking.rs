//! Ends what was let in before it was revoked: sockets on this edge, which are told to look; and memberships whose socket has gone
//! lately and whose client could come back to them. Each edge does so for its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proto::ids::EdgeId;
use room_store::{Actor, ConnectionId, Hold, LossReason, RevocationList, Revoked, RoomStore, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::auth::Access;
use crate::members::Members;
use crate::nodes::Nodes;
use crate::presence::Presence;
use crate::reconcile::insist;

/// Memberships without a socket that are remembered, at some 300 bytes each, and as many that wait to be ended. Past it the oldest are
/// forgotten: theirs end with the grace alone.
const MAX_ABSENT: usize = 65_536;
/// Time between two looks at the list, which may have many changes at once. A tenth of what may pass until a socket is closed.
const PAUSE: Duration = Duration::from_millis(100);
/// Memberships ended at once.
const AT_ONCE: usize = 16;

/// Memberships whose socket went away, until they would have ended by themselves.
pub(crate) struct Absent {
    grace: Duration,
    all: Mutex<VecDeque<Absence>>,
}

struct Absence {
    actor: Actor,
    connection: ConnectionId,
    access: Arc<Access>,
    until: Instant,
}

impl Absent {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, all: Mutex::default() }
    }

    /// The socket of `actor` is about to be given up, and its client could come back.
    pub(crate) fn push(&self, actor: Actor, connection: ConnectionId, access: Arc<Access>) {
        let now = Instant::now();
        let mut all = self.all();
        while all.len() >= MAX_ABSENT || all.front().is_some_and(|oldest| oldest.until <= now) {
            all.pop_front();
        }
        all.push_back(Absence { actor, connection, access, until: now + self.grace });
    }

    /// Takes out those whose access was revoked.
    fn take_revoked(&self, revoked: &RevocationList) -> Vec<Absence> {
        let (now, today) = (Instant::now(), SystemTime::now());
        let mut taken = Vec::new();
        self.all().retain(|it| {
            let is_revoked = it.until > now && it.access.is_revoked(&it.actor.peer, revoked, today);
            if is_revoked {
                let Absence { actor, connection, access, until } = it;
                let (actor, access) = (actor.clone(), Arc::clone(access));
                taken.push(Absence { actor, connection: *connection, access, until: *until });
            }
            it.until > now && !is_revoked
        });
        taken
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Absence>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What carries revocations out.
pub(crate) struct Revoker {
    pub(crate) edge: EdgeId,
    pub(crate) revoked: watch::Receiver<Arc<RevocationList>>,
    pub(crate) presence: Presence,
    pub(crate) absent: Arc<Absent>,
    pub(crate) members: Arc<Members>,
    pub(crate) store: Arc<dyn RoomStore>,
    pub(crate) nodes: Nodes,
}

impl Revoker {
    /// Until shutdown. Sockets are told at once, whatever the store does: only those that are away wait for it.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut revoked = self.revoked.clone();
        // All that is in force counts as new: what was known to an edge before does not.
        let mut known = Arc::default();
        let (mut waiting, mut ending) = (VecDeque::new(), FuturesUnordered::new());
        loop {
            let list = Arc::clone(&revoked.borrow_and_update());
            self.tell(&known, &list);
            known = Arc::clone(&list);
            waiting.extend(self.absent.take_revoked(&list));
            waiting.drain(..waiting.len().saturating_sub(MAX_ABSENT));
            let changed = async {
                sleep(PAUSE).await;
                revoked.changed().await
            };
            tokio::pin!(changed);
            loop {
                let free = AT_ONCE.saturating_sub(ending.len()).min(waiting.len());
                ending.extend(waiting.drain(..free).map(|it| self.end_absent(it)));
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    Some(()) = ending.next() => {}
                    changed = &mut changed => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// Has the sockets look that may be meant.
    fn tell(&self, known: &RevocationList, list: &RevocationList) {
        let mut any_token = false;
        for (revoked, _) in list.0.iter().filter(|(revoked, times)| known.0.get(*revoked) != Some(times)) {
            match revoked {
                Revoked::Peer(peer) => self.presence.tell(peer),
                Revoked::Token(_) => any_token = true,
            }
        }
        // Whose token it is shows when each looks at its own.
        if any_token {
            self.presence.tell_all();
        }
    }

    async fn end_absent(&self, it: Absence) {
        if let Err(error) = self.end(&it).await {
            tracing::warn!(peer = %it.actor.peer, %error, "a revoked membership ends with its grace only");
        }
    }

    /// Ends a membership, unless its client goes on with it elsewhere: there it was let in with a token of its own.
    async fn end(&self, it: &Absence) -> Result<(), StoreError> {
        let Absence { actor, connection, .. } = it;
        // Should the store lose everything, this is not put back.
        let had = self.members.forget(actor);
        let hold = || Hold { peer: actor.peer.clone(), session: actor.session.clone(), connection: *connection };
        let seen = insist(|| self.store.refresh(&actor.room, &self.edge, vec![hold()])).await?;
        if let Some((_, reason)) = seen.lost.first() {
            // It has ended: whoever ended it may not have learnt what was to be closed.
            if *reason == LossReason::Gone {
                self.nodes.close(&had);
            }
            return Ok(());
        }
        match insist(|| self.store.leave(actor.clone(), None)).await {
            Ok(left) => {
                tracing::info!(room = %actor.room, peer = %actor.peer, "revoked while away");
                self.nodes.close(&left.released);
                Ok(())
            }
            // Mostly the answer to an earlier try was lost, which said what is to be closed.
            Err(StoreError::NotMember) => {
                self.nodes.close(&had);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::{BootId, SessionId};
    use proto::json::RawJson;
    use proto::signalling::Minfo;
    use room_store::contract::{Fault, FaultyRooms};
    use room_store::{
        Attachment, Capacity, Join, Load, MemoryNodes, MemoryRooms, NodeRecord, NodeRegistry as _, NodeState,
        Placement, ReservePublication, RoomSettings,
    };
    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::members::Held;
    use crate::metrics::EdgeMetrics;
    use crate::nodes::{NodesConfig, TcpConnector};
    use crate::rate::Rate;
    use crate::sight::Sight;

    /// Ann, whose socket has closed, with a stream on a node that is known and not there: what is to be closed waits for it.
    #[tokio::test(start_paused = true)]
    async fn what_a_revoked_member_had_is_closed_though_the_answer_to_its_end_was_lost() {
        let rooms = FaultyRooms::new(Arc::new(MemoryRooms::new(RoomSettings::default())));
        let (store, edge): (Arc<dyn RoomStore>, EdgeId) = (Arc::new(rooms.clone()), "e".parse().expect("valid"));
        let members = Arc::new(Members::new(Arc::clone(&store)));
        let directory = MemoryNodes::new();
        let place =
            Placement { node: "n".parse().expect("valid"), boot: BootId::of(1), region: "r".parse().expect("valid") };
        let record = NodeRecord {
            node: place.node.clone(),
            boot: Some(place.boot.clone()),
            region: place.region.clone(),
            address: "http://127.0.0.1:9".to_owned(),
            weight: 1,
            capacity: Capacity::default(),
            state: NodeState::Ready,
            load: Load::default(),
            reports: 0,
            version: String::new(),
        };
        let _lease = directory.register(record).await.expect("registered");
        let (shutdown, (events, _told)) = (CancellationToken::new(), mpsc::channel(1));
        let nodes = Nodes::start(NodesConfig {
            connector: Arc::new(TcpConnector::default()),
            directory: Arc::new(directory),
            region: place.region.clone(),
            members: Arc::clone(&members),
            sight: Sight::steady(),
            events,
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
            metrics: EdgeMetrics::register(),
        });
        let _ends = shutdown.drop_guard();
        nodes.changes().changed().await.expect("the node is known");

        let (connection, session) = (ConnectionId(1), SessionId::of(1));
        let attachment = Attachment { edge: edge.clone(), connection };
        let actor = Actor { room: "r".parse().expect("valid"), peer: "ann".parse().expect("valid"), session };
        let join = Join {
            room: actor.room.clone(),
            peer: actor.peer.clone(),
            attachment: attachment.clone(),
            resume: None,
            since: None,
            fresh: actor.session.clone(),
            op: None,
        };
        store.join(join).await.expect("joined");
        let reserve = ReservePublication {
            actor: actor.clone(),
            mid: "m".parse().expect("valid"),
            minfo: Minfo::new(RawJson::new("{}").expect("JSON")).expect("a minfo"),
            candidates: vec![place.clone()],
            recording: None,
            always_recorded: false,
            op: None,
        };
        let stream = store.reserve_publication(reserve).await.expect("reserved");
        members.enter(actor.clone(), connection, Held::survived(&[stream], &[]));
        members.depart(&actor, connection, None);
        store.socket_closed(actor.clone(), attachment, false).await.expect("closed");

        let revoker = Revoker {
            edge,
            revoked: watch::Sender::new(Arc::default()).subscribe(),
            presence: Presence::new(1, Rate::new(1, 1)),
            absent: Arc::new(Absent::new(Duration::from_secs(30))),
            members,
            store,
            nodes: nodes.clone(),
        };
        let access = Arc::new(Access::unrestricted());
        // That the session is still there is answered; that it has ended is not.
        rooms.inject(Fault::Late(Duration::ZERO));
        rooms.inject(Fault::LostReply);
        revoker.end(&Absence { actor, connection, access, until: Instant::now() }).await.expect("ended");
        assert_eq!(nodes.to_be_closed(&place.node), ["m"]);
    }
}
