//! What follows the answer to a join: the part of what survived that did not fit; that of the snapshot, for a client that knows
//! no pages; then what it missed. In a large room that is more than may ever wait for a client, so each frame is written when the client
//! takes it. Until then there are references to the records that its room has here anyway ([`Rest::share`]), and a small part of
//! what it missed: the rest of that stays in the log ([`Rest::later`]).

use std::sync::Arc;
use std::vec;

use axum::extract::ws::Utf8Bytes;
use proto::ids::{Mid, PeerId, Position, RoomId};
use proto::json::RawJson;
use proto::signalling::answer::{Pub, User};
use proto::signalling::{Minfo, Notification};
use room_store::{Entry, Event, Member, Publication, Subscription, follow};

use super::join::{entry, own, user};
use super::paging::SNAPSHOT_BYTES;
use crate::notice::{Change, Notice};

/// Bytes of what a client missed that are kept for it at a time. Less: more calls to the store for one that comes back to a room
/// in which much is said.
const MISSED_BYTES: usize = 128 * 1024;
/// What an entry costs beside what clients wrote in it.
const ENTRY_OVERHEAD: usize = 256;

/// The frames that follow an answer, in order.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) rid: RoomId,
    pub(super) peer: PeerId,
    /// The answer's.
    pub(super) position: Position,
    pub(super) own_publications: vec::IntoIter<Arc<Publication>>,
    pub(super) own_subscriptions: vec::IntoIter<Arc<Subscription>>,
    pub(super) members: vec::IntoIter<Arc<Member>>,
    pub(super) publications: vec::IntoIter<Arc<Publication>>,
    pub(super) missed: Missing,
}

/// What the peer missed and is not told yet, up to the answer's place.
#[derive(Debug, Default)]
pub(super) struct Missing {
    entries: vec::IntoIter<Arc<Entry>>,
    /// The log has more of it, after this place.
    later: Option<Position>,
}

impl Missing {
    /// Keeps as much of it as may wait for a client.
    pub(super) fn of(mut entries: Vec<Arc<Entry>>) -> Self {
        let mut left = MISSED_BYTES;
        let fits = |entry: &&Arc<Entry>| {
            let rest = left.checked_sub(weight(entry));
            left = rest.unwrap_or_default();
            rest.is_some()
        };
        let kept = entries.iter().take_while(fits).count().max(1);
        let later = (kept < entries.len()).then(|| entries[kept - 1].position);
        entries.truncate(kept);
        entries.shrink_to_fit();
        Self { entries: entries.into_iter(), later }
    }
}

fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.event {
            Event::Broadcast { data, .. } => data.get().len(),
            Event::StreamAdd(stream) | Event::StreamUpdate(stream) | Event::Recording { stream, .. } => {
                stream.minfo.raw().get().len()
            }
            Event::PeerJoin(_) | Event::PeerLeave(_) | Event::StreamRemove { .. } => 0,
        }
}

impl Rest {
    pub(crate) fn room(&self) -> &RoomId {
        &self.rid
    }

    /// That of the answer.
    pub(crate) fn place(&self) -> Position {
        self.position
    }

    /// Of what a peer missed alone.
    #[cfg(test)]
    pub(crate) fn of_missed(rid: RoomId, peer: PeerId, position: Position, missed: Vec<Arc<Entry>>) -> Self {
        Self {
            rid,
            peer,
            position,
            own_publications: Vec::new().into_iter(),
            own_subscriptions: Vec::new().into_iter(),
            members: Vec::new().into_iter(),
            publications: Vec::new().into_iter(),
            missed: Missing::of(missed),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own_is_told() && self.members.len() + self.publications.len() + self.missed.entries.len() == 0
    }

    /// When all frames were taken: after which place the log has more of them.
    pub(crate) fn later(&self) -> Option<Position> {
        self.missed.later
    }

    /// The log's answer to that, up to [`follow::READ_LIMIT`] entries.
    pub(crate) fn go_on(&mut self, mut entries: Vec<Arc<Entry>>) {
        let end = self.position.seq;
        let last = entries.last().map(|entry| entry.position);
        let goes_on = entries.len() >= follow::READ_LIMIT && last.is_some_and(|last| last.seq < end);
        entries.retain(|entry| entry.position.seq <= end && entry.concerns(&self.peer));
        self.missed = Missing::of(entries);
        self.missed.later = self.missed.later.or(last.filter(|_| goes_on));
    }

    /// Refers to these records instead of its own where they say the same.
    pub(crate) fn share<'a>(
        &mut self,
        member: impl Fn(&PeerId) -> Option<&'a Arc<Member>>,
        stream: impl Fn(&Mid) -> Option<&'a Arc<Publication>>,
    ) {
        for own in self.members.as_mut_slice() {
            share(own, member(&own.peer));
        }
        for own in self.publications.as_mut_slice() {
            share(own, stream(&own.mid));
        }
    }

