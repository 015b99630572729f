//! What owners here had muted or not when the store lost it: they have been answered, and do not know. It is set again beside the room's
//! task, which goes on telling; and only while it is what the owner wants: what it has set otherwise since stays.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use proto::ids::Mid;
use proto::signalling::Muted;
use room_store::{Actor, Attachment, ConnectionId, Publication, StoreError};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::sleep;

use super::Rooms;
use crate::sight::Sight;

/// Streams of one room set again at once. More: less room for what its clients ask for.
const AT_ONCE: usize = 8;
/// Mean pause before a call to the store that failed is made again.
const PAUSE: Duration = Duration::from_millis(500);
/// Streams are spread over so many places at which their owners and this wait for each other. Fewer: more owners wait for another's.
const PLACES: usize = 64;

/// Keeps what an owner asks for and what is set again for it apart in time: which came last would else be the store's to say. Owners
/// do not wait for each other.
pub(super) struct Muting {
    hasher: RandomState,
    places: [RwLock<()>; PLACES],
}

impl Default for Muting {
    fn default() -> Self {
        Self { hasher: RandomState::new(), places: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Muting {
    fn place(&self, mid: &Mid) -> &RwLock<()> {
        &self.places[self.hasher.hash_one(mid) as usize % PLACES]
    }
}

/// Whose stream it is, on which socket, and the stream as its owner has it.
pub(super) type MutedOtherwise = (Actor, ConnectionId, Arc<Publication>);

impl Rooms {
    /// The stream's owner has it muted or not: until this is dropped nothing is set again.
    pub(crate) async fn owner_mutes(&self, mid: &Mid) -> RwLockReadGuard<'_, ()> {
        self.inner.muting.place(mid).read().await
    }

    /// Until all is set again. Whoever owns the room's task ends this with it.
    pub(super) async fn mute_again(self, muted: Vec<MutedOtherwise>) {
        let one = |(actor, connection, stream): MutedOtherwise| {
            let rooms = &self;
            async move { rooms.insist_on(&actor, connection, &stream).await }
        };
        stream::iter(muted).for_each_concurrent(AT_ONCE, one).await;
    }

    async fn insist_on(&self, actor: &Actor, connection: ConnectionId, stream: &Publication) {
        let mut sight = self.inner.config.sight.clone();
        while let Err(error) = self.set_again(actor, connection, stream).await {
            tracing::debug!(room = %actor.room, mid = %stream.mid, %error, "what was muted is not set again");
            if !error.is_transient() {
                return;
            }
            // The sender lives as long as the edge.
            let _ = sight.wait_for(|sight| !matches!(sight, Sight::Lost { .. })).await;
            sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    async fn set_again(&self, actor: &Actor, connection: ConnectionId, stream: &Publication) -> Result<(), StoreError> {
        let config = &self.inner.config;
        // All rooms may have lost something at once.
        let _reading = self.inner.reading.acquire().await;
        let _alone = self.inner.muting.place(&stream.mid).write().await;
        let muted = stream.minfo.muted();
        if config.members.muted(actor, connection, &stream.mid) != Some(muted) {
            return Ok(());
        }
        let attachment = Attachment { edge: config.edge.clone(), connection };
        let Muted { audio, video } = muted;
        config.store.mute(actor.clone(), attachment, &stream.mid, Some(audio), Some(video)).await.map(drop)
    }
}
