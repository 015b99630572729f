//! What a connection may do and until when, as its token proved; a refresh replaces it. Pure: told the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Access;

/// How long before its end a token is announced to expire.
const EXPIRY_NOTICE: Duration = Duration::from_mins(1);

/// What was proven.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) access: Arc<Access>,
    /// When its token ends; `None`: too far away to matter.
    pub(crate) expires_at: Option<Instant>,
}

/// A proof in force.
#[derive(Debug)]
pub(super) struct Standing {
    proof: Proof,
    expiry_told: bool,
}

/// What the time brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// The token ends in so long: it is to be announced.
    Near(Duration),
    /// It has ended.
    Over,
}

impl Standing {
    pub(super) fn new(proof: Proof) -> Self {
        Self { proof, expiry_told: false }
    }

    pub(super) fn access(&self) -> &Arc<Access> {
        &self.proof.access
    }

    /// This counts from now on; its end is announced like the first one's.
    pub(super) fn renew(&mut self, proof: Proof) {
        *self = Self::new(proof);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Expiry> {
        let end = self.proof.expires_at?;
        if now >= end {
            return Some(Expiry::Over);
        }
        let left = end.duration_since(now);
        if self.expiry_told || left > EXPIRY_NOTICE {
            return None;
        }
        self.expiry_told = true;
        Some(Expiry::Near(left))
    }

    /// When that has something to say; `from`: at once.
    pub(super) fn poll_timeout(&self, from: Instant) -> Option<Instant> {
        let end = self.proof.expires_at?;
        Some(if self.expiry_told { end } else { end.checked_sub(EXPIRY_NOTICE).unwrap_or(from) })
    }
}
