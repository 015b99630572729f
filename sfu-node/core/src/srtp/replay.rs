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
