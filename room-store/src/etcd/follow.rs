//! Keeps the mirror: everything below the prefix, from a feed into maps that others watch.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_client::{Compare, CompareOp, EventType, KeyValue, PutOptions, Txn, TxnOp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    client::{CallError, Pauses},
    feed::{Feed, Heard},
    mirror::Entry,
    shared::Shared,
    values,
};
use crate::directory::LEASE_TTL;
use crate::revocation::{Revoked, RevokedTimes};

/// A map of thousands is copied for each change that is shown; so changes that come thick are shown together.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked whether something has had its time.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
/// How long nodes that vanish are held once etcd is back: their leases may all have ended, and each owner tries again every
/// 3.75 s at most. More of it keeps dead nodes in the map longer, where nothing but a choice for a new stream is lost on them.
pub(super) const HOLD: Duration = LEASE_TTL.saturating_add(Duration::from_secs(3));
/// An etcd that has lost everything hears of revocations from all edges; the first of them does most of it.
const RETELL_WITHIN: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Follower {
    shared: Arc<Shared>,
    feed: Feed,
    shown: Instant,
    /// Something waits to be shown.
    pending: bool,
    settle: Instant,
    /// The watch was cut and is not back.
    cut: bool,
    /// Tells etcd what it has lost.
    retelling: JoinSet<()>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let feed = Feed::new(Arc::clone(&shared.members), shared.keys.root().to_owned(), shared.keys.life());
        let now = Instant::now();
        Self { shared, feed, shown: now, pending: false, settle: now, cut: false, retelling: JoinSet::new() }
    }

    /// Until the directory is let go.
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let heard = self.next().await;
            self.take(heard);
            self.show_in_time();
        }
    }

    /// What the feed gives next; meanwhile, what is due is done.
    async fn next(&mut self) -> Heard {
        let Self { shared, feed, shown, pending, settle, .. } = self;
        let mut next = pin!(feed.next());
        loop {
            let show = *shown + SHOW_EVERY;
            tokio::select! {
                heard = &mut next => return heard,
                () = sleep_until(show), if *pending => {
                    shared.show();
                    (*pending, *shown) = (false, Instant::now());
                }
                () = sleep_until(*settle) => {
                    *settle = Instant::now() + SETTLE_EVERY;
                    shared.mirror().settle(Instant::now(), SystemTime::now());
                    *pending = true;
                }
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        let now = Instant::now();
        if matches!(heard, Heard::Cut) {
            self.cut = true;
            self.shared.lost();
            return;
        }
        if std::mem::take(&mut self.cut) {
            self.shared.mirror().hold_until(now + HOLD);
        }
        match heard {
            Heard::All(entries) => self.reload(&entries, now),
            Heard::Changes(events) => {
                let mut mirror = self.shared.mirror();
                for event in &events {
                    let Some(kv) = event.kv() else { continue };
                    match event.event_type() {
                        EventType::Put => mirror.put(entry(kv)),
                        EventType::Delete => mirror.delete(kv.key(), now),
                    }
                }
            }
            Heard::Quiet | Heard::Cut => {}
        }
        self.shared.heard(now);
        self.pending = true;
    }

    fn reload(&mut self, entries: &[KeyValue], now: Instant) {
        let missing = self.shared.mirror().reload(entries.iter().map(entry), now, SystemTime::now());
        self.shared.loaded();
        self.retelling.abort_all();
        if !missing.is_empty() {
            tracing::warn!(count = missing.len(), "etcd has lost revocations; it is told them again");
            self.retelling.spawn(retell(Arc::clone(&self.shared), missing));
        }
    }

    fn show_in_time(&mut self) {
        self.shared.pass_answers();
        let now = Instant::now();
        if self.pending && now >= self.shown + SHOW_EVERY {
            self.shared.show();
            (self.pending, self.shown) = (false, now);
        }
    }
}

fn entry(kv: &KeyValue) -> Entry<'_> {
    Entry { key: kv.key(), value: kv.value(), created: kv.create_revision() }
}

/// Writes revocations that are not there.
async fn retell(shared: Arc<Shared>, missing: Vec<(Revoked, RevokedTimes)>) {
    sleep(RETELL_WITHIN.mul_f64(rand::random::<f64>())).await;
    let mut pauses = Pauses::default();
    for (revoked, times) in missing {
        while let Err(error) = retell_one(&shared, &revoked, times).await {
            tracing::debug!(%error, "a revocation is told again later");
            pauses.pause().await;
        }
        pauses.reset();
    }
}

async fn retell_one(shared: &Shared, revoked: &Revoked, times: RevokedTimes) -> Result<(), CallError> {
    let Ok(left) = times.until.duration_since(SystemTime::now()) else { return Ok(()) };
    let key = shared.keys.revoked(revoked);
    let known = key.clone();
    if shared.members.call(|mut client| async move { client.get(known, None).await }).await?.count() > 0 {
        return Ok(());
    }
    let lease = shared.grant(left).await?;
    let value = values::of_revoked(times);
    let put = Txn::new().when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)]).and_then([TxnOp::put(
        key,
        value,
        Some(PutOptions::new().with_lease(lease)),
    )]);
    let put = shared.members.call(|mut client| async move { client.txn(put).await }).await?;
    if !put.succeeded() {
        shared.members.call(|mut client| async move { client.lease_revoke(lease).await }).await?;
    }
    Ok(())
}
