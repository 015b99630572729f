//! An entry of ours in etcd, kept there under a lease for as long as it is held.
//!
//! ```text
//!          ┌──────────────── its lease is gone, or its key ────────────────┐
//!          ▼                                                               │
//!        Out ──first: whoever was there before; later: if nobody is──▶  In (renew, write, check)
//!          │                                                               │
//!          └────────────── another has the name ──▶ ended ◀────────────────┘
//! ```
//!
//! Of two who use one name the younger has it: the older sees, with its next write or check, that the entry has another's
//! lease, and never writes again. Through an outage the last value waits; everything is tried again until it is let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{CallError, Members, Pauses};
use crate::directory::{DirectoryError, LEASE_TTL};

/// A renewal may fail twice.
const RENEW_EVERY: Duration = LEASE_TTL.checked_div(3).expect("invariant: not by zero");
/// How often it is looked whether the entry is still ours, when nothing is written.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long who registers or says something at once waits for it to be written.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at the name in one attempt to write it: once for each way it can have changed meanwhile.
const ATTEMPTS: usize = 3;
/// Leases remembered as ours: more than can be alive at once.
const OWN: usize = 8;

/// How soon something has to be known to others: the least time after what was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Some twice a second: a load that is told four times a second is less than one second old wherever it is read.
    Soon,
    /// At once; not so often that etcd would notice.
    Now,
}

impl Urgency {
    fn spacing(self) -> Duration {
        match self {
            Self::Soon => Duration::from_millis(400),
            Self::Now => Duration::from_millis(100),
        }
    }
}

/// What an entry says when it is written.
pub(super) type Value = Box<dyn Fn() -> String + Send>;

/// Where the entry is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Whose lease it has says who has the name. May be the entry's own key.
    pub(super) name_key: String,
    pub(super) key: String,
}

/// The entry's holder. When it is dropped, the entry ends with its lease.
pub(super) struct Leased {
    desk: Arc<Desk>,
    status: watch::Receiver<Status>,
    members: Arc<Members>,
    stop: DropGuard,
    /// Gives the lease it had.
    task: JoinHandle<Option<i64>>,
}

/// What is to be written.
struct Desk {
    said: Mutex<Said>,
    changed: Notify,
}

struct Said {
    value: Value,
    /// Counts what was said.
    version: u64,
    /// Of what is not written yet, the greatest.
    urgency: Urgency,
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    /// Others see it, as far as is known.
    placed: bool,
    /// The last version written.
    written: u64,
    ended: bool,
}

impl Desk {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to write now; what is said from now on is new.
    fn take(&self) -> (String, u64) {
        let mut said = self.said();
        said.urgency = Urgency::Soon;
        ((said.value)(), said.version)
    }

    fn insist(&self, urgency: Urgency) {
        let mut said = self.said();
        said.urgency = said.urgency.max(urgency);
    }
}

impl Leased {
    /// Begins to keep `value` at `place`.
    pub(super) fn start(runtime: &Handle, members: Arc<Members>, place: Place, value: Value) -> Self {
        let said = Said { value, version: 1, urgency: Urgency::Now };
        let desk = Arc::new(Desk { said: Mutex::new(said), changed: Notify::new() });
        let (status, receiver) = watch::channel(Status::default());
        let stop = CancellationToken::new();
        let holder = Holder {
            members: Arc::clone(&members),
            place,
            desk: Arc::clone(&desk),
            status,
            lease: None,
            own: VecDeque::new(),
            was_in: false,
            pauses: Pauses::default(),
        };
        let task = runtime.spawn(holder.run(stop.clone()));
        Self { desk, status: receiver, members, stop: stop.drop_guard(), task }
    }

    /// What the entry says from now on.
    pub(super) fn say(&self, value: Value, urgency: Urgency) -> u64 {
        let version = {
            let mut said = self.desk.said();
            said.value = value;
            said.version += 1;
            said.urgency = said.urgency.max(urgency);
            said.version
        };
        self.desk.changed.notify_one();
        version
    }

    /// Whether others see it.
    pub(super) fn state(&self) -> Result<(), DirectoryError> {
        let status = *self.status.borrow();
        match status {
            Status { ended: true, .. } => Err(DirectoryError::Ended),
            Status { placed: false, .. } => Err(DirectoryError::Unavailable),
            Status { .. } => Ok(()),
        }
    }

    /// Waits until this version is written.
    pub(super) async fn written(&self, version: u64) -> Result<(), DirectoryError> {
        let mut status = self.status.clone();
        let done = |status: &Status| status.ended || status.written >= version;
        match timeout(PATIENCE, status.wait_for(done)).await {
            Ok(Ok(status)) if !status.ended => Ok(()),
            Ok(_) => Err(DirectoryError::Ended),
            Err(_) => Err(DirectoryError::Unavailable),
        }
    }

    /// Waits until it is there, for a while.
    pub(super) async fn placed(&self) {
        let _ = self.written(1).await;
    }