    /// A stream has changed: what it was is not kept any more. Of one that has ended there is only left who had it: its end is told after
    /// all this.
    pub(crate) fn let_go(&mut self, notice: &Notice) {
        let is_in_it = notice.position.epoch == self.position.epoch && notice.position.seq <= self.position.seq;
        let Some(change) = notice.change.as_ref().filter(|_| !is_in_it) else { return };
        let publications = self.publications.as_mut_slice();
        let find = |mid: &Mid| publications.binary_search_by(|stream| stream.mid.cmp(mid)).ok();
        match change {
            Change::Now(stream) => {
                if let Some(index) = find(&stream.mid) {
                    publications[index] = Arc::clone(stream);
                }
            }
            Change::Ended(mid) => {
                if let Some(index) = find(mid) {
                    publications[index] = without_minfo(&publications[index]);
                }
            }
        }
    }

    fn own_is_told(&self) -> bool {
        self.own_publications.len() + self.own_subscriptions.len() == 0
    }

    fn next_own(&mut self) -> Notification {
        let (own, publications, subscriptions) = own(
            &self.rid,
            self.own_publications.as_slice(),
            self.own_subscriptions.as_slice(),
            &mut SNAPSHOT_BYTES.clone(),
        );
        self.own_publications.by_ref().take(publications).for_each(drop);
        self.own_subscriptions.by_ref().take(subscriptions).for_each(drop);
        Notification::Own { rid: self.rid.clone(), own }
    }

    fn next_notification(&mut self) -> Option<Notification> {
        if !self.own_is_told() {
            return Some(self.next_own());
        }
        let position = self.position;
        if let Some(member) = self.members.next() {
            let User { rid, uid, edge } = user(&self.rid, &member);
            return Some(Notification::PeerJoin { rid, uid, edge, position });
        }
        let publication = self.publications.next()?;
        let Pub { rid, uid, mid, sfuid, minfo, recording } = entry(&self.rid, &publication);
        Some(Notification::StreamAdd { rid, uid, mid, sfuid, minfo, recording, position })
    }
}

fn share<T: PartialEq>(own: &mut Arc<T>, shared: Option<&Arc<T>>) {
    if let Some(shared) = shared.filter(|shared| *shared == own) {
        *own = Arc::clone(shared);
    }
}

fn without_minfo(stream: &Publication) -> Arc<Publication> {
    let nothing = RawJson::new("{}").ok().and_then(|nothing| Minfo::new(nothing).ok());
    Arc::new(Publication {
        mid: stream.mid.clone(),
        owner: stream.owner.clone(),
        minfo: nothing.expect("invariant: an empty object is a description"),
        placement: stream.placement.clone(),
        confirmed: stream.confirmed,
        recording: stream.recording.clone(),
        always_recorded: stream.always_recorded,
    })
}

impl Iterator for Rest {
    type Item = Utf8Bytes;

    fn next(&mut self) -> Option<Utf8Bytes> {
        match self.next_notification() {
            Some(notification) => Some(notification.to_frame().into()),
            None => self.missed.entries.next().map(|entry| Notice::new(&self.rid, &entry).frame),
        }
    }
}

#[cfg(test)]
mod tests;
