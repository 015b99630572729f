//! The calls of a room store, as steps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use proto::ids::{EdgeId, Epoch, Mid, NodeId, OpId, PeerId, Position, RoomId, Sid};
use tokio::time::Instant;

use super::{
    Inner, RedisRooms,
    index::{Index, Occupied},
    reply::{Malformed, Reply, entry_text},
    router::CALL,
    steps::new_epoch,
};
use crate::{
    change::{
        Broadcast, EndedBy, Expired, Head, Hold, Join, JoinKind, Joined, Left, Missed, Page, Reassert, Refreshed,
        ReservePublication, ReserveSubscription, SetBy, SetRecording, Snapshot, SubscriptionReserved,
    },
    error::StoreError,
    feed::RoomFeed,
    log::{EntryId, LogRead},
    record::{Actor, Attachment, Carrier, Member, Publication, Released, Subscription},
    settings::RoomSettings,
    store::{Life, RoomStore},
    witness::{CallKind, UnsubscribeReason, Witness},
};

/// Candidates looked at for a publication.
const CANDIDATES: usize = 16;

#[async_trait]
impl RoomStore for RedisRooms {
    fn settings(&self) -> &RoomSettings {
        &self.0.settings
    }

    fn witnessed(&self, witness: Arc<dyn Witness>) -> Arc<dyn RoomStore> {
        Arc::new(Self(Arc::new(Inner { witness: Some(witness), ..Inner::clone(&self.0) })))
    }

    async fn ping(&self) -> Result<Life, StoreError> {
        let begun = Instant::now();
        let life = self.0.life().await;
        self.0.took(CallKind::Ping, begun, &life);
        life
    }

    fn part_away_since(&self) -> Option<Instant> {
        self.0.index.as_deref().and_then(Index::away_since)
    }

    async fn clocks(&self) -> Result<Vec<Option<Duration>>, StoreError> {
        self.0.clocks().await
    }

    async fn join(&self, join: Join) -> Result<Joined, StoreError> {
        let Join { room, peer, attachment, resume, since, fresh, op } = &join;
        let (store, deadline) = (&*self.0, Instant::now() + CALL);
        let full = match &store.index {
            Some(index) => index.is_full(store.settings.limits.rooms).await,
            None => false,
        };
        let step = store.step(room, &store.scripts.join).arg(peer.as_str()).attachment(attachment);
        let step = step.option(resume.as_ref()).since(*since);
        let step = step.arg(fresh.as_str()).option(op.as_ref()).arg(new_epoch()).flag(full).with_ops(peer);
        let mut reply = step.until(deadline).due_in(store.settings.ttl).reply().await?;
        Ok(read_joined(&mut reply, peer, *since)?)
    }

    async fn leave(&self, actor: Actor, op: Option<OpId>) -> Result<Left, StoreError> {
        let store = &*self.0;
        let step = store.act(&actor, &store.scripts.leave).option(op.as_ref()).with_ops(&actor.peer);
        let mut reply = step.due_in(store.settings.ttl).reply().await?;
        let ended = reply.flag()?;
        Ok(Left { released: reply.released()?, ended })
    }

    async fn refresh(&self, room: &RoomId, edge: &EdgeId, holds: Vec<Hold>) -> Result<Refreshed, StoreError> {
        self.0.refresh(room, edge, &holds).await
    }

    async fn socket_closed(
        &self,
        actor: Actor,
        attachment: Attachment,
        for_good: bool,
    ) -> Result<Released, StoreError> {
        let store = &*self.0;
        let step = store.act(&actor, &store.scripts.socket_closed).attachment(&attachment).flag(for_good);
        let RoomSettings { ttl, grace, .. } = store.settings;
        Ok(step.due_in(ttl.min(grace)).reply().await?.released()?)
    }

    async fn reserve_publication(&self, request: ReservePublication) -> Result<Arc<Publication>, StoreError> {
        let ReservePublication { actor, mid, minfo, candidates, recording, always_recorded, op } = &request;
        let store = &*self.0;
        let step = store.act(actor, &store.scripts.reserve_publication).arg(mid.as_str()).minfo(minfo);
        let step = step.flag(*always_recorded).option(recording.as_ref());
        let mut step = step.option(op.as_ref()).with_ops(&actor.peer);
        for candidate in candidates.iter().take(CANDIDATES) {
            step = step.placement(candidate);
        }
        Ok(step.due_in(store.settings.reservation).reply().await?.publication()?)
    }

