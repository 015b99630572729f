//! A room's state and its steps, told the time. Each step is all or nothing: what can refuse it is checked before anything
//! changes.
//!
//! Reading order: this file (what a room is), `membership`, `streams`, `listing`, `reassert`, `ops`, `room_log`.

mod listing;
mod membership;
mod ops;
mod reassert;
mod retired;
mod room_log;
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use proto::ids::{Epoch, Mid, PeerId, Position, SessionId, Sid};
use tokio::time::Instant;

use self::{ops::Ops, retired::Retired, room_log::RoomLog};
use crate::{
    change::Head,
    error::StoreError,
    feed::RoomEvent,
    log::{EntryId, Event},
    record::{Actor, Attachment, Member, Placement, Publication, Released, Subscription},
    settings::RoomSettings,
    witness::{Deed, Fact},
};

/// What one step is given, and what it leaves behind.
pub(in crate::memory) struct Step<'a> {
    now: Instant,
    pub(in crate::memory) settings: &'a RoomSettings,
    next_entry: u64,
    /// For followers, in order.
    pub(in crate::memory) events: Vec<RoomEvent>,
    /// For who makes the step, in order.
    pub(in crate::memory) deeds: Vec<Deed>,
    /// It puts back what was lost.
    pub(in crate::memory) restores: bool,
    /// The earliest of the deadlines this step has set.
    pub(in crate::memory) due: Option<Instant>,
}

impl<'a> Step<'a> {
    /// `random` makes this step's entries unlike any other's.
    pub(in crate::memory) fn new(now: Instant, settings: &'a RoomSettings, random: u64) -> Self {
        Self { now, settings, next_entry: random, events: Vec::new(), deeds: Vec::new(), restores: false, due: None }
    }

    fn entry_id(&mut self) -> EntryId {
        self.next_entry = self.next_entry.wrapping_add(1);
        EntryId(self.next_entry)
    }

    /// A deadline this far from now.
    fn after(&mut self, wait: Duration) -> Instant {
        let deadline = self.now + wait;
        self.due = Some(self.due.map_or(deadline, |due| due.min(deadline)));
        deadline
    }
}

/// A room.
#[derive(Clone)]
pub(in crate::memory) struct Room {
    pub(in crate::memory) log: RoomLog,
    /// Boxed: a map's smallest node has room for eleven, and most rooms have few.
    members: BTreeMap<PeerId, Box<MemberState>>,
    publications: BTreeMap<Mid, PublicationState>,
    subscriptions: BTreeMap<Sid, SubscriptionState>,
    /// Subscriptions by stream, also of streams not known (a store that lost them learns of them one by one).
    subscribers: HashMap<Mid, BTreeSet<Sid>>,
    ops: Ops,
    empty_since: Option<Instant>,
}

#[derive(Clone)]
struct MemberState {
    member: Arc<Member>,
    session: SessionId,
    /// Where the log was when the session began, its own `peer-join` included.
    begun: Position,
    attachment: Option<Attachment>,
    /// The socket that was last seen to close.
    closed: Option<Attachment>,
    deadline: Instant,
    publications: BTreeSet<Mid>,
    subscriptions: BTreeSet<Sid>,
    retired_mids: Retired<Mid>,
    retired_sids: Retired<Sid>,
    /// Its last broadcasts.
    said: Retired<EntryId>,
}

#[derive(Clone)]
struct PublicationState {
    record: Arc<Publication>,
    /// When it is dropped, while it is only reserved.
    reserved_until: Option<Instant>,
}

#[derive(Clone)]
struct SubscriptionState {
    record: Arc<Subscription>,
    /// When it is dropped, while it is only reserved.
    reserved_until: Option<Instant>,
}

impl Room {
    pub(in crate::memory) fn new(epoch: Epoch) -> Self {
        Self {
            log: RoomLog::new(epoch),
            members: BTreeMap::new(),
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            subscribers: HashMap::new(),
            ops: Ops::default(),
            empty_since: None,
        }
    }

    /// Nobody is in it.
    pub(in crate::memory) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Since when nobody is in it.
    pub(in crate::memory) fn empty_since(&self) -> Option<Instant> {
        self.empty_since
    }

    /// Nobody is or was in it.
    pub(in crate::memory) fn is_unused(&self) -> bool {
        self.is_empty() && self.empty_since.is_none()
    }

