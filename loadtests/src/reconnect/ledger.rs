//! What became of everybody: who came back when, what was refused, which notifications were lost or came twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use crate::signalling::client::ClientError;
use crate::signalling::latency::{Latency, Times};

/// Shared by all members.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// Since when each is waited for.
    awaited: HashMap<String, Instant>,
    back: Times,
    failures: BTreeMap<String, u64>,
    answers: u64,
    refusals: BTreeMap<i32, u64>,
    resyncs: u64,
    lost: u64,
    twice: u64,
    heard: u64,
    wrong: u64,
}

/// A stretch of time, closed.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Account {
    /// From the cut to the answer of the join, of each who was waited for.
    pub back: Latency,
    /// Who was not back.
    pub missing: u64,
    /// Connections that failed or were lost, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Requests that were answered.
    pub answers: u64,
    /// And refused, by code.
    pub refusals: BTreeMap<i32, u64>,
    /// Joins that were answered with a snapshot instead of what was missed.
    pub resyncs: u64,
    /// Notifications heard that carried a number.
    pub heard: u64,
    /// Numbers that were left out; of the last account, also those that had not come when all had been said.
    pub lost: u64,
    /// Numbers that came again, or out of order.
    pub twice: u64,
    /// Frames that are not the contract's.
    pub wrong: u64,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("invariant: nobody panics holding it")
    }

    /// From now on these are waited for.
    pub fn expect(&self, uids: impl IntoIterator<Item = String>) {
        let now = Instant::now();
        self.books().awaited.extend(uids.into_iter().map(|uid| (uid, now)));
    }

    /// How many are still waited for.
    pub fn missing(&self) -> usize {
        self.books().awaited.len()
    }

    /// One is in its room.
    pub fn there(&self, uid: &str) {
        let mut books = self.books();
        if let Some(since) = books.awaited.remove(uid) {
            books.back.record(since.elapsed());
        }
    }

    /// A connection failed or was lost.
    pub fn lost(&self, error: &ClientError) {
        let what = match error {
            ClientError::Io(error) => error.kind().to_string(),
            other => other.to_string(),
        };
        *self.books().failures.entry(what).or_default() += 1;
    }

    /// A request was answered, or refused with a code.
    pub fn answered(&self, outcome: Result<(), i32>) {
        let mut books = self.books();
        match outcome {
            Ok(()) => books.answers += 1,
            Err(code) => *books.refusals.entry(code).or_default() += 1,
        }
    }

    /// What was missed could not be told.
    pub fn resynced(&self) {
        self.books().resyncs += 1;
    }

    /// Number `n` came, after number `last`; `None`: what was between cannot be told.
    pub fn counted(&self, last: Option<u64>, n: u64) {
        let mut books = self.books();
        books.heard += 1;
        let Some(last) = last else { return };
        match n.checked_sub(last + 1) {
            Some(missing) => books.lost += missing,
            None => books.twice += 1,
        }
    }

    /// So many numbers were said and never came, and none after them did that would show it.
    pub fn unheard(&self, missing: u64) {
        self.books().lost += missing;
    }

    /// A frame that is none.
    pub fn wrong(&self, text: &str) {
        eprintln!("not of the contract: {text}");
        self.books().wrong += 1;
    }

    /// Closes the account of what was since the last one, and begins a new one.
    pub fn close(&self) -> Account {
        let mut books = self.books();
        let Books { awaited, back, failures, answers, refusals, resyncs, lost, twice, heard, wrong } =
            std::mem::take(&mut *books);
        let missing = awaited.len() as u64;
        Account { back: back.summary(), missing, failures, answers, refusals, resyncs, heard, lost, twice, wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_left_out_are_lost_and_numbers_again_came_twice() {
        let ledger = Ledger::default();
        for (last, n) in [(1, 2), (2, 5), (5, 5), (5, 3)] {
            ledger.counted(Some(last), n);
        }
        ledger.counted(None, 9);
        ledger.unheard(3);
        let Account { heard, lost, twice, .. } = ledger.close();
        assert_eq!((heard, lost, twice), (5, 5, 2));
        assert_eq!(ledger.close().heard, 0);
    }

    #[test]
    fn who_is_waited_for_is_missing_until_there() {
        let ledger = Ledger::default();
        ledger.expect(["a".to_owned(), "b".to_owned()]);
        ledger.there("a");
        ledger.there("c");
        assert_eq!(ledger.missing(), 1);
        let Account { back, missing, .. } = ledger.close();
        assert_eq!((back.count, missing), (1, 1));
    }
}
