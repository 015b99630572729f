//! Identifiers made of text, and the character rules of each.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an identifier of its kind. Says the kind, never the text, which comes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct IdError {
    /// The kind of identifier, as people call it: `uid`, `rid`, …
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: IdProblem,
}

/// The rule an identifier breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdProblem {
    /// No character at all.
    #[error("is empty")]
    Empty,
    /// More characters than its kind may have.
    #[error("is longer than {max} characters")]
    TooLong {
        /// The most characters its kind may have.
        max: usize,
    },
    /// A character its kind may not have.
    #[error("contains a character that is not allowed")]
    Forbidden,
}

/// Longest `uid` and `rid`, in characters (signalling contract, section 1).
const NAME_MAX: usize = 128;
/// `#` and ten digits, what a stream's id adds to its peer's.
const STREAM_SUFFIX: usize = 11;
/// Random digits in a stream's id.
const STREAM_DIGITS: u64 = 10_000_000_000;

/// Digits of base 62 that hold 128 bits.
const RECORDING_DIGITS: usize = 22;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Names given by clients: anything readable that can't be mistaken for a path, a key pattern or a hash tag.
fn name_rule(c: char) -> bool {
    !c.is_control() && !matches!(c, '/' | '#' | '*' | '?' | '[' | ']' | '{' | '}')
}

/// Stream ids: opaque, but fit for a log line.
fn opaque_rule(c: char) -> bool {
    !c.is_control()
}

