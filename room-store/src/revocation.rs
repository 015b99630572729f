//! Access withdrawn before its token ends: what every edge of a deployment has to know within a second.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use proto::ids::PeerId;
use tokio::sync::watch;

use crate::directory::DirectoryError;

/// Longest `jti` that can be revoked by name, in bytes.
pub const MAX_TOKEN_ID: usize = 128;

/// Most revocations kept; further ones are refused until some have ended. At some 200 bytes each in every edge.
pub const MAX_REVOCATIONS: usize = 100_000;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revoked {
    /// Every token of a peer that was issued up to the revocation (`iat`; a token without one counts as issued before).
    Peer(PeerId),
    /// The one token with this `jti`.
    Token(String),
}

/// Since when, and for how long it has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedTimes {
    /// When it was said. Tokens of a peer issued later are good.
    pub at: SystemTime,
    /// Forgotten then: no token it concerns lives longer.
    pub until: SystemTime,
}

/// All that is revoked, as last heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevocationList(pub BTreeMap<Revoked, RevokedTimes>);

impl RevocationList {
    /// Whether a token of `peer` is revoked at `now`. `issued`: its `iat`; `token`: its `jti`.
    pub fn covers(&self, peer: &PeerId, issued: Option<SystemTime>, token: Option<&str>, now: SystemTime) -> bool {
        let in_force = |revoked: &Revoked| self.0.get(revoked).filter(|times| now < times.until);
        let by_peer =
            in_force(&Revoked::Peer(peer.clone())).is_some_and(|times| issued.is_none_or(|issued| issued <= times.at));
        by_peer || token.is_some_and(|id| in_force(&Revoked::Token(id.to_owned())).is_some())
    }
}

/// Where revocations are kept and heard of.
#[async_trait]
pub trait Revocations: Send + Sync + 'static {
    /// The list, as last heard, and each next one. While the keeper is out of reach the last list stays.
    fn watch(&self) -> watch::Receiver<Arc<RevocationList>>;

    /// Whether the list was read at least once: before that it says of nobody that they are not in it. Once true, it stays so.
    fn watch_loaded(&self) -> watch::Receiver<bool>;

    /// Revokes from now on, for `lifetime` (at least as long as the longest-lived token it concerns). When this returns, the list
    /// of this very object has it. [`DirectoryError::Full`] when [`MAX_REVOCATIONS`] are in force, [`DirectoryError::TooLong`] for a token id beyond
    /// [`MAX_TOKEN_ID`].
    async fn revoke(&self, revoked: Revoked, lifetime: Duration) -> Result<(), DirectoryError>;
}

/// Revocations of this process alone. Clones are the same list.
#[derive(Clone, Default)]
pub struct MemoryRevocations(Arc<watch::Sender<Arc<RevocationList>>>);

#[async_trait]
impl Revocations for MemoryRevocations {
    fn watch(&self) -> watch::Receiver<Arc<RevocationList>> {
        self.0.subscribe()
    }

    fn watch_loaded(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    async fn revoke(&self, revoked: Revoked, lifetime: Duration) -> Result<(), DirectoryError> {
        if matches!(&revoked, Revoked::Token(id) if id.len() > MAX_TOKEN_ID) {
            return Err(DirectoryError::TooLong);
        }
        let now = SystemTime::now();
        let mut full = false;
        self.0.send_if_modified(|list| {
            let list = Arc::make_mut(list);
            list.0.retain(|_, times| now < times.until);
            full = list.0.len() >= MAX_REVOCATIONS && !list.0.contains_key(&revoked);
            if !full {
                list.0.insert(revoked, RevokedTimes { at: now, until: now + lifetime });
            }
            !full
        });
        if full { Err(DirectoryError::Full) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).expect("valid")
    }

    #[tokio::test]
    async fn tokens_of_a_revoked_peer_issued_before_are_covered_and_later_ones_are_not() {
        let revocations = MemoryRevocations::default();
        revocations.revoke(Revoked::Peer(peer("ann")), Duration::from_mins(1)).await.expect("room");
        let (list, now) = (Arc::clone(&revocations.watch().borrow()), SystemTime::now());
        let (before, after) = (now - Duration::from_secs(9), now + Duration::from_secs(9));
        assert!(list.covers(&peer("ann"), Some(before), None, now));
        assert!(list.covers(&peer("ann"), None, None, now));
        assert!(!list.covers(&peer("ann"), Some(after), None, now));
        assert!(!list.covers(&peer("bob"), Some(before), None, now));
        assert!(!list.covers(&peer("ann"), Some(before), None, now + Duration::from_mins(2)));
    }

    #[tokio::test]
    async fn one_token_can_be_revoked_by_its_id() {
        let revocations = MemoryRevocations::default();
        revocations.revoke(Revoked::Token("t1".to_owned()), Duration::from_mins(1)).await.expect("room");
        let (list, now) = (Arc::clone(&revocations.watch().borrow()), SystemTime::now());
        assert!(list.covers(&peer("ann"), Some(now), Some("t1"), now));
        assert!(!list.covers(&peer("ann"), Some(now), Some("t2"), now));
        assert!(!list.covers(&peer("ann"), Some(now), None, now));
    }
}
