//! What follows the answer to a join: the part of what survived that did not fit; that of the snapshot, for a client that knows
//! no pages; then what it missed. In a large room that is more than may ever wait for a client, so each frame is written when the client
//! takes it; until then there are only references to records that the store has, too.

use std::sync::Arc;
use std::vec;

use axum::extract::ws::Utf8Bytes;
use proto::ids::{Position, RoomId};
use proto::signalling::Notification;
use proto::signalling::answer::{Pub, User};
use room_store::{Entry, Member, Publication, Subscription};

use super::join::{entry, own, user};
use super::paging::SNAPSHOT_BYTES;
use crate::notice::Notice;

/// The frames that follow an answer, in order.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) rid: RoomId,
    /// The answer's.
    pub(super) position: Position,
    pub(super) own_publications: vec::IntoIter<Arc<Publication>>,
    pub(super) own_subscriptions: vec::IntoIter<Arc<Subscription>>,
    pub(super) members: vec::IntoIter<Arc<Member>>,
    pub(super) publications: vec::IntoIter<Arc<Publication>>,
    pub(super) missed: vec::IntoIter<Arc<Entry>>,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.own_is_told() && self.members.len() + self.publications.len() + self.missed.len() == 0
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
        let Pub { rid, uid, mid, sfuid, minfo } = entry(&self.rid, &publication);
        Some(Notification::StreamAdd { rid, uid, mid, sfuid, minfo, position })
    }
}

impl Iterator for Rest {
    type Item = Utf8Bytes;

    fn next(&mut self) -> Option<Utf8Bytes> {
        match self.next_notification() {
            Some(notification) => Some(notification.to_frame().into()),
            None => self.missed.next().map(|entry| Notice::new(&self.rid, &entry).frame),
        }
    }
}