    /// When the next lease or reservation ends, or an empty room is forgotten.
    pub(in crate::memory) fn next_due(&self, ttl: Duration) -> Option<Instant> {
        if self.is_empty() {
            return self.empty_since.map(|since| since + ttl);
        }
        let leases = self.members.values().map(|member| member.deadline);
        let publications = self.publications.values().filter_map(|publication| publication.reserved_until);
        let subscriptions = self.subscriptions.values().filter_map(|subscription| subscription.reserved_until);
        leases.chain(publications).chain(subscriptions).min()
    }

    pub(in crate::memory) fn start_epoch(&mut self, step: &mut Step<'_>, seen: Epoch, fresh: Epoch) -> Head {
        if self.log.head().position.epoch == seen {
            self.log = RoomLog::new(fresh);
            step.events.push(RoomEvent::EpochStarted(self.log.head()));
        }
        self.log.head()
    }

    /// The member a call names, if its session is the current one. Counts as a frame while a socket is attached.
    fn acting(&mut self, step: &mut Step<'_>, actor: &Actor) -> Result<&mut MemberState, StoreError> {
        let member = self.members.get_mut(&actor.peer).ok_or(StoreError::NotMember)?;
        if member.session != actor.session {
            return Err(StoreError::NotMember);
        }
        if member.attachment.is_some() {
            member.deadline = step.now + step.settings.ttl;
        }
        Ok(member)
    }

    fn append(&mut self, step: &mut Step<'_>, cause: Option<&PeerId>, event: Event) {
        let id = step.entry_id();
        self.append_as(step, id, cause, event);
    }

    fn append_as(&mut self, step: &mut Step<'_>, id: EntryId, cause: Option<&PeerId>, event: Event) {
        let entry = self.log.append(id, cause.cloned(), event, step.settings);
        step.events.push(RoomEvent::Entry(entry));
    }

    /// To be said when it is done.
    fn note(&self, step: &mut Step<'_>, fact: Fact) {
        step.deeds.push(Deed { position: self.log.head().position, fact });
    }

    /// A new member, with its entry.
    fn insert_member(&mut self, step: &mut Step<'_>, state: MemberState) {
        let (opens, member) = (self.is_empty(), Arc::clone(&state.member));
        let peer = member.peer.clone();
        self.members.insert(peer.clone(), Box::new(state));
        self.empty_since = None;
        self.append(step, Some(&peer), Event::PeerJoin(member));
        if opens {
            self.note(step, Fact::RoomOpened);
        }
        self.note(step, Fact::PeerJoined { peer });
    }
}

/// Whether a record is where somebody says it is. The region is the node's, so it isn't asked.
fn same_place(one: &Placement, other: &Placement) -> bool {
    one.node == other.node && one.boot == other.boot
}

impl MemberState {
    fn new(
        step: &mut Step<'_>,
        member: Arc<Member>,
        session: SessionId,
        attachment: Attachment,
        begun: Position,
    ) -> Self {
        Self {
            member,
            session,
            begun,
            attachment: Some(attachment),
            closed: None,
            deadline: step.after(step.settings.ttl),
            publications: BTreeSet::new(),
            subscriptions: BTreeSet::new(),
            retired_mids: Retired::default(),
            retired_sids: Retired::default(),
            said: Retired::default(),
        }
    }

    /// Whether the session is younger than a place in the log. It is older than any later epoch of its room.
    fn begun_after(&self, position: Position) -> bool {
        self.begun.epoch == position.epoch && self.begun.seq > position.seq
    }

    /// The session goes on, on this socket. The socket it was on until now, if another.
    fn attach(&mut self, step: &mut Step<'_>, attachment: &Attachment) -> Option<Attachment> {
        self.deadline = step.after(step.settings.ttl);
        if self.member.edge != attachment.edge {
            self.member = Arc::new(Member { peer: self.member.peer.clone(), edge: attachment.edge.clone() });
        }
        self.attachment.replace(attachment.clone()).filter(|old| old != attachment)
    }
}

/// Adds a removed record to what is to be closed.
fn release_publication(released: &mut Released, record: &Publication) {
    released.publications.push((record.mid.clone(), record.placement.clone()));
}

fn release_subscription(released: &mut Released, record: &Subscription) {
    released.subscriptions.push((record.sid.clone(), record.placement.clone()));
}
