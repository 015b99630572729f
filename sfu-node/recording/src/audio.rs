//! The audio of a recording: packets as they come, made into one unbroken row of Opus packets from the recording's beginning to its end.
//!
//! How they are put into files is [`crate::ogg`]'s and [`crate::webm`]'s.

use std::{borrow::Cow, time::Duration};

use crate::{
    AudioFormat, Gap, Kind, Packet, TrackSummary,
    opus::{self, Filler, OpusPacket, Toc},
    reorder::{Held, Refused, Reorder},
    timeline::{Anchor, Moment, Place, Timeline, ticks, time},
};

/// How long a packet waits for one before it. Audio is sent once: what comes later than this was not delayed but lost. More would add to
/// what a killed process loses, less would lose what a bad network only reorders.
const WAIT: Duration = Duration::from_millis(400);
/// What may wait: 400 ms of the most that Opus sends, 510 kbit/s, and then some.
const BOUND: usize = 64 * 1_024;
/// While nothing comes, silence is written only up to this long ago: what a network held for three seconds, and its jitter, is written
/// where it belongs. More would leave more of a muted recording unwritten, and audio and video in `WebM` further out of order.
pub(crate) const STALL: Duration = Duration::from_millis(3_500);
/// What libopus, and so every browser, delays sound by when it encodes. Skipped at a file's beginning it makes a packet's sound play at
/// its packet's time.
pub(crate) const PRE_SKIP: u32 = 312;
/// Silence at a recording's end that is shorter is what was on its way, not a gap.
const ON_ITS_WAY: u64 = 4_800;

/// A packet of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Where it begins, in samples.
    pub(crate) position: u64,
    /// How long it is.
    pub(crate) samples: u32,
    /// When what it is written for arrived.
    pub(crate) arrival: Duration,
    /// Whether it was sent, and does not stand for what is missing.
    pub(crate) sent: bool,
    /// The Opus packet.
    pub(crate) packet: Cow<'static, [u8]>,
}

/// A packet that was placed and follows what is filled before it.
#[derive(Debug)]
struct Placed {
    held: Held,
    toc: Toc,
}

/// The audio track.
#[derive(Debug)]
pub(crate) struct AudioTrack {
    reorder: Reorder,
    timeline: Timeline,
    filler: Filler,
    /// Samples of the row so far.
    written: u64,
    /// Up to where it is to be filled before the placed packet.
    fill_until: u64,
    placed: Option<Placed>,
    /// The last gap, which may grow yet.
    gap: Option<(u64, u64)>,
    last_arrival: Duration,
    /// Where the row ends, once it does.
    end: Option<u64>,
    summary: TrackSummary,
}

impl AudioTrack {
    /// A track of nothing.
    pub(crate) fn new(format: AudioFormat) -> Self {
        let channels = format.channels.clamp(1, 2);
        let mut summary = TrackSummary::new(Kind::Audio, "opus", "ogg");
        summary.channels = channels;
        Self {
            reorder: Reorder::new(WAIT, BOUND),
            timeline: Timeline::new(opus::RATE),
            filler: Filler::new(channels == 2),
            written: 0,
            fill_until: 0,
            placed: None,
            gap: None,
            last_arrival: Duration::ZERO,
            end: None,
            summary,
        }
    }

    /// Takes a packet.
    pub(crate) fn handle_packet(&mut self, now: Duration, packet: &Packet<'_>) {
        let opus = OpusPacket::parse(packet.payload);
        let held = Held {
            arrival: now,
            timestamp: packet.timestamp,
            source: packet.source,
            marker: packet.marker,
            ticks: opus.map_or(0, |opus| opus.samples),
            timed: opus.is_ok(),
            payload: packet.payload.to_vec(),
        };
        match self.reorder.insert(packet.index, held) {
            Ok(()) => self.summary.packets += 1,
            Err(Refused::Late) => {
                self.summary.packets += 1;
                self.summary.late += 1;
            }
            Err(Refused::Duplicate) => {}
        }
        if let Ok(opus) = opus {
            self.last_arrival = now;
            self.summary.channels = self.summary.channels.max(1 + u8::from(opus.toc.stereo()));
        }
    }

    /// Counts packets dropped on their way here.
    pub(crate) fn handle_dropped(&mut self, packets: u64) {
        self.summary.dropped += packets;
    }

