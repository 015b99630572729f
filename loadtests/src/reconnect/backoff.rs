//! When and where a client of the SDK tries again: full jitter, each edge in turn. As `client/src/backoff.ts` and `edges.ts` do it.

use std::net::SocketAddr;
use std::time::Duration;

use rand::seq::SliceRandom;

/// Upper bound of the first wait.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer.
const CAP: Duration = Duration::from_secs(20);
/// Beyond every cap.
const MAX_STEP: u32 = 16;

/// Of one client.
#[derive(Debug)]
pub struct Backoff {
    edges: Vec<SocketAddr>,
    at: usize,
    tries: u32,
}

impl Backoff {
    /// In an order of its own.
    pub fn new(edges: &[SocketAddr]) -> Self {
        let mut edges = edges.to_vec();
        edges.shuffle(&mut rand::rng());
        Self { edges, at: 0, tries: 0 }
    }

    /// Where to connect now.
    pub fn edge(&self) -> SocketAddr {
        self.edges[self.at]
    }

    /// The present one failed or is gone: the next one, after this wait.
    pub fn wait(&mut self) -> Duration {
        self.at = (self.at + 1) % self.edges.len();
        let step = (self.tries / self.edges.len() as u32).min(MAX_STEP);
        self.tries += 1;
        (BASE * 2_u32.pow(step)).min(CAP).mul_f64(rand::random_range(0.0..1.0))
    }

    /// It held.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_once_all_edges_were_tried_up_to_the_cap() {
        let edges = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut backoff = Backoff::new(&edges);
        let mut asked = Vec::new();
        for tries in 0..40 {
            let most = (BASE * 2_u32.pow(tries / 2)).min(CAP);
            assert!(backoff.wait() <= most);
            asked.push(backoff.edge());
        }
        assert!(asked.windows(2).all(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert!(backoff.wait() <= BASE);
    }
}
