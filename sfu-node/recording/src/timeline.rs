//! Where in the file a packet belongs, by its timestamp as long as that is to be believed, and by its arrival when it is not.
//!
//! ```text
//!          no packet yet, or another SSRC             timestamps go on from another value
//!   ──────────────▶ hold ── least delayed packet ──▶ follow timestamps ─────────────▶ hold ──▶ …
//!                    of [`HOLD`] decides                  ▲                             │
//!                                                         └── they were only delayed ───┘
//! ```
//! The RTP clock is the file's: that it runs some parts in a million off the node's is not corrected.

use std::time::Duration;

use crate::reorder::{Head, Held};

/// When a packet comes later than its timestamp says, by this much more than the one before it did, timestamps may have stood still meanwhile (some senders do
/// that while muted) or the network may have. Less, and jitter would be looked at twice; more, and so much of a pause could be missing.
pub(crate) const JUMP: Duration = Duration::from_millis(200);
/// How long packets are looked at before timestamps are set against arrival times: the least delayed of them decides. The longer, the less a
/// delayed first packet counts; it adds to what a killed process loses.
pub(crate) const HOLD: Duration = Duration::from_millis(400);
/// How far ahead of the time that has passed a packet may claim to be. More than any queue on the way may empty itself by.
const AHEAD: Duration = Duration::from_secs(1);
/// The fastest clock a sender may have, as a part of the time passed: 200 in a million. Sound cards are within 100.
const FASTEST: u32 = 5_000;
/// Packets whose timestamps are further on than this say nothing of the one that is to be placed.
const SPAN: Duration = Duration::from_secs(10);
/// How long the least delay is remembered: longer than queues stay full, shorter than clocks need to drift apart.
const MEMORY: Duration = Duration::from_secs(10);

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There, in ticks from the file's beginning.
    At {
        /// Where.
        position: i64,
        /// Why, if not by its timestamp.
        anchor: Option<Anchor>,
    },
    /// It is not to be said yet.
    Hold,
    /// It claims more time than has passed.
    Ahead,
    /// It is of a source that another has replaced.
    Stale,
}

/// Why a packet was placed by its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// It is the first.
    First,
    /// It is the first of another SSRC.
    Source,
    /// Timestamps went on from another value.
    Jump,
}

/// The line from a track's timestamps to its file's time, in ticks of the RTP clock.
#[derive(Debug)]
pub(crate) struct Timeline {
    rate: u32,
    last: Option<Last>,
    lag: Lag,
    anchors: u64,
}

/// The packet placed last.
#[derive(Clone, Copy, Debug)]
struct Last {
    index: u64,
    source: u32,
    timestamp: u32,
    position: i64,
    ticks: u32,
    /// How much later it came than its position says.
    late: i64,
}

impl Last {
    const fn position_of(&self, timestamp: u32) -> i64 {
        self.position + steps(self.timestamp, timestamp)
    }
}

/// What [`Timeline::place`] is told beside the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since the recording began.
    pub(crate) now: Duration,
    /// Ticks that are written already: nothing is placed by arrival before them, and what is placed before them comes after them.
    pub(crate) floor: i64,
    /// Whether nothing is to be waited for.
    pub(crate) all: bool,
}

impl Timeline {
    /// A line for timestamps of `rate` Hz that has no point yet.
    pub(crate) const fn new(rate: u32) -> Self {
        Self { rate, last: None, lag: Lag::at(Duration::ZERO, 0), anchors: 0 }
    }

