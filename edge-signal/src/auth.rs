//! Access tokens: who may connect, to which rooms, and to do what (signalling contract, section 6).
//!
//! Pure: keys are given, the time with each call. Fetching keys is `jwks`, holding tokens against revocations `admission`; reading a
//! token out of an HTTP request is `handshake`, enforcing a grant on a request `session`.

mod claims;
mod jwks;
mod key;
mod keyring;
mod mint;

use std::fmt;
use std::time::SystemTime;

use proto::ids::PeerId;
use room_store::RevocationList;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::jwks::{Jwks, JwksError};
pub use self::key::{KeyError, PublicKeyAlgorithm, VerifyingKey};
pub use self::keyring::{Keyring, KeyringError, MAX_UNNAMED};
pub use self::mint::{MintError, SigningKey, SigningKeyError, TokenRequest, mint};

/// Shortest shared secret: RFC 7518, section 3.2 wants a key no shorter than the hash's output.
const MIN_SECRET_BYTES: usize = 32;

/// Longest token looked at. Ours are under 1 KiB; public-key signatures and more claims fit many times over.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token lets its holder do in the rooms it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// `publish`, `mute`, and `restart` of own streams.
    Publish,
    /// `subscribe`, and `restart` of own subscriptions.
    Subscribe,
    /// `broadcast`.
    Broadcast,
    /// `record`.
    Record,
    /// What is done to others: revoking their access.
    Admin,
}

impl Grant {
    /// Every grant there is.
    pub const ALL: [Self; 5] = [Self::Publish, Self::Subscribe, Self::Broadcast, Self::Record, Self::Admin];

    /// The name used in tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Broadcast => "broadcast",
            Self::Record => "record",
            Self::Admin => "admin",
        }
    }

    /// The grant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.name() == name)
    }
}

/// A set of [`Grant`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants(u8);

impl Grants {
    /// All of them.
    pub fn all() -> Self {
        Grant::ALL.into_iter().collect()
    }

    /// Whether `grant` is in the set.
    pub fn contains(self, grant: Grant) -> bool {
        self.0 & (1 << grant as u8) != 0
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().fold(0, |set, grant| set | 1 << grant as u8))
    }
}

/// The rooms a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RoomScope {
    Any,
    Exactly(String),
    Prefix(String),
}

/// What a connection may do, as proven when it opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    rooms: RoomScope,
    grants: Grants,
    expires_at: Option<SystemTime>,
    /// `sub`. `None`: without authentication.
    subject: Option<PeerId>,
    /// `iat`.
    issued_at: Option<SystemTime>,
    /// `jti`.
    token: Option<Box<str>>,
    /// `record`.
    is_recorded: bool,
}

impl Access {
    /// Everything, everywhere, without end: for an edge that runs without authentication.
    pub fn unrestricted() -> Self {
        let (expires_at, subject, issued_at, token) = (None, None, None, None);
        let (rooms, grants, is_recorded) = (RoomScope::Any, Grants::all(), false);
        Self { rooms, grants, expires_at, subject, issued_at, token, is_recorded }
    }

    /// Whether it is for every room there is.
    pub fn allows_all_rooms(&self) -> bool {
        match &self.rooms {
            RoomScope::Any => true,
            RoomScope::Exactly(_) => false,
            RoomScope::Prefix(prefix) => prefix.is_empty(),
        }
    }

    /// Whether the room is one the token names.
    pub fn allows_room(&self, rid: &str) -> bool {
        match &self.rooms {
            RoomScope::Any => true,
            RoomScope::Exactly(name) => name == rid,
            RoomScope::Prefix(prefix) => rid.starts_with(prefix.as_str()),
        }
    }

    /// Whether the token carries the grant.
    pub fn allows(&self, grant: Grant) -> bool {
        self.grants.contains(grant)
    }

    /// Whether all that its holder publishes is recorded.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// When this ends; `None`: never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Whose token it is; `None`: there was none.
    pub fn subject(&self) -> Option<&PeerId> {
        self.subject.as_ref()
    }

