//! Making access tokens: what `sluice token` does, and what an application's own server does in its own language.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use serde::Serialize;
use thiserror::Error;

use super::key::bits;
use super::{Grant, KeyError, PublicKeyAlgorithm, SharedSecret};

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
    /// `jti`: a name by which this one token can be revoked; unique.
    pub id: Option<String>,
    /// `record`: all that the peer publishes is recorded.
    pub record: bool,
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

/// What tokens are signed with.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    kid: Option<String>,
}

/// Why a private key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SigningKeyError {
    /// No PEM of a kind that is read.
    #[error(
        "holds no private key in PEM for RS256, ES256 or EdDSA. They begin with -----BEGIN PRIVATE KEY-----: `openssl pkcs8 -topk8 -nocrypt` writes others so"
    )]
    NoPrivateKey,
    /// As an edge would say of its public half.
    #[error(transparent)]
    Unfit(#[from] KeyError),
}

/// Reads a private key of one kind.
type Reader = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;

impl SigningKey {
    /// HS256.
    pub fn shared_secret(secret: &SharedSecret) -> Self {
        Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret.as_bytes()), kid: None }
    }

    /// The private key in this PEM text (PKCS#8; RSA also PKCS#1). What kind it is decides the algorithm.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let readers: [(Algorithm, Reader); 3] = [
            (Algorithm::RS256, EncodingKey::from_rsa_pem),
            (Algorithm::ES256, EncodingKey::from_ec_pem),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem),
        ];
        let read = readers.into_iter().find_map(|(algorithm, read)| Some((algorithm, read(pem).ok()?)));
        let (algorithm, key) = read.ok_or(SigningKeyError::NoPrivateKey)?;
        if key.family() == AlgorithmFamily::Rsa {
            let (modulus, _) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_private_key)(key.as_bytes())
                .map_err(|_| SigningKeyError::NoPrivateKey)?;
            if bits(&modulus) < super::key::MIN_RSA_BITS {
                return Err(KeyError::Weak(bits(&modulus)).into());
            }
        }
        // Another curve than P-256 shows only here.
        (DEFAULT_PROVIDER.signer_factory)(&algorithm, &key)
            .map_err(|_| KeyError::OtherAlgorithm(PublicKeyAlgorithm::ES256))?;
        Ok(Self { algorithm, key, kid: None })
    }

    /// Has tokens name the key, as an edge knows it by its `kid`.
    #[must_use]
    pub fn named(self, kid: Option<String>) -> Self {
        Self { kid, ..self }
    }
}

/// A token for `request`.
pub fn mint(key: &SigningKey, request: &TokenRequest, now: SystemTime) -> Result<String, MintError> {
    let expiry = now.checked_add(request.ttl).ok_or(MintError::Expiry)?;
    let claims = Claims {
        sub: &request.peer,
        rid: &request.rid,
        grants: &request.grants,
        exp: seconds(expiry)?,
        iat: seconds(now)?,
        jti: request.id.as_deref(),
        record: request.record,
        iss: request.issuer.as_deref(),
        aud: request.audience.as_deref(),
    };
    let header = Header { kid: key.kid.clone(), ..Header::new(key.algorithm) };
    Ok(encode(&header, &claims, &key.key)?)
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    rid: &'a str,
    grants: &'a [Grant],
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    record: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

fn seconds(time: SystemTime) -> Result<u64, MintError> {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).map_err(|_| MintError::Expiry)
}
