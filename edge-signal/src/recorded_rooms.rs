//! Rooms in which everything is recorded: a name, or the beginning of names and a `*`.

use std::fmt;
use std::str::FromStr;

use proto::ids::RoomId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One of `recording.rooms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomPattern {
    /// This room.
    Exactly(RoomId),
    /// Those whose names begin so; empty: all.
    Prefix(String),
}

/// Neither a room's name nor the beginning of one and a `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a room's name nor the beginning of names and a *")]
pub struct NoPattern;

impl RoomPattern {
    /// Whether the room is one of them.
    pub fn covers(&self, room: &RoomId) -> bool {
        match self {
            Self::Exactly(name) => name == room,
            Self::Prefix(prefix) => room.as_str().starts_with(prefix),
        }
    }
}

impl FromStr for RoomPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Prefix(String::new())),
            // What no room's name may hold covers nothing: somebody meant something else.
            Some(prefix) => RoomId::new(prefix).map(|_| Self::Prefix(prefix.to_owned())).map_err(|_| NoPattern),
            None => RoomId::new(text).map(Self::Exactly).map_err(|_| NoPattern),
        }
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Serialize for RoomPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoomPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, room: &str) -> bool {
        let pattern: RoomPattern = pattern.parse().expect("a pattern");
        pattern.covers(&RoomId::new(room).expect("valid"))
    }

    #[test]
    fn a_name_is_one_room_and_a_star_stands_for_any_end() {
        assert!(covers("board", "board") && !covers("board", "boardroom"));
        assert!(covers("board*", "board") && covers("board*", "boardroom") && !covers("board*", "a board"));
        assert!(covers("*", "any"));
    }

    #[test]
    fn what_could_cover_no_room_is_refused() {
        for text in ["", "a*b", "**", "a/b", "a/*", &"x".repeat(129)] {
            assert_eq!(text.parse::<RoomPattern>(), Err(NoPattern), "{text}");
        }
        assert_eq!("board-*".parse::<RoomPattern>().map(|pattern| pattern.to_string()).as_deref(), Ok("board-*"));
    }
}
