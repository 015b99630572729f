//! What follows the answers to a client's joins and waits until it is taken: frame by frame from what each keeps, and from the
//! rooms' logs where that is not all.

use std::collections::VecDeque;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use proto::ids::RoomId;
use room_store::{LogRead, RoomStore, StoreError, follow};

use crate::notice::Signal;
use crate::session::Rest;

/// Those that wait, in the order in which they are sent.
#[derive(Default)]
pub(super) struct Rests {
    waiting: VecDeque<Arc<Mutex<Rest>>>,
    /// More of the first of them.
    reading: Option<BoxFuture<'static, Result<LogRead, StoreError>>>,
}

/// How far the first of them has come.
pub(super) enum Taken {
    All,
    /// There is more in the log, which is being read: nothing may overtake it.
    Part,
}

impl Rests {
    /// One more; its frames.
    pub(super) fn push(&mut self, rest: Rest) -> impl Iterator<Item = Utf8Bytes> + Send + use<> {
        let rest = Arc::new(Mutex::new(rest));
        self.waiting.push_back(Arc::clone(&rest));
        frames(rest)
    }

    /// All frames of the first were taken.
    pub(super) fn taken(&mut self, store: &Arc<dyn RoomStore>) -> Taken {
        let Some((room, after)) = self.waiting.front().and_then(|rest| {
            let rest = lock(rest);
            rest.later().map(|after| (rest.room().clone(), after))
        }) else {
            self.waiting.pop_front();
            return Taken::All;
        };
        let store = Arc::clone(store);
        self.reading = Some(async move { store.log_after(&room, after, None, follow::READ_LIMIT).await }.boxed());
        Taken::Part
    }

    /// Whether all that is to be sent is here.
    pub(super) fn are_whole(&self) -> bool {
        self.waiting.iter().all(|rest| lock(rest).later().is_none())
    }

    /// What was read; never, while nothing is.
    pub(super) async fn read(&mut self) -> Result<LogRead, StoreError> {
        match &mut self.reading {
            Some(reading) => {
                let read = reading.await;
                self.reading = None;
                read
            }
            None => std::future::pending().await,
        }
    }

    /// The further frames of the first; `None`: the log does not have them any more, or cannot be read.
    pub(super) fn go_on(
        &mut self,
        read: Result<LogRead, StoreError>,
    ) -> Option<impl Iterator<Item = Utf8Bytes> + Send + use<>> {
        let (Ok(LogRead::Entries(entries)), Some(rest)) = (read, self.waiting.front()) else { return None };
        lock(rest).go_on(entries);
        Some(frames(Arc::clone(rest)))
    }

    /// The room has told something: what its streams were before is not kept.
    pub(super) fn hear(&self, room: &RoomId, signal: &Signal) {
        for rest in &self.waiting {
            let mut rest = lock(rest);
            match signal {
                Signal::Notice(notice) if rest.room() == room => rest.let_go(notice),
                Signal::Converge { notices, .. } if rest.room() == room => {
                    for notice in notices {
                        rest.let_go(notice);
                    }
                }
                _ => {}
            }
        }
    }
}

fn frames(rest: Arc<Mutex<Rest>>) -> impl Iterator<Item = Utf8Bytes> + Send + use<> {
    iter::from_fn(move || lock(&rest).next())
}

/// What panics half-way leaves a frame out, and the client with it.
fn lock(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proto::ids::{PeerId, SessionId};
    use proto::json::RawJson;
    use room_store::{
        Actor, Attachment, Broadcast, ConnectionId, EntryId, Join, Joined, MemoryRooms, Missed, RoomSettings,
    };

    use super::*;

    const MISSED: usize = 240;

    async fn join(store: &dyn RoomStore, peer: &str, before: Option<&Joined>) -> Joined {
        let join = Join {
            room: "r".parse().expect("valid"),
            peer: peer.parse().expect("valid"),
            attachment: Attachment { edge: "e".parse().expect("valid"), connection: ConnectionId(1) },
            resume: before.map(|joined| joined.session.clone()),
            since: before.map(|joined| joined.position),
            fresh: SessionId::of(1),
            op: None,
        };
        store.join(join).await.expect("joined")
    }

    async fn say(store: &dyn RoomStore, talker: &Joined, count: usize) {
        for _ in 0..count {
            let (room, peer, session) =
                ("r".parse().expect("valid"), "bob".parse().expect("valid"), talker.session.clone());
            let data = RawJson::of(&"x".repeat(4_000)).expect("JSON");
            let (actor, entry) = (Actor { room, peer, session }, EntryId(rand::random()));
            store.broadcast(Broadcast { actor, data, entry, op: None }).await.expect("said");
        }
    }

    /// Ann has come back, and missed nearly as much as a log keeps.
    async fn back() -> (Arc<dyn RoomStore>, Joined, Rest) {
        let store: Arc<dyn RoomStore> = Arc::new(MemoryRooms::new(RoomSettings::default()));
        let talker = join(&*store, "bob", None).await;
        let before = join(&*store, "ann", None).await;
        say(&*store, &talker, MISSED).await;
        let joined = join(&*store, "ann", Some(&before)).await;
        let Missed::Entries(missed) = joined.missed else { panic!("{:?}", joined.missed) };
        let peer: PeerId = "ann".parse().expect("valid");
        (store, talker, Rest::of_missed("r".parse().expect("valid"), peer, joined.position, missed))
    }

    #[tokio::test]
    async fn what_is_not_kept_is_read_when_the_client_has_taken_the_rest_and_no_more_than_that() {
        let (store, talker, rest) = back().await;
        let mut rests = Rests::default();
        let mut told = rests.push(rest).count();
        assert!((1..MISSED / 2).contains(&told), "{told}");
        // For those who are in the room, not a part of it.
        say(&*store, &talker, 5).await;
        while let Taken::Part = rests.taken(&store) {
            assert!(!rests.are_whole());
            let read = rests.read().await;
            told += rests.go_on(read).expect("it is there").count();
        }
        assert_eq!(told, MISSED);
        assert!(rests.waiting.is_empty());
    }

    #[tokio::test]
    async fn what_the_log_has_forgotten_meanwhile_cannot_be_told() {
        let (store, talker, rest) = back().await;
        let mut rests = Rests::default();
        assert!(rests.push(rest).count() > 0);
        say(&*store, &talker, MISSED).await;
        assert!(matches!(rests.taken(&store), Taken::Part));
        let read = rests.read().await;
        assert!(rests.go_on(read).is_none());
    }
}
