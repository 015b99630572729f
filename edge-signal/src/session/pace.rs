//! How often a client is to be heard of, by how long its sessions live unseen.

use std::time::Duration;

/// Most time between two pings: proxies and address translators forget a connection that is silent for half a minute or more.
pub(crate) const MAX_PING: Duration = Duration::from_secs(20);

/// The times of a connection on which nothing else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How often the client is pinged. What it answers refreshes its leases, so it is well within their ttl.
    pub(crate) ping: Duration,
    /// A socket on which nothing came for this long is dead: three pings were not answered.
    pub(super) silence: Duration,
    /// How often, at most, a frame refreshes the leases of its rooms' sessions.
    pub(super) touch: Duration,
}

impl Pace {
    /// For sessions that live this long unseen.
    pub(crate) fn of(ttl: Duration) -> Self {
        let ping = (ttl / 3).min(MAX_PING);
        Self { ping, silence: ping * 3, touch: ping / 4 }
    }
}
