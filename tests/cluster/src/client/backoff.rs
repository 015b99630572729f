//! How long a client waits before its next try: exponential with full jitter, as the SDK does (client/src/backoff.ts).

use std::time::Duration;

/// Upper bound of the first wait, and of all.
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(20);

/// The tries since the last success.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait: evenly distributed between nothing and a bound that doubles each time.
    pub(crate) fn next(&mut self) -> Duration {
        // 2^6 × 500 ms is beyond the cap.
        let bound = CAP.min(BASE * 2_u32.pow(self.tries.min(6)));
        self.tries += 1;
        bound.mul_f64(rand::random_range(0.0..1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}