    /// Says where the packet belongs. `waiting` are those that came so far and whose turn has not been, in order, itself the first.
    #[allow(clippy::needless_pass_by_value, reason = "an iterator made for this call")]
    pub(crate) fn place<'a>(
        &self,
        moment: Moment,
        head: Head<'_>,
        waiting: impl Iterator<Item = &'a Held> + Clone,
    ) -> Place {
        let held = head.held;
        let place = match self.last {
            None => self.anchor(moment, held, &waiting, 0, Anchor::First),
            Some(last) if held.source > last.source => {
                self.anchor(moment, held, &waiting, self.lag.least(), Anchor::Source)
            }
            Some(last) if held.source < last.source => return Place::Stale,
            Some(last) => self.follow(&last, moment, head, &waiting),
        };
        match place {
            Place::At { position, .. } => {
                let end = position.max(moment.floor) + i64::from(held.ticks);
                if end > self.limit(moment.now) { Place::Ahead } else { place }
            }
            place => place,
        }
    }

    /// Places a packet of the same source as the last.
    fn follow<'a>(
        &self,
        last: &Last,
        moment: Moment,
        head: Head<'_>,
        waiting: &(impl Iterator<Item = &'a Held> + Clone),
    ) -> Place {
        let held = head.held;
        let position = last.position_of(held.timestamp);
        let step = position - last.position;
        let followed = Place::At { position, anchor: None };
        // Packets of one picture have one timestamp, however long it takes to send them.
        if step == 0 && held.ticks == 0 {
            return followed;
        }
        let late = self.arrival(held) - position;
        let most_late = last.late + self.ticks(JUMP);
        let is_behind = late > most_late;
        let is_ahead = position + i64::from(held.ticks) > self.limit(moment.now)
            || late < self.lag.least() - self.ticks(JUMP) && !is_explained(last, head.index, step);
        if !is_behind && !is_ahead {
            return followed;
        }
        // A network that stood still gives all it held at once: those after this one are not as late.
        if is_behind && self.least_delayed(held, waiting.clone()) - position <= most_late {
            return followed;
        }
        self.anchor(moment, held, waiting, self.lag.least(), Anchor::Jump)
    }

    /// Places a packet so that the least delayed of those that wait came `lag` after its position.
    fn anchor<'a>(
        &self,
        moment: Moment,
        held: &Held,
        waiting: &(impl Iterator<Item = &'a Held> + Clone),
        lag: i64,
        anchor: Anchor,
    ) -> Place {
        let run = || run_of(held, waiting.clone());
        let first = run().map(|(_, other)| other.arrival).fold(held.arrival, Duration::min);
        if !moment.all && moment.now.saturating_sub(first) < HOLD {
            return Place::Hold;
        }
        let position = (self.least_delayed(held, waiting.clone()) - lag).max(moment.floor);
        Place::At { position, anchor: Some(anchor) }
    }

    /// Where `held` would belong if the least delayed packet after it had not been delayed at all.
    fn least_delayed<'a>(&self, held: &Held, waiting: impl Iterator<Item = &'a Held>) -> i64 {
        let span = self.ticks(SPAN);
        run_of(held, waiting)
            .filter(|(step, _)| (0..=span).contains(step))
            .map(|(step, other)| self.arrival(other) - step)
            .fold(self.arrival(held), i64::min)
    }

    /// Goes on from a packet that was placed.
    pub(crate) fn advance(&mut self, index: u64, held: &Held, position: i64, anchor: Option<Anchor>) {
        let late = self.arrival(held) - position;
        if anchor.is_some() {
            self.anchors += 1;
            self.lag = Lag::at(held.arrival, late);
        } else {
            self.lag.record(held.arrival, late);
        }
        let late = match self.last {
            Some(last) if last.timestamp == held.timestamp && anchor.is_none() => last.late.min(late),
            _ => late,
        };
        let (source, timestamp, ticks) = (held.source, held.timestamp, held.ticks);
        self.last = Some(Last { index, source, timestamp, position, ticks, late });
    }

    /// Where in the file that timestamp of the source is.
    pub(crate) fn position_of(&self, source: u32, timestamp: u32) -> Option<i64> {
        self.last.filter(|last| last.source == source).map(|last| last.position_of(timestamp))
    }

    /// How often the line was laid anew.
    pub(crate) const fn anchors(&self) -> u64 {
        self.anchors
    }

    /// Ticks in a time.
    pub(crate) const fn ticks(&self, time: Duration) -> i64 {
        ticks(time, self.rate)
    }

    /// When the packet was captured if it came without delay. What is as long as this packet has been captured by then.
    const fn arrival(&self, held: &Held) -> i64 {
        self.ticks(held.arrival) - held.ticks as i64
    }

    /// The last tick that may have been captured by now.
    pub(crate) const fn limit(&self, now: Duration) -> i64 {
        let passed = self.ticks(now);
        passed + self.ticks(AHEAD) + passed / FASTEST as i64
    }
}

/// Whether packets that were lost explain that the timestamp is `step` further on.
fn is_explained(last: &Last, index: u64, step: i64) -> bool {
    let packets = index.saturating_sub(last.index);
    step >= 0 && step as u64 <= packets.saturating_mul(u64::from(last.ticks))
}

/// Of those that wait, the ones that are of the packet's source and say something of time, each with the ticks it is further on.
fn run_of<'a>(held: &Held, waiting: impl Iterator<Item = &'a Held>) -> impl Iterator<Item = (i64, &'a Held)> {
    let (source, timestamp) = (held.source, held.timestamp);
    waiting
        .filter(move |other| other.timed && other.source == source)
        .map(move |other| (steps(timestamp, other.timestamp), other))
}

/// Ticks from one timestamp to another, by the shorter way around.
const fn steps(from: u32, to: u32) -> i64 {
    to.wrapping_sub(from) as i32 as i64
}

/// Ticks of a clock of `rate` Hz in a time.
pub(crate) const fn ticks(time: Duration, rate: u32) -> i64 {
    (time.as_nanos() * rate as u128 / 1_000_000_000) as i64
}

/// The time of so many ticks.
pub(crate) const fn time(ticks: u64, rate: u32) -> Duration {
    Duration::new(ticks / rate as u64, ((ticks % rate as u64) * 1_000_000_000 / rate as u64) as u32)
}

/// The least lateness of the last seconds: what the way from the sender takes when nothing is in its way.
#[derive(Clone, Copy, Debug)]
struct Lag {
    since: Duration,
    least: i64,
    least_before: i64,
}

