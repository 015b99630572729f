//! Making access tokens: what `sluice token` does, and what an application's own server does in its own language.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use thiserror::Error;

use super::{Grant, SharedSecret};

/// What to put into a token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// `sub`: the peer who may use it.
    pub peer: String,
    /// `rid`: a room's name, or a prefix ending in `*`.
    pub rid: String,
    /// `grants`.
    pub grants: Vec<Grant>,
    /// How long from now until `exp`.
    pub ttl: Duration,
    /// `iss`, when the edge asks for one.
    pub issuer: Option<String>,
    /// `aud`, when the edge asks for one.
    pub audience: Option<String>,
}

/// Why no token was made.
#[derive(Debug, Error)]
pub enum MintError {
    /// The time of expiry cannot be written.
    #[error("the token would expire at a time that cannot be represented")]
    Expiry,
    /// The library could not sign.
    #[error("signing failed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// An HS256 token for `request`, signed with the edge's shared secret.
pub fn mint(secret: &SharedSecret, request: &TokenRequest, now: SystemTime) -> Result<String, MintError> {
    let expiry = now.checked_add(request.ttl).ok_or(MintError::Expiry)?;
    let claims = Claims {
        sub: &request.peer,
        rid: &request.rid,
        grants: &request.grants,
        exp: seconds(expiry)?,
        iat: seconds(now)?,
        iss: request.issuer.as_deref(),
        aud: request.audience.as_deref(),
    };
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    rid: &'a str,
    grants: &'a [Grant],
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

fn seconds(time: SystemTime) -> Result<u64, MintError> {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).map_err(|_| MintError::Expiry)
}
