//! Calls that are more than one step: of a room with many sessions, of the whole store, of a feed.

use std::{borrow::Cow, sync::Arc, time::Duration};

use deadpool_redis::redis::{cmd, from_redis_value};
use futures_util::future::{join_all, try_join_all};
use proto::ids::{EdgeId, RoomId};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Inner,
    index::life_at,
    keys::{BUCKETS, slot_of},
    node::{Command, Node},
    reply::{Malformed, Reply, muted_text},
    router::CALL,
    steps::new_epoch,
};
use crate::{
    change::{Assertion, Head, Hold, LossReason, Refreshed},
    error::StoreError,
    feed::RoomFeed,
    record::{Publication, Subscription},
    store::Life,
};

/// Sessions refreshed or put back in one step: more would hold the server up for longer than a few milliseconds.
const SESSIONS: usize = 500;

/// Streams put back in one step.
const STREAMS: usize = 1_000;

/// Parts of a cluster's index asked at once.
const BUCKETS_AT_ONCE: usize = 16;

/// Most rooms of one answer.
const MOST_ROOMS: usize = 100_000;

impl Inner {
    pub(super) async fn refresh(&self, room: &RoomId, edge: &EdgeId, holds: &[Hold]) -> Result<Refreshed, StoreError> {
        let mut refreshed = self.refresh_some(room, edge, &holds[..holds.len().min(SESSIONS)]).await?;
        for holds in holds.chunks(SESSIONS).skip(1) {
            let next = self.refresh_some(room, edge, holds).await?;
            refreshed.head = next.head;
            refreshed.lost.extend(next.lost);
        }
        Ok(refreshed)
    }

    async fn refresh_some(&self, room: &RoomId, edge: &EdgeId, holds: &[Hold]) -> Result<Refreshed, StoreError> {
        let mut step = self.step(room, &self.scripts.refresh).arg(edge.as_str());
        for hold in holds {
            step = step.hold(hold);
        }
        let Some(mut reply) = step.due_in(self.settings.ttl).reply_of_room().await? else {
            let lost = holds.iter().map(|hold| (hold.clone(), LossReason::Gone)).collect();
            return Ok(Refreshed { head: None, lost });
        };
        let head = Some(reply.head()?);
        Ok(Refreshed { head, lost: lost_of(&mut reply, |place| holds.get(place))? })
    }

    /// In parts: a session and its streams are in one, unless it has more than one step takes.
    pub(super) async fn reassert(
        &self,
        room: &RoomId,
        edge: &EdgeId,
        sessions: &[Assertion],
    ) -> Result<Refreshed, StoreError> {
        let mut refreshed = Refreshed { head: None, lost: Vec::new() };
        let sessions: Vec<Assertion> = sessions.iter().flat_map(cut).collect();
        let mut rest = &sessions[..];
        while !rest.is_empty() {
            let (part, later) = rest.split_at(part_of(rest));
            let (head, lost) = self.reassert_some(room, edge, part).await?;
            refreshed.head = Some(head);
            refreshed.lost.extend(lost);
            rest = later;
        }
        // A session that is in several parts is lost in each of them.
        refreshed.lost.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Ok(refreshed)
    }

    async fn reassert_some(
        &self,
        room: &RoomId,
        edge: &EdgeId,
        sessions: &[Assertion],
    ) -> Result<(Head, Vec<(Hold, LossReason)>), StoreError> {
        let step = self.step(room, &self.scripts.reassert).arg(edge.as_str()).arg(new_epoch());
        let mut step = step.arg(sessions.len().to_string());
        for session in sessions {
            let (publications, subscriptions) = (publications(session).count(), subscriptions(session).count());
            step = step.hold(&session.hold).arg(publications.to_string()).arg(subscriptions.to_string());
        }
        let streams = sessions.iter().flat_map(publications);
        for Publication { mid, minfo, placement, recording, always_recorded, .. } in streams {
            step = step.arg(mid.as_str()).placement(placement).arg(muted_text(minfo.muted()));
            step = step.flag(*always_recorded).option(recording.as_ref()).arg(minfo.raw().get());
        }
        for Subscription { sid, mid, placement, .. } in sessions.iter().flat_map(subscriptions) {
            step = step.arg(sid.as_str()).arg(mid.as_str()).placement(placement);
        }
        let mut reply = step.due_in(self.settings.ttl).restoring().reply().await?;
        let head = reply.head()?;
        Ok((head, lost_of(&mut reply, |place| sessions.get(place).map(|session| &session.hold))?))
    }