impl Lag {
    const fn at(since: Duration, late: i64) -> Self {
        Self { since, least: late, least_before: late }
    }

    fn record(&mut self, arrival: Duration, late: i64) {
        if arrival.saturating_sub(self.since) >= MEMORY {
            *self = Self { since: arrival, least: late, least_before: self.least };
        }
        self.least = self.least.min(late);
    }

    fn least(&self) -> i64 {
        self.least.min(self.least_before)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    const FRAME: u32 = 960;

    /// A packet of 20 ms that arrived at `millis`.
    fn held(millis: u64, timestamp: u32) -> Held {
        Held {
            arrival: Duration::from_millis(millis),
            timestamp,
            source: 0,
            marker: false,
            ticks: FRAME,
            timed: true,
            payload: Vec::new(),
        }
    }

    fn moment(millis: u64) -> Moment {
        Moment { now: Duration::from_millis(millis), floor: 0, all: false }
    }

    /// Places the first of the packets.
    fn place(timeline: &Timeline, index: u64, millis: u64, waiting: &[Held]) -> Place {
        timeline.place(moment(millis), Head { index, missing: 0, held: &waiting[0] }, waiting.iter())
    }

    /// A line on which packet 0 came at one second, when it was at 980 ms.
    fn begun() -> Timeline {
        let mut timeline = Timeline::new(48_000);
        timeline.advance(0, &held(1_000, 0), 47_040, Some(Anchor::First));
        timeline
    }

    #[test]
    fn the_least_delayed_of_the_first_packets_lays_the_line() {
        let timeline = Timeline::new(48_000);
        let waiting = [held(1_060, 7_000), held(1_065, 7_960), held(1_070, 8_920)];
        assert_eq!(place(&timeline, 5, 1_459, &waiting), Place::Hold);
        let position = (1_070 - 20 - 40) * 48;
        assert_eq!(place(&timeline, 5, 1_460, &waiting), Place::At { position, anchor: Some(Anchor::First) });
    }

    #[test]
    fn timestamps_are_followed_however_packets_jitter() {
        for arrival in [900, 1_020, 1_210] {
            let place = place(&begun(), 1, arrival, &[held(arrival, FRAME)]);
            assert_eq!(place, Place::At { position: 48_000, anchor: None }, "at {arrival} ms");
        }
    }

    #[test]
    fn a_burst_after_a_stall_follows_its_timestamps() {
        let burst: Vec<_> = (1..150).map(|step| held(4_000, step * FRAME)).collect();
        assert_eq!(place(&begun(), 1, 4_000, &burst), Place::At { position: 48_000, anchor: None });
    }

    #[test]
    fn timestamps_that_stood_still_in_a_pause_are_moved_on_by_it() {
        let after: Vec<_> = (1..20).map(|step| held(11_000 + u64::from(step) * 20, step * FRAME)).collect();
        assert_eq!(place(&begun(), 1, 11_200, &after[..10]), Place::Hold);
        let position = 11_000 * 48;
        assert_eq!(place(&begun(), 1, 11_420, &after), Place::At { position, anchor: Some(Anchor::Jump) });
    }

    #[test]
    fn timestamps_that_leap_are_brought_back_to_the_time_that_passed() {
        for leap in [1 << 31, 1 << 30, 960_000, 0_u32.wrapping_sub(960_000)] {
            let place = place(&begun(), 1, 1_430, &[held(1_030, leap)]);
            assert_eq!(place, Place::At { position: 1_010 * 48, anchor: Some(Anchor::Jump) }, "by {leap}");
        }
    }

    #[test]
    fn a_pause_without_packets_that_timestamps_tell_is_believed() {
        let place = place(&begun(), 1, 5_003, &[held(5_003, FRAME * 200)]);
        assert_eq!(place, Place::At { position: 47_040 + 192_000, anchor: None });
    }

    #[test]
    fn another_source_goes_on_where_time_is_and_the_old_one_is_stale() {
        let next = Held { source: 1, ..held(1_050, 77) };
        let placed = place(&begun(), 1, 1_450, std::slice::from_ref(&next));
        assert_eq!(placed, Place::At { position: 1_030 * 48, anchor: Some(Anchor::Source) });
        let mut timeline = begun();
        timeline.advance(1, &next, 1_030 * 48, Some(Anchor::Source));
        assert_eq!(place(&timeline, 2, 1_060, &[held(1_060, FRAME)]), Place::Stale);
    }

    #[test]
    fn nothing_is_placed_a_second_ahead_of_the_time_that_passed() {
        let mut timeline = Timeline::new(48_000);
        timeline.advance(0, &held(0, 0), 49_000, Some(Anchor::First));
        let floor = Moment { floor: 49_960, all: true, ..moment(0) };
        let next = held(0, FRAME);
        let place = timeline.place(floor, Head { index: 1, missing: 0, held: &next }, iter::once(&next));
        assert_eq!(place, Place::Ahead);
    }
}
