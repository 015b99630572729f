//! What a server said last, to be said again: a client that repeats itself has lost the answer (RFC 6347, section 4.2.4).
//!
//! The library repeats flights, too, but the more often it was asked the longer it waits, and out of step with the client, who
//! does the same; its last flight it never repeats by itself. At 30 % loss one handshake in 300 ran out of time over that.

use std::time::{Duration, Instant};

/// Datagrams kept: a server's longest flight with a P-256 certificate is one of 600 bytes.
const MAX_DATAGRAMS: usize = 4;

/// Between two repetitions. Below any client's first interval, and too slow to be of use to who fakes a client's address.
const INTERVAL: Duration = Duration::from_millis(20);

/// The last flight is repeated unasked after this time, then after twice as long, and so on. Nothing acknowledges it, and its
/// 75 bytes are cheaper than the seconds that a client waits before it asks.
const FIRST_UNASKED: Duration = Duration::from_millis(100);

/// So often: until 6.3 s after the handshake.
const UNASKED: u32 = 6;

/// The datagrams of one flight.
#[derive(Debug, Default)]
pub(super) struct Flight {
    datagrams: Vec<Box<[u8]>>,
    /// The library has given all of it.
    complete: bool,
    /// How many are still to be repeated, counted from the end.
    owed: usize,
    not_before: Option<Instant>,
    /// When it is repeated unasked, and how often that was done.
    unasked: Option<(Instant, u32)>,
}

impl Flight {
    /// The last flight of a handshake that is complete by now.
    pub(super) fn last(now: Instant) -> Self {
        Self { unasked: Some((now + FIRST_UNASKED, 1)), ..Self::default() }
    }

    /// The library sends a datagram, for the first time or again.
    pub(super) fn note_sent(&mut self, now: Instant, datagram: &[u8]) {
        if !self.complete && self.datagrams.len() < MAX_DATAGRAMS {
            self.datagrams.push(datagram.into());
        }
        self.owed = 0;
        self.not_before = Some(now + INTERVAL);
    }

    /// The client repeats what this flight has answered.
    pub(super) fn note_repetition(&mut self, now: Instant) {
        if self.complete && self.not_before.is_none_or(|at| now >= at) {
            self.owed = self.datagrams.len();
            self.not_before = Some(now + INTERVAL);
        }
    }

    /// The next datagram to repeat, once the library has nothing more to say.
    pub(super) fn next(&mut self, now: Instant) -> Option<&[u8]> {
        self.complete = true;
        if let Some((at, times)) = self.unasked.filter(|(at, _)| now >= *at) {
            self.unasked = (times < UNASKED).then(|| (at + FIRST_UNASKED * (1 << times), times + 1));
            self.owed = self.datagrams.len();
        }
        let datagram = self.datagrams.get(self.datagrams.len() - self.owed)?;
        self.owed -= 1;
        Some(datagram)
    }

    /// When to ask for it unasked.
    pub(super) fn unasked(&self) -> Option<Instant> {
        self.unasked.map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_repetition_is_answered_with_the_whole_flight_but_not_faster_than_the_interval() {
        let start = Instant::now();
        let mut flight = Flight::default();
        flight.note_sent(start, b"one");
        flight.note_sent(start, b"two");
        assert_eq!(flight.next(start), None);
        flight.note_repetition(at(start, 10));
        assert_eq!(flight.next(at(start, 10)), None, "that crossed the flight");
        flight.note_repetition(at(start, 25));
        assert_eq!(flight.next(at(start, 25)), Some(b"one".as_slice()));
        assert_eq!(flight.next(at(start, 25)), Some(b"two".as_slice()));
        assert_eq!(flight.next(at(start, 25)), None);
        flight.note_repetition(at(start, 30));
        assert_eq!(flight.next(at(start, 30)), None);
    }

    #[test]
    fn the_last_flight_is_repeated_unasked_and_not_for_ever() {
        let start = Instant::now();
        let mut flight = Flight::last(start);
        flight.note_sent(start, b"finished");
        assert_eq!(flight.next(start), None);
        let mut repeated = Vec::new();
        while let Some(due) = flight.unasked() {
            assert_eq!(flight.next(due), Some(b"finished".as_slice()));
            assert_eq!(flight.next(due), None);
            repeated.push((due - start).as_millis());
        }
        assert_eq!(repeated, [100, 300, 700, 1_500, 3_100, 6_300]);
    }
}
