//! Whether somebody is let in now: the token held against the keys in force, fetched anew where it names an unknown one, and against
//! what was revoked. Asked for each connection, for each new token on one, and by the operator's address.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proto::ids::PeerId;
use room_store::RevocationList;
use thiserror::Error;
use tokio::sync::watch;

use crate::auth::{Access, Authenticator, TokenError};
use crate::jwks::{JwksKeys, Newer};

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
}

/// Lets in.
pub(crate) struct Admission {
    authenticator: Authenticator,
    jwks: Option<JwksKeys>,
    revoked: watch::Receiver<Arc<RevocationList>>,
}

impl Admission {
    pub(crate) fn new(
        authenticator: Authenticator,
        jwks: Option<JwksKeys>,
        revoked: watch::Receiver<Arc<RevocationList>>,
    ) -> Self {
        Self { authenticator, jwks, revoked }
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

    fn verify(&self, token: Option<&str>, peer: Option<&PeerId>) -> Result<Access, TokenError> {
        let (peer, now) = (peer.map(PeerId::as_str), SystemTime::now());
        match &self.jwks {
            Some(jwks) => self.authenticator.verify_with(&jwks.keyring(), token, peer, now),
            None => self.authenticator.verify(token, peer, now),
        }
    }
}
