//! A room store whose calls can be made to fail.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
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
    store::{Life, RoomStore},
    witness::Witness,
};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store is not reached: [`StoreError::Unavailable`].
    Unavailable,
    /// The request is lost on its way: [`StoreError::Timeout`], nothing is done.
    LostRequest,
    /// The reply is lost on its way: [`StoreError::Timeout`], but it is done.
    LostReply,
    /// It is done this much later.
    Late(Duration),
}

/// A store in front of another, between which things get lost. Clones are the same.
#[derive(Clone)]
pub struct FaultyRooms {
    store: Arc<dyn RoomStore>,
    /// The same, whose steps are seen.
    witnessed: Option<Arc<dyn RoomStore>>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    next: VecDeque<Fault>,
    /// Every call fails so.
    lasting: Option<Fault>,
    /// Every call of a name fails so.
    by_name: HashMap<&'static str, Fault>,
}

impl FaultyRooms {
    /// A store that does not fail yet.
    pub fn new(store: Arc<dyn RoomStore>) -> Self {
        Self { store, witnessed: None, faults: Arc::default() }
    }

    /// The next call fails so; the one after it as the next injected, or not.
    pub fn inject(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).next.push_back(fault);
    }

    /// Every call fails so from now on; `None`: none does any more.
    pub fn fail_all(&self, fault: Option<Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).lasting = fault;
    }

    /// Every call of this name (of a function of [`RoomStore`]) fails so from now on; `None`: none does any more.
    pub fn fail_calls(&self, name: &'static str, fault: Option<Fault>) {
        let by_name = &mut self.faults.lock().unwrap_or_else(PoisonError::into_inner).by_name;
        match fault {
            Some(fault) => by_name.insert(name, fault),
            None => by_name.remove(name),
        };
    }

    /// What is lost on its way back nobody has seen.
    async fn pass<T, F>(&self, name: &str, call: impl FnOnce(Arc<dyn RoomStore>) -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let fault = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.next.pop_front().or(faults.lasting).or_else(|| faults.by_name.get(name).copied())
        };
        let seen = self.witnessed.as_ref().unwrap_or(&self.store);
        match fault {
            None => call(Arc::clone(seen)).await,
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                call(Arc::clone(seen)).await
            }
            Some(Fault::Unavailable) => Err(StoreError::Unavailable),
            Some(Fault::LostRequest) => Err(StoreError::Timeout),
            Some(Fault::LostReply) => {
                drop(call(Arc::clone(&self.store)).await);
                Err(StoreError::Timeout)
            }
        }
    }
}

macro_rules! pass_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl RoomStore for FaultyRooms {
            fn settings(&self) -> &RoomSettings {
                self.store.settings()
            }

            fn witnessed(&self, witness: Arc<dyn Witness>) -> Arc<dyn RoomStore> {
                let witnessed = Some(self.store.witnessed(witness));
                Arc::new(Self { store: Arc::clone(&self.store), witnessed, faults: Arc::clone(&self.faults) })
            }

            fn part_away_since(&self) -> Option<Instant> {
                self.store.part_away_since()
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$result, StoreError> {
                self.pass(stringify!($name), move |store| async move { store.$name($($argument),*).await }).await
            })*
        }
    };
}

pass_on! {
    fn ping() -> Life;
    fn clocks() -> Vec<Option<Duration>>;
    fn join(join: Join) -> Joined;
    fn leave(actor: Actor, op: Option<OpId>) -> Left;
    fn refresh(room: &RoomId, edge: &EdgeId, holds: Vec<Hold>) -> Refreshed;
    fn socket_closed(actor: Actor, attachment: Attachment, for_good: bool) -> Released;
    fn reserve_publication(request: ReservePublication) -> Arc<Publication>;
    fn confirm_publication(actor: Actor, mid: &Mid) -> Arc<Publication>;
    fn remove_publication(mid: &Mid, by: EndedBy) -> Released;
    fn mute(actor: Actor, attachment: Attachment, mid: &Mid, audio: Option<bool>, video: Option<bool>) -> Arc<Publication>;
    fn set_recording(request: SetRecording) -> Arc<Publication>;
    fn reserve_subscription(request: ReserveSubscription) -> SubscriptionReserved;
    fn confirm_subscription(actor: Actor, sid: &Sid) -> Arc<Subscription>;
    fn remove_subscription(sid: &Sid, by: EndedBy) -> Released;
    fn broadcast(broadcast: Broadcast) -> ();
    fn members(actor: Actor, after: Option<PeerId>, limit: usize) -> Page<Arc<Member>>;
    fn publications(actor: Actor, after: Option<Mid>, limit: usize) -> Page<Arc<Publication>>;
    fn publication(actor: Actor, mid: &Mid) -> Arc<Publication>;
    fn subscription(actor: Actor, sid: &Sid) -> Arc<Subscription>;
    fn subscriptions_on(room: &RoomId, node: &NodeId, after: Option<Sid>, limit: usize) -> Page<Arc<Subscription>>;
    fn carriers(room: &RoomId) -> Vec<Carrier>;
    fn subscribe(room: &RoomId) -> RoomFeed;
    fn log_after(room: &RoomId, after: Position, id: Option<EntryId>, limit: usize) -> LogRead;
    fn snapshot(room: &RoomId) -> Option<Snapshot>;
    fn head(room: &RoomId) -> Option<Head>;
    fn start_epoch(room: &RoomId, seen: Epoch) -> Option<Head>;
    fn reassert(reassert: Reassert) -> Refreshed;
    fn due_rooms(limit: usize) -> Vec<RoomId>;
    fn expire_due(room: &RoomId, limit: usize) -> Expired;
}
