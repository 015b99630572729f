//! NTP time without reading a clock, and sender reports that keep a publisher's audio and video in sync.
//!
//! Everything here is arithmetic on times that are passed in.

use std::time::{Duration, Instant};

/// A 64-bit NTP timestamp: 32 bits of seconds since 1900, 32 bits of fraction. Wraps in 2036; all arithmetic here wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The middle 32 bits, which reception reports echo as LSR (RFC 3550 6.4.1).
    #[inline]
    pub const fn compact(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The time `duration` later.
    #[inline]
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        let fraction = ((duration.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self(self.0.wrapping_add((duration.as_secs() << 32) | fraction))
    }
}

/// One publisher's line of time for one SSRC: its last sender report, extended linearly.
///
/// Subscribers get sender reports on the *publisher's* NTP line, so the offset between a publisher's audio and video is
/// carried over exactly, whatever the delay or the clock of either.
#[derive(Clone, Copy, Debug)]
pub struct SenderClock {
    clock_rate: u32,
    last: Option<(NtpTime, u32, Instant)>,
}

impl SenderClock {
    /// A clock for RTP timestamps of `clock_rate` Hz that has heard no report.
    pub const fn new(clock_rate: u32) -> Self {
        Self { clock_rate, last: None }
    }

    /// Ticks per second of the RTP timestamps.
    pub const fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Takes in the times of a sender report that arrived at `now`.
    pub fn record(&mut self, ntp: NtpTime, rtp: u32, now: Instant) {
        self.last = Some((ntp, rtp, now));
    }

    /// What the last sender report said; `None` before the first.
    pub fn reported(&self) -> Option<(NtpTime, u32)> {
        self.last.map(|(ntp, rtp, _)| (ntp, rtp))
    }

    /// The publisher's NTP time and RTP timestamp at `now`; `None` before its first sender report.
    pub fn at(&self, now: Instant) -> Option<(NtpTime, u32)> {
        let (ntp, rtp, received) = self.last?;
        let elapsed = now.saturating_duration_since(received);
        Some((ntp.plus(elapsed), rtp.wrapping_add(rtp_ticks(elapsed, self.clock_rate))))
    }
}

/// `duration` in ticks of `clock_rate` Hz, wrapping like an RTP timestamp.
#[inline]
pub const fn rtp_ticks(duration: Duration, clock_rate: u32) -> u32 {
    let whole = duration.as_secs().wrapping_mul(clock_rate as u64);
    let part = duration.subsec_nanos() as u64 * clock_rate as u64 / 1_000_000_000;
    whole.wrapping_add(part) as u32
}

/// The sender reports sent lately for one SSRC, for the round-trip time from a reception report that echoes one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentReports {
    sent: [Option<(u32, Instant)>; SENT_REPORTS],
    next: usize,
}

/// Reports answered later than three reports back are too old to say anything about the path now.
const SENT_REPORTS: usize = 4;

impl SentReports {
    /// Remembers a report sent at `now` with `ntp`.
    pub fn record(&mut self, ntp: NtpTime, now: Instant) {
        self.sent[self.next] = Some((ntp.compact(), now));
        self.next = (self.next + 1) % SENT_REPORTS;
    }

    /// Round-trip time from a report block's LSR and DLSR (RFC 3550 6.4.1) that arrived at `now`; `None` when the echoed
    /// report is unknown or the delay claimed is longer than the time passed.
    pub fn round_trip(&self, last_sr: u32, delay_since_last_sr: u32, now: Instant) -> Option<Duration> {
        let (_, sent) = self.sent.iter().flatten().find(|(compact, _)| *compact == last_sr)?;
        let held = Duration::from_nanos(u64::from(delay_since_last_sr) * 1_000_000_000 / 65_536);
        now.saturating_duration_since(*sent).checked_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn half_a_second_is_half_of_the_fraction() {
        assert_eq!(NtpTime(7 << 32).plus(Duration::from_millis(1_500)), NtpTime((8 << 32) | 1 << 31));
        assert_eq!(NtpTime(0x1122_3344_5566_7788).compact(), 0x3344_5566);
    }

    #[test]
    fn audio_and_video_stay_on_the_publishers_line() {
        let now = Instant::now();
        let (mut audio, mut video) = (SenderClock::new(48_000), SenderClock::new(90_000));
        assert_eq!((audio.at(now), audio.reported()), (None, None));
        // Both streams were captured at NTP second 100; the reports come a second apart and at odd delays.
        audio.record(NtpTime(100 << 32), 7_000, now);
        video.record(NtpTime(101 << 32), 90_000 + 55, now + SECOND + Duration::from_millis(30));
        assert_eq!(audio.reported(), Some((NtpTime(100 << 32), 7_000)));
        let later = now + SECOND * 3;
        let (audio_ntp, audio_rtp) = audio.at(later).expect("a report came");
        let (video_ntp, video_rtp) = video.at(later).expect("a report came");
        let seconds = |ntp: NtpTime| ntp.0 as f64 / f64::from(2.0_f32.powi(32)) - 100.0;
        let audio_captured = f64::from(audio_rtp - 7_000) / 48_000.0;
        let video_captured = f64::from(video_rtp - 55) / 90_000.0;
        assert!((seconds(audio_ntp) - audio_captured).abs() < 1e-4);
        assert!((seconds(video_ntp) - video_captured).abs() < 1e-4);
    }

    #[test]
    fn a_newer_report_replaces_the_line() {
        let now = Instant::now();
        let mut clock = SenderClock::new(90_000);
        clock.record(NtpTime(u64::MAX), u32::MAX, now);
        let (ntp, rtp) = clock.at(now + SECOND).expect("a report came");
        assert_eq!((ntp, rtp), (NtpTime((1 << 32) - 1), 89_999), "both wrap");
        clock.record(NtpTime(5), 6, now + SECOND);
        assert_eq!(clock.at(now + SECOND), Some((NtpTime(5), 6)));
    }

    #[test]
    fn a_round_trip_is_measured_against_the_report_echoed() {
        let now = Instant::now();
        let mut sent = SentReports::default();
        for second in 0..5_u32 {
            sent.record(NtpTime(u64::from(second) << 32), now + SECOND * second);
        }
        let round_trip =
            |second: u64, held: u32| sent.round_trip(NtpTime(second << 32).compact(), held, now + SECOND * 5);
        assert_eq!(round_trip(4, 0xc000), Some(Duration::from_millis(250)));
        assert_eq!(round_trip(1, 65_536 * 4), Some(Duration::ZERO));
        assert_eq!(round_trip(1, 65_536 * 5), None, "held longer than it was away");
        assert_eq!(round_trip(0, 0), None, "forgotten");
        assert_eq!(round_trip(9, 0), None, "never sent");
        assert_eq!(SentReports::default().round_trip(0, 0, now), None, "no report echoed");
    }

    proptest! {
        /// Ticks of a sum differ from the sum of ticks by rounding only, at any age.
        #[test]
        fn ticks_do_not_drift(secs in 0_u64..1_000_000_000, nanos in 0_u32..1_000_000_000, rate in 8_000_u32..200_000) {
            let ticks = rtp_ticks(Duration::new(secs, nanos), rate);
            let exact = (u128::from(secs) * 1_000_000_000 + u128::from(nanos)) * u128::from(rate) / 1_000_000_000;
            prop_assert_eq!(ticks, exact as u32);
        }
    }
}
