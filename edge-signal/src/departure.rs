//! Sending clients away: spread over time, each when its requests under way are answered. For good, when the edge ends; or until it is
//! called off, when another edge sees more than this one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Clients are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) begun: Instant,
    /// From then on, all of them within this time.
    pub(crate) spread: Duration,
    /// How long one whose turn has come is given for its requests under way.
    pub(crate) finish: Duration,
    pub(crate) why: Why,
}

/// Why they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The edge ends.
    Ending,
    /// Another edge sees the store, and this one does not.
    Blind,
}

impl Why {
    /// For clients.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Ending => "the edge is going away",
            Self::Blind => "another edge can serve you better",
        }
    }
}

/// Whether clients are to go. None: they stay.
pub(crate) type Departures = watch::Receiver<Option<Departure>>;

/// One client's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// From then on it begins nothing new.
    pub(crate) at: Instant,
    /// And goes at the latest.
    pub(crate) by: Instant,
    pub(crate) why: Why,
}

impl Departure {
    /// The latest moment anybody is here.
    pub(crate) fn end(&self) -> Instant {
        self.begun + self.spread + self.finish
    }

    /// A client's turn; `chance`: 0–1, drawn for it.
    pub(crate) fn turn(&self, chance: f64) -> Turn {
        let at = self.begun + self.spread.mul_f64(chance.clamp(0.0, 1.0));
        Turn { at, by: at + self.finish, why: self.why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_within_the_spread_and_end_before_the_end() {
        let (begun, seconds) = (Instant::now(), Duration::from_secs);
        let departure = Departure { begun, spread: seconds(10), finish: seconds(2), why: Why::Ending };
        assert_eq!(departure.turn(0.0).at, begun);
        assert_eq!(departure.turn(0.5).at, begun + seconds(5));
        assert_eq!(departure.turn(1.0).by, departure.end());
        assert_eq!(departure.turn(7.0).by, departure.end());
    }
}
