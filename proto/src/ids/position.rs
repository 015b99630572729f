//! A place in a room's log: which log ([`Epoch`]) and which entry of it ([`Seq`]).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest integer every JSON reader agrees on (2⁵³ − 1).
const MAX_SAFE: u64 = (1 << 53) - 1;

/// Why a value is not an [`Epoch`] or a [`Seq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not exactly 16 hexadecimal digits in lower case.
    #[error("epoch is not 16 hexadecimal digits")]
    Epoch,
    /// Above 2⁵³ − 1.
    #[error("seq is too large")]
    Seq,
}

/// One life of a room's log. Another epoch means that positions of the one before say nothing any more: the room was
/// empty for long, or the store lost writes. Random, so never compared but for equality. In JSON a string of 16
/// hexadecimal digits, which passes through every reader unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of no log: what a position that can't be read becomes, so that its sender gets a snapshot.
    pub const NONE: Self = Self(0);

    /// A new epoch of 64 random bits. Never [`Epoch::NONE`].
    pub fn of(random: u64) -> Self {
        Self(random.max(1))
    }
}

impl FromStr for Epoch {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 16 || !digits {
            return Err(PositionError::Epoch);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| PositionError::Epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Number of an entry within its epoch, from 1 without holes; 0 is the place before the first. At most 2⁵³ − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(u64);

impl Seq {
    /// Before the first entry.
    pub const START: Self = Self(0);

    /// Checks the range.
    pub fn new(number: u64) -> Result<Self, PositionError> {
        if number <= MAX_SAFE { Ok(Self(number)) } else { Err(PositionError::Seq) }
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The entry after this one. Stays at the largest: a million entries a second reach it in 285 years.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(MAX_SAFE))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Seq {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A place in a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Up to and with which entry.
    pub seq: Seq,
}

impl Position {
    /// A position in no log: answered with a snapshot.
    pub const NONE: Self = Self { epoch: Epoch::NONE, seq: Seq::START };

    /// The place of the entry after this one, in the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq.next() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_string_and_a_number_in_json() {
        let position = Position { epoch: Epoch::of(0xfeed), seq: Seq::new(7).expect("small") };
        let json = serde_json::to_string(&position).expect("JSON");
        assert_eq!(json, r#"{"epoch":"000000000000feed","seq":7}"#);
        assert_eq!(serde_json::from_str::<Position>(&json).expect("read back"), position);
    }

    #[test]
    fn malformed_positions_are_refused() {
        for bad in [
            r#"{"epoch":"feed","seq":7}"#,
            r#"{"epoch":"+00000000000feed","seq":7}"#,
            r#"{"epoch":7,"seq":7}"#,
            r#"{"epoch":"000000000000feed","seq":-1}"#,
            r#"{"epoch":"000000000000feed","seq":9007199254740992}"#,
            r#"{"epoch":"000000000000feed"}"#,
        ] {
            assert!(serde_json::from_str::<Position>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_epoch_is_never_the_one_of_no_log() {
        assert_ne!(Epoch::of(0), Epoch::NONE);
    }
}
