//! ICE username fragments and passwords (RFC 8839, section 5.4), ours and the peer's.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// Longest fragment or password (RFC 8839, section 5.4).
const MAX_LEN: usize = 256;
const MIN_UFRAG: usize = 4;
const MIN_PASSWORD: usize = 22;

/// Why a text cannot be a ufrag or a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A ufrag has 4 to 256 letters, digits, `+` and `/`.
    #[error("an ICE ufrag has 4 to 256 letters, digits, + and /")]
    Ufrag,
    /// A password has 22 to 256 letters, digits, `+` and `/`.
    #[error("an ICE password has 22 to 256 letters, digits, + and /")]
    Password,
}

/// A username fragment and its password, well-formed.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    ufrag: Box<str>,
    password: Box<str>,
}

impl IceCredentials {
    /// Takes what an SDP says.
    pub fn new(ufrag: &str, password: &str) -> Result<Self, CredentialError> {
        if !is_ice_text(ufrag, MIN_UFRAG) {
            return Err(CredentialError::Ufrag);
        }
        if !is_ice_text(password, MIN_PASSWORD) {
            return Err(CredentialError::Password);
        }
        Ok(Self { ufrag: ufrag.into(), password: password.into() })
    }

    /// Makes credentials of our own: a ufrag of 8 characters and a password of 24 (144 bits; RFC 8445, section 5.3, asks for 128).
    /// The caller draws `random` from a cryptographic source and makes sure that the ufrag is not in use.
    pub fn from_random(random: [u8; 24]) -> Self {
        let (ufrag, password) = random.split_at(6);
        Self { ufrag: STANDARD_NO_PAD.encode(ufrag).into(), password: STANDARD_NO_PAD.encode(password).into() }
    }

    /// The username fragment.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

fn is_ice_text(text: &str, min: usize) -> bool {
    (min..=MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_made_from_random_bytes_are_well_formed() {
        let made = IceCredentials::from_random([0xfb; 24]);
        assert_eq!(IceCredentials::new(made.ufrag(), made.password()), Ok(made.clone()));
        assert_eq!((made.ufrag().len(), made.password().len()), (8, 24));
    }

    #[test]
    fn lengths_and_characters_outside_rfc_8839_are_refused() {
        let password = "p".repeat(22);
        assert!(IceCredentials::new("abcd", &password).is_ok());
        for ufrag in ["", "abc", "ab d", "abc:", "abcé", &"u".repeat(257)] {
            assert_eq!(IceCredentials::new(ufrag, &password), Err(CredentialError::Ufrag), "{ufrag}");
        }
        for password in ["", &"p".repeat(21), &"p".repeat(257), "pppppppppppppppppppp\"p"] {
            assert_eq!(IceCredentials::new("abcd", password), Err(CredentialError::Password), "{password}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let made = IceCredentials::from_random([7; 24]);
        assert!(!format!("{made:?}").contains(made.password()));
    }
}
