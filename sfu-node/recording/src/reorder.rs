//! Packets of one track in the order they were sent: those that overtook others wait for them, within a bound.
//!
//! What their timestamps mean is [`crate::timeline`]'s.

use std::{collections::BTreeMap, time::Duration};

/// Bytes that a waiting packet is counted for beside its payload, so that empty ones are bounded too.
const PER_PACKET: usize = 128;

/// A packet that waits.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) arrival: Duration,
    pub(crate) timestamp: u32,
    pub(crate) source: u32,
    pub(crate) marker: bool,
    /// Its length in ticks of the track's clock: that of its sound, 0 for a part of a picture.
    pub(crate) ticks: u32,
    /// Whether it says something of time: padding and what could not be parsed does not.
    pub(crate) timed: bool,
    pub(crate) payload: Vec<u8>,
}

/// The packet whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) index: u64,
    /// Packets missing just before it.
    pub(crate) missing: u64,
    pub(crate) held: &'a Held,
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its turn has passed.
    Late,
    /// It is there already.
    Duplicate,
}

/// The packets of a track that wait for their turn.
#[derive(Debug)]
pub(crate) struct Reorder {
    /// How long a packet waits for one before it.
    wait: Duration,
    /// Bytes that may wait.
    bound: usize,
    /// Index whose turn is next; `None` before the first.
    next: Option<u64>,
    /// Of the packet taken out last.
    source: Option<u32>,
    held: BTreeMap<u64, Held>,
    bytes: usize,
}

impl Reorder {
    /// Packets wait at most for `wait`, and at most `bound` bytes of them.
    pub(crate) const fn new(wait: Duration, bound: usize) -> Self {
        Self { wait, bound, next: None, source: None, held: BTreeMap::new(), bytes: 0 }
    }

    /// Takes a packet.
    pub(crate) fn insert(&mut self, index: u64, held: Held) -> Result<(), Refused> {
        if self.next.is_some_and(|next| index < next) {
            return Err(Refused::Late);
        }
        if self.held.contains_key(&index) {
            return Err(Refused::Duplicate);
        }
        self.bytes += held.payload.len() + PER_PACKET;
        self.held.insert(index, held);
        Ok(())
    }

    /// The packet whose turn it is: all before it are there, or were waited for long enough, or too much is waiting. With `all`
    /// nothing is waited for.
    pub(crate) fn head(&self, now: Duration, all: bool) -> Option<Head<'_>> {
        let (&index, held) = self.held.first_key_value()?;
        let away = self.next.map_or(0, |next| index - next);
        let turn = away == 0 || all || self.is_full() || now.saturating_sub(self.oldest()) >= self.wait;
        // How far another source's numbers are from the last one's says nothing.
        let missing = if self.source.is_none_or(|source| source == held.source) { away } else { 0 };
        turn.then_some(Head { index, missing, held })
    }

    /// Takes the packet out whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Held> {
        let (index, held) = self.held.pop_first()?;
        self.bytes -= held.payload.len() + PER_PACKET;
        self.next = Some(index.saturating_add(1));
        self.source = Some(held.source);
        Some(held)
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Held> + Clone {
        self.held.values()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether so much waits that nothing more is waited for.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes > self.bound
    }

    /// When the first of those that wait arrived.
    fn oldest(&self) -> Duration {
        self.held.values().map(|held| held.arrival).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(400);

    fn held(millis: u64) -> Held {
        Held {
            arrival: Duration::from_millis(millis),
            timestamp: 0,
            source: 0,
            marker: false,
            ticks: 0,
            timed: true,
            payload: vec![0; 100],
        }
    }

    /// Takes out whose turn it is at `millis`: index and what is missing before it.
    fn take(reorder: &mut Reorder, millis: u64) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        while let Some(head) = reorder.head(Duration::from_millis(millis), false) {
            taken.push((head.index, head.missing));
            reorder.pop();
        }
        taken
    }

    #[test]
    fn what_overtook_waits_for_what_it_overtook() {
        let mut reorder = Reorder::new(WAIT, 10_000);
        for index in [7, 9, 10] {
            reorder.insert(index, held(0)).expect("in time");
        }
        assert_eq!(take(&mut reorder, 399), [(7, 0)]);
        reorder.insert(8, held(399)).expect("in time");
        assert_eq!(take(&mut reorder, 399), [(8, 0), (9, 0), (10, 0)]);
        assert_eq!(reorder.insert(8, held(400)), Err(Refused::Late));
    }

    #[test]
    fn what_does_not_come_is_waited_for_since_something_came_after_it() {
        let mut reorder = Reorder::new(WAIT, 10_000);
        reorder.insert(1, held(0)).expect("in time");
        assert_eq!(take(&mut reorder, 0), [(1, 0)]);
        reorder.insert(5, held(1_000)).expect("in time");
        reorder.insert(4, held(1_200)).expect("in time");
        assert_eq!(reorder.insert(4, held(1_200)), Err(Refused::Duplicate));
        assert_eq!(take(&mut reorder, 1_399), []);
        assert_eq!(take(&mut reorder, 1_400), [(4, 2), (5, 0)]);
    }

    #[test]
    fn no_more_waits_than_the_bound() {
        let mut reorder = Reorder::new(WAIT, 1_000);
        reorder.insert(0, held(0)).expect("in time");
        assert_eq!(take(&mut reorder, 0), [(0, 0)]);
        for index in 2..6 {
            reorder.insert(index, held(0)).expect("in time");
        }
        assert_eq!(take(&mut reorder, 0), []);
        reorder.insert(6, held(0)).expect("in time");
        assert_eq!(take(&mut reorder, 0).first(), Some(&(2, 1)), "it is full");
    }
}
