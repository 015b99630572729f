//! One SFU node as this edge sees it: what it was last heard to be, which of its streams this edge minds, and what is still to be
//! done about them. The task that keeps it up to date is `link`.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::ids::{BootId, NodeId, RegionId, RoomId};
use proto::sfu::{CloseTransportsRequest, DescribeRequest, DescribeResponse, RecordRequest};
use room_store::{NodeRecord, NodeState};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::calls::{self, Outstanding, SfuError};
use super::closing::Closes;
use super::judge::{Judge, Lease};
use super::traced::{self, Client};
use super::unheard::Unheard;
use crate::metrics::{EdgeMetrics, SfuCall};

/// A call that takes longer is slow: a node answers within milliseconds.
const SLOW: Duration = Duration::from_secs(1);

/// How a node is doing, as far as this edge can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Not heard of yet.
    Unknown,
    Up(BootId),
    /// It has just not answered: nothing new goes there until it does, what is there stays.
    Doubtful(BootId),
    Down,
}

/// Whether a node takes new publications, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    Yes,
    /// It is going away: what it has is to move elsewhere until then.
    Draining {
        since: Instant,
        until: Instant,
    },
    /// It does not, and says not why, or that another process has its name.
    No,
}

/// A report of a node's load, as it came. Clocks of two machines are not compared: it says itself how old it was when it was written.
#[derive(Debug, Clone, Copy)]
struct Report {
    number: u64,
    age: Duration,
    heard: Instant,
}

/// One node, at one address.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) region: RegionId,
    pub(super) address: String,
    pub(super) client: Client,
    health: Mutex<Health>,
    /// Since when it has been down.
    down_since: Mutex<Option<Instant>>,
    taking: Mutex<Taking>,
    /// It would begin a recording, as it last said.
    pub(super) records: AtomicBool,
    judge: Mutex<Judge>,
    unheard: Mutex<Unheard>,
    /// What the directory knows of it: a node whose lease is gone may still carry streams.
    pub(super) lease: watch::Sender<Lease>,
    /// Rooms of this edge whose streams it carries.
    pub(super) rooms: watch::Sender<BTreeSet<RoomId>>,
    /// Those that are to be compared with the node again: something about them could not be written to the store. At most all of
    /// this edge's rooms there.
    pub(super) stale: Pile,
    /// Those whose records of dead starts could not be removed yet. Likewise.
    pub(super) unburied: Pile,
    /// Asks for a probe now.
    pub(super) probe_now: Notify,
    /// Its lease lives, and it cannot be reached from here.
    pub(super) cut_off: AtomicBool,
    pub(super) calls: Outstanding,
    pub(super) recording_calls: Outstanding,
    pub(super) closes: Closes,
    /// The last report of its load that was heard of.
    report: Mutex<Option<Report>>,
    metrics: EdgeMetrics,
    /// Ends the node's task.
    pub(super) forgotten: CancellationToken,
}

/// Rooms about which something is to be done.
#[derive(Default)]
pub(super) struct Pile {
    rooms: Mutex<BTreeSet<RoomId>>,
    pub(super) added: Notify,
}

impl Pile {
    pub(super) fn add(&self, rooms: impl IntoIterator<Item = RoomId>) {
        lock(&self.rooms).extend(rooms);
        self.added.notify_one();
    }

    pub(super) fn remove(&self, room: &RoomId) {
        lock(&self.rooms).remove(room);
    }

    pub(super) fn take(&self) -> BTreeSet<RoomId> {
        std::mem::take(&mut *lock(&self.rooms))
    }
}

impl Node {
    pub(super) fn new(
        record: &NodeRecord,
        channel: Channel,
        rooms: BTreeSet<RoomId>,
        forgotten: CancellationToken,
        metrics: EdgeMetrics,
    ) -> Self {
        Self {
            id: record.node.clone(),
            region: record.region.clone(),
            address: record.address.clone(),
            client: traced::client(channel),
            health: Mutex::new(Health::Unknown),
            down_since: Mutex::default(),
            taking: Mutex::new(Taking::Yes),
            records: AtomicBool::new(false),
            judge: Mutex::default(),
            unheard: Mutex::default(),
            lease: watch::Sender::new(Lease::Held(record.boot.clone())),
            rooms: watch::Sender::new(rooms),
            stale: Pile::default(),
            unburied: Pile::default(),
            probe_now: Notify::new(),
            cut_off: AtomicBool::new(false),
            calls: Outstanding::quick(),
            recording_calls: Outstanding::records(),
            closes: Closes::default(),
            report: Mutex::new(heard_of(record)),
            metrics,
            forgotten,
        }
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// The health it had.
    pub(super) fn set_health(&self, health: Health) -> Health {
        let mut down_since = lock(&self.down_since);
        *down_since = (health == Health::Down).then(|| down_since.unwrap_or_else(Instant::now));
        std::mem::replace(&mut *self.health(), health)
    }

    pub(super) fn is_down_for(&self, time: Duration, now: Instant) -> bool {
        lock(&self.down_since).is_some_and(|since| now.saturating_duration_since(since) >= time)
    }

    pub(super) fn taking(&self) -> MutexGuard<'_, Taking> {
        lock(&self.taking)
    }

