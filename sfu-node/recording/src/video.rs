//! The video of a recording: frames that can be decoded, in order, each with its time in the file.
//!
//! How they are put into the file is [`crate::webm`]'s; what a frame is made of, [`crate::vp8`]'s.

use std::time::Duration;

use crate::{
    Gap, Kind, Packet, TrackSummary,
    clock::MAX_APART,
    reorder::{Held, Refused, Reorder},
    timeline::{Anchor, Moment, Place, Timeline, time},
    vp8::{Assembler, Frame},
};

/// Ticks in a second of RTP timestamps of video.
pub(crate) const RATE: u32 = 90_000;
/// How long a packet waits for one before it, which may have been asked for again. Together with what [`crate::webm`] waits for it must stay below a second.
const WAIT: Duration = Duration::from_millis(700);
/// What may wait: 1 s of 3 Mbit/s. Of a stream of more, losses are waited for less long.
const BOUND: usize = 384 * 1_024;
/// By how much of the time between two frames a frame is moved towards where sender reports put it: fast enough to be right within a second,
/// slow enough not to be seen.
const SLEW: i64 = 4;
/// Two frames are at least a millisecond apart: what `WebM` tells times in.
const APART: i64 = 90;

/// A frame with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) at: Duration,
    pub(crate) frame: Frame,
}

/// The video track.
#[derive(Debug)]
pub(crate) struct VideoTrack {
    reorder: Reorder,
    timeline: Timeline,
    assembler: Assembler,
    /// What the timeline is moved by, in ticks.
    correction: i64,
    /// Where sender reports would have the last picture, and where it was put, both in ticks.
    last: Option<(i64, i64)>,
    summary: TrackSummary,
}

impl VideoTrack {
    /// A track of nothing.
    pub(crate) const fn new() -> Self {
        Self {
            reorder: Reorder::new(WAIT, BOUND),
            timeline: Timeline::new(RATE),
            assembler: Assembler::new(),
            correction: 0,
            last: None,
            summary: TrackSummary::new(Kind::Video, "vp8", "webm"),
        }
    }

    /// Takes a packet.
    pub(crate) fn handle_packet(&mut self, now: Duration, packet: &Packet<'_>) {
        let held = Held {
            arrival: now,
            timestamp: packet.timestamp,
            source: packet.source,
            marker: packet.marker,
            ticks: 0,
            timed: !packet.payload.is_empty(),
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
    }

    /// Counts packets dropped on their way here.
    pub(crate) fn handle_dropped(&mut self, packets: u64) {
        self.summary.dropped += packets;
    }

    /// The next frame, if its time can be told by now. `correction` is what sender reports would have the timeline moved by. With `all` nothing
    /// is waited for.
    pub(crate) fn poll(&mut self, now: Duration, correction: Option<i64>, all: bool) -> Option<Picture> {
        loop {
            if let Some(frame) = self.assembler.poll() {
                match self.time(now, frame, correction) {
                    Some(picture) => return Some(picture),
                    None => self.assembler.handle_left_out(),
                }
            }
            if !self.advance(now, all) {
                return None;
            }
        }
    }

    /// Whether nothing can be decoded before a keyframe.
    pub(crate) fn wants_keyframe(&self) -> bool {
        self.assembler.wants_keyframe()
    }

    /// The line from timestamps to the file's time, not moved by anything.
    pub(crate) const fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What it came to.
    pub(crate) fn into_summary(mut self) -> TrackSummary {
        self.summary.close();
        self.summary.undecodable = self.assembler.undecodable();
        self.summary.duration = self.last.map_or(Duration::ZERO, |(_, at)| time(at as u64, RATE));
        self.summary
    }

    /// Goes on by one packet. Says whether there was one.
    fn advance(&mut self, now: Duration, all: bool) -> bool {
        let Some(head) = self.reorder.head(now, all) else { return false };
        let (index, missing) = (head.index, head.missing);
        let place = head.held.timed.then(|| {
            let moment = Moment { now, floor: 0, all: all || self.reorder.is_full() };
            self.timeline.place(moment, head, self.reorder.waiting())
        });
        if place == Some(Place::Hold) {
            return false;
        }
        if missing > 0 {
            self.summary.lost += missing;
            self.assembler.handle_loss();
        }
        let held = self.reorder.pop().expect("invariant: there is a head");
        match place {
            Some(Place::At { position, anchor }) => self.place(index, &held, position, anchor),
            Some(Place::Stale) => {
                self.summary.late += 1;
                self.summary.lost += 1;
            }
            Some(Place::Ahead) => {
                self.summary.invalid += 1;
                self.assembler.handle_loss();
            }
            // Padding.
            Some(Place::Hold) | None => {}
        }
        true
    }

    fn place(&mut self, index: u64, held: &Held, position: i64, anchor: Option<Anchor>) {
        match anchor {
            Some(Anchor::Source) => {
                self.summary.source_changes += 1;
                self.assembler.handle_new_source();
            }
            Some(Anchor::Jump) => self.summary.jumps += 1,
            Some(Anchor::First) | None => {}
        }
        self.timeline.advance(index, held, position, anchor);
        self.summary.invalid += u64::from(self.assembler.handle_payload(held, position).is_err());
    }

    /// Gives a frame its time: its place on the line, moved slowly towards the sound, and after the frame before it. `None` when that is
    /// further on than time can be: frames came faster than there are milliseconds.
    fn time(&mut self, now: Duration, frame: Frame, correction: Option<i64>) -> Option<Picture> {
        let wanted = correction.unwrap_or(self.correction);
        let correction = match self.last {
            None => wanted,
            Some((position, _)) => {
                let most = (frame.position - position).max(0) / SLEW;
                self.correction + (wanted - self.correction).clamp(-most, most)
            }
        };
        let earliest = self.last.map_or(0, |(_, at)| at + APART);
        let at = (frame.position + correction).max(earliest);
        if at > self.timeline.limit(now) + MAX_APART * i64::from(RATE) / 1_000 {
            return None;
        }
        self.correction = correction;
        if let Some((_, last)) = self.last.filter(|_| frame.after_gap) {
            let gap = Gap { at: time(last as u64, RATE), length: time((at - last) as u64, RATE) };
            self.summary.push_gap(gap);
        }
        self.note_first(&frame);
        self.last = Some((frame.position, at));
        self.summary.written += 1;
        Some(Picture { at: time(at as u64, RATE), frame })
    }

    fn note_first(&mut self, frame: &Frame) {
        if let (None, Some((width, height))) = (self.last, frame.keyframe) {
            (self.summary.width, self.summary.height) = (width, height);
        }
    }
}
