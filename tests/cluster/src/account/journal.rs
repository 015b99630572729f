//! What happened to one client, in order: what it was told, and what it did itself. The audit is made from these alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::notice::{Notice, Place};
use super::view::View;

/// The answer to a join.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// What it asked to go on after, with the session it had.
    pub since: Option<Place>,
    /// Where its state is from.
    pub place: Place,
    /// The state is the truth; what was missed is not told.
    pub resync: bool,
    /// The state.
    pub view: View,
    /// What survived of its own streams.
    pub own: BTreeSet<String>,
}

impl Joined {
    /// What was missed follows, and nothing else.
    pub fn is_resumed(&self) -> bool {
        !self.resync && self.since.as_ref().is_some_and(|since| since.epoch == self.place.epoch)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// It asks to be let into the room. What is told until the answer may be in the answer's state or not.
    Joining,
    /// It is in the room.
    Joined(Joined),
    /// It was told.
    Told(Place, Notice),
    /// Something came that cannot be read.
    Unreadable(String),
    /// The connection is gone; the close code, if there was one.
    Lost(Option<u16>),
    /// The server refused for good.
    Ended(String),
    /// It says the broadcast with this number for the first time.
    Says(u64),
    /// The same again, because no answer came.
    Repeats(u64),
    /// The server has carried it out.
    Said(u64),
    /// A request of this method was answered with this error; it may have been asked for again.
    Refused(&'static str, i64),
    /// A request of this method was given up, after all tries: with this error, or without an answer.
    GaveUp(&'static str, Option<i64>),
    /// It publishes this.
    Published {
        /// Which stream.
        mid: String,
        /// Its description, as it was sent.
        minfo: Value,
    },
    /// The stream's description is another now.
    Changed {
        /// Which stream.
        mid: String,
        /// Its description.
        minfo: Value,
    },
    /// It had a stream recorded, its own or another's, or no longer: an answer, for it is not told.
    Recorded {
        /// Which stream.
        mid: String,
        /// Whether it is recorded from then on.
        on: bool,
        /// Which recording has begun or ended.
        recording: String,
    },
    /// It publishes this no more, by its own will.
    Withdrawn(String),
    /// The server has this stream of its no more, although it did not take it back.
    Missed(String),
    /// The server asks it to move this stream.
    Unwanted(String),
    /// An edge answered its WebSocket with this status instead of letting it in.
    TurnedAway(u16),
    /// It left.
    Left,
}

/// All that happened to one client.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Who.
    pub uid: Arc<str>,
    /// Where.
    pub room: Arc<str>,
    /// What, and when.
    pub entries: Vec<(Instant, Happened)>,
}

impl Journal {
    /// Nothing happened yet.
    pub fn new(uid: &str, room: &str) -> Self {
        Self { uid: uid.into(), room: room.into(), entries: Vec::new() }
    }

    /// Something happened now.
    pub fn note(&mut self, happened: Happened) {
        self.entries.push((Instant::now(), happened));
    }

    /// When it was first in the room again after `since`, if it lost its connection then or later.
    pub fn back_after(&self, since: Instant) -> Option<Instant> {
        let lost = self.entries.iter().position(|(at, what)| *at >= since && matches!(what, Happened::Lost(_)))?;
        let mut later = self.entries[lost..].iter();
        later.find_map(|(at, what)| matches!(what, Happened::Joined(_)).then_some(*at))
    }

    /// When its connections ended since then, and with which close code, if any.
    pub fn closes_after(&self, since: Instant) -> impl Iterator<Item = (Instant, Option<u16>)> {
        self.entries.iter().filter_map(move |(at, what)| match what {
            Happened::Lost(code) if *at >= since => Some((*at, *code)),
            _ => None,
        })
    }

    /// The statuses with which edges turned it away since then.
    pub fn turned_away_after(&self, since: Instant) -> impl Iterator<Item = u16> {
        self.entries.iter().filter_map(move |(at, what)| match what {
            Happened::TurnedAway(status) if *at >= since => Some(*status),
            _ => None,
        })
    }

    /// The streams that it was asked to move since then, once for each time.
    pub fn unwanted_after(&self, since: Instant) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(move |(at, what)| match what {
            Happened::Unwanted(mid) if *at >= since => Some(mid.as_str()),
            _ => None,
        })
    }

    /// Whether it lost its connection at `since` or later.
    pub fn was_lost_after(&self, since: Instant) -> bool {
        self.entries.iter().any(|(at, what)| *at >= since && matches!(what, Happened::Lost(_)))
    }

    /// Codes of the errors that requests were answered with since then, each with the request's method.
    pub fn errors_after(&self, since: Instant) -> impl Iterator<Item = (i64, &'static str)> {
        self.entries.iter().filter_map(move |(at, what)| match what {
            Happened::Refused(method, code) if *at >= since => Some((*code, *method)),
            _ => None,
        })
    }

    /// Requests that were given up since then, by method, each with the last error.
    pub fn given_up_after(&self, since: Instant) -> impl Iterator<Item = (&'static str, Option<i64>)> {
        self.entries.iter().filter_map(move |(at, what)| match what {
            Happened::GaveUp(method, code) if *at >= since => Some((*method, *code)),
            _ => None,
        })
    }

    /// When it was first told that this member is gone.
    pub fn told_gone(&self, member: &str) -> Option<Instant> {
        self.entries.iter().find_map(|(at, what)| match what {
            Happened::Told(_, Notice::PeerLeave { uid }) if uid == member => Some(*at),
            _ => None,
        })
    }

    /// Joins since then that went on where they were, and those that began anew.
    pub fn joins_after(&self, since: Instant) -> (usize, usize) {
        let joins = self.entries.iter().filter_map(|(at, what)| match what {
            Happened::Joined(joined) if *at >= since => Some(joined.is_resumed()),
            _ => None,
        });
        let (resumed, anew): (Vec<bool>, Vec<bool>) = joins.partition(|resumed| *resumed);
        (resumed.len(), anew.len())
    }
}