    /// Whether sessions may be ended: none whose lease ended because a master was away may be among them. Which rooms those are is not
    /// asked: an edge that waits for one master is slower to refresh what others have.
    pub(super) fn may_expire(&self) -> bool {
        self.index.as_ref().is_none_or(|index| index.is_whole_for(self.settings.ttl))
    }

    /// From another part of the index each time.
    pub(super) async fn due_rooms(&self, limit: usize) -> Result<Vec<RoomId>, StoreError> {
        if !self.may_expire() {
            return Ok(Vec::new());
        }
        let first = rand::random_range(0..BUCKETS);
        let numbers: Vec<usize> = (0..BUCKETS).map(|number| (first + number) % BUCKETS).collect();
        if self.index.is_none() {
            return self.due_in(&numbers, limit).await;
        }
        let mut due = Vec::new();
        for numbers in numbers.chunks(BUCKETS_AT_ONCE) {
            let left = limit - due.len();
            if left == 0 {
                break;
            }
            let found = try_join_all(numbers.chunks(1).map(|number| self.due_in(number, left))).await?;
            due.extend(found.into_iter().flatten().take(left));
        }
        Ok(due)
    }

    async fn due_in(&self, buckets: &[usize], limit: usize) -> Result<Vec<RoomId>, StoreError> {
        let keys: Vec<String> = buckets.iter().map(|number| self.keys.bucket(*number)).collect();
        let (limit, begin) = (limit.min(MOST_ROOMS).to_string(), rand::random::<f64>().to_string());
        let arguments: [Cow<'_, str>; 3] = [self.offset(), limit.into(), begin.into()];
        let command = Command::Script { script: &self.scripts.due_rooms, keys: &keys, arguments: &arguments };
        let answer = self.ear.router.call(slot_of(&keys[0]), &command, Instant::now() + CALL).await?;
        let entries: Vec<Vec<u8>> = from_redis_value(answer).map_err(|_| Malformed)?;
        let (mut rooms, mut strays) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries {
            match str::from_utf8(&entry).ok().and_then(|text| RoomId::new(text).ok()) {
                Some(room) => rooms.push(room),
                None => strays.push(entry),
            }
        }
        if !strays.is_empty() {
            self.remove_strays(&keys, &strays).await;
        }
        Ok(rooms)
    }

    /// What is no room's would be due for ever. Where it cannot be removed now, the next look for due rooms comes by again.
    async fn remove_strays(&self, buckets: &[String], strays: &[Vec<u8>]) {
        let first: String = String::from_utf8_lossy(&strays[0]).chars().take(64).collect();
        tracing::warn!(entries = strays.len(), ?first, "the index of due rooms names what is no room: it is removed");
        let deadline = Instant::now() + CALL;
        for bucket in buckets {
            let command = cmd("ZREM").arg(bucket).arg(strays).clone();
            let _ = self.ear.router.call(slot_of(bucket), &Command::Plain(&command), deadline).await;
        }
    }

    /// On a cluster each master can lose what it has, and be away.
    pub(super) async fn life(&self) -> Result<Life, StoreError> {
        match &self.index {
            Some(index) => index.look(&self.offset()).await,
            None => Ok(Life(life_at(&self.ear.router, &self.keys.life(0)).await?)),
        }
    }

    /// Of the servers that have the index' parts, in the parts' order: a part that moves is another clock's from then on.
    pub(super) async fn clocks(&self) -> Result<Vec<Option<Duration>>, StoreError> {
        let (parts, deadline) = (if self.index.is_some() { BUCKETS } else { 1 }, Instant::now() + CALL);
        let node_of = async |part| {
            let node = self.ear.router.node(slot_of(&self.keys.life(part)));
            timeout_at(deadline, node).await.ok().flatten()
        };
        let nodes = join_all((0..parts).map(node_of)).await;
        let mut asked: Vec<&Arc<Node>> = Vec::new();
        for node in nodes.iter().flatten() {
            if !asked.iter().any(|known| Arc::ptr_eq(known, node)) {
                asked.push(node);
            }
        }
        let times = join_all(asked.iter().map(|node| time_of(node, deadline))).await;
        let time = |node: &Arc<Node>| times[asked.iter().position(|known| Arc::ptr_eq(known, node))?];
        let clocks: Vec<_> = nodes.iter().map(|node| node.as_ref().and_then(time)).collect();
        if clocks.iter().all(Option::is_none) { Err(StoreError::Unavailable) } else { Ok(clocks) }
    }

    pub(super) async fn subscribe(self: &Arc<Self>, room: &RoomId) -> Result<RoomFeed, StoreError> {
        let receiver = self.ear.feeds().subscribe_closed(room, self.settings.feed_entries);
        let (id, open) = (receiver.id(), Box::new(receiver.opener()));
        let (followed, store) = (room.clone(), Arc::downgrade(self));
        let feed = receiver.into_feed(move || {
            if let Some(store) = store.upgrade() {
                store.unsubscribe(followed, id);
            }
        });
        let confirmed = async {
            let node = self.ear.router.node(slot_of(&self.keys.feed(room))).await?;
            node.listener(&self.ear).follow(room.clone(), open).await.then_some(())
        };
        match timeout(CALL, confirmed).await {
            Ok(Some(())) => Ok(feed),
            _ => Err(StoreError::Unavailable),
        }
    }

    fn unsubscribe(&self, room: RoomId, id: u64) {
        let is_followed = {
            let mut feeds = self.ear.feeds();
            feeds.unsubscribe(&room, id);
            feeds.is_followed(&room)
        };
        if !is_followed && let Some(node) = self.ear.router.known_node(slot_of(&self.keys.feed(&room))) {
            node.listener(&self.ear).unfollow(room);
        }
    }
}

/// `TIME`: seconds and microseconds.
async fn time_of(node: &Node, deadline: Instant) -> Option<Duration> {
    let answer = node.call(&Command::Plain(&cmd("TIME")), false, deadline).await.ok()?;
    let (seconds, micros): (u64, u64) = from_redis_value(answer).ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

/// A session as often as it takes to put back all its streams.
fn cut(session: &Assertion) -> Vec<Assertion> {
    let Assertion { hold, publications, subscriptions } = session;
    if publications.len() + subscriptions.len() <= STREAMS {
        return vec![session.clone()];
    }
    let publications = publications.chunks(STREAMS).map(|few| (few.to_vec(), Vec::new()));
    let subscriptions = subscriptions.chunks(STREAMS).map(|few| (Vec::new(), few.to_vec()));
    let part = |(publications, subscriptions)| Assertion { hold: hold.clone(), publications, subscriptions };
    publications.chain(subscriptions).map(part).collect()
}

/// How many of the sessions are put back next: one at least.
fn part_of(sessions: &[Assertion]) -> usize {
    let mut streams = 0;
    let fit = sessions.iter().take(SESSIONS).take_while(|session| {
        streams += session.publications.len() + session.subscriptions.len();
        streams <= STREAMS
    });
    fit.count().max(1)
}

/// Its own: nobody puts back another's.
fn publications(session: &Assertion) -> impl Iterator<Item = &Publication> {
    session.publications.iter().map(|record| &**record).filter(|record| record.owner == session.hold.peer)
}

fn subscriptions(session: &Assertion) -> impl Iterator<Item = &Subscription> {
    session.subscriptions.iter().map(|record| &**record).filter(|record| record.subscriber == session.hold.peer)
}

fn lost_of<'a>(
    reply: &mut Reply,
    hold: impl Fn(usize) -> Option<&'a Hold>,
) -> Result<Vec<(Hold, LossReason)>, Malformed> {
    let lost = reply.lost()?.into_iter();
    lost.map(|(place, reason)| Ok((hold(place).ok_or(Malformed)?.clone(), reason))).collect()
}
