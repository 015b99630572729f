//! A key that tokens are checked with. Each is bound to one algorithm: what a token says of itself chooses nothing.

use std::fmt;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, decode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{SharedSecret, TokenError};

/// Shortest RSA modulus: RFC 7518, section 3.3.
pub(super) const MIN_RSA_BITS: usize = 2_048;
/// Longest that the library verifies with; checking one takes four times as long as with the shortest.
const MAX_RSA_BITS: usize = 4_096;
/// An Ed25519 key's length (RFC 8032, section 5.1.5). The library takes longer ones for their beginning, and shorter ones not at
/// all well.
const ED25519_BYTES: usize = 32;
/// Longest `kid` of ours. RFC 7515 sets none; thumbprints have 43 characters.
const MAX_KID_BYTES: usize = 256;

/// How a public key's owner signs. No other algorithms are known than these and HS256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PublicKeyAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl PublicKeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RS256, Self::ES256, Self::EdDsa];

    /// Its name in tokens and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of_library(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for PublicKeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No PEM, or of something else.
    #[error("holds no public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NoPublicKey,
    /// A secret where a public key belongs.
    #[error("holds a private key: an edge only needs the public one")]
    Private,
    /// More than one.
    #[error("holds more than one key: give each an entry of its own")]
    Several,
    /// Of another kind than the algorithm's.
    #[error("is no key for {0}")]
    OtherAlgorithm(PublicKeyAlgorithm),
    /// Too short to be safe.
    #[error("is an RSA key of {0} bits: at least 2048 are needed")]
    Weak(usize),
    /// Too long to be checked with.
    #[error("is an RSA key of {0} bits: at most 4096 are supported")]
    TooLong(usize),
    /// Not what it says it is.
    #[error("is damaged")]
    Damaged,
    /// No name for a key.
    #[error("kid must have 1 to 256 bytes")]
    BadKid,
    /// Of no algorithm that is known, or not for signatures.
    #[error("is not for signatures of tokens")]
    NotForTokens,
}

/// A key, and what it is for.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl VerifyingKey {
    /// HS256 with a secret that is shared with whoever makes tokens.
    pub fn shared_secret(secret: &SharedSecret) -> Self {
        Self::of(None, Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()))
    }

    /// The public key in this PEM text, for this algorithm. `kid`: for tokens that name it, and no others.
    pub fn from_pem(algorithm: PublicKeyAlgorithm, kid: Option<String>, pem: &[u8]) -> Result<Self, KeyError> {
        let kid = kid.map(checked_kid).transpose()?;
        check_label(pem)?;
        let read = match algorithm {
            PublicKeyAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            PublicKeyAlgorithm::ES256 => DecodingKey::from_ec_pem(pem),
            PublicKeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(pem),
        };
        let key = read.map_err(|_| KeyError::OtherAlgorithm(algorithm))?;
        check(algorithm, &key)?;
        Ok(Self::of(kid, algorithm.of_library(), key))
    }

    /// One key of a JWKS document (RFC 7517). Secrets are none of them: whoever reads the document could make tokens.
    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let common = &jwk.common;
        let is_for_signatures = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => PublicKeyAlgorithm::RS256,
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => PublicKeyAlgorithm::ES256,
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => PublicKeyAlgorithm::EdDsa,
            _ => return Err(KeyError::NotForTokens),
        };
        let is_its = common.key_algorithm.is_none_or(|it| it == KeyAlgorithm::from(algorithm.of_library()));
        if !is_for_signatures || !is_its {
            return Err(KeyError::NotForTokens);
        }
        let kid = common.key_id.clone().map(checked_kid).transpose()?;
        let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyError::Damaged)?;
        check(algorithm, &key)?;
        Ok(Self::of(kid, algorithm.of_library(), key))
    }

    fn of(kid: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { kid, algorithm, key, validation: signature_only(algorithm) }
    }

    /// The name that tokens may give to it.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The claims of a token that this key's owner signed; nothing in them is checked yet.
    pub(super) fn verified_claims(&self, token: &str) -> Result<Value, TokenError> {
        let data = decode::<Value>(token, &self.key, &self.validation).map_err(|_| TokenError::Invalid)?;
        // RFC 7515, section 4.1.11: extensions marked critical that are not understood make the token invalid.
        if data.header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        Ok(data.claims)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?}, {:?})", self.algorithm, self.kid)
    }
}

fn checked_kid(kid: String) -> Result<String, KeyError> {
    if (1..=MAX_KID_BYTES).contains(&kid.len()) { Ok(kid) } else { Err(KeyError::BadKid) }
}

/// One public key and nothing else: the library would take a certificate's, or a private key's, for whatever comes first in it.
fn check_label(pem: &[u8]) -> Result<(), KeyError> {
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::NoPublicKey)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    match text.matches("-----BEGIN ").count() {
        0 => return Err(KeyError::NoPublicKey),
        1 => {}
        _ => return Err(KeyError::Several),
    }
    let is_public = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"].iter().any(|it| text.contains(it));
    if is_public { Ok(()) } else { Err(KeyError::NoPublicKey) }
}

/// What the library looks at only with the first token, or not at all.
fn check(algorithm: PublicKeyAlgorithm, key: &DecodingKey) -> Result<(), KeyError> {
    if key.family() == AlgorithmFamily::Rsa {
        return check_rsa(key);
    }
    let bytes = key.try_get_as_bytes().map_err(|_| KeyError::Damaged)?;
    if algorithm == PublicKeyAlgorithm::EdDsa && bytes.len() != ED25519_BYTES {
        return Err(KeyError::Damaged);
    }
    // Makes sure that it is a point on its curve.
    let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm.of_library(), key);
    verifier.map(drop).map_err(|_| KeyError::OtherAlgorithm(algorithm))
}

fn check_rsa(key: &DecodingKey) -> Result<(), KeyError> {
    let (modulus, exponent) = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n.clone(), e.clone()),
        DecodingKeyKind::SecretOrDer(der) => (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der)
            .map_err(|_| KeyError::OtherAlgorithm(PublicKeyAlgorithm::RS256))?,
    };
    match bits(&modulus) {
        few if few < MIN_RSA_BITS => return Err(KeyError::Weak(few)),
        many if many > MAX_RSA_BITS => return Err(KeyError::TooLong(many)),
        _ => {}
    }
    // Both are odd in any key that was made as it should be; an exponent of 1 would sign everything.
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let is_sound = is_odd(&modulus) && is_odd(&exponent) && (2..=33).contains(&bits(&exponent));
    if is_sound { Ok(()) } else { Err(KeyError::Damaged) }
}

/// How many bits a number has that is written big end first.
pub(super) fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let Some(first) = number.get(zeros) else { return 0 };
    (number.len() - zeros) * 8 - first.leading_zeros() as usize
}

/// Has the library check the signature and nothing else: claims are checked strictly in [`claims`](super::claims), at a given
/// time.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}