/// Names given by operators and programs: fit for a key, a label, a file name and a URL.
fn token_rule(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn check(what: &'static str, text: &str, max: usize, rule: fn(char) -> bool) -> Result<(), IdError> {
    let fail = |problem| Err(IdError { what, problem });
    if text.is_empty() {
        return fail(IdProblem::Empty);
    }
    // A character takes at most four bytes, so that a hostile length is refused without a walk over it.
    if text.len() > 4 * max || text.chars().count() > max {
        return fail(IdProblem::TooLong { max });
    }
    if text.chars().all(rule) { Ok(()) } else { fail(IdProblem::Forbidden) }
}

/// Names of files and of what is in them: nothing that any file system, URL or shell reads as more than a letter.
fn plain_rule(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and shares it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check($what, text, $max, $rule)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A room (`rid`): 1–128 characters, no control characters, none of `/ # * ? [ ] { }`.
    RoomId, "rid", NAME_MAX, name_rule
);
text_id!(
    /// A client (`uid`), the same in all its rooms: 1–128 characters by the rule of [`RoomId`].
    PeerId, "uid", NAME_MAX, name_rule
);
text_id!(
    /// A published stream: 1–139 characters, no control characters. Opaque but to [`Mid::of`].
    Mid, "mid", NAME_MAX + STREAM_SUFFIX, opaque_rule
);
text_id!(
    /// A subscription to a stream: 1–139 characters, no control characters. Opaque but to [`Sid::of`].
    Sid, "sid", NAME_MAX + STREAM_SUFFIX, opaque_rule
);
text_id!(
    /// A transport on an SFU node: 1–139 characters, no control characters.
    TransportId, "transport id", NAME_MAX + STREAM_SUFFIX, opaque_rule
);
text_id!(
    /// An SFU node (`sfuid`): 1–64 of ASCII letters, digits, `-`, `_` and `.`.
    NodeId, "sfuid", 64, token_rule
);
text_id!(
    /// One start of an SFU node: another boot has lost all streams of the one before. By the rule of [`NodeId`].
    BootId, "boot id", 64, token_rule
);
text_id!(
    /// An edge (`signalid`, `bizid`). By the rule of [`NodeId`].
    EdgeId, "edge id", 64, token_rule
);
text_id!(
    /// A region of the deployment. By the rule of [`NodeId`].
    RegionId, "region", 64, token_rule
);
text_id!(
    /// One membership of a peer in a room, from its join to its end, over any number of sockets. By the rule of
    /// [`NodeId`]; made of at least 128 random bits.
    SessionId, "session id", 64, token_rule
);
text_id!(
    /// What a client proves its session with: a [`SessionId`] and its signature. 1–256 of ASCII letters, digits, `-`, `_`
    /// and `.`; being well-formed proves nothing yet.
    SessionToken, "session", 256, token_rule
);
text_id!(
    /// A client's name for one intent (`op`), the same when it asks again: 1–128 characters, no control characters.
    OpId, "op", 128, opaque_rule
);

text_id!(
    /// One recording of a stream, from its start to its end: 1–64 of ASCII letters, digits, `-` and `_`. Files are named after
    /// it.
    RecordingId, "recording id", 64, plain_rule
);

impl Mid {
    /// The id of a new stream of this peer: `<uid>#<10 digits>`. `random` is uniform and from a cryptographic source.
    pub fn of(owner: &PeerId, random: u64) -> Self {
        Self(stream_id(owner, random))
    }
}

impl Sid {
    /// The id of a new subscription of this peer: `<uid>#<10 digits>`. `random` is uniform and from a cryptographic source.
    pub fn of(subscriber: &PeerId, random: u64) -> Self {
        Self(stream_id(subscriber, random))
    }
}

impl SessionId {
    /// A new session's id, of 128 random bits from a cryptographic source.
    pub fn of(random: u128) -> Self {
        Self(Arc::from(format!("{random:032x}")))
    }
}

impl BootId {
    /// The id of a start of a node, of 64 random bits.
    pub fn of(random: u64) -> Self {
        Self(Arc::from(format!("{random:016x}")))
    }
}

impl RecordingId {
    /// A new recording's id: 22 of `0-9A-Za-z`, which hold 128 random bits from a cryptographic source.
    pub fn of(random: u128) -> Self {
        let mut rest = random;
        let text: String = (0..RECORDING_DIGITS)
            .map(|_| {
                let digit = (rest % 62) as usize;
                rest /= 62;
                char::from(BASE62[digit])
            })
            .collect();
        Self(Arc::from(text))
    }
}

impl From<&Mid> for TransportId {
    /// One publish makes one transport: the edge's policy.
    fn from(mid: &Mid) -> Self {
        Self(Arc::clone(&mid.0))
    }
}

impl From<&Sid> for TransportId {
    /// One subscribe makes one transport: the edge's policy.
    fn from(sid: &Sid) -> Self {
        Self(Arc::clone(&sid.0))
    }
}

/// The bias of the remainder is below 2⁻³⁰.
fn stream_id(peer: &PeerId, random: u64) -> Arc<str> {
    Arc::from(format!("{peer}#{:010}", random % STREAM_DIGITS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_contract() {
        for good in ["a", "rid_772", "Zoë ☎", " ", &"é".repeat(128)] {
            assert!(RoomId::new(good).is_ok(), "{good:?}");
            assert!(PeerId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a/b", "a#b", "*", "?", "[", "]", "{", "}", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(129)] {
            assert!(RoomId::new(bad).is_err(), "{bad:?}");
            assert!(PeerId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_error_names_the_field_and_the_rule() {
        assert_eq!(PeerId::new("").expect_err("empty").to_string(), "uid is empty");
        let long = RoomId::new("x".repeat(10_000)).expect_err("long").to_string();
        assert_eq!(long, "rid is longer than 128 characters");
    }

    #[test]
    fn stream_ids_are_the_peer_and_ten_digits() {
        let peer = PeerId::new("midea_10d").expect("valid");
        assert_eq!(Mid::of(&peer, 1_047).as_str(), "midea_10d#0000001047");
        assert_eq!(Sid::of(&peer, u64::MAX).as_str(), "midea_10d#3709551615");
    }

    #[test]
    fn the_longest_peer_still_has_valid_stream_ids() {
        let peer = PeerId::new("ß".repeat(128)).expect("valid");
        assert!(Mid::new(Mid::of(&peer, 7).as_str()).is_ok());
    }

    #[test]
    fn operators_names_are_fit_for_keys() {
        assert!(NodeId::new("sz_sfu-1.b").is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn recordings_are_named_by_letters_and_digits_alone() {
        assert_eq!(RecordingId::of(0).as_str(), "0".repeat(22));
        let largest = RecordingId::of(u128::MAX);
        assert_eq!(largest.as_str().len(), 22);
        assert!(RecordingId::new(largest.as_str()).is_ok());
        assert_ne!(RecordingId::of(61), RecordingId::of(62));
        for bad in ["", ".", "..", "a.b", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
            assert!(RecordingId::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_checks_what_writing_gave(text in ".*") {
            let json = serde_json::to_string(&text).expect("a string is JSON");
            let read: Result<PeerId, _> = serde_json::from_str(&json);
            prop_assert_eq!(read.is_ok(), PeerId::new(&text).is_ok());
            if let Ok(peer) = read {
                prop_assert_eq!(serde_json::to_string(&peer).expect("an id is JSON"), json);
            }
        }
    }
}
