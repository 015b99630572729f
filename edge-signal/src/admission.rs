//! Whether somebody is let in now: the token held against the keys in force, fetched anew where it names an unknown one, and against
//! what was revoked. Asked for each connection, for each new token on one, and by the operator's address.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proto::ids::PeerId;
use room_store::{RevocationList, Revocations};
use telemetry::Latch;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::auth::{Access, Authenticator, TokenError};
use crate::jwks::{JwksKeys, Newer};
use crate::metrics::Refused;

/// Longest that a client waits for the list of what was revoked, while an edge starts. Less than what a request to a store may take.
const WAIT: Duration = Duration::from_millis(2_500);
/// When one that has waited in vain is to try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotAdmitted {
    /// The token will not do.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It was withdrawn.
    #[error("access revoked")]
    Revoked,
    /// It names a key that may be known later.
    #[error("the key of the access token cannot be had now")]
    KeysAway {
        /// When to try again.
        retry_after: Duration,
    },
    /// It is good, but what was revoked is not known yet.
    #[error("it is not known yet whether access was revoked")]
    RevocationsAway {
        /// When to try again.
        retry_after: Duration,
    },
}

impl NotAdmitted {
    /// What cannot be had now, and when to try again; `None`: this is for good.
    pub(crate) fn for_now(self) -> Option<(Refused, Duration)> {
        match self {
            Self::Token(_) | Self::Revoked => None,
            Self::KeysAway { retry_after } => Some((Refused::Keys, retry_after)),
            Self::RevocationsAway { retry_after } => Some((Refused::Revocations, retry_after)),
        }
    }
}

/// Lets in.
pub(crate) struct Admission {
    authenticator: Authenticator,
    jwks: Option<JwksKeys>,
    revoked: watch::Receiver<Arc<RevocationList>>,
    /// Whether that was read once: an edge that has just started knows of nothing that was revoked before.
    loaded: watch::Receiver<bool>,
}

impl Admission {
    pub(crate) fn new(authenticator: Authenticator, jwks: Option<JwksKeys>, revocations: &dyn Revocations) -> Self {
        Self { authenticator, jwks, revoked: revocations.watch(), loaded: revocations.watch_loaded() }
    }

    /// Until shutdown. `latch`: before it is known what was revoked an edge lets nobody in.
    pub(crate) async fn mind_revocations(self: Arc<Self>, latch: Latch, shutdown: CancellationToken) {
        latch.wait("what was revoked has not been read yet");
        let mut loaded = self.loaded.clone();
        if let Some(Ok(_)) = shutdown.run_until_cancelled(loaded.wait_for(|loaded| *loaded)).await {
            latch.ready();
        }
        shutdown.cancelled().await;
    }

    /// Whether no token is needed.
    pub(crate) fn is_open(&self) -> bool {
        self.authenticator.is_open()
    }

    /// What the token proves of `peer`, or of its own. Takes some seconds at most.
    pub(crate) async fn prove(&self, token: Option<&str>, peer: Option<&PeerId>) -> Result<Access, NotAdmitted> {
        let access = match (self.verify(token, peer), &self.jwks) {
            (Err(TokenError::UnknownKey), Some(jwks)) => match jwks.newer().await {
                Newer::Fetched => self.verify(token, peer)?,
                Newer::NotBefore(retry_after) => return Err(NotAdmitted::KeysAway { retry_after }),
            },
            (verified, _) => verified?,
        };
        // After the signature: a stranger is told at once, and waits for nothing.
        self.know_revocations().await?;
        match peer.or(access.subject()) {
            Some(peer) if self.is_revoked(peer, &access) => Err(NotAdmitted::Revoked),
            _ => Ok(access),
        }
    }

    /// Whether what was proven has been withdrawn since.
    pub(crate) fn is_revoked(&self, peer: &PeerId, access: &Access) -> bool {
        access.is_revoked(peer, &self.revoked.borrow(), SystemTime::now())
    }

    /// What was revoked.
    pub(crate) fn revoked(&self) -> watch::Receiver<Arc<RevocationList>> {
        self.revoked.clone()
    }

