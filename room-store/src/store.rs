//! The trait of a room store.
//!
//! # A room
//!
//! Members (one session each), publications, subscriptions, and a log. **Every change is one atomic step**: state and its
//! entries become visible together, with the next positions. An implementation does each call of this trait in one such
//! step (a mutex, one Lua function), whatever else goes on.
//!
//! # Identity of calls
//!
//! Every call may be repeated after [`StoreError::Timeout`], as it is: new ids (`fresh`, `mid`, `sid`) and `op` are the
//! caller's, so a repeated call finds what the first one made; so is a broadcast's `entry`, which is known for as long as
//! the call may be repeated, among the session's last few. With the same `op` of the same peer in the same room, also
//! from another edge and another session, a call gives the earlier call's result and changes nothing. An `op` is remembered for
//! the ttl; a peer that has as many in a room as [`RoomSettings::ops`] gets no further one
//! ([`Conflict::TooManyOps`](crate::Conflict::TooManyOps)) until the oldest of them is forgotten. Those of broadcasts are
//! remembered apart, the last [`RoomSettings::broadcast_ops`] of them: how often one may speak is for the edge to say, and a
//! peer that says much can still publish.
//!
//! What a call [released](Released) is told once. A call whose reply was lost may have been carried out, and is answered as if nothing had been
//! left to release when it is repeated: who has to close streams on their nodes closes what it knows of them, too.
//!
//! # Leases
//!
//! A session is due at its last frame + ttl. [`refresh`](RoomStore::refresh), and every successful call that names an
//! [`Actor`] whose session is attached to a socket, counts as a frame. A socket seen to close makes the session due at the
//! latest after the grace. All by the store's clock. **A due session lives on until [`expire_due`](RoomStore::expire_due)
//! removes it**, and a refresh before that saves it: so an outage of the store, or of all edges, expires nobody by itself.
//!
//! # Epochs
//!
//! A room that has been empty for the ttl is forgotten; its next join starts a new epoch. The longest empty may be forgotten
//! earlier where many are: a bound on what is kept for those who come back is the implementation's. What was said in a room is
//! forgotten when it becomes empty. So does [`start_epoch`]
//! when writes were lost. Positions of an earlier epoch are answered with [`Missed::Resync`] or [`LogRead::Lost`].
//!
//! # Deadlines
//!
//! Each call returns within the implementation's own deadline, with [`StoreError::Timeout`] if need be. Dropping a call's future
//! leaves its outcome unknown.
//!
//! [`start_epoch`]: RoomStore::start_epoch
//! [`Missed::Resync`]: crate::Missed::Resync

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use proto::ids::{EdgeId, Epoch, Mid, NodeId, OpId, PeerId, Position, RoomId, Sid};
use tokio::time::Instant;

use crate::{
    change::{
        Broadcast, EndedBy, Expired, Head, Hold, Join, Joined, Left, Page, Reassert, Refreshed, ReservePublication,
        ReserveSubscription, SetRecording, Snapshot, SubscriptionReserved,
    },
    error::StoreError,
    feed::RoomFeed,
    log::{EntryId, LogRead},
    record::{Actor, Attachment, Carrier, Member, Publication, Released, Subscription},
    settings::RoomSettings,
    witness::Witness,
};

/// Refreshes of one [`refresh_many`](RoomStore::refresh_many) under way at once. More: a slow store is asked more before it has
/// answered anything; less: it takes longer for all.
const REFRESHES_AT_ONCE: usize = 128;

/// Random name of a store's life: another one than before means that it has lost everything in between. (Lost writes of a
/// failover do not change it; they show in each room's log.) One that is of several parts is named as this process has seen them: another
/// process may know the same life by another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Life(pub u64);

