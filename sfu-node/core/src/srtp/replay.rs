//! The replay window of one received SSRC (RFC 3711 3.3.1, 3.3.2), which also estimates the packet index.

use crate::seq::nearest;

/// Packets that may arrive late. A second of 720p video is about 300; more costs memory per SSRC, less turns long delays
/// into loss.
const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Packets of one key and SSRC end here (RFC 3711 9.2).
const INDEX_END: u64 = 1 << 48;

/// Which of the newest 1,024 packet indices of an SSRC have been received.
///
/// [`Self::estimate`] and [`Self::check`] change nothing, so that a forged packet changes nothing; [`Self::commit`] is called
/// after authentication.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    /// Bit `index % WINDOW` is set when `index` was received, for indices in `highest - WINDOW + 1..=highest`.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None, seen: [0; WORDS] }
    }

    /// The packet index (`roc << 16 | seq`) that `seq` most likely has: the nearest to the newest one received. Before the
    /// first packet the rollover counter is taken as zero.
    #[inline]
    pub const fn estimate(&self, seq: u16) -> u64 {
        match self.highest {
            None => seq as u64,
            Some(highest) => nearest(highest, seq),
        }
    }

    /// Whether `index` is new and not too old to tell.
    #[inline]
    pub fn check(&self, index: u64) -> bool {
        if index >= INDEX_END {
            return false;
        }
        match self.highest {
            None => true,
            Some(highest) if index > highest => true,
            Some(highest) if highest - index >= WINDOW => false,
            Some(_) => self.seen[word(index)] & bit(index) == 0,
        }
    }

    /// Marks an authenticated packet's `index` as received. Call only after [`Self::check`] said yes.
    #[inline]
    pub fn commit(&mut self, index: u64) {
        let highest = self.highest.unwrap_or(index);
        if index > highest {
            if index - highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                self.clear(highest + 1, index);
            }
        }
        self.highest = Some(highest.max(index));
        self.seen[word(index)] |= bit(index);
    }

    /// The newest index received.
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Unmarks `from..=to`, fewer than `WINDOW` indices, a word at a time.
    #[inline]
    fn clear(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at <= to {
            let low = at % 64;
            let count = (64 - low).min(to - at + 1);
            let mask = if count == 64 { u64::MAX } else { ((1 << count) - 1) << low };
            self.seen[word(at)] &= !mask;
            at += count;
        }
    }
}

#[inline]
const fn word(index: u64) -> usize {
    (index % WINDOW / 64) as usize
}

#[inline]
const fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn receive(window: &mut ReplayWindow, seq: u16) -> Option<u64> {
        let index = window.estimate(seq);
        window.check(index).then(|| {
            window.commit(index);
            index
        })
    }

    #[test]
    fn the_rollover_counter_follows_wraps_and_late_packets() {
        let mut window = ReplayWindow::new();
        assert_eq!(receive(&mut window, 65_534), Some(65_534));
        assert_eq!(receive(&mut window, 1), Some(65_537));
        assert_eq!(receive(&mut window, 65_535), Some(65_535));
        assert_eq!(receive(&mut window, 0), Some(65_536));
        assert_eq!(receive(&mut window, 65_534), None);
        assert_eq!(window.highest(), Some(65_537));
    }

    #[test]
    fn a_packet_older_than_the_window_is_refused() {
        let mut window = ReplayWindow::new();
        assert!(receive(&mut window, 5_000).is_some());
        assert!(receive(&mut window, 5_000 - 1_023).is_some());
        assert!(receive(&mut window, 5_000 - 1_024).is_none());
    }

    #[test]
    fn the_last_index_of_the_keys_is_the_end() {
        let mut window = ReplayWindow::new();
        window.commit(INDEX_END - 1);
        assert!(!window.check(window.estimate(0)));
        assert!(window.check(INDEX_END - 2));
    }

    proptest! {
        /// The window says what a set of all indices ever received says, as far back as it reaches.
        #[test]
        fn the_window_remembers_like_a_set(
            start in 0_u64..200_000,
            steps in prop::collection::vec(prop_oneof![8 => -70_i64..70, 2 => -1_100_i64..1_100, 1 => 0_i64..30_000], 1..400),
        ) {
            let mut window = ReplayWindow::new();
            window.commit(start);
            let mut all = HashSet::from([start]);
            let mut highest = start;
            for step in steps {
                let index = highest.saturating_add_signed(step);
                prop_assert_eq!(window.estimate(index as u16), index);
                let fresh = !all.contains(&index) && highest - index.min(highest) < WINDOW;
                prop_assert_eq!(window.check(index), fresh, "index {} at {}", index, highest);
                if fresh {
                    window.commit(index);
                    all.insert(index);
                    highest = highest.max(index);
                }
            }
        }
    }
}
