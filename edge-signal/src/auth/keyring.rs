//! Several keys at once, so that one can follow another while tokens of both are about. Which of them a token is checked with is
//! decided by its `kid`, and by the algorithm each key is bound to.

use std::iter;

use jsonwebtoken::{Algorithm, Header, decode_header};
use serde_json::Value;
use thiserror::Error;

use super::{TokenError, VerifyingKey};

/// Most keys of one algorithm without a `kid`: a token that names none is tried with each of them, which costs as much for
/// whoever only guesses.
pub const MAX_UNNAMED: usize = 4;

/// Keys, each of them for tokens of its own.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<VerifyingKey>,
}

/// Why keys cannot be used together; the index is that of the one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// A name stands for one key.
    #[error("its kid is used twice")]
    DuplicateKid(usize),
    /// See [`MAX_UNNAMED`].
    #[error("at most {MAX_UNNAMED} keys of one algorithm can be without a kid")]
    TooManyUnnamed(usize),
}

impl KeyringError {
    /// Which key it is about.
    pub fn index(self) -> usize {
        match self {
            Self::DuplicateKid(index) | Self::TooManyUnnamed(index) => index,
        }
    }
}

impl Keyring {
    /// Takes them together.
    pub fn new(keys: Vec<VerifyingKey>) -> Result<Self, KeyringError> {
        for (index, key) in keys.iter().enumerate() {
            let earlier = &keys[..index];
            match key.kid() {
                Some(kid) if earlier.iter().any(|it| it.kid() == Some(kid)) => {
                    return Err(KeyringError::DuplicateKid(index));
                }
                Some(_) => {}
                None => {
                    let alike = |it: &&VerifyingKey| it.kid().is_none() && it.algorithm() == key.algorithm();
                    if earlier.iter().filter(alike).count() >= MAX_UNNAMED {
                        return Err(KeyringError::TooManyUnnamed(index));
                    }
                }
            }
        }
        Ok(Self { keys })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    fn named(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.iter().find(|key| key.kid() == Some(kid))
    }

    /// For tokens that name no key: those without a name, and one that is alone with its algorithm.
    fn unnamed(&self, algorithm: Algorithm) -> impl Iterator<Item = &VerifyingKey> {
        let of_algorithm = move |key: &&VerifyingKey| key.algorithm() == algorithm;
        let alone = self.keys.iter().filter(of_algorithm).count() == 1;
        self.keys.iter().filter(of_algorithm).filter(move |key| alone || key.kid().is_none())
    }
}

/// The claims of a token that the owner of one of these keys signed; nothing in them is checked yet.
///
/// A token with a `kid` is checked with the key of that name; where there is none, with those that have no name. One without is
/// checked with those without, and with a key that is alone with its algorithm. `further`: keys of a server, which may have newer ones.
pub(super) fn verified_claims(token: &str, own: &Keyring, further: Option<&Keyring>) -> Result<Value, TokenError> {
    let Header { alg, kid, .. } = decode_header(token).map_err(|_| TokenError::Invalid)?;
    let rings = || iter::once(own).chain(further);
    if let Some(key) = kid.as_deref().and_then(|kid| rings().find_map(|ring| ring.named(kid))) {
        return key.verified_claims(token);
    }
    let is_fit = |key: &&VerifyingKey| kid.is_none() || key.kid().is_none();
    let candidates = rings().flat_map(|ring| ring.unnamed(alg)).filter(is_fit);
    for key in candidates {
        if let Ok(claims) = key.verified_claims(token) {
            return Ok(claims);
        }
    }
    // No server publishes secrets: one of HS256 that names no key stays as bad as it is.
    let may_be_published = further.is_some() && alg != Algorithm::HS256;
    Err(if kid.is_some() || may_be_published { TokenError::UnknownKey } else { TokenError::Invalid })
}
