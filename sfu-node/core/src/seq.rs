//! Wrapping RTP sequence numbers: their order, and their extension to 64 bits.
//!
//! Not the SRTP packet index: that one is estimated before authentication and lives in [`crate::srtp::ReplayWindow`].

/// A 16-bit sequence number in the circular order of RFC 1982: `a` is newer than `b` when it lies less than half the
/// circle ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// Signed steps from `other` to this number, in -32,768..=32,767.
    #[inline]
    pub const fn distance_from(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }

    /// The number `steps` further on.
    #[inline]
    #[must_use]
    pub const fn plus(self, steps: u16) -> Self {
        Self(self.0.wrapping_add(steps))
    }
}

/// Turns wrapping 16-bit numbers into 64-bit ones whose low 16 bits are the input and which order like the packets were
/// sent, as long as neighbours arrive less than 32,768 apart.
///
/// The first number is put into cycle 1, so that packets reordered before it still have a place below it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqExtender {
    highest: Option<u64>,
}

impl SeqExtender {
    /// An extender that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// Extends `seq` and remembers it if it is the newest so far.
    #[inline]
    pub fn extend(&mut self, seq: u16) -> u64 {
        let extended = self.peek(seq);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// What [`Self::extend`] would return, without remembering it.
    #[inline]
    pub const fn peek(&self, seq: u16) -> u64 {
        match self.highest {
            None => (1 << 16) | seq as u64,
            Some(highest) => nearest(highest, seq),
        }
    }

    /// The newest extended number so far.
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// The 64-bit number with low bits `seq` that is nearest to `reference`; never below zero.
#[inline]
pub(crate) const fn nearest(reference: u64, seq: u16) -> u64 {
    let step = SeqNo(seq).distance_from(SeqNo(reference as u16)) as i64;
    let guess = reference.wrapping_add_signed(step);
    // Below zero there is no cycle to borrow from: the number can only lie ahead.
    if step < 0 && guess > reference { guess.wrapping_add(1 << 16) } else { guess }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_wraps_around() {
        assert_eq!(SeqNo(65_535).distance_from(SeqNo(0)), -1);
        assert_eq!(SeqNo(7).distance_from(SeqNo(7)), 0);
        assert_eq!(SeqNo(2).distance_from(SeqNo(65_534)), 4);
        assert_eq!(SeqNo(65_534).plus(4), SeqNo(2));
    }

    #[test]
    fn a_packet_before_the_first_keeps_its_place() {
        let mut extender = SeqExtender::new();
        let first = extender.extend(2);
        assert_eq!(extender.extend(65_535), first - 3);
        assert_eq!(extender.highest(), Some(first));
    }

    #[test]
    fn below_zero_is_taken_as_ahead() {
        assert_eq!(nearest(3, 65_535), 65_535);
        assert_eq!(nearest(65_536 + 3, 65_535), 65_535);
    }

    proptest! {
        /// Whatever jumps of less than half a circle the packets make, each is extended to its true number.
        #[test]
        fn extension_recovers_the_true_number(
            start in (1_u64 << 16)..(1 << 17),
            steps in prop::collection::vec(-2_000_i64..30_000, 1..200),
        ) {
            let mut extender = SeqExtender::new();
            let mut highest = start;
            prop_assert_eq!(extender.extend(start as u16), (1 << 16) | (start & 0xffff));
            let shift = start - ((1 << 16) | (start & 0xffff));
            for step in steps {
                let real = highest.saturating_add_signed(step).max(start);
                prop_assert_eq!(extender.extend(real as u16) + shift, real);
                highest = highest.max(real);
            }
        }

        #[test]
        fn low_bits_are_always_the_input(reference in any::<u64>(), seq in any::<u16>()) {
            prop_assert_eq!(nearest(reference, seq) as u16, seq);
        }
    }
}
