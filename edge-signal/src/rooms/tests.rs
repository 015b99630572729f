//! Rooms of two edges on one store that loses things, in virtual time.

mod joins;
mod muting;
mod recordings;
mod sessions;

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use proto::ids::{BootId, Mid, NodeId, PeerId, Position, SessionId};
use proto::json::RawJson;
use proto::signalling::Minfo;
use room_store::{
    Actor, Attachment, Broadcast, ConnectionId, Head, Join, Member, MemoryRooms, Placement, Publication,
    ReservePublication, RoomSettings, StaticNodes,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::members::Held;
use crate::nodes::{NodesConfig, TcpConnector};
use crate::settings::{EdgeSettings, NodeSettings};
use crate::sight::{Lookout, Sight};

/// An edge's rooms.
pub(crate) struct Side {
    pub(crate) edge: EdgeId,
    store: MemoryRooms,
    pub(crate) members: Arc<Members>,
    pub(crate) nodes: Nodes,
    pub(crate) rooms: Rooms,
    pub(crate) sight: watch::Receiver<Sight>,
    /// Until somebody runs it.
    pub(crate) lookout: Option<Lookout>,
    pub(crate) shutdown: CancellationToken,
}

/// A member on one of them.
pub(crate) struct Player {
    pub(crate) actor: Actor,
    pub(crate) connection: ConnectionId,
    /// Where its socket is.
    position: Position,
    pub(crate) following: Following,
    signals: Receiver,
}

/// One that is in the room by the store, and does not know it yet.
struct Joining {
    player: Player,
    arrival: Arrival,
}

fn node() -> NodeId {
    "node".parse().expect("valid")
}

fn room() -> RoomId {
    "r".parse().expect("valid")
}

impl Side {
    pub(crate) fn new(name: &str, store: &MemoryRooms) -> Self {
        Self::through(name, store, Arc::new(store.clone()))
    }

    /// `way`: what its rooms have of the store.
    pub(crate) fn through(name: &str, store: &MemoryRooms, way: Arc<dyn RoomStore>) -> Self {
        Self::seeing(name, store, way, Arc::new(store.clone()))
    }

    /// `seen`: what its lookout has of it.
    pub(crate) fn seeing(name: &str, store: &MemoryRooms, way: Arc<dyn RoomStore>, seen: Arc<dyn RoomStore>) -> Self {
        let grpc = "http://127.0.0.1:9".to_owned();
        let listed = NodeSettings { id: node(), region: None, grpc, weight: 1 };
        let settings = EdgeSettings { nodes: vec![listed], ..EdgeSettings::default() };
        let members = Arc::new(Members::new(Arc::new(store.clone())));
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let nodes = Nodes::start(NodesConfig {
            connector: Arc::new(TcpConnector::default()),
            directory: Arc::new(StaticNodes::new(settings.node_records())),
            region: settings.region.clone(),
            members: Arc::clone(&members),
            sight: Sight::steady(),
            events: mpsc::channel(1).0,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
            metrics: EdgeMetrics::register(),
        });
        let edge: EdgeId = name.parse().expect("valid");
        let lookout = Lookout::new(seen, EdgeMetrics::register());
        let sight = lookout.watch();
        let rooms = Rooms::new(RoomsConfig {
            edge: edge.clone(),
            store: way,
            members: Arc::clone(&members),
            nodes: nodes.clone(),
            sight: sight.clone(),
            metrics: EdgeMetrics::register(),
            tasks,
            shutdown: shutdown.clone(),
        });
        Self { edge, store: store.clone(), members, nodes, rooms, sight, lookout: Some(lookout), shutdown }
    }

    async fn join(&self, name: &str, number: u64) -> Player {
        self.join_in(&room(), name, number).await
    }

    pub(crate) async fn join_in(&self, room: &RoomId, name: &str, number: u64) -> Player {
        self.ask(room, name, number).await.enter()
    }

    /// The store lets it in, and the edge has not heard of that yet.
    async fn ask(&self, room: &RoomId, name: &str, number: u64) -> Joining {
        let (peer, connection): (PeerId, _) = (name.parse().expect("valid"), ConnectionId(number));
        let attachment = Attachment { edge: self.edge.clone(), connection };
        let (resume, since, fresh, op) = (None, None, SessionId::of(u128::from(number)), None);
        let join = Join { room: room.clone(), peer: peer.clone(), attachment, resume, since, fresh, op };
        let (following, signals) = self.rooms.follow(room).await.expect("followed");
        let joined = self.store.join(join).await.expect("joined");
        let actor = Actor { room: room.clone(), peer: peer.clone(), session: joined.session };
        let me = Arc::new(Member { peer, edge: self.edge.clone() });
        let known = Known {
            head: Head { position: joined.position, id: joined.head },
            members: joined.members.into_iter().chain([me]).collect(),
            publications: joined.publications.iter().chain(&joined.own_publications).cloned().collect(),
        };
        let held = Held::survived(&joined.own_publications, &joined.own_subscriptions);
        let player = Player { actor, connection, position: joined.position, following, signals };
        Joining { player, arrival: Arrival { known, held } }
    }

    async fn publish(&self, player: &Player, number: u64) -> Arc<Publication> {
        let Player { actor, connection, .. } = player;
        let mid = Mid::of(&actor.peer, number);
        let minfo = Minfo::new(RawJson::new(r#"{"audio":true}"#.to_owned()).expect("JSON")).expect("an object");
        let placement = Placement { node: node(), boot: BootId::of(1), region: "default".parse().expect("valid") };
        let candidates = vec![placement];
        let request = ReservePublication {
            actor: actor.clone(),
            mid: mid.clone(),
            minfo,
            candidates,
            recording: None,
            always_recorded: false,
            op: None,
        };
        let reserved = self.store.reserve_publication(request).await.expect("reserved");
        self.members.change(actor, *connection, |held| held.reserved(&reserved));
        self.members.change(actor, *connection, |held| held.carried(&mid));
        self.store.confirm_publication(actor.clone(), &mid).await.expect("confirmed")
    }

    async fn mute(&self, player: &Player, mid: &Mid, audio: bool) {
        let Player { actor, connection, .. } = player;
        let attachment = Attachment { edge: self.edge.clone(), connection: *connection };
        let _muting = self.rooms.owner_mutes(mid).await;
        let muted = self.store.mute(actor.clone(), attachment, mid, Some(audio), None).await.expect("muted");
        self.members.change(actor, *connection, |held| held.updated(&muted));
    }

    async fn say(&self, player: &Player, text: &str) {
        let (entry, data) = (EntryId(rand::random()), RawJson::of(&text).expect("JSON"));
        self.rooms.saying(&room(), entry);
        let said = self.store.broadcast(Broadcast { actor: player.actor.clone(), data, entry, op: None }).await;
        self.rooms.said(&room(), entry, said.is_ok());
        said.expect("said");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Joining {
    /// The edge hears of it, as the connection does it.
    fn enter(self) -> Player {
        let Self { mut player, arrival } = self;
        if let Some(place) = player.following.enter(player.actor.clone(), player.connection, arrival) {
            player.signals.goes_back_to(place);
        }
        player
    }
}

impl Player {
    /// What its client is told until nothing more comes, in short. `lost` stands for a socket that has to come back.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(Some(signal)) = self.signals.next().now_or_never() {
            match &*signal.expect("quick enough") {
                Signal::Notice(notice) => {
                    if notice.position == self.position.next() {
                        self.position = notice.position;
                        heard.extend(notice.concerns(&self.actor.peer).then(|| short(&notice.frame)));
                    } else {
                        let known = notice.position.epoch == self.position.epoch;
                        assert!(known && notice.position.seq <= self.position.seq, "a hole: {notice:?}");
                    }
                }
                Signal::Converge { from, to, .. } if from.epoch == to.epoch && self.position.seq < to.seq => {
                    heard.push("has to come back".to_owned());
                }
                Signal::Converge { from, to, notices } if *from == self.position => {
                    self.position = *to;
                    let mine = notices.iter().filter(|notice| notice.concerns(&self.actor.peer));
                    heard.extend(mine.map(|notice| short(&notice.frame)));
                }
                Signal::Converge { to, .. } if to.epoch == self.position.epoch => {}
                other => heard.push(format!("lost {other:?}")),
            }
        }
        heard
    }
}

fn short(frame: &str) -> String {
    let frame: Value = serde_json::from_str(frame).expect("JSON");
    let text = |key: &str| frame["data"][key].as_str().unwrap_or_default().to_owned();
    match frame["method"].as_str().expect("a method") {
        "peer-join" => format!("+{}", text("uid")),
        "peer-leave" => format!("-{}", text("uid")),
        "stream-add" => format!("+{}/stream", text("uid")),
        "stream-remove" => format!("-{}/stream {}", text("uid"), text("reason")),
        "broadcast" => format!("{}: {}", text("uid"), text("data")),
        other => other.to_owned(),
    }
}

/// Lets every task run until it waits.
async fn settle() {
    sleep(Duration::from_millis(10)).await;
}

async fn healed() {
    sleep(Duration::from_secs(5)).await;
}

fn two_sides() -> (MemoryRooms, Side, Side) {
    let store = MemoryRooms::new(RoomSettings::default());
    let (one, two) = (Side::new("one", &store), Side::new("two", &store));
    (store, one, two)
}

async fn names(store: &MemoryRooms) -> Vec<String> {
    let snapshot = store.snapshot(&room()).await.expect("answered").expect("there");
    let members = snapshot.members.iter().map(|member| member.peer.to_string());
    members.chain(snapshot.publications.iter().map(|stream| format!("{}/stream", stream.owner))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_room_that_ends_while_a_stream_is_added_is_not_watched_afterwards() {
    let store = MemoryRooms::new(RoomSettings::default());
    let side = Side::new("one", &store);
    let ann = side.join("ann", 1).await;
    settle().await;
    assert!(!side.nodes.watches(&node(), &room()), "nothing is on the node");

    // The room's task is woken for the stream, and ended before it runs.
    side.publish(&ann, 1).await;
    drop(ann.following);
    settle().await;
    assert!(!side.nodes.watches(&node(), &room()));

    let _ann = side.join("ann", 1).await;
    settle().await;
    assert!(side.nodes.watches(&node(), &room()), "as long as somebody is there");
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_lost_it_is_put_back_and_nobody_hears_of_it() {
    let (store, one, two) = two_sides();
    let mut ann = one.join("ann", 1).await;
    let mut bob = two.join("bob", 2).await;
    one.publish(&ann, 1).await;
    settle().await;
    assert_eq!((ann.heard(), bob.heard()), (vec!["+bob".to_owned()], vec!["+ann/stream".to_owned()]));
    store.forget_everything();
    // The second edge notices a second after the first.
    one.rooms.put_back(&room()).await.expect("put back");
    sleep(Duration::from_secs(1)).await;
    two.rooms.put_back(&room()).await.expect("put back");
    healed().await;
    assert_eq!(names(&store).await, ["ann", "bob", "ann/stream"]);
    assert_eq!((ann.heard(), bob.heard()), (vec![], vec![]));
    one.say(&ann, "still here").await;
    two.say(&bob, "me too").await;
    settle().await;
    assert_eq!((ann.heard(), bob.heard()), (vec!["bob: me too".to_owned()], vec!["ann: still here".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_is_told_to_have_left_with_its_streams_once() {
    let (store, one, two) = two_sides();
    let mut ann = one.join("ann", 1).await;
    let bob = two.join("bob", 2).await;
    two.publish(&bob, 1).await;
    settle().await;
    assert_eq!(ann.heard(), ["+bob", "+bob/stream"]);
    // The second edge dies with its client and the store's memory.
    two.shutdown.cancel();
    settle().await;
    store.forget_everything();
    one.rooms.put_back(&room()).await.expect("put back");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ann.heard(), [""; 0], "perhaps they come back");
    healed().await;
    assert_eq!(ann.heard(), ["-bob/stream owner_left", "-bob"]);
    healed().await;
    assert_eq!(ann.heard(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn writes_lost_in_a_failover_are_told_as_what_differs_or_put_back() {
    let (store, one, two) = two_sides();
    let mut ann = one.join("ann", 1).await;
    let bob = two.join("bob", 2).await;
    let stream = two.publish(&bob, 1).await;
    settle().await;
    ann.heard();
    let before = store.checkpoint();
    // Lost: a stream's end, which cannot be undone; a member and its stream, which are alive.
    store.remove_publication(&stream.mid, room_store::EndedBy::Client(bob.actor.clone())).await.expect("unpublished");
    let cat = two.join("cat", 3).await;
    two.publish(&cat, 1).await;
    settle().await;
    assert_eq!(ann.heard(), ["-bob/stream unpublished", "+cat", "+cat/stream"]);
    store.restore(before);
    one.say(&ann, "hello").await;
    healed().await;
    assert_eq!(names(&store).await, ["ann", "bob", "cat", "bob/stream", "cat/stream"]);
    assert_eq!(ann.heard(), ["+bob/stream"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_between_two_sockets_who_was_lost_in_a_failover_is_put_back_and_nobody_hears_of_it() {
    let (store, one, two) = two_sides();
    let (mut ann, mut cat) = (one.join("ann", 1).await, two.join("cat", 2).await);
    let before = store.checkpoint();
    let bob = one.join("bob", 3).await;
    one.publish(&bob, 1).await;
    settle().await;
    one.members.depart(&bob.actor, bob.connection, bob.following.place());
    let attachment = Attachment { edge: one.edge.clone(), connection: bob.connection };
    store.socket_closed(bob.actor.clone(), attachment, false).await.expect("answered");
    ann.heard();
    cat.heard();
    store.restore(before);
    two.say(&cat, "hello").await;
    healed().await;
    assert_eq!(names(&store).await, ["ann", "bob", "cat", "bob/stream"]);
    assert_eq!((ann.heard(), cat.heard()), (vec![], vec![]));
    // Its grace, and no longer.
    sleep(store.settings().grace).await;
    let expired = store.expire_due(&room(), usize::MAX).await.expect("answered");
    assert!(expired.peers.contains(&bob.actor.peer));
}

#[tokio::test(start_paused = true)]
async fn members_come_back_when_the_log_no_longer_holds_what_they_missed() {
    let (store, one, two) = two_sides();
    let ann = one.join("ann", 1).await;
    let mut bob = two.join("bob", 2).await;
    settle().await;
    bob.heard();
    // All at once: the second edge's task does not run meanwhile.
    for n in 0..=store.settings().log_entries {
        one.say(&ann, &n.to_string()).await;
    }
    healed().await;
    assert_eq!(bob.heard(), ["has to come back"]);
    let mut cat = two.join("cat", 3).await;
    one.say(&ann, "again").await;
    settle().await;
    assert_eq!(cat.heard(), ["ann: again"], "the room goes on");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_a_room_is_healed_is_heard_after_it() {
    let (store, one, two) = two_sides();
    let ann = one.join("ann", 1).await;
    let mut bob = two.join("bob", 2).await;
    settle().await;
    bob.heard();
    store.forget_everything();
    one.rooms.put_back(&room()).await.expect("put back");
    one.say(&ann, "first").await;
    settle().await;
    one.say(&ann, "second").await;
    healed().await;
    assert_eq!(bob.heard(), ["ann: first", "ann: second"]);
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_a_room_is_healed_hears_of_all_who_come_back() {
    let (store, one, two) = two_sides();
    let mut ann = one.join("ann", 1).await;
    let _bob = two.join("bob", 2).await;
    settle().await;
    ann.heard();
    store.forget_everything();
    one.rooms.put_back(&room()).await.expect("put back");
    let mut cat = one.join("cat", 3).await;
    sleep(Duration::from_secs(1)).await;
    two.rooms.put_back(&room()).await.expect("put back");
    healed().await;
    assert_eq!(ann.heard(), ["+cat"]);
    assert_eq!(cat.heard(), ["+bob"]);
}
