//! Withdraws access, for every edge that follows etcd.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_client::{GetOptions, PutOptions};
use tokio::time::Instant;

use super::{client::CallError, shared::Shared, values};
use crate::{
    directory::DirectoryError,
    revocation::{MAX_REVOCATIONS, MAX_TOKEN_ID, Revoked, RevokedTimes},
};

/// How long an etcd whose member has failed is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// No token lives so long; it keeps times within what they can be.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 10);

/// See [`crate::Revocations::revoke`].
pub(super) async fn revoke(shared: &Arc<Shared>, revoked: Revoked, lifetime: Duration) -> Result<(), DirectoryError> {
    if matches!(&revoked, Revoked::Token(id) if id.len() > MAX_TOKEN_ID) {
        return Err(DirectoryError::TooLong);
    }
    shared.follow();
    let (known, room) = {
        let mirror = shared.mirror();
        (mirror.revocation(&revoked), mirror.takes_revocations())
    };
    if known.is_none() && !room {
        return Err(DirectoryError::Full);
    }
    let (now, lifetime) = (SystemTime::now(), lifetime.min(LONGEST));
    let until = known.map_or(now, |known| known.until).max(now + lifetime);
    let times = RevokedTimes { at: now, until };
    match write(shared, &revoked, times, known.is_some()).await {
        Ok(true) => {}
        Ok(false) => return Err(DirectoryError::Full),
        Err(error) => {
            tracing::warn!(%error, "a revocation is not written");
            return Err(DirectoryError::Unavailable);
        }
    }
    // Heard of by the watch as well; this very object must have it now.
    if !shared.mirror().revoke(revoked, times) {
        return Err(DirectoryError::Full);
    }
    shared.show();
    Ok(())
}

/// Whether there was room for it.
async fn write(shared: &Shared, revoked: &Revoked, times: RevokedTimes, known: bool) -> Result<bool, CallError> {
    let patience = Instant::now() + PATIENCE;
    let count = shared.members.insist(patience, |mut client| {
        let (all, options) = (shared.keys.revocations(), GetOptions::new().with_prefix().with_count_only());
        async move { client.get(all, Some(options)).await }
    });
    if count.await?.count() >= MAX_REVOCATIONS as i64 && !known {
        return Ok(false);
    }
    let left = times.until.duration_since(times.at).unwrap_or_default().as_secs().saturating_add(1) as i64;
    let granted = shared.members.insist(patience, |mut client| async move { client.lease_grant(left, None).await });
    let lease = granted.await?.id();
    let put = shared.members.insist(patience, |mut client| {
        let (key, value) = (shared.keys.revoked(revoked), values::of_revoked(times));
        async move { client.put(key, value, Some(PutOptions::new().with_lease(lease))).await }
    });
    put.await?;
    Ok(true)
}