    /// Resolves when another has the name.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut status = self.status.clone();
        async move {
            let _ = status.wait_for(|status| status.ended).await;
        }
    }

    /// Takes the entry away now.
    pub(super) async fn withdraw(self) -> Result<(), DirectoryError> {
        if self.status.borrow().ended {
            return Err(DirectoryError::Ended);
        }
        drop(self.stop);
        let until = Instant::now() + PATIENCE;
        let lease = match timeout_at(until, self.task).await {
            Ok(Ok(Some(lease))) => lease,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(_)) | Err(_) => return Err(DirectoryError::Unavailable),
        };
        let revoked = self.members.insist(until, |mut client| async move { client.lease_revoke(lease).await }).await;
        match revoked {
            Ok(_) => Ok(()),
            Err(error) if error.is_lease_gone() => Ok(()),
            Err(_) => Err(DirectoryError::Unavailable),
        }
    }
}

/// The task that keeps the entry.
struct Holder {
    members: Arc<Members>,
    place: Place,
    desk: Arc<Desk>,
    status: watch::Sender<Status>,
    /// The lease to use.
    lease: Option<i64>,
    /// The last leases that were ours, whether they have ended or not.
    own: VecDeque<i64>,
    /// The name was ours once: from then on it is only taken when nobody has it.
    was_in: bool,
    pauses: Pauses,
}

/// When what is due for an entry that is there.
struct In {
    lease: i64,
    renewed: Instant,
    renew: Instant,
    written: Instant,
    check: Instant,
}

/// Whether the entry was written; if not, whose lease the name has.
enum Put {
    Done,
    Refused(Option<i64>),
}

/// What becomes of an entry that is there.
enum Next {
    Stay,
    Out,
    Ended,
}

