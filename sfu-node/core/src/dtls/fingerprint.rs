//! Certificate fingerprints as SDP carries them (RFC 8122, section 5).

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256, Sha384, Sha512};

/// Why a text is not a usable fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// `sha-1`, `md5` or something unheard of.
    #[error("the hash of a fingerprint must be sha-256, sha-384 or sha-512")]
    UnsupportedHash,
    /// The digest is not the hash's number of colon-separated hexadecimal bytes.
    #[error("the digest of a fingerprint must be as many bytes as its hash has, in hexadecimal with colons")]
    BadDigest,
}

/// The digest of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    /// Only the first `hash.len()` bytes count; the rest is zero.
    digest: [u8; 64],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, bytes: &[u8]) -> [u8; 64] {
        let mut digest = [0; 64];
        match self {
            Self::Sha256 => digest[..32].copy_from_slice(&Sha256::digest(bytes)),
            Self::Sha384 => digest[..48].copy_from_slice(&Sha384::digest(bytes)),
            Self::Sha512 => digest.copy_from_slice(&Sha512::digest(bytes)),
        }
        digest
    }
}

impl Fingerprint {
    /// The SHA-256 fingerprint of a certificate in DER.
    pub fn sha256_of(certificate: &[u8]) -> Self {
        Self { hash: Hash::Sha256, digest: Hash::Sha256.digest(certificate) }
    }

    /// Whether this is the fingerprint of a certificate in DER.
    pub fn matches(&self, certificate: &[u8]) -> bool {
        self.hash.digest(certificate) == self.digest
    }

    /// Whether its hash is stronger than the other's.
    pub(crate) fn is_stronger_than(&self, other: &Self) -> bool {
        self.hash > other.hash
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads the value of an `a=fingerprint` line: the hash's name in any case, a space, the digest in any case.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (name, hex) = text.trim().split_once(' ').ok_or(FingerprintError::BadDigest)?;
        let hash = Hash::ALL.into_iter().find(|hash| name.eq_ignore_ascii_case(hash.name()));
        let hash = hash.ok_or(FingerprintError::UnsupportedHash)?;
        let mut digest = [0; 64];
        let mut bytes = hex.trim().split(':');
        for byte in &mut digest[..hash.len()] {
            let hex = bytes.next().filter(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
            let hex = hex.ok_or(FingerprintError::BadDigest)?;
            *byte = u8::from_str_radix(hex, 16).map_err(|_| FingerprintError::BadDigest)?;
        }
        match bytes.next() {
            None => Ok(Self { hash, digest }),
            Some(_) => Err(FingerprintError::BadDigest),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        let mut separator = ' ';
        for byte in &self.digest[..self.hash.len()] {
            write!(f, "{separator}{byte:02X}")?;
            separator = ':';
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_being_written_and_read() {
        let fingerprint = Fingerprint::sha256_of(b"certificate");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert_eq!(fingerprint.to_string().to_ascii_lowercase().parse(), Ok(fingerprint));
        assert!(fingerprint.matches(b"certificate") && !fingerprint.matches(b"Certificate"));
    }

    #[test]
    fn the_longer_hashes_are_verified_too() {
        for (name, len) in [("sha-384", 48), ("SHA-512", 64)] {
            let text = format!("{name} {}", vec!["00"; len].join(":"));
            let fingerprint: Fingerprint = text.parse().expect("well-formed");
            assert!(!fingerprint.matches(b"certificate"), "{name}");
        }
        let mut digest = [0; 64];
        digest[..48].copy_from_slice(&Sha384::digest(b"certificate"));
        assert!(Fingerprint { hash: Hash::Sha384, digest }.matches(b"certificate"));
    }

    #[test]
    fn broken_and_weak_fingerprints_are_refused() {
        let good = Fingerprint::sha256_of(b"").to_string();
        let longer = format!("{good}:00");
        let sha1 = format!("sha-1 {}", ["AB"; 20].join(":"));
        for (text, error) in [
            ("", FingerprintError::BadDigest),
            ("sha-256", FingerprintError::BadDigest),
            ("sha-256 ", FingerprintError::BadDigest),
            (&good[..good.len() - 3], FingerprintError::BadDigest),
            (&good[..good.len() - 1], FingerprintError::BadDigest),
            (&longer, FingerprintError::BadDigest),
            (&good.replace(':', "-"), FingerprintError::BadDigest),
            (&good.replace("E3", "+3"), FingerprintError::BadDigest),
            (&sha1, FingerprintError::UnsupportedHash),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(error), "{text}");
        }
    }
}
