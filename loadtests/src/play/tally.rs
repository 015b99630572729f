//! What signalling came to, of all members together.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;

use crate::signalling::client::ClientError;
use crate::signalling::latency::{Latency, Times};

/// Kinds of what is told of errors: what differs by room or member is left out.
const KINDS: usize = 64;

/// What everybody adds to.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    figures: Signalling,
    times: BTreeMap<&'static str, Times>,
}

/// What signalling came to so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Signalling {
    /// Members that are in their rooms now.
    pub members: usize,
    /// How long things took: `join`, `publish` and `subscribe` from being wanted to done, `broadcast` to each other member.
    pub times: BTreeMap<&'static str, Latency>,
    /// Joins that went on with a session.
    pub resumed: u64,
    /// Joins with a session that were not told what they had missed.
    pub resynced: u64,
    /// Refusals that were tried again, by method and code.
    pub retried: BTreeMap<String, u64>,
    /// Requests that came to nothing, by method and reason.
    pub failed: BTreeMap<String, u64>,
    /// Connections that ended, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Signalling {
    /// How many requests came to nothing.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// How many were refused for the time being.
    pub fn refusals(&self) -> u64 {
        self.retried.values().sum()
    }
}

impl Tally {
    fn with<R>(&self, change: impl FnOnce(&mut Sums) -> R) -> R {
        change(&mut self.0.lock().expect("invariant: nobody panics holding it"))
    }

    /// Something took so long.
    pub fn took(&self, what: &'static str, time: Duration) {
        self.with(|sums| sums.times.entry(what).or_default().record(time));
    }

    /// A member is in its room; it went on with a session, and was told what it missed or not.
    pub fn joined(&self, resumed: bool, resynced: bool) {
        self.with(|sums| {
            sums.figures.members += 1;
            sums.figures.resumed += u64::from(resumed);
            sums.figures.resynced += u64::from(resynced);
        });
    }

    /// A member is not in its room any more, or not connected.
    pub fn away(&self) {
        self.with(|sums| sums.figures.members -= 1);
    }

    /// A request was refused, and will be sent again.
    pub fn retried(&self, method: &str, code: i32) {
        self.with(|sums| count(&mut sums.figures.retried, format!("{method}: {code}")));
    }

    /// A request came to nothing.
    pub fn failed(&self, method: &str, why: &impl std::fmt::Display) {
        self.with(|sums| count(&mut sums.figures.failed, format!("{method}: {why}")));
    }

    /// A connection ended that was to go on.
    pub fn lost(&self, why: &ClientError) {
        self.with(|sums| count(&mut sums.figures.lost, why.to_string()));
    }

    /// All of it.
    pub fn figures(&self) -> Signalling {
        self.with(|sums| {
            let times = sums.times.iter().map(|(what, times)| (*what, times.summary())).collect();
            Signalling { times, ..sums.figures.clone() }
        })
    }
}

fn count(kinds: &mut BTreeMap<String, u64>, kind: String) {
    let kind = if kinds.len() < KINDS || kinds.contains_key(&kind) { kind } else { "others".to_owned() };
    *kinds.entry(kind).or_default() += 1;
}
