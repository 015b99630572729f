//! Whether this edge sees its room store, since when without a break, and which life of the store it is. One task asks; everybody
//! else looks at what it found. What follows from it is decided elsewhere: readiness, sweeping, putting back what was lost,
//! sending clients to an edge that sees more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use room_store::{Life, RoomStore, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clocks::Clocks;
use crate::metrics::EdgeMetrics;

/// Mean pause between two looks: how late a loss of everything is noticed, if nothing else shows it. Less costs the store a call
/// more each second for each edge.
const INTERVAL: Duration = Duration::from_secs(1);
/// Mean pause after a look that failed, or did not see all of the store. Edges that lose the same store, or see it again, say so at about the same time: one that was much
/// later than the others would look as if it alone did not see it, or still did.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a look may take. A store that answers later than this is of no use to clients, who wait three seconds for it.
const LOOK_TIME: Duration = Duration::from_secs(3);
/// Failed looks in a row after which the store counts as out of reach: one may be a connection that was cut.
const FAILURES: u32 = 2;

/// What an edge knows of its room store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It was never seen.
    Never,
    /// It answers.
    Seen {
        life: Life,
        /// It has been this life, every look at it has succeeded, and its clocks were not set, since then.
        since: Instant,
        /// Another was seen before it: everything was lost.
        is_another: bool,
    },
    /// It is out of reach.
    Lost {
        /// The life it was last seen in.
        life: Life,
        /// When the first of the looks failed that have failed since.
        since: Instant,
        /// Whether it had lost everything before that life of it: perhaps not all is put back yet.
        is_another: bool,
    },
}

impl Sight {
    /// The store's life, if it is seen.
    pub(crate) fn life(self) -> Option<Life> {
        match self {
            Self::Seen { life, .. } => Some(life),
            Self::Never | Self::Lost { .. } => None,
        }
    }

    /// Since when the same life has been seen without a break.
    pub(crate) fn since(self) -> Option<Instant> {
        match self {
            Self::Seen { since, .. } => Some(since),
            Self::Never | Self::Lost { .. } => None,
        }
    }

    /// For how long the same life has been seen without a break.
    pub(crate) fn seen_for(self, now: Instant) -> Duration {
        match self {
            Self::Seen { since, .. } => now.duration_since(since),
            Self::Never | Self::Lost { .. } => Duration::ZERO,
        }
    }

    /// Whether it is seen, and everything was lost before this life of it.
    pub(crate) fn is_another(self) -> bool {
        matches!(self, Self::Seen { is_another: true, .. })
    }

    /// Whether that was so lately.
    pub(crate) fn was_emptied_within(self, time: Duration, now: Instant) -> bool {
        self.is_another() && self.seen_for(now) < time
    }

    /// Whether a life seen now shows that everything was lost since the last look.
    pub(crate) fn is_outlived_by(self, seen: Life) -> bool {
        matches!(self, Self::Seen { life, .. } | Self::Lost { life, .. } if life != seen)
    }

    /// One that has been seen for all of time, in whatever tests look at it for.
    #[cfg(test)]
    pub(crate) fn steady() -> watch::Receiver<Self> {
        let seen = Self::Seen { life: Life(1), since: Instant::now(), is_another: false };
        watch::Sender::new(seen).subscribe()
    }

    /// As it is after something that makes what was seen before count no more.
    fn broken(self, now: Instant) -> Self {
        match self {
            Self::Seen { life, is_another, .. } => Self::Seen { life, since: now, is_another },
            other => other,
        }
    }

    /// After a look. `failures`: how many looks in a row have failed, this one included.
    fn after(self, look: Result<Life, StoreError>, failures: u32, now: Instant) -> Self {
        match (self, look) {
            (Self::Seen { life, .. }, Ok(seen)) if life == seen => self,
            // The failure before this one was a break.
            (Self::Seen { life, since, is_another }, Err(_)) if failures >= FAILURES => {
                Self::Lost { life, since, is_another }
            }
            // A failed look is not out of reach yet, but a break all the same.
            (Self::Seen { .. }, Err(_)) => self.broken(now),
            (Self::Lost { life, is_another, .. }, Ok(seen)) if life == seen => {
                Self::Seen { life, since: now, is_another }
            }
            (_, Ok(life)) => Self::Seen { life, since: now, is_another: self.is_outlived_by(life) },
            (earlier, Err(_)) => earlier,
        }
    }
}

/// Looks at the store. Clones are the same.
#[derive(Clone)]
pub(crate) struct Lookout {
    store: Arc<dyn RoomStore>,
    sight: watch::Sender<Sight>,
    clocks: Arc<Mutex<Clocks>>,
    metrics: EdgeMetrics,
}