    /// Waits a little until it is known what was revoked. Where everybody is let in it is not asked.
    async fn know_revocations(&self) -> Result<(), NotAdmitted> {
        if self.is_open() {
            return Ok(());
        }
        let mut loaded = self.loaded.clone();
        match timeout(WAIT, loaded.wait_for(|loaded| *loaded)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotAdmitted::RevocationsAway { retry_after: RETRY_AFTER }),
        }
    }

    fn verify(&self, token: Option<&str>, peer: Option<&PeerId>) -> Result<Access, TokenError> {
        let (peer, now) = (peer.map(PeerId::as_str), SystemTime::now());
        match &self.jwks {
            Some(jwks) => self.authenticator.verify_with(&jwks.keyring(), token, peer, now),
            None => self.authenticator.verify(token, peer, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use room_store::{DirectoryError, Revoked, RevokedTimes};
    use tokio::time::Instant;

    use super::*;
    use crate::auth::{Grant, SharedSecret, SigningKey, TokenRequest, mint};

    /// A keeper that has not been read yet.
    #[derive(Default)]
    struct Away {
        list: watch::Sender<Arc<RevocationList>>,
        loaded: watch::Sender<bool>,
    }

    #[async_trait]
    impl Revocations for Away {
        fn watch(&self) -> watch::Receiver<Arc<RevocationList>> {
            self.list.subscribe()
        }

        fn watch_loaded(&self) -> watch::Receiver<bool> {
            self.loaded.subscribe()
        }

        async fn revoke(&self, _: Revoked, _: Duration) -> Result<(), DirectoryError> {
            Err(DirectoryError::Unavailable)
        }
    }

    impl Away {
        /// Comes back, and says that this one was revoked.
        fn load(&self, peer: &PeerId) {
            let at = SystemTime::now();
            let times = RevokedTimes { at, until: at + Duration::from_mins(1) };
            self.list.send_replace(Arc::new(RevocationList([(Revoked::Peer(peer.clone()), times)].into())));
            self.loaded.send_replace(true);
        }
    }

    fn secret() -> SharedSecret {
        SharedSecret::new([1; 32]).expect("long enough")
    }

    fn with_keys(revocations: &Away) -> Admission {
        Admission::new(Authenticator::shared_secret(&secret(), None, None), None, revocations)
    }

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).expect("valid")
    }

    fn token(peer: &str) -> String {
        let request = TokenRequest {
            peer: peer.into(),
            rid: "r".into(),
            grants: vec![Grant::Publish],
            ttl: Duration::from_mins(10),
            id: None,
            record: false,
            issuer: None,
            audience: None,
        };
        mint(&SigningKey::shared_secret(&secret()), &request, SystemTime::now()).expect("mints")
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_before_it_is_known_what_was_revoked() {
        let away = Away::default();
        let admission = with_keys(&away);
        let [ann, bob] = ["ann", "bob"].map(token);
        let begun = Instant::now();
        for token in [&ann, &bob] {
            let refusal = admission.prove(Some(token), None).await.expect_err("not now");
            assert_eq!(refusal, NotAdmitted::RevocationsAway { retry_after: RETRY_AFTER });
            assert_eq!(refusal.for_now(), Some((Refused::Revocations, RETRY_AFTER)));
        }
        assert!(begun.elapsed() <= 2 * WAIT + Duration::from_millis(10), "{:?}", begun.elapsed());
        away.load(&peer("ann"));
        assert_eq!(admission.prove(Some(&ann), None).await, Err(NotAdmitted::Revoked));
        admission.prove(Some(&bob), None).await.expect("good");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_that_is_being_read_is_let_in_when_it_was() {
        let away = Away::default();
        let admission = with_keys(&away);
        let bob = token("bob");
        let load = async {
            tokio::time::sleep(WAIT / 2).await;
            away.load(&peer("ann"));
        };
        let (proven, ()) = tokio::join!(admission.prove(Some(&bob), None), load);
        proven.expect("good");
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_bad_token_nor_one_that_needs_none_waits_for_it() {
        let away = Away::default();
        let begun = Instant::now();
        let refusal = with_keys(&away).prove(Some("no token"), None).await.expect_err("bad");
        assert_eq!(refusal, NotAdmitted::Token(TokenError::Invalid));
        let open = Admission::new(Authenticator::open(), None, &away);
        open.prove(None, Some(&peer("ann"))).await.expect("open to all");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