    async fn confirm_publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.confirm_publication).arg(mid.as_str());
        Ok(step.reply().await?.publication()?)
    }

    async fn remove_publication(&self, mid: &Mid, by: EndedBy) -> Result<Released, StoreError> {
        let scripts = &self.0.scripts;
        let step = match &by {
            EndedBy::Client(actor) => self.0.act(actor, &scripts.unpublish).arg(mid.as_str()).with_ops(&actor.peer),
            EndedBy::Node { room, placement, reason } => {
                let step = self.0.step(room, &scripts.publication_lost).arg(mid.as_str());
                step.arg(placement.node.as_str()).arg(placement.boot.as_str()).arg(reason.name())
            }
        };
        Ok(step.reply().await?.released()?)
    }

    async fn mute(
        &self,
        actor: Actor,
        attachment: Attachment,
        mid: &Mid,
        audio: Option<bool>,
        video: Option<bool>,
    ) -> Result<Arc<Publication>, StoreError> {
        let as_text = |muted: Option<bool>| muted.map_or("", |muted| if muted { "1" } else { "0" });
        let step = self.0.act(&actor, &self.0.scripts.mute).attachment(&attachment).arg(mid.as_str());
        Ok(step.arg(as_text(audio)).arg(as_text(video)).reply().await?.publication()?)
    }

    async fn set_recording(&self, request: SetRecording) -> Result<Arc<Publication>, StoreError> {
        let SetRecording { by, mid, expected, recording } = &request;
        let script = &self.0.scripts.set_recording;
        let step = match by {
            SetBy::Client(actor) => self.0.act(actor, script),
            SetBy::Edge(room) => self.0.step(room, script).arg("").arg(""),
        };
        let step = step.arg(mid.as_str()).option(expected.as_ref()).option(recording.as_ref());
        Ok(step.reply().await?.publication()?)
    }

    async fn reserve_subscription(&self, request: ReserveSubscription) -> Result<SubscriptionReserved, StoreError> {
        let ReserveSubscription { actor, sid, mid, placement, op } = &request;
        let store = &*self.0;
        let step = store.act(actor, &store.scripts.reserve_subscription).arg(sid.as_str()).arg(mid.as_str());
        let step = match placement {
            Some(placement) => step.placement(placement),
            None => step.arg("").arg("").arg(""),
        };
        let step = step.option(op.as_ref()).with_ops(&actor.peer);
        let mut reply = step.due_in(store.settings.reservation).reply().await?;
        let subscription = reply.subscription()?;
        Ok(SubscriptionReserved { subscription, publication: reply.publication()? })
    }

    async fn confirm_subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.confirm_subscription).arg(sid.as_str());
        Ok(step.reply().await?.subscription()?)
    }

    async fn remove_subscription(&self, sid: &Sid, by: EndedBy) -> Result<Released, StoreError> {
        let scripts = &self.0.scripts;
        let step = match &by {
            EndedBy::Client(actor) => self.0.act(actor, &scripts.unsubscribe).arg(sid.as_str()).with_ops(&actor.peer),
            EndedBy::Node { room, placement, reason } => {
                let step = self.0.step(room, &scripts.subscription_lost).arg(sid.as_str());
                let step = step.arg(placement.node.as_str()).arg(placement.boot.as_str());
                step.arg(UnsubscribeReason::from(*reason).name())
            }
        };
        Ok(step.reply().await?.released()?)
    }

    async fn broadcast(&self, broadcast: Broadcast) -> Result<(), StoreError> {
        let Broadcast { actor, data, entry, op } = &broadcast;
        let step = self.0.act(actor, &self.0.scripts.broadcast).arg(data.get()).arg(entry_text(*entry));
        step.option(op.as_ref()).with_ops(&actor.peer).reply().await.map(|_| ())
    }

    async fn members(
        &self,
        actor: Actor,
        after: Option<PeerId>,
        limit: usize,
    ) -> Result<Page<Arc<Member>>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.members_page).option(after.as_ref()).limit(limit);
        let mut members = step.reply().await?.members()?;
        members.retain(|member| member.peer != actor.peer);
        Ok(page(members, limit))
    }

    async fn publications(
        &self,
        actor: Actor,
        after: Option<Mid>,
        limit: usize,
    ) -> Result<Page<Arc<Publication>>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.publications_page).option(after.as_ref()).limit(limit);
        Ok(page(step.reply().await?.publications()?, limit))
    }

    async fn publication(&self, actor: Actor, mid: &Mid) -> Result<Arc<Publication>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.publication).arg(mid.as_str());
        Ok(step.reply().await?.publication()?)
    }

    async fn subscription(&self, actor: Actor, sid: &Sid) -> Result<Arc<Subscription>, StoreError> {
        let step = self.0.act(&actor, &self.0.scripts.subscription).arg(sid.as_str());
        Ok(step.reply().await?.subscription()?)
    }

    async fn subscriptions_on(
        &self,
        room: &RoomId,
        node: &NodeId,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Page<Arc<Subscription>>, StoreError> {
        let step = self.0.step(room, &self.0.scripts.subscriptions_on).arg(node.as_str());
        let mut reply = step.option(after.as_ref()).limit(limit).reply().await?;
        Ok(page(reply.subscriptions()?, limit))
    }

    async fn carriers(&self, room: &RoomId) -> Result<Vec<Carrier>, StoreError> {
        Ok(self.0.step(room, &self.0.scripts.carriers).reply().await?.carriers()?)
    }

    async fn subscribe(&self, room: &RoomId) -> Result<RoomFeed, StoreError> {
        self.0.subscribe(room).await
    }

    async fn log_after(
        &self,
        room: &RoomId,
        after: Position,
        id: Option<EntryId>,
        limit: usize,
    ) -> Result<LogRead, StoreError> {
        let step = self.0.step(room, &self.0.scripts.log_after).since(Some(after));
        let step = step.arg(id.map(entry_text).unwrap_or_default()).limit(limit);
        let Some(mut reply) = step.reply_of_room().await? else {
            return Ok(LogRead::Lost { head: None, diverged: false });
        };
        if reply.text()? == "entries" {
            return Ok(LogRead::Entries(reply.entries(after)?));
        }
        let diverged = reply.flag()?;
        Ok(LogRead::Lost { head: Some(reply.head()?), diverged })
    }

    async fn snapshot(&self, room: &RoomId) -> Result<Option<Snapshot>, StoreError> {
        let reply = self.0.step(room, &self.0.scripts.snapshot).reply_of_room().await?;
        Ok(reply.map(|mut reply| read_snapshot(&mut reply)).transpose()?)
    }

    async fn head(&self, room: &RoomId) -> Result<Option<Head>, StoreError> {
        let reply = self.0.step(room, &self.0.scripts.head).reply_of_room().await?;
        Ok(reply.map(|mut reply| reply.head()).transpose()?)
    }

    async fn start_epoch(&self, room: &RoomId, seen: Epoch) -> Result<Option<Head>, StoreError> {
        let step = self.0.step(room, &self.0.scripts.start_epoch).arg(seen.to_string()).arg(new_epoch());
        Ok(step.reply_of_room().await?.map(|mut reply| reply.head()).transpose()?)
    }

    async fn reassert(&self, reassert: Reassert) -> Result<Refreshed, StoreError> {
        let Reassert { room, edge, sessions } = &reassert;
        if sessions.is_empty() {
            self.0.refresh(room, edge, &[]).await
        } else {
            self.0.reassert(room, edge, sessions).await
        }
    }

    async fn due_rooms(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        self.0.due_rooms(limit).await
    }

    async fn expire_due(&self, room: &RoomId, limit: usize) -> Result<Expired, StoreError> {
        if !self.0.may_expire() {
            return Ok(Expired::default());
        }
        let step = self.0.step(room, &self.0.scripts.expire_due).limit(limit);
        let deadline = step.deadline;
        let seen = match &self.0.index {
            Some(index) => Some((index, index.seen(room, deadline).await.map_err(|_| StoreError::Unavailable)?)),
            None => None,
        };
        let mut reply = step.reply().await?;
        let peers = reply.texts()?.into_iter().map(|peer| PeerId::new(peer).map_err(|_| Malformed));
        let mut peers = peers.collect::<Result<Vec<_>, _>>()?;
        peers.sort();
        let (released, more, next) = (reply.released()?, reply.flag()?, reply.text()?);
        if let Some((index, seen)) = seen {
            let occupied = if reply.flag()? { Occupied::Yes } else { Occupied::No };
            // It is done; where this fails the next sweep comes by again.
            let _ = index.settle(room, &seen, &next, occupied, deadline).await;
        }
        Ok(Expired { peers, released, more })
    }
}

