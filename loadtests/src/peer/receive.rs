//! A track that the peer receives: opening, duplicates, gaps and the requests to fill them, and the statistics of its reports.

use super::{description::Ssrcs, rtcp::ReportBlock};
use sfu_core::{
    rtp::RtpHeader,
    srtp::{Opener, ReplayWindow},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a gap may be reordering before it is asked for.
const REORDERING: Duration = Duration::from_millis(10);
/// How often a packet is asked for.
const TRIES: u8 = 10;
/// More missing packets than this are a broken stream and not a gap; also the bound of the peer's memory.
const MAX_MISSING: usize = 4_096;

/// A packet as the application of a browser would get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The m-line it belongs to.
    pub section: usize,
    /// Its sequence number with rollover counter.
    pub index: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// RTP payload, padding removed.
    pub payload: Vec<u8>,
    /// It came as a retransmission.
    pub recovered: bool,
}

/// What happened on a received track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrackStats {
    /// Packets delivered, retransmissions included.
    pub delivered: u64,
    /// Of these, delivered as retransmissions.
    pub recovered: u64,
    /// Datagrams that repeated an earlier one bit for bit, or a retransmission of what was there.
    pub repeated: u64,
    /// Datagrams that could not be opened.
    pub refused: u64,
    /// Packets that never came, for as often as they were asked for.
    pub given_up: u64,
    /// Lowest and highest sequence number with rollover counter.
    pub range: Option<(u64, u64)>,
}

struct Missing {
    ask_at: Instant,
    tries: u8,
}

/// A received track.
pub(super) struct ReceiveTrack {
    section: usize,
    ssrcs: Ssrcs,
    window: ReplayWindow,
    rtx_window: ReplayWindow,
    missing: BTreeMap<u64, Missing>,
    stats: TrackStats,
    clock: Option<(u32, Instant)>,
    reported: (u64, u64),
    jitter: Jitter,
}

impl ReceiveTrack {
    pub(super) fn new(section: usize, ssrcs: Ssrcs, clock_rate: u32) -> Self {
        Self {
            section,
            ssrcs,
            window: ReplayWindow::new(),
            rtx_window: ReplayWindow::new(),
            missing: BTreeMap::new(),
            stats: TrackStats::default(),
            clock: None,
            reported: (0, 0),
            jitter: Jitter { rate: clock_rate.into(), transit: None, value: 0.0 },
        }
    }

    pub(super) fn ssrcs(&self) -> Ssrcs {
        self.ssrcs
    }

    pub(super) fn section(&self) -> usize {
        self.section
    }

    pub(super) fn stats(&self) -> TrackStats {
        self.stats
    }

