//! Which parts of a cluster answer. Each master can be away, or lose what it has, on its own; the index' parts are spread over all of
//! them and stand for the rooms there. Told what each look at them found; asks nobody.

use std::time::Duration;

use tokio::time::Instant;

use super::keys::BUCKETS;
use crate::store::Life;

/// What looks have found.
#[derive(Debug)]
pub(super) struct Parts {
    each: [Part; BUCKETS],
    /// Since the first of the looks in a row that have not found all.
    away_since: Option<Instant>,
    /// The last look that has not found all.
    last_away: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// The life it was first seen in.
    first: Option<u64>,
    /// The one it was last seen in.
    last: Option<u64>,
    is_away: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { each: [Part::default(); BUCKETS], away_since: None, last_away: None }
    }
}

impl Parts {
    /// The lives of the parts that have answered, in their order. The life of all together; `None`: there was no answer at all.
    pub(super) fn handle_look(&mut self, lives: &[Option<u64>], now: Instant) -> Option<Life> {
        for (part, life) in self.each.iter_mut().zip(lives) {
            part.is_away = life.is_none();
            part.last = life.or(part.last);
            part.first = part.first.or(*life);
        }
        if lives.contains(&None) {
            self.last_away = Some(now);
            self.away_since = self.away_since.or(Some(now));
        } else {
            self.away_since = None;
        }
        lives.iter().any(Option::is_some).then(|| self.life())
    }

    /// A part that is away has lost nothing, as far as is known; nor has one that was away until now, and is seen for the first time.
    fn life(&self) -> Life {
        // FNV-1a: any change of one changes all.
        let mix = |all: u64, part: &Part| {
            let changed = part.last.filter(|last| Some(*last) != part.first).unwrap_or_default();
            (all ^ changed).wrapping_mul(0x0000_0100_0000_01b3)
        };
        Life(self.each.iter().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    /// Whether the part has answered the last look, if there was one.
    pub(super) fn answers(&self, number: usize) -> bool {
        !self.each[number].is_away
    }

    /// Since when not all of them answer.
    pub(super) fn away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// Whether none was away for so long.
    pub(super) fn are_whole_for(&self, time: Duration, now: Instant) -> bool {
        self.last_away.is_none_or(|away| now.duration_since(away) >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(1);

    /// All parts in these lives, but for one.
    fn lives(of_the_others: u64, number: usize, life: Option<u64>) -> [Option<u64>; BUCKETS] {
        let mut lives = [Some(of_the_others); BUCKETS];
        lives[number] = life;
        lives
    }

    #[test]
    fn a_part_that_is_away_is_no_other_life_and_one_that_comes_back_empty_is() {
        let (mut parts, now) = (Parts::default(), Instant::now());
        let life = parts.handle_look(&lives(1, 7, Some(2)), now);
        assert!(life.is_some());
        assert_eq!(parts.handle_look(&lives(1, 7, None), now), life);
        assert!(!parts.answers(7) && parts.answers(8));
        assert_eq!(parts.handle_look(&lives(1, 7, Some(2)), now), life);
        let other = parts.handle_look(&lives(1, 7, Some(3)), now);
        assert_ne!(other, life);
        assert_eq!(parts.handle_look(&lives(1, 7, None), now), other, "away, it is what it was last");
        assert_ne!(parts.handle_look(&lives(1, 7, Some(4)), now), other);
    }

    #[test]
    fn a_part_that_was_away_from_the_beginning_is_no_other_life_when_it_comes() {
        let (mut parts, now) = (Parts::default(), Instant::now());
        assert_eq!(parts.handle_look(&[None; BUCKETS], now), None, "nobody answers");
        let life = parts.handle_look(&lives(1, 7, None), now);
        assert_eq!(parts.handle_look(&lives(1, 7, Some(2)), now), life);
        assert_ne!(parts.handle_look(&lives(1, 7, Some(3)), now), life);
    }

    #[test]
    fn they_are_whole_again_a_while_after_the_last_of_them_is_back() {
        let (mut parts, start) = (Parts::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(parts.are_whole_for(TTL, start), "none was ever seen to be away");
        parts.handle_look(&lives(1, 0, Some(1)), at(0));
        assert_eq!(parts.away_since(), None);
        parts.handle_look(&lives(1, 7, None), at(1));
        parts.handle_look(&lives(1, 9, None), at(5));
        assert_eq!(parts.away_since(), Some(at(1)));
        parts.handle_look(&lives(1, 0, Some(1)), at(9));
        assert_eq!(parts.away_since(), None);
        assert!(!parts.are_whole_for(TTL, at(64)) && parts.are_whole_for(TTL, at(65)));
    }
}