impl Lookout {
    pub(crate) fn new(store: Arc<dyn RoomStore>, metrics: EdgeMetrics) -> Self {
        let clocks = Arc::new(Mutex::new(Clocks::new(store.settings().ttl)));
        Self { store, sight: watch::Sender::new(Sight::Never), clocks, metrics }
    }

    /// What it sees, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<Sight> {
        self.sight.subscribe()
    }

    /// What it sees now.
    pub(crate) fn sight(&self) -> Sight {
        *self.sight.borrow()
    }

    /// Until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.look_on()).await;
    }

    async fn look_on(&self) {
        let mut failures = 0;
        loop {
            let (look, _) = tokio::join!(timeout(LOOK_TIME, self.store.ping()), self.look_at_clocks());
            let look = look.unwrap_or(Err(StoreError::Timeout));
            failures = if look.is_ok() { 0 } else { failures + 1 };
            self.found(look, failures);
            let all_seen = failures == 0 && self.store.part_away_since().is_none();
            let pause = if all_seen { INTERVAL } else { AGAIN };
            sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        }
    }

    /// Whether the store's clocks say what they should, as far as that can be told now. One that was set is a break: leases are longer
    /// or shorter by it until they are refreshed.
    pub(crate) async fn look_at_clocks(&self) -> bool {
        let asked = Instant::now();
        let Ok(Ok(times)) = timeout(LOOK_TIME, self.store.clocks()).await else { return false };
        let now = Instant::now();
        let went_on = self.clocks.lock().unwrap_or_else(PoisonError::into_inner).handle_times(&times, asked, now);
        if !went_on {
            tracing::warn!("a clock of the room store was set: nobody expires until every lease was refreshed by it");
            self.sight.send_modify(|sight| *sight = sight.broken(now));
        }
        went_on
    }

    fn found(&self, look: Result<Life, StoreError>, failures: u32) {
        let (mut before, mut after) = (Sight::Never, Sight::Never);
        // From what it is then: whoever looks at the clocks may have found a break meanwhile.
        self.sight.send_if_modified(|sight| {
            before = *sight;
            after = before.after(look, failures, Instant::now());
            *sight = after;
            before != after
        });
        self.metrics.store_seen.set(f64::from(u8::from(after.life().is_some())));
        match (before, after) {
            (Sight::Seen { life: one, .. } | Sight::Lost { life: one, .. }, Sight::Seen { life: other, .. })
                if one != other =>
            {
                self.metrics.store_resets.increment(1);
                tracing::error!("the room store has lost everything: sessions are put back");
            }
            (Sight::Lost { .. }, Sight::Seen { .. }) => tracing::info!("the room store is seen again"),
            (Sight::Seen { .. }, Sight::Lost { .. }) => {
                tracing::error!(error = ?look.err(), "the room store is out of reach: requests that need it fail");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Life = Life(1);
    const FAILED: Result<Life, StoreError> = Err(StoreError::Unavailable);

    #[tokio::test(start_paused = true)]
    async fn one_failed_look_is_a_break_and_two_are_an_outage() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = Sight::Never.after(Ok(ONE), 0, at(0));
        assert_eq!(seen.after(Ok(ONE), 0, at(9)).seen_for(at(10)), Duration::from_secs(10));
        let broken = seen.after(FAILED, 1, at(10));
        assert_eq!((broken.life(), broken.seen_for(at(11))), (Some(ONE), Duration::from_secs(1)));
        let lost = broken.after(FAILED, 2, at(11));
        assert_eq!(lost, Sight::Lost { life: ONE, since: at(10), is_another: false }, "since the first of them");
        assert_eq!(lost.after(FAILED, 3, at(12)), lost);
        assert_eq!(lost.after(Ok(ONE), 0, at(13)), Sight::Seen { life: ONE, since: at(13), is_another: false });
    }

    #[tokio::test(start_paused = true)]
    async fn another_life_counts_from_its_first_look() {
        let start = Instant::now();
        let seen = Sight::Never.after(Ok(ONE), 0, start);
        let later = start + Duration::from_mins(5);
        let other = seen.after(Ok(Life(2)), 0, later);
        assert_eq!(other.seen_for(later), Duration::ZERO);
        let second = Duration::from_secs(1);
        assert!(other.was_emptied_within(second, later) && !other.was_emptied_within(second, later + second));
        assert!(!seen.was_emptied_within(second, start), "the first is no other");
        let again = other.after(FAILED, 1, later).after(FAILED, 2, later).after(Ok(Life(2)), 0, later + second);
        assert!(again.was_emptied_within(second, later + second), "an outage in between does not fill it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_never_seen_is_not_lost() {
        assert_eq!(Sight::Never.after(FAILED, 9, Instant::now()), Sight::Never);
    }
}