    /// Whether it has been withdrawn from `peer`.
    pub fn is_revoked(&self, peer: &PeerId, revoked: &RevocationList, now: SystemTime) -> bool {
        revoked.covers(peer, self.issued_at, self.token.as_deref(), now)
    }
}

/// Why a token was refused. The text is short and safe to show: it names no key and quotes no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// No token was given and one is needed.
    #[error("access token missing")]
    Missing,
    /// Longer than any token of ours.
    #[error("access token too long")]
    TooLong,
    /// Not a JWT, or signed by another key or algorithm.
    #[error("access token invalid")]
    Invalid,
    /// A claim is missing or of the wrong type or value; names it.
    #[error("access token: claim {0} is missing or wrong")]
    Claim(&'static str),
    /// Past its `exp`. Clients know it by the end of its text (docs/signalling.md).
    #[error("access token expired")]
    Expired,
    /// Before its `nbf` or `iat`.
    #[error("access token not valid yet")]
    NotYetValid,
    /// Made for another peer.
    #[error("access token is for another peer")]
    OtherPeer,
    /// Names a key that is not known; or names none, and none that is known has signed it, of a server that may have newer ones.
    #[error("access token is signed with an unknown key")]
    UnknownKey,
}

/// A secret that has this many bytes is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the secret has {0} bytes, at least {MIN_SECRET_BYTES} are needed")]
pub struct SecretTooShort(usize);

/// A secret shared with whoever makes tokens, long enough for HS256.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Vec<u8>);

impl SharedSecret {
    /// At least 32 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretTooShort> {
        let bytes = bytes.into();
        if bytes.len() < MIN_SECRET_BYTES { Err(SecretTooShort(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSecret({} bytes)", self.0.len())
    }
}

/// Checks access tokens.
pub struct Authenticator {
    /// `None`: started without authentication on purpose; whoever asks is let in.
    keys: Option<Keyring>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Authenticator {
    /// Lets everybody in. For loopback and `insecure_no_auth` only: the caller has checked that.
    pub fn open() -> Self {
        Self { keys: None, issuer: None, audience: None }
    }

    /// Tokens signed by an owner of one of these keys; `issuer` and `audience`, when given, must be in every token.
    pub fn new(keys: Keyring, issuer: Option<String>, audience: Option<String>) -> Self {
        Self { keys: Some(keys), issuer, audience }
    }

    /// HS256 with a shared secret and nothing else.
    pub fn shared_secret(secret: &SharedSecret, issuer: Option<String>, audience: Option<String>) -> Self {
        let keys = Keyring::new(vec![VerifyingKey::shared_secret(secret)]);
        Self::new(keys.expect("invariant: one key contradicts no other"), issuer, audience)
    }

    /// Whether a token is needed at all.
    pub fn is_open(&self) -> bool {
        self.keys.is_none()
    }

    /// What `token` lets `peer` do at `now`; without a peer, what it lets its own do.
    pub fn verify(&self, token: Option<&str>, peer: Option<&str>, now: SystemTime) -> Result<Access, TokenError> {
        self.check(None, token, peer, now)
    }

    /// The same, with further keys, of a server that may have newer ones.
    pub fn verify_with(
        &self,
        further: &Keyring,
        token: Option<&str>,
        peer: Option<&str>,
        now: SystemTime,
    ) -> Result<Access, TokenError> {
        self.check(Some(further), token, peer, now)
    }

    fn check(
        &self,
        further: Option<&Keyring>,
        token: Option<&str>,
        peer: Option<&str>,
        now: SystemTime,
    ) -> Result<Access, TokenError> {
        let Some(keys) = &self.keys else { return Ok(Access::unrestricted()) };
        let token = token.ok_or(TokenError::Missing)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let claims = keyring::verified_claims(token, keys, further)?;
        claims::access(&claims, peer, self.issuer.as_deref(), self.audience.as_deref(), now)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
