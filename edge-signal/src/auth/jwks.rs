//! A JWKS document (RFC 7517, section 5) as a keyring. Keys of other kinds and for other purposes are passed over, as the RFC says;
//! what makes the document as a whole unusable refuses it, and whoever has an earlier one keeps that.

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::key::KeyError;
use super::{Keyring, KeyringError, VerifyingKey};

/// Most keys looked at. Public servers have three to ten.
const MAX_KEYS: usize = 64;

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwksError {
    /// Not one.
    #[error("not a JWKS document")]
    NotJwks,
    /// Longer than any that is meant well.
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
    /// Nothing in it to check a token with.
    #[error("no key for RS256, ES256 or EdDSA in it")]
    NoKeys,
    /// Ambiguous.
    #[error("{0}")]
    Keys(#[from] KeyringError),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// A document that was read.
#[derive(Debug)]
pub struct Jwks {
    /// Its usable keys.
    pub keys: Keyring,
    /// Of keys that look as if they were meant for tokens and cannot be used: why not.
    pub unfit: Vec<KeyError>,
}

impl Jwks {
    /// Reads it.
    pub fn read(document: &[u8]) -> Result<Self, JwksError> {
        let Document { keys } = serde_json::from_slice(document).map_err(|_| JwksError::NotJwks)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let (mut fit, mut unfit) = (Vec::new(), Vec::new());
        for key in keys {
            // Of a kind nobody here knows: not ours to judge.
            let Ok(jwk) = serde_json::from_value::<Jwk>(key) else { continue };
            match VerifyingKey::from_jwk(&jwk) {
                Ok(key) => fit.push(key),
                Err(KeyError::NotForTokens) => {}
                Err(error) => unfit.push(error),
            }
        }
        if fit.is_empty() {
            return Err(JwksError::NoKeys);
        }
        Ok(Self { keys: Keyring::new(fit)?, unfit })
    }
}