/// Rooms, their members and streams, and their logs. See the module's text for what holds for all calls.
///
/// Every call that names an [`Actor`] fails with [`StoreError::NotMember`] when its session is not the peer's current one in the
/// room. Every call can fail with [`StoreError::Unavailable`] and [`StoreError::Timeout`].
#[async_trait]
pub trait RoomStore: Send + Sync + 'static {
    /// The settings in force.
    fn settings(&self) -> &RoomSettings;

    /// The same store, by a handle whose steps are seen by a witness.
    fn witnessed(&self, witness: Arc<dyn Witness>) -> Arc<dyn RoomStore>;

    /// Whether the store can be reached now, and which life of it this is. One that is of several parts can be reached when any of them
    /// can.
    async fn ping(&self) -> Result<Life, StoreError>;

    /// Since when a part of the store is out of reach while others answer, as [`ping`](RoomStore::ping) found. Calls for its rooms fail,
    /// others do not; nothing is due in any room until all parts have been seen for a whole ttl.
    fn part_away_since(&self) -> Option<Instant> {
        None
    }

    /// What the clocks say by which leases end, since a moment that stays the same: one for each part of the store that can have its own,
    /// always in the same order; `None`: that part did not say. For whoever has to know that a clock was set.
    async fn clocks(&self) -> Result<Vec<Option<Duration>>, StoreError>;

    /// Makes a socket a member's. Which way is decided by what the peer is at this moment:
    ///
    /// - its session is `resume`, or `fresh` (a repeated call), or was made by the same `op`: resumed, whatever socket held it;
    /// - a member without a socket: resumed;
    /// - a member on another socket: taken over. Its streams and subscriptions end with a `stream-remove` for each confirmed stream,
    ///   the old socket gets [`Superseded`](crate::RoomEvent::Superseded), the new session is `fresh`;
    /// - no member: new, with `fresh` as its session.
    ///
    /// A join from the socket that holds the session already is a resume.
    ///
    /// Only a resume is told what it missed, and only back to where its session began: what was said before was not for it. Any other
    /// `since` is [`Missed::Resync`](crate::Missed::Resync).
    ///
    /// Subscribe to the room's feed first: then nothing falls between the answer's position and the feed.
    ///
    /// Fails with [`Conflict::RoomFull`](crate::Conflict::RoomFull) and
    /// [`Conflict::TooManyRooms`](crate::Conflict::TooManyRooms), new ones only. Rooms may be counted before the step, which need
    /// not see more than one: then a few more get in when many come at once. Members are counted in it.
    async fn join(&self, join: Join) -> Result<Joined, StoreError>;

    /// Ends a membership: `stream-remove` for each of its confirmed streams, then `peer-leave`. Without an `op` known to have
    /// done it already, a session that is no member's is [`StoreError::NotMember`]. With one, nothing is done, whatever session is
    /// named. Where there is no place to remember an `op`, it is carried out all the same.
    async fn leave(&self, actor: Actor, op: Option<OpId>) -> Result<Left, StoreError>;

    /// Refreshes leases of one room's sessions held by this edge, and says where the log is. Sessions that are gone or
    /// attached elsewhere are named in the answer, they are no error. A session without a socket is attached to the one named,
    /// unless that is the one last seen to close (then nothing happens).
    async fn refresh(&self, room: &RoomId, edge: &EdgeId, holds: Vec<Hold>) -> Result<Refreshed, StoreError>;

    /// [`refresh`](RoomStore::refresh) of many rooms, many of them under way at once. One answer for each, in the order asked.
    async fn refresh_many(&self, edge: &EdgeId, rooms: Vec<(RoomId, Vec<Hold>)>) -> Vec<Result<Refreshed, StoreError>> {
        let calls = rooms.into_iter().map(|(room, holds)| async move { self.refresh(&room, edge, holds).await });
        stream::iter(calls).buffered(REFRESHES_AT_ONCE).collect().await
    }

    /// A socket was seen to close. If the session is still attached to it, it is attached to none from now on and due in at most
    /// the grace; or, when its client was told not to come back (`for_good`), its membership ends as by
    /// [`leave`](RoomStore::leave). Otherwise, and when repeated, nothing happens.
    async fn socket_closed(&self, actor: Actor, attachment: Attachment, for_good: bool)
    -> Result<Released, StoreError>;

    /// Keeps a stream's place before its node is called. Nobody else sees it; it counts against the limits; it is dropped
    /// after [`RoomSettings::reservation`] unless confirmed. The answer's placement is the one to use; with a repeated `op` it is the
    /// earlier stream, perhaps confirmed already.
    ///
    /// Fails with [`Conflict::TooManyPublications`](crate::Conflict::TooManyPublications),
    /// [`Conflict::IdTaken`](crate::Conflict::IdTaken), [`Conflict::NoNode`](crate::Conflict::NoNode),
    /// [`Conflict::OpReused`](crate::Conflict::OpReused), [`Conflict::OpSpent`](crate::Conflict::OpSpent).
    async fn reserve_publication(&self, request: ReservePublication) -> Result<Arc<Publication>, StoreError>;

    /// The node carries the stream: others get `stream-add`. Repeated: no effect. [`StoreError::UnknownPublication`] when it
    /// has been removed meanwhile: close it on its node. [`StoreError::NotOwner`].
    async fn confirm_publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError>;

    /// Ends a stream, reserved or confirmed, and all subscriptions to it. If it was confirmed, others get `stream-remove`
    /// (the owner, too, when a node ended it). By a client: [`StoreError::UnknownPublication`] unless it has ended lately as this
    /// session's, which is no error; [`StoreError::NotOwner`]. By a node: no effect unless it is there.
    ///
    /// A reservation that its client gives back leaves its `op` free: nothing was done with it, and the same `op` may try
    /// another node.
    async fn remove_publication(&self, mid: &Mid, by: EndedBy) -> Result<Released, StoreError>;

    /// Mutes or unmutes media of a stream (`None`: as it is). Others get `stream-update` if anything changes. Every other key of the
    /// description keeps its place and its text; so a step that cannot rewrite JSON keeps what is muted apart, and
    /// [`Minfo::with_muted`](proto::signalling::Minfo::with_muted) puts it in when the stream is read.
    /// [`StoreError::UnknownPublication`], also when it isn't confirmed; [`StoreError::NotOwner`]. [`StoreError::NotMember`] from a
    /// socket that is not the session's any more: an edge that stood still would else set what its client has set otherwise since.
    async fn mute(
        &self,
        actor: Actor,
        attachment: Attachment,
        mid: &Mid,
        audio: Option<bool>,
        video: Option<bool>,
    ) -> Result<Arc<Publication>, StoreError>;

    /// Has a stream recorded, or no longer, if it is as expected; the stream as it is then, changed or not. Others get `recording`
    /// if anything changes, unless the stream is not confirmed. [`StoreError::UnknownPublication`], also when it is another's and not
    /// confirmed.
    async fn set_recording(&self, request: SetRecording) -> Result<Arc<Publication>, StoreError>;

    /// Keeps a subscription's place before its node is called. Dropped like a publication's reservation unless confirmed.
    /// [`StoreError::UnknownPublication`] when there is no such confirmed stream. A peer may subscribe to its own.
    ///
    /// Fails with [`Conflict::TooManySubscriptions`](crate::Conflict::TooManySubscriptions),
    /// [`Conflict::IdTaken`](crate::Conflict::IdTaken), [`Conflict::OpReused`](crate::Conflict::OpReused),
    /// [`Conflict::OpSpent`](crate::Conflict::OpSpent).
    async fn reserve_subscription(&self, request: ReserveSubscription) -> Result<SubscriptionReserved, StoreError>;

    /// The node sends the stream. Repeated: no effect. [`StoreError::UnknownSubscription`] when it, or the stream, has been
    /// removed meanwhile: close it on its node.
    async fn confirm_subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError>;

    /// Ends a subscription. Nobody is told. By a client: [`StoreError::UnknownSubscription`] unless it has ended lately as this
    /// session's. By a node: no effect unless it is there. An unconfirmed one leaves its `op` free, as with publications.
    async fn remove_subscription(&self, sid: &Sid, by: EndedBy) -> Result<Released, StoreError>;

    /// Says something to all other members.
    async fn broadcast(&self, broadcast: Broadcast) -> Result<(), StoreError>;

    /// Other members, by uid: those after `after`, at most `limit`.
    async fn members(&self, actor: Actor, after: Option<PeerId>, limit: usize)
    -> Result<Page<Arc<Member>>, StoreError>;

    /// Confirmed streams of other members, by mid: those after `after`, at most `limit`.
    async fn publications(
        &self,
        actor: Actor,
        after: Option<Mid>,
        limit: usize,
    ) -> Result<Page<Arc<Publication>>, StoreError>;

    /// One stream: confirmed, or the asking member's own. [`StoreError::UnknownPublication`].
    async fn publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError>;

    /// One subscription of the asking member. [`StoreError::UnknownSubscription`].
    async fn subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError>;

    /// Confirmed subscriptions of a room that leave by a node, by sid: those after `after`, at most `limit`. For an edge that
    /// compares them with what the node still has.
    async fn subscriptions_on(
        &self,
        room: &RoomId,
        node: &NodeId,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Page<Arc<Subscription>>, StoreError>;

    /// Nodes that carry the room's streams, busiest first. None for a room that isn't there.
    async fn carriers(&self, room: &RoomId) -> Result<Vec<Carrier>, StoreError>;

    /// Follows a room from now on; it need not exist yet. Bounded by [`RoomSettings::feed_entries`].
    async fn subscribe(&self, room: &RoomId) -> Result<RoomFeed, StoreError>;

    /// The log after a position, at most `limit` entries. `id` is the identity of the entry at that position, if the caller
    /// knows it: then writes the store has lost show as [`LogRead::Lost`] with `diverged`. A room that isn't there has lost
    /// everything.
    async fn log_after(
        &self,
        room: &RoomId,
        after: Position,
        id: Option<EntryId>,
        limit: usize,
    ) -> Result<LogRead, StoreError>;

    /// A room's members and streams with the position they are true at; `None`: there is no such room. For an edge that
    /// has to compare what it told with what is.
    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, StoreError>;

    /// Where the room's log is; `None`: there is no such room.
    async fn head(&self, room: &RoomId) -> Result<Option<Head>, StoreError>;

    /// Begins the room's log anew, if its epoch is still the one `seen`; otherwise somebody did before. State stays as it is. The
    /// answer is the epoch in force; followers get [`EpochStarted`](crate::RoomEvent::EpochStarted). `None`: there is no
    /// such room, and its next join starts an epoch anyway.
    async fn start_epoch(&self, room: &RoomId, seen: Epoch) -> Result<Option<Head>, StoreError>;

    /// Puts back what an edge holds of a room. Members, streams and subscriptions the store knows stay as they are (leases of the
    /// same sessions are refreshed); those it doesn't are added, with `peer-join` and `stream-add`. Sessions of peers that are
    /// members by another session, or on another socket, are named in the answer as lost, as in
    /// [`refresh`](RoomStore::refresh). The limits don't apply: who was in stays in.
    async fn reassert(&self, reassert: Reassert) -> Result<Refreshed, StoreError>;

    /// Rooms in which something may be due, at most `limit`: a hint, never popped. Where there are more, calls begin at
    /// different places, so that asking again and again comes to each.
    async fn due_rooms(&self, limit: usize) -> Result<Vec<RoomId>, StoreError>;

    /// Ends a room's due sessions (others get what [`leave`](RoomStore::leave) tells), drops its due reservations, and forgets the
    /// room when it has been empty for the ttl. At most `limit` entries are written and reservations dropped, though a first session
    /// ends with all its streams; what is left stays due. The caller gives those who follow the room time to read before it goes on:
    /// more than [`RoomSettings::log_entries`] at once would be more than the log can tell them. Called by edges, about every second, for [`due_rooms`](RoomStore::due_rooms);
    /// several doing so at once do no harm. An edge does so only after it has seen the store reachable and not reset for a
    /// whole ttl.
    async fn expire_due(&self, room: &RoomId, limit: usize) -> Result<Expired, StoreError>;
}