    /// Takes a datagram whose header is `header`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        opener: &Opener,
        header: &RtpHeader,
        datagram: &mut [u8],
    ) -> Option<Delivered> {
        let is_rtx = header.ssrc != self.ssrcs.media;
        let window = if is_rtx { &mut self.rtx_window } else { &mut self.window };
        let index = window.estimate(header.seq);
        if !window.check(index) {
            self.stats.repeated += 1;
            return None;
        }
        let Ok(len) = opener.open_rtp((index >> 16) as u32, datagram, header.header_len) else {
            self.stats.refused += 1;
            return None;
        };
        window.commit(index);
        let payload = &datagram[header.payload_range(&datagram[..len])?];
        if is_rtx {
            self.recover(header, payload)
        } else {
            if payload.is_empty() {
                return None;
            }
            self.jitter.observe(now, header.timestamp);
            self.note(now, index);
            Some(self.deliver(header, index, payload, false))
        }
    }

    /// Counts a packet by its header alone, as a receiver does that must cost next to nothing: it is not authenticated, and what
    /// is missing is not asked for. Gives its index; `None` for a repetition or a retransmission.
    pub(super) fn count(&mut self, now: Instant, header: &RtpHeader) -> Option<u64> {
        if header.ssrc != self.ssrcs.media {
            self.stats.recovered += 1;
            return None;
        }
        let index = self.window.estimate(header.seq);
        if !self.window.check(index) {
            self.stats.repeated += 1;
            return None;
        }
        self.window.commit(index);
        self.jitter.observe(now, header.timestamp);
        self.stats.delivered += 1;
        let (lowest, highest) = self.stats.range.unwrap_or((index, index));
        self.stats.range = Some((lowest.min(index), highest.max(index)));
        Some(index)
    }

    fn recover(&mut self, header: &RtpHeader, payload: &[u8]) -> Option<Delivered> {
        let (original, payload) = payload.split_first_chunk::<2>()?;
        let seq = u16::from_be_bytes(*original);
        let Some(index) = self.missing.keys().copied().find(|index| *index as u16 == seq) else {
            self.stats.repeated += 1;
            return None;
        };
        self.missing.remove(&index);
        // The original may yet come: late, it is a repetition.
        self.window.commit(index);
        self.stats.recovered += 1;
        Some(self.deliver(header, index, payload, true))
    }

    fn deliver(&mut self, header: &RtpHeader, index: u64, payload: &[u8], recovered: bool) -> Delivered {
        self.stats.delivered += 1;
        Delivered {
            section: self.section,
            index,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: payload.to_vec(),
            recovered,
        }
    }

    /// Marks what lies between the highest index so far and `index` as missing.
    fn note(&mut self, now: Instant, index: u64) {
        self.missing.remove(&index);
        let (lowest, highest) = self.stats.range.unwrap_or((index, index));
        for absent in highest + 1..index {
            // What cannot come again is not waited for.
            if self.ssrcs.rtx.is_some() && self.missing.len() < MAX_MISSING {
                self.missing.insert(absent, Missing { ask_at: now + REORDERING, tries: 0 });
            }
        }
        self.stats.range = Some((lowest.min(index), highest.max(index)));
    }

    /// When [`Self::requests`] has something to ask for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.ask_at).min()
    }

    /// The sequence numbers to ask for now; each is asked for again after `again`.
    pub(super) fn requests(&mut self, now: Instant, again: Duration) -> Vec<u16> {
        let before = self.missing.len();
        self.missing.retain(|_, missing| missing.ask_at > now || missing.tries < TRIES);
        self.stats.given_up += (before - self.missing.len()) as u64;
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.ask_at <= now);
        // A NACK must fit into a datagram: 200 numbers are 800 bytes at worst.
        due.take(200)
            .map(|(index, missing)| {
                missing.ask_at = now + again;
                missing.tries += 1;
                *index as u16
            })
            .collect()
    }

    pub(super) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.clock = Some(((ntp >> 16) as u32, now));
    }

    /// The track's report block, if anything arrived.
    pub(super) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let (lowest, highest) = self.stats.range?;
        let (expected, received) = (highest - lowest + 1, self.stats.delivered - self.stats.recovered);
        let (new_expected, new_received) = (expected - self.reported.0, received - self.reported.1);
        self.reported = (expected, received);
        let new_lost = new_expected.saturating_sub(new_received);
        let (last_report, delay) = self
            .clock
            .map_or((0, 0), |(ntp, at)| (ntp, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32));
        Some(ReportBlock {
            ssrc: self.ssrcs.media,
            fraction_lost: (new_lost * 256).checked_div(new_expected).unwrap_or(0).min(255) as u8,
            lost: (expected as i64 - received as i64) as i32,
            highest: highest as u32,
            jitter: self.jitter.value as u32,
            last_report,
            delay,
        })
    }
}

/// Interarrival jitter (RFC 3550, section 6.4.1).
struct Jitter {
    rate: f64,
    transit: Option<(Instant, u32)>,
    value: f64,
}

impl Jitter {
    fn observe(&mut self, now: Instant, timestamp: u32) {
        if let Some((at, before)) = self.transit {
            let arrived = now.saturating_duration_since(at).as_secs_f64() * self.rate;
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            self.value += ((arrived - sent).abs() - self.value) / 16.0;
        }
        self.transit = Some((now, timestamp));
    }
}
