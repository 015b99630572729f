//! Which of a source's newest packets were forwarded, skipped, or are still missing.
//!
//! Two bits per packet: a subscriber's whole map is 256 bytes, and a packet in order touches one word of each half.

/// Packets that can be placed late or looked up for retransmission. A second of 720p video is about 300; a source's ring
/// need not hold more.
pub(super) const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;

/// The newest packets of one source. Every packet has a slot; a closed slot has no outgoing number, the others are numbered
/// in order.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    first: u64,
    newest: u64,
    /// Bit `seq % WINDOW`: was forwarded, so its outgoing number is used up.
    taken: [u64; WORDS],
    /// Bit `seq % WINDOW`: has no outgoing number.
    closed: [u64; WORDS],
}

impl Slots {
    /// Slots that begin with `first`, which is taken.
    pub(super) fn new(first: u64) -> Self {
        let mut slots = Self { first, newest: first, taken: [0; WORDS], closed: [0; WORDS] };
        slots.take(first);
        slots
    }

    /// The newest slot.
    #[inline]
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Makes `seq`, which lies ahead, the newest slot, open. Returns how many numbers the slots skipped over keep for packets
    /// that are still to come; none when they are too many to be waited for.
    #[inline]
    pub(super) fn advance(&mut self, seq: u64) -> u64 {
        let between = seq - self.newest - 1;
        if between >= WINDOW {
            self.taken = [0; WORDS];
            self.closed = [0; WORDS];
            self.first = seq;
            self.newest = seq;
            return 0;
        }
        for (word, mask) in words(self.newest + 1, seq) {
            self.taken[word] &= !mask;
            self.closed[word] &= !mask;
        }
        self.newest = seq;
        between
    }

    /// Whether `seq` is within reach and neither forwarded nor skipped.
    #[inline]
    pub(super) const fn is_open(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        seq >= self.oldest() && seq <= self.newest && (self.taken[word] | self.closed[word]) & bit == 0
    }

    /// Marks `seq` as forwarded.
    #[inline]
    pub(super) const fn take(&mut self, seq: u64) {
        let (word, bit) = place(seq);
        self.taken[word] |= bit;
    }

    /// Takes its number from `seq`.
    #[inline]
    pub(super) const fn close(&mut self, seq: u64) {
        let (word, bit) = place(seq);
        self.closed[word] |= bit;
    }

    /// How many slots after `seq` have a number.
    #[inline]
    pub(super) fn numbered_after(&self, seq: u64) -> u64 {
        words(seq + 1, self.newest).map(|(word, mask)| u64::from((!self.closed[word] & mask).count_ones())).sum()
    }

    /// The slot whose number is `steps_back` before the newest number, if it is within reach.
    pub(super) fn numbered_before(&self, steps_back: u64) -> Option<u64> {
        if steps_back >= WINDOW {
            return None;
        }
        let mut left = steps_back as u32;
        let mut to = self.newest;
        loop {
            let from = self.oldest().max(to - to % 64);
            let (word, mask) = words(from, to).next()?;
            let mut numbered = !self.closed[word] & mask;
            let count = numbered.count_ones();
            if left < count {
                for _ in 0..left {
                    numbered &= !(1 << numbered.ilog2());
                }
                return Some(to - to % 64 + u64::from(numbered.ilog2()));
            }
            left -= count;
            if from == self.oldest() {
                return None;
            }
            to = from - 1;
        }
    }

    /// The oldest slot within reach.
    #[inline]
    const fn oldest(&self) -> u64 {
        let reach = (self.newest + 1).saturating_sub(WINDOW);
        if self.first > reach { self.first } else { reach }
    }
}

#[inline]
const fn place(seq: u64) -> (usize, u64) {
    ((seq % WINDOW / 64) as usize, 1 << (seq % 64))
}

/// The words and bits of `from..=to`, at most `WINDOW` slots, in ascending order.
#[inline]
fn words(from: u64, to: u64) -> impl Iterator<Item = (usize, u64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        (at <= to).then(|| {
            let low = at % 64;
            let count = (64 - low).min(to - at + 1);
            let mask = (u64::MAX >> (64 - count)) << low;
            let word = (at % WINDOW / 64) as usize;
            at += count;
            (word, mask)
        })
    })
}
