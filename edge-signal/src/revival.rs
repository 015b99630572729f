//! After the store has lost everything, or its last writes: members whose clients are between two connections. No socket speaks for
//! them; what does is the edge that saw their sockets close, and the nodes that still carry their streams. They are put back as what
//! they are, members without a socket, whose grace begins anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::RoomId;
use room_store::{Assertion, RoomStore, StoreError};
use tokio::time::{Instant, sleep};

use crate::members::Members;
use crate::nodes::{Nodes, Survey};
use crate::rooms::{Rooms, has_lost};

/// How long edges are given to put back the sessions on their sockets: those come first, as only they know that they are alive.
pub(crate) const AFTER: Duration = Duration::from_millis(1_250);
/// And at most so much more, so that not all edges begin at once. Together with how late a loss is noticed it is less than rooms wait
/// for who is missing (`rooms::heal`).
const JITTER: Duration = Duration::from_millis(250);
/// How long nodes have to say what they carry. Each page is a matter of milliseconds, and one that hangs must not hold up the others'
/// members until rooms have given them up.
const SURVEY_TIME: Duration = Duration::from_millis(1_500);
/// Rooms put back at once.
const ROOMS: usize = 16;
/// Mean pause before a room whose members could not be put back is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// What the store has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Everything,
    /// Its last writes, perhaps: each room's log says so.
    Perhaps,
}

/// Puts back members without a socket.
pub(crate) struct Revival {
    store: Arc<dyn RoomStore>,
    members: Arc<Members>,
    nodes: Nodes,
    rooms: Rooms,
}

impl Revival {
    pub(crate) fn new(store: &Arc<dyn RoomStore>, members: &Arc<Members>, nodes: &Nodes, rooms: &Rooms) -> Self {
        let (store, members) = (Arc::clone(store), Arc::clone(members));
        Self { store, members, nodes: nodes.clone(), rooms: rooms.clone() }
    }

    /// After a loss of everything. Whoever drops this before it is done has it to do again.
    pub(crate) async fn run(&self) {
        pause().await;
        let until = Instant::now() + self.store.settings().grace;
        self.revive_departed(Lost::Everything, until).await;
        self.survey(until).await;
    }

    /// After a break, which can be a failover or a restart from a file that is not the newest.
    pub(crate) async fn run_after_break(&self) {
        pause().await;
        self.revive_departed(Lost::Perhaps, Instant::now() + self.store.settings().grace).await;
    }

    async fn revive_departed(&self, lost: Lost, until: Instant) {
        let rooms = self.members.rooms_of_departed(Instant::now());
        let one = |room: RoomId| async move { insist(&room, until, |again| self.revive_in(&room, lost, again)).await };
        stream::iter(rooms).for_each_concurrent(ROOMS, one).await;
    }

    async fn revive_in(&self, room: &RoomId, lost: Lost, again: bool) -> Result<(), StoreError> {
        if lost == Lost::Perhaps && !self.has_lost_some(room).await? {
            return Ok(());
        }
        // Asked for now: who has left meanwhile, or is on a socket here, is none of them any more.
        let departed = self.members.departed(room, Instant::now());
        let sessions = departed.into_iter().map(|away| away.assertion).collect();
        self.rooms.put_back_absent(room, sessions, again).await
    }

    /// Whether the room's log has lost the latest that was known of it when a socket closed: where it has that, it has the rest.
    async fn has_lost_some(&self, room: &RoomId) -> Result<bool, StoreError> {
        let departed = self.members.departed(room, Instant::now());
        let latest = departed.iter().filter_map(|away| away.place).max_by_key(|place| place.position.seq);
        match latest {
            Some(place) => has_lost(&*self.store, room, place).await,
            None => Ok(false),
        }
    }

    /// Members of whom no edge knows, for theirs died or was started anew: the nodes that carry their streams know whose those are.
    async fn survey(&self, until: Instant) {
        let survey = self.nodes.survey(|_| true, Instant::now() + SURVEY_TIME).await;
        if !survey.unheard.is_empty() || survey.left_out > 0 || survey.unreadable > 0 {
            let Survey { unheard, left_out, unreadable, .. } = &survey;
            tracing::warn!(?unheard, left_out, unreadable, "the survey of what nodes carry is not whole");
        }
        let rooms: HashMap<RoomId, Vec<Assertion>> = survey.into_assertions();
        let one = |(room, sessions): (RoomId, Vec<Assertion>)| async move {
            insist(&room, until, |again| self.rooms.put_back_absent(&room, sessions.clone(), again)).await;
        };
        stream::iter(rooms).for_each_concurrent(ROOMS, one).await;
    }
}

async fn pause() {
    sleep(AFTER + JITTER.mul_f64(rand::random())).await;
}

/// Until it is done, or those whom it is for have no grace left. What is called is told whether it was called before.
async fn insist<F>(room: &RoomId, until: Instant, mut put_back: impl FnMut(bool) -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut again = false;
    while let Err(error) = put_back(again).await {
        again = true;
        if !error.is_transient() || Instant::now() >= until {
            return tracing::warn!(%room, %error, "members without a socket cannot be put back");
        }
        tracing::debug!(%room, %error, "members without a socket cannot be put back yet");
        sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}
