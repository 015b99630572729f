//! Requests that are one call to the store: `leave`, `keepalive`, `unpublish`, `unsubscribe`, `broadcast`, `mute`, `getusers`
//! and `getpubs`.

use std::sync::Arc;

use proto::ids::{OpId, RoomId, SessionId};
use proto::signalling::answer::{PubsAnswer, UsersAnswer};
use proto::signalling::{Cursor, ErrorCode, Request};
use rand::RngExt as _;
use room_store::{Actor, Broadcast, EntryId, Hold, Left, Member, Page, Publication, StoreError};

use super::command::{Command, Completion, Detached};
use super::flow::{Context, Flow, Next, Reply, not_in_room};
use super::join::{entry, user};
use super::paging::{SNAPSHOT_BYTES, fit};

/// Longest `data` of a broadcast: the notification around it, with ids of 128 characters each, has to stay under 128 KiB.
pub(crate) const MAX_BROADCAST_BYTES: usize = 120 * 1024;
/// Entries read for one page: with the shortest ids they are about what fits.
const PAGE_ENTRIES: usize = 1_024;

/// Such a request being carried out.
pub(super) struct SingleFlow {
    rid: RoomId,
    request: Request,
    op: Option<OpId>,
}

impl SingleFlow {
    pub(super) fn new(request: Request, op: Option<OpId>) -> Self {
        let rid = request.rid().expect("invariant: each of these is about a room").clone();
        Self { rid, request, op }
    }

    fn command(&self, cx: &mut Context<'_>, actor: Actor) -> Next {
        Next::Run(match &self.request {
            Request::Leave { .. } => Command::Leave { actor, op: self.op.clone() },
            Request::KeepAlive { .. } => Command::Refresh {
                room: actor.room,
                hold: Hold { peer: actor.peer, session: actor.session, connection: cx.connection },
            },
            Request::Unpublish { mid, .. } => Command::RemovePublication { actor, mid: mid.clone() },
            Request::Unsubscribe { sid, .. } => Command::RemoveSubscription { actor, sid: sid.clone() },
            Request::Mute { mid, audio, video, .. } => {
                Command::Mute { actor, mid: mid.clone(), audio: *audio, video: *video }
            }
            Request::Broadcast { data, .. } if data.get().len() > MAX_BROADCAST_BYTES => {
                return Next::reject(ErrorCode::TooLarge, "data is longer than 120 KiB");
            }
            Request::Broadcast { data, .. } => Command::Broadcast(Broadcast {
                actor,
                data: data.clone(),
                entry: EntryId(cx.rng.random()),
                op: self.op.clone(),
            }),
            Request::GetUsers { cursor, .. } => {
                let after = cursor.as_ref().and_then(|cursor| cursor.users_after.clone());
                Command::Members { actor, after, limit: PAGE_ENTRIES }
            }
            Request::GetPubs { cursor, .. } => {
                let after = cursor.as_ref().and_then(|cursor| cursor.pubs_after.clone());
                Command::Publications { actor, after, limit: PAGE_ENTRIES }
            }
            Request::Join(_)
            | Request::Publish(_)
            | Request::Subscribe(_)
            | Request::Restart { .. }
            | Request::Record { .. }
            | Request::Refresh { .. } => {
                return cx.internal("a request of another kind among those of one call");
            }
        })
    }

    fn users(&self, page: &Page<Arc<Member>>) -> Next {
        let cut = fit(page.items.iter().map(|member| user(&self.rid, member)), &mut SNAPSHOT_BYTES.clone());
        let last = if cut.is_cut {
            cut.fitting.last().map(|user| user.uid.clone())
        } else {
            page.items.last().map(|member| member.peer.clone()).filter(|_| page.more)
        };
        let more = last.map(|last| Cursor { users_after: Some(last), ..self.cursor() });
        Next::Finish(Ok(Reply::Users(UsersAnswer { users: cut.fitting, more })))
    }

    fn pubs(&self, page: &Page<Arc<Publication>>) -> Next {
        let entries = page.items.iter().map(|publication| entry(&self.rid, publication));
        let cut = fit(entries, &mut SNAPSHOT_BYTES.clone());
        let last = if cut.is_cut {
            cut.fitting.last().map(|publication| publication.mid.clone())
        } else {
            page.items.last().map(|publication| publication.mid.clone()).filter(|_| page.more)
        };
        let more = last.map(|last| Cursor { pubs_after: Some(last), ..self.cursor() });
        Next::Finish(Ok(Reply::Pubs(PubsAnswer { pubs: cut.fitting, more })))
    }

    /// Where the lists went on with this request.
    fn cursor(&self) -> Cursor {
        match &self.request {
            Request::GetUsers { cursor, .. } | Request::GetPubs { cursor, .. } => cursor.clone().unwrap_or_default(),
            _ => Cursor::default(),
        }
    }

    fn left(&self, cx: &mut Context<'_>, left: Left) {
        if left.ended {
            cx.rooms.lose(&self.rid, cx.out);
        }
        if !left.released.is_empty() {
            cx.detach(Detached::Close(left.released));
        }
    }

    fn kept_alive(&self, cx: &mut Context<'_>, is_lost: bool) -> Next {
        if !is_lost {
            return Next::Finish(Ok(Reply::Done));
        }
        cx.rooms.lose(&self.rid, cx.out);
        not_in_room().into()
    }
}

impl Flow for SingleFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        match cx.actor(&self.rid) {
            Ok(actor) => self.command(cx, actor),
            // It may have been carried out already, also for another socket: the store knows its `op`.
            Err(_) if self.op.is_some() && matches!(self.request, Request::Leave { .. }) => {
                let nobodys = SessionId::of(cx.rng.random());
                let actor = Actor { room: self.rid.clone(), peer: cx.peer.clone(), session: nobodys };
                self.command(cx, actor)
            }
            Err(rejection) => rejection.into(),
        }
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        match completion {
            Completion::Left(Ok(left)) => self.left(cx, left),
            Completion::Released(Ok(released)) => cx.detach(Detached::Close(released)),
            Completion::Refreshed(Ok(refreshed)) => {
                return self.kept_alive(cx, !refreshed.lost.is_empty());
            }
            Completion::Publication(Ok(_)) | Completion::Said(Ok(())) => {}
            Completion::Members(Ok(page)) => return self.users(&page),
            Completion::Publications(Ok(page)) => return self.pubs(&page),
            Completion::Left(Err(error))
            | Completion::Released(Err(error))
            | Completion::Refreshed(Err(error))
            | Completion::Publication(Err(error))
            | Completion::Said(Err(error))
            | Completion::Members(Err(error))
            | Completion::Publications(Err(error)) => return cx.store_failed(&self.rid, error),
            other => return cx.mismatch(&other),
        }
        Next::Finish(Ok(Reply::Done))
    }

    /// What was ended is ended; what it carried still has to be closed.
    fn give_up(&mut self, cx: &mut Context<'_>, completion: Completion) {
        match completion {
            Completion::Left(Ok(left)) => self.left(cx, left),
            Completion::Released(Ok(released)) => cx.detach(Detached::Close(released)),
            Completion::Left(Err(StoreError::NotMember)) => cx.rooms.lose(&self.rid, cx.out),
            _ => {}
        }
    }
}
