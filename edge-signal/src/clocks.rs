//! The store's clocks, held against this process' own, which nobody sets. Leases end by the store's: one that was set forward ends them
//! early. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// By how much of a ttl a clock may be off within a ttl. Leases are refreshed when a quarter of them is gone, so that those who are
/// alive have more than this left. Less: a server's clock that is only slewed, or answers late, would count as set.
const TOLERATED: u32 = 4;

/// They, as they were last known.
#[derive(Debug)]
pub(crate) struct Clocks {
    ttl: Duration,
    parts: Vec<Option<Known>>,
}

/// What a clock said when it was asked between two moments.
#[derive(Debug, Clone, Copy)]
struct Known {
    asked: Instant,
    answered: Instant,
    time: Duration,
}

impl Known {
    /// Whether a clock that said this before can say that now.
    fn leads_to(self, now: Self, tolerated: Duration) -> bool {
        let least = self.time + now.asked.duration_since(self.answered);
        let most = self.time + now.answered.duration_since(self.asked);
        now.time + tolerated >= least && now.time <= most + tolerated
    }
}

impl Clocks {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, parts: Vec::new() }
    }

    /// They were asked, have answered, and say these times. Whether all have gone on as time has, as far as they are known.
    pub(crate) fn handle_times(&mut self, times: &[Option<Duration>], asked: Instant, answered: Instant) -> bool {
        self.parts.resize(times.len(), None);
        let mut went_on = true;
        for (part, time) in self.parts.iter_mut().zip(times) {
            let Some(time) = *time else { continue };
            let now = Known { asked, answered, time };
            let is_as_known = part.is_none_or(|known| known.leads_to(now, self.ttl / TOLERATED));
            went_on &= is_as_known;
            // Small steps within a ttl add up.
            if !is_as_known || part.is_none_or(|known| answered.duration_since(known.answered) >= self.ttl) {
                *part = Some(now);
            }
        }
        went_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Whether it is as known when a clock that began with a thousand seconds is asked after some time, and says this.
    fn went_on(clocks: &mut Clocks, start: Instant, after: u64, says: u64) -> bool {
        let asked = start + SECOND * u32::try_from(after).expect("small");
        clocks.handle_times(&[Some(Duration::from_secs(1_000 + says))], asked, asked)
    }

    #[test]
    fn a_clock_that_goes_on_as_time_does_is_as_known() {
        let (mut clocks, start) = (Clocks::new(TTL), Instant::now());
        for second in 0..1_000 {
            assert!(went_on(&mut clocks, start, second, second));
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_once() {
        for (said, steps) in [(76, 1), (44, 1), (75, 0), (45, 0)] {
            let (mut clocks, start) = (Clocks::new(TTL), Instant::now());
            assert!(went_on(&mut clocks, start, 10, 10));
            assert_eq!(went_on(&mut clocks, start, 60, said), steps == 0, "{said}");
            assert!(went_on(&mut clocks, start, 61, said + 1), "{said}");
        }
    }

    #[test]
    fn small_steps_within_a_ttl_add_up() {
        let (mut clocks, start) = (Clocks::new(TTL), Instant::now());
        assert!(went_on(&mut clocks, start, 0, 0) && went_on(&mut clocks, start, 1, 11));
        assert!(!went_on(&mut clocks, start, 2, 22));
    }

    #[test]
    fn an_answer_that_took_long_is_of_any_moment_in_between() {
        let (mut clocks, start) = (Clocks::new(TTL), Instant::now());
        let mut asked = |from: u32, to: u32, says| {
            clocks.handle_times(&[Some(Duration::from_secs(says))], start + SECOND * from, start + SECOND * to)
        };
        assert!(asked(0, 20, 1_020));
        assert!(asked(25, 26, 1_061), "as if it had said so when it was asked");
        assert!(!asked(26, 26, 1_062 + 1));
    }

    #[test]
    fn one_part_s_clock_is_enough_and_one_that_says_nothing_is_not_judged() {
        let (mut clocks, start) = (Clocks::new(TTL), Instant::now());
        let says = |seconds: u64| Some(Duration::from_secs(seconds));
        assert!(clocks.handle_times(&[says(5), says(900)], start, start));
        let later = start + SECOND;
        assert!(clocks.handle_times(&[None, says(901)], later, later));
        assert!(!clocks.handle_times(&[says(100), says(902)], later + SECOND, later + SECOND));
    }
}
