//! Reception statistics of one received SSRC (RFC 3550 A.3, A.8), and the report block made of them.
//!
//! Retransmissions are not to be recorded here: they arrive on an SSRC of their own (RFC 4588).

use std::time::Instant;

use crate::{
    clock::{NtpTime, rtp_ticks},
    rtcp::ReportBlock,
};

/// A change of transit time beyond this is a restart of the source's clock, not jitter, and would spoil the average for
/// many seconds. Longer than any network holds packets back.
const MAX_TRANSIT_CHANGE_SECS: u32 = 5;

/// Statistics of one received SSRC.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate: u32,
    span: Option<Span>,
    received: u64,
    /// At the last report.
    expected_prior: u64,
    received_prior: u64,
    /// Interarrival jitter in sixteenths of a tick.
    jitter: u32,
    last_report: Option<(NtpTime, Instant)>,
}

/// What began with the first packet.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    highest: u64,
    /// Arrival times count from here.
    since: Instant,
    /// Arrival time less timestamp of the last packet, in ticks.
    transit: u32,
}

impl Reception {
    /// Statistics for timestamps of `clock_rate` Hz, empty.
    pub const fn new(clock_rate: u32) -> Self {
        Self { clock_rate, span: None, received: 0, expected_prior: 0, received_prior: 0, jitter: 0, last_report: None }
    }

    /// Counts a packet that arrived at `now`.
    #[inline]
    pub fn record(&mut self, extended_seq: u64, timestamp: u32, now: Instant) {
        self.received += 1;
        let Some(span) = &mut self.span else {
            self.span = Some(Span {
                first: extended_seq,
                highest: extended_seq,
                since: now,
                transit: timestamp.wrapping_neg(),
            });
            return;
        };
        span.first = span.first.min(extended_seq);
        span.highest = span.highest.max(extended_seq);
        let arrival = rtp_ticks(now.saturating_duration_since(span.since), self.clock_rate);
        let transit = arrival.wrapping_sub(timestamp);
        let change = (transit.wrapping_sub(span.transit) as i32).unsigned_abs();
        span.transit = transit;
        if change <= self.clock_rate.saturating_mul(MAX_TRANSIT_CHANGE_SECS) {
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }

    /// Remembers a sender report of this SSRC that arrived at `now`, to be echoed in LSR and DLSR.
    pub const fn record_sender_report(&mut self, ntp: NtpTime, now: Instant) {
        self.last_report = Some((ntp, now));
    }

    /// The report block for `ssrc`; starts a new interval of `fraction_lost`. `None` before the first packet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let span = self.span?;
        let expected = span.highest - span.first + 1;
        let expected_now = expected - self.expected_prior;
        let received_now = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        // Duplicates can make an interval's loss negative: then it had none.
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now << 8).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last_sr, delay_since_last_sr) = self.last_report.map_or((0, 0), |(ntp, at)| {
            // RFC 3550 6.4.1 counts the delay in 1/65,536 s, which is a clock of that rate.
            (ntp.compact(), rtp_ticks(now.saturating_duration_since(at), 65_536))
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost: (expected as i64 - self.received as i64).clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest_seq: span.highest as u32,
            jitter: self.jitter >> 4,
            last_sr,
            delay_since_last_sr,
        })
    }

    /// Packets recorded, duplicates included.
    pub const fn packets(&self) -> u64 {
        self.received
    }

    /// Packets expected but never recorded so far.
    pub const fn lost(&self) -> u64 {
        match self.span {
            Some(span) => (span.highest - span.first + 1).saturating_sub(self.received),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// Records Opus packets 20 ms apart, `seqs` of them.
    fn record(reception: &mut Reception, start: Instant, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            let step = seq - 65_536;
            reception.record(seq, (960 * step) as u32, start + FRAME * step as u32);
        }
    }

    #[test]
    fn nothing_received_makes_no_report() {
        assert_eq!(Reception::new(48_000).report(1, Instant::now()), None);
    }

    #[test]
    fn an_even_stream_has_no_loss_and_no_jitter() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, 65_536..65_636);
        let report = reception.report(7, start).expect("packets came");
        assert_eq!(report, ReportBlock { ssrc: 7, highest_seq: 65_635, ..ReportBlock::default() });
        assert_eq!((reception.packets(), reception.lost()), (100, 0));
    }

    #[test]
    fn the_fraction_lost_is_of_the_interval_and_the_total_of_all_time() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, (65_536..65_636).filter(|seq| seq % 4 != 2));
        let report = reception.report(7, start).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 25));
        record(&mut reception, start, 65_636..65_736);
        let report = reception.report(7, start).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
        assert_eq!(reception.lost(), 25);
        let report = reception.report(7, start).expect("an empty interval");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
    }

    #[test]
    fn duplicates_make_the_total_negative_but_no_fraction() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, [65_536, 65_537, 65_537, 65_537]);
        let report = reception.report(7, start).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -2));
    }

    #[test]
    fn a_total_loss_in_an_interval_does_not_wrap() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, [65_536]);
        reception.report(7, start);
        record(&mut reception, start, [66_560]);
        assert_eq!(reception.report(7, start).map(|report| report.fraction_lost), Some(255));
    }

    #[test]
    fn packets_before_the_first_are_expected_too() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, [65_538, 65_537, 65_536]);
        assert_eq!(reception.report(7, start).map(|report| report.cumulative_lost), Some(0));
    }

    #[test]
    fn jitter_converges_on_the_mean_deviation() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        for step in 0..1_000_u32 {
            let late = if step % 2 == 0 { Duration::ZERO } else { Duration::from_millis(10) };
            reception.record(65_536 + u64::from(step), 960 * step, start + FRAME * step + late);
        }
        let jitter = reception.report(7, start).expect("packets came").jitter;
        assert!((470..=490).contains(&jitter), "10 ms are 480 ticks, not {jitter}");
    }

    #[test]
    fn a_jump_of_the_timestamps_is_not_jitter_and_their_wrap_neither() {
        let (mut reception, start) = (Reception::new(90_000), Instant::now());
        for step in 0..20_u32 {
            let timestamp = (u32::MAX - 20_000).wrapping_add(1_800 * step);
            reception.record(65_536 + u64::from(step), timestamp, start + FRAME * step);
        }
        reception.record(65_556, 1 << 30, start + FRAME * 20);
        assert_eq!(reception.report(7, start).map(|report| report.jitter), Some(0));
    }

    #[test]
    fn the_last_sender_report_is_echoed_with_its_age() {
        let (mut reception, start) = (Reception::new(48_000), Instant::now());
        record(&mut reception, start, [65_536]);
        reception.record_sender_report(NtpTime(0x1234_5678_9abc_def0), start);
        let report = reception.report(7, start + Duration::from_millis(1_500)).expect("packets came");
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x5678_9abc, 98_304));
    }
}