fn read_joined(reply: &mut Reply, peer: &PeerId, since: Option<Position>) -> Result<Joined, Malformed> {
    let how = match reply.text()?.as_str() {
        "new" => JoinKind::New,
        "resumed" => JoinKind::Resumed,
        _ => JoinKind::TookOver,
    };
    let session = reply.id()?;
    let Head { position, id: head } = reply.head()?;
    let missed = reply.text()?;
    let entries = reply.entries(since.unwrap_or(Position::NONE))?;
    let missed = match missed.as_str() {
        "none" => Missed::NotAsked,
        "resync" => Missed::Resync,
        _ => Missed::Entries(entries.into_iter().filter(|entry| entry.concerns(peer)).collect()),
    };
    let (superseded, released) = (reply.attachment()?, reply.released()?);
    let mut members = reply.members()?;
    members.retain(|member| member.peer != *peer);
    let confirmed = reply.publications()?.into_iter().filter(|record| record.confirmed);
    let (own_publications, publications) = confirmed.partition(|record| record.owner == *peer);
    let mut own_subscriptions = reply.subscriptions()?;
    own_subscriptions.retain(|record| record.confirmed);
    Ok(Joined {
        session,
        how,
        position,
        head,
        members,
        publications,
        own_publications,
        own_subscriptions,
        missed,
        superseded,
        released,
    })
}

fn read_snapshot(reply: &mut Reply) -> Result<Snapshot, Malformed> {
    let (head, members) = (reply.head()?, reply.members()?);
    let mut publications = reply.publications()?;
    publications.retain(|record| record.confirmed);
    Ok(Snapshot { head, members, publications })
}

/// One more than asked for tells whether there are more.
fn page<T>(mut items: Vec<T>, limit: usize) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}