impl Holder {
    async fn run(mut self, stop: CancellationToken) -> Option<i64> {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.hold() => {
                tracing::error!(key = self.place.key, "another process uses this name; this one gives it up");
                self.status.send_modify(|status| *status = Status { ended: true, placed: false, ..*status });
                self.lease = None;
            }
        }
        self.lease
    }

    /// Until another has the name.
    async fn hold(&mut self) {
        loop {
            let now = Instant::now();
            match self.enter().await {
                Ok(Some(lease)) => {
                    self.pauses.reset();
                    if self.stay(lease, now).await {
                        return;
                    }
                    self.status.send_modify(|status| status.placed = false);
                }
                Ok(None) => return,
                Err(error) => {
                    if error.is_lease_gone() {
                        self.lease = None;
                    }
                    tracing::debug!(key = self.place.key, %error, "the entry is not written");
                }
            }
            self.pauses.pause().await;
        }
    }

    /// Writes the entry where it is not; `None`: another has the name.
    async fn enter(&mut self) -> Result<Option<i64>, CallError> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.grant().await?,
        };
        let name_key = self.place.name_key.clone();
        let nobody = || Compare::create_revision(name_key.clone(), CompareOp::Equal, 0);
        let mut condition = self.was_in.then(nobody);
        for _ in 0..ATTEMPTS {
            let before = match self.put(lease, condition).await? {
                Put::Done => return Ok(Some(lease)),
                Put::Refused(before) => before,
            };
            condition = match before {
                None => Some(nobody()),
                // What a new leader does not know of yet, it says is gone. Or an attempt of ours arrived without our hearing of it.
                Some(own) if self.own.contains(&own) => Some(Compare::lease(name_key.clone(), CompareOp::Equal, own)),
                Some(_) => return Ok(None),
            };
        }
        Err(CallError::Contended)
    }

    /// Writes the entry and the name under a lease, if something is so.
    async fn put(&mut self, lease: i64, condition: Option<Compare>) -> Result<Put, CallError> {
        let Place { name_key, key } = self.place.clone();
        let (value, version) = self.desk.take();
        let under = || Some(PutOptions::new().with_lease(lease));
        let look = TxnOp::get(name_key.clone(), None);
        let mut puts = vec![look.clone(), TxnOp::put(key.clone(), value, under())];
        if name_key != key {
            puts.push(TxnOp::put(name_key, key.clone(), under()));
        }
        let conditions: Vec<Compare> = condition.into_iter().collect();
        let txn = Txn::new().when(conditions).and_then(puts).or_else([look]);
        let answer = self.members.call(|mut client| async move { client.txn(txn).await }).await;
        let answer = answer.inspect_err(|_| self.desk.insist(Urgency::Now))?;
        let before = lease_in(answer.op_responses());
        if !answer.succeeded() {
            self.desk.insist(Urgency::Now);
            return Ok(Put::Refused(before));
        }
        if before.is_some_and(|before| !self.own.contains(&before)) {
            tracing::info!(key, "the name was another's, an earlier start of this process or one that must give it up");
        }
        self.was_in = true;
        self.status.send_modify(|status| *status = Status { placed: true, written: version, ended: false });
        Ok(Put::Done)
    }

    async fn grant(&mut self) -> Result<i64, CallError> {
        let ttl = LEASE_TTL.as_secs() as i64;
        let granted = self.members.call(|mut client| async move { client.lease_grant(ttl, None).await }).await?;
        self.lease = Some(granted.id());
        if self.own.len() == OWN {
            self.own.pop_front();
        }
        self.own.push_back(granted.id());
        Ok(granted.id())
    }

    /// Keeps an entry that is there; whether another has the name in the end.
    async fn stay(&mut self, lease: i64, now: Instant) -> bool {
        let mut entry = In { lease, renewed: now, renew: now + RENEW_EVERY, written: now, check: now + CHECK_EVERY };
        loop {
            match self.step(&mut entry).await {
                Ok(Next::Stay) => self.pauses.reset(),
                Ok(Next::Out) => return false,
                Ok(Next::Ended) => return true,
                Err(error) if error.is_lease_gone() => {
                    tracing::warn!(key = self.place.key, "the lease has ended; the entry is written anew");
                    self.lease = None;
                    return false;
                }
                Err(error) => {
                    tracing::debug!(key = self.place.key, %error, "the entry is not kept");
                    self.status.send_if_modified(|status| {
                        let over = entry.renewed.elapsed() > LEASE_TTL;
                        over && std::mem::replace(&mut status.placed, false)
                    });
                    self.pauses.pause().await;
                }
            }
        }
    }

    /// What is due first, or a wait for it.
    async fn step(&mut self, entry: &mut In) -> Result<Next, CallError> {
        let now = Instant::now();
        let write = self.write_due(entry.written);
        if entry.renew <= now {
            return self.renew(entry).await;
        }
        if write.is_some_and(|due| due <= now) {
            return self.write(entry).await;
        }
        if entry.check <= now {
            return self.check(entry).await;
        }
        let first = write.map_or(entry.check, |due| due.min(entry.check)).min(entry.renew);
        tokio::select! {
            () = sleep_until(first) => {}
            () = self.desk.changed.notified() => {}
        }
        Ok(Next::Stay)
    }

    /// When what was said and is not written has to be.
    fn write_due(&self, written: Instant) -> Option<Instant> {
        let said = self.desk.said();
        (said.version > self.status.borrow().written).then(|| written + said.urgency.spacing())
    }

    async fn renew(&mut self, entry: &mut In) -> Result<Next, CallError> {
        let (lease, sent) = (entry.lease, Instant::now());
        self.members.call(|mut client| async move { client.lease_keep_alive(lease).await.map(drop) }).await?;
        (entry.renewed, entry.renew) = (sent, sent + RENEW_EVERY);
        self.status.send_if_modified(|status| !std::mem::replace(&mut status.placed, true));
        Ok(Next::Stay)
    }

    async fn write(&mut self, entry: &mut In) -> Result<Next, CallError> {
        let lease = entry.lease;
        let (value, version) = self.desk.take();
        let Place { name_key, key } = self.place.clone();
        let txn = Txn::new()
            .when([Compare::lease(name_key.clone(), CompareOp::Equal, lease)])
            .and_then([TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)))])
            .or_else([TxnOp::get(name_key, None)]);
        let answer = self.members.call(|mut client| async move { client.txn(txn).await }).await;
        let answer = answer.inspect_err(|_| self.desk.insist(Urgency::Now))?;
        if !answer.succeeded() {
            self.desk.insist(Urgency::Now);
            return Ok(self.absent_or_anothers(lease_in(answer.op_responses())));
        }
        let now = Instant::now();
        (entry.written, entry.check) = (now, now + CHECK_EVERY);
        self.status.send_modify(|status| status.written = version);
        Ok(Next::Stay)
    }

    /// Whether the entry is there and ours.
    async fn check(&mut self, entry: &mut In) -> Result<Next, CallError> {
        let lease = entry.lease;
        let Place { name_key, key } = self.place.clone();
        let ours = |key: String| Compare::lease(key, CompareOp::Equal, lease);
        let txn = Txn::new().when([ours(key), ours(name_key.clone())]).or_else([TxnOp::get(name_key, None)]);
        let answer = self.members.call(|mut client| async move { client.txn(txn).await }).await?;
        entry.check = Instant::now() + CHECK_EVERY;
        if answer.succeeded() {
            return Ok(Next::Stay);
        }
        let before = lease_in(answer.op_responses());
        if before == Some(lease) {
            // Only the entry was taken away: it is written again.
            return self.write(entry).await;
        }
        Ok(self.absent_or_anothers(before))
    }

    fn absent_or_anothers(&self, lease: Option<i64>) -> Next {
        if lease.is_some_and(|lease| !self.own.contains(&lease)) { Next::Ended } else { Next::Out }
    }
}

/// The lease of the key that was looked at; `None`: there is none.
fn lease_in(responses: Vec<TxnOpResponse>) -> Option<i64> {
    responses.into_iter().find_map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first().map(etcd_client::KeyValue::lease),
        _ => None,
    })
}