    /// The next packet of the row, if it can be told by now.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<Unit> {
        loop {
            if let Some(unit) = self.next_fill(now).or_else(|| self.take_placed()) {
                return Some(unit);
            }
            if !self.advance(now, false) {
                return None;
            }
        }
    }

    /// The rest of the row, which ends now: as [`Self::poll`], but nothing is waited for.
    pub(crate) fn poll_end(&mut self, now: Duration) -> Option<Unit> {
        loop {
            if let Some(unit) = self.next_fill(now).or_else(|| self.take_placed()) {
                return Some(unit);
            }
            if !self.advance(now, true) && !self.end(now) {
                return None;
            }
        }
    }

    /// Samples that a file of this track plays: up to the recording's end, or to here.
    pub(crate) fn playable(&self) -> u64 {
        self.end.unwrap_or_else(|| self.written.saturating_sub(u64::from(PRE_SKIP)))
    }

    /// Channels the file is to say it has: two if any packet had.
    pub(crate) const fn channels(&self) -> u8 {
        self.summary.channels
    }

    /// The line from timestamps to the file's time.
    pub(crate) const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What it came to.
    pub(crate) fn into_summary(mut self) -> TrackSummary {
        self.close_gap();
        self.summary.close();
        self.summary.duration = time(self.playable(), opus::RATE);
        self.summary
    }

    fn next_fill(&mut self, now: Duration) -> Option<Unit> {
        let left = self.fill_until.saturating_sub(self.written);
        if left < u64::from(opus::SHORTEST) {
            return None;
        }
        let (packet, samples) = self.filler.fill(left);
        let arrival = self.placed.as_ref().map_or(now, |placed| placed.held.arrival);
        let position = self.written;
        self.written += u64::from(samples);
        Some(Unit { position, samples, arrival, sent: false, packet })
    }

    fn take_placed(&mut self) -> Option<Unit> {
        let Placed { held, toc } = self.placed.take()?;
        self.filler.handle_packet(toc);
        self.summary.written += 1;
        let position = self.written;
        self.written += u64::from(held.ticks);
        let Held { arrival, ticks: samples, payload, .. } = held;
        Some(Unit { position, samples, arrival, sent: true, packet: payload.into() })
    }

    /// Goes on by one packet, or by what is silence for certain. Says whether anything came of it.
    fn advance(&mut self, now: Duration, all: bool) -> bool {
        if self.reorder.is_empty() {
            return self.advance_silence(now);
        }
        let Some(head) = self.reorder.head(now, all) else { return false };
        let (index, missing) = (head.index, head.missing);
        let place = head.held.timed.then(|| {
            let moment = Moment { now, floor: self.written as i64, all: all || self.reorder.is_full() };
            self.timeline.place(moment, head, self.reorder.waiting())
        });
        if place == Some(Place::Hold) {
            return false;
        }
        self.summary.lost += missing;
        let held = self.reorder.pop().expect("invariant: there is a head");
        match place {
            Some(Place::At { position, anchor }) => self.place(index, held, position, anchor),
            Some(Place::Stale) => self.leave_out_late(),
            // Padding.
            None if held.payload.is_empty() => {}
            Some(Place::Ahead | Place::Hold) | None => self.summary.invalid += 1,
        }
        true
    }

    /// Writes silence up to [`STALL`] ago if nothing came since.
    fn advance_silence(&mut self, now: Duration) -> bool {
        let Some(certain) = now.checked_sub(STALL).filter(|certain| *certain >= self.last_arrival) else {
            return false;
        };
        self.fill_to(ticks(certain, opus::RATE).max(0) as u64)
    }

    fn place(&mut self, index: u64, held: Held, position: i64, anchor: Option<Anchor>) {
        match anchor {
            Some(Anchor::Source) => self.summary.source_changes += 1,
            Some(Anchor::Jump) => self.summary.jumps += 1,
            Some(Anchor::First) | None => {}
        }
        self.timeline.advance(index, &held, position, anchor);
        let overlap = self.written as i64 - position;
        // Fills end on multiples of 2.5 ms: what is left of them is an overlap that the next gap takes up.
        if overlap > i64::from(opus::SHORTEST).max(i64::from(held.ticks) / 2) {
            self.leave_out_late();
            return;
        }
        self.fill_to(position.max(0) as u64);
        let toc = held.payload.first().copied().map(Toc);
        self.placed = toc.map(|toc| Placed { held, toc });
    }

    /// Counts a packet whose time has been written already.
    fn leave_out_late(&mut self) {
        self.summary.late += 1;
        self.summary.lost += 1;
    }

    /// Has the row filled up to there, less what is shorter than a packet. Says whether that is anything.
    fn fill_to(&mut self, until: u64) -> bool {
        let length = until.saturating_sub(self.written) / u64::from(opus::SHORTEST) * u64::from(opus::SHORTEST);
        if length == 0 {
            return false;
        }
        let from = self.written;
        self.fill_until = from + length;
        self.summary.filled += time(length, opus::RATE);
        match &mut self.gap {
            Some((_, end)) if *end == from => *end = self.fill_until,
            _ => {
                self.close_gap();
                self.gap = Some((from, self.fill_until));
            }
        }
        true
    }

    /// Fills up to the recording's end, once.
    fn end(&mut self, now: Duration) -> bool {
        if self.end.is_some() {
            return false;
        }
        let end = (ticks(now, opus::RATE).max(0) as u64).max(self.written);
        self.end = Some(end);
        if end - self.written >= ON_ITS_WAY {
            self.fill_to(end);
        }
        // What a decoder has heard comes out of it so much later.
        self.fill_until = (end + u64::from(PRE_SKIP)).next_multiple_of(u64::from(opus::SHORTEST));
        true
    }

    fn close_gap(&mut self) {
        if let Some((from, to)) = self.gap.take() {
            self.summary.push_gap(Gap { at: time(from, opus::RATE), length: time(to - from, opus::RATE) });
        }
    }
}