    pub(super) fn judge(&self) -> MutexGuard<'_, Judge> {
        lock(&self.judge)
    }

    /// Why it has never answered, if it has not.
    pub(super) fn unheard(&self) -> MutexGuard<'_, Unheard> {
        lock(&self.unheard)
    }

    /// The start it runs as, if it answers.
    pub(super) fn up(&self) -> Option<BootId> {
        match &*self.health() {
            Health::Up(boot) => Some(boot.clone()),
            Health::Unknown | Health::Doubtful(_) | Health::Down => None,
        }
    }

    /// Takes in the directory's entry. Draining is what the node itself says, with a time; the directory is often first, and a probe
    /// hears the rest.
    pub(super) fn handle_entry(&self, record: &NodeRecord) {
        let lease = Lease::Held(record.boot.clone());
        self.lease.send_if_modified(|known| std::mem::replace(known, lease.clone()) != lease);
        self.hear_report(record);
        if record.state == NodeState::Draining && *self.taking() == Taking::Yes {
            self.probe_now.notify_one();
        }
    }

    fn hear_report(&self, record: &NodeRecord) {
        let mut known = lock(&self.report);
        if known.is_none_or(|known| known.number != record.reports) {
            *known = heard_of(record);
        }
    }

    /// How old its load is by now, as far as that is known here; `None`: it reports none, or has no lease.
    pub(super) fn load_age(&self, now: Instant) -> Option<Duration> {
        let is_held = matches!(*self.lease.borrow(), Lease::Held(_));
        lock(&self.report).filter(|_| is_held).map(|report| report.age + now.saturating_duration_since(report.heard))
    }

    /// The directory has no entry of it any more.
    pub(super) fn handle_no_entry(&self) {
        self.lease.send_if_modified(|lease| std::mem::replace(lease, Lease::Gone) != Lease::Gone);
    }

    /// It cannot be reached though its lease lives, or it can; whether that is news.
    pub(super) fn set_cut_off(&self, cut_off: bool) -> bool {
        self.cut_off.swap(cut_off, Ordering::Relaxed) != cut_off
    }

    /// Asks the node who it is.
    pub(super) async fn describe(&self, deadline: Instant) -> Result<DescribeResponse, Status> {
        let mut client = self.client.clone();
        match timeout_at(deadline, client.describe(DescribeRequest {})).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }

    /// Makes a call, in its turn. A call that takes long is a reason to look whether the node answers at all.
    pub(super) async fn call<T, F>(
        &self,
        call: SfuCall,
        deadline: Instant,
        attempt: impl FnMut() -> F,
    ) -> Result<T, SfuError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_among(call, &self.calls, deadline, attempt).await
    }

    /// Has a stream recorded, or no longer.
    pub(super) async fn record(&self, deadline: Instant, request: RecordRequest) -> Result<(), SfuError> {
        let attempt = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.record(request).await }
        };
        self.call_among(SfuCall::Record, &self.recording_calls, deadline, attempt).await.map(drop)
    }

    async fn call_among<T, F>(
        &self,
        call: SfuCall,
        calls: &Outstanding,
        deadline: Instant,
        attempt: impl FnMut() -> F,
    ) -> Result<T, SfuError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = Instant::now();
        let called = match calls.turn(deadline).await {
            Some(_turn) => self.call_now(deadline, attempt).await,
            None => Err(SfuError::Unreachable),
        };
        self.metrics.called_sfu(call, SfuError::result(&called), begun.elapsed());
        called
    }

    async fn call_now<T, F>(&self, deadline: Instant, attempt: impl FnMut() -> F) -> Result<T, SfuError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut calling = pin!(calls::call(deadline, attempt));
        if let Ok(called) = timeout(SLOW, &mut calling).await {
            return called;
        }
        self.probe_now.notify_one();
        calling.await
    }

    pub(super) async fn close_transports(&self, transport_ids: Vec<String>, deadline: Instant) -> Result<(), SfuError> {
        let request = CloseTransportsRequest { transport_ids };
        self.call(SfuCall::Close, deadline, || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.close_transports(request).await }
        })
        .await
        .map(drop)
    }
}

/// A directory that is a list knows of no reports.
fn heard_of(record: &NodeRecord) -> Option<Report> {
    let age = Duration::from_millis(record.load.age_ms.into());
    (record.reports > 0).then(|| Report { number: record.reports, age, heard: Instant::now() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
