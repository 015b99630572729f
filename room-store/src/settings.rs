//! Durations and bounds of a room store, the same for every implementation.

use std::time::Duration;

/// How long things live, and how many there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// A session unseen for this long is due to expire. More: ghosts stay longer; less: a short network cut ends sessions.
    pub ttl: Duration,
    /// A session whose socket was seen to close is due after this long, if that is sooner.
    pub grace: Duration,
    /// A reservation not confirmed for this long is dropped. Longer than the longest call to an SFU node.
    pub reservation: Duration,
    /// Most entries a room's log keeps. More: longer cuts are bridged without a snapshot, at about 200 bytes an entry.
    pub log_entries: usize,
    /// Most bytes of what clients wrote, broadcasts and streams' descriptions, a room's log keeps.
    pub log_bytes: usize,
    /// Most bytes of it all rooms' logs keep together, a share for each part of the store; the heaviest rooms forget their oldest
    /// entries first. More: longer cuts are bridged where much is said in many rooms; less: less memory.
    pub total_log_bytes: usize,
    /// Most entries a feed's receiver may lag behind before it has to read the log.
    pub feed_entries: usize,
    /// Most `op`s remembered for one peer of a room, each for `ttl`, broadcasts' apart; further ones are refused. More: clients may
    /// name more of their requests, at some 200 bytes each.
    pub ops: usize,
    /// Most `op`s of broadcasts remembered for one peer of a room, each for at most `ttl`; the oldest give way. No fewer than
    /// requests of one connection may be unanswered: so many a client may have to send again when its connection breaks.
    pub broadcast_ops: usize,
    /// How many there may be.
    pub limits: Limits,
}

impl RoomSettings {
    /// Most ids of ended streams, and as many of subscriptions, remembered for one session, so that ending them again is no error:
    /// as many as can end at once without its doing, and those it may have begun since.
    pub fn retired(&self) -> usize {
        self.limits.subscriptions + self.limits.publications
    }
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(1),
            grace: Duration::from_secs(30),
            reservation: Duration::from_secs(30),
            log_entries: 1_024,
            log_bytes: 1 << 20,
            total_log_bytes: 256 << 20,
            feed_entries: 1_024,
            ops: 1_024,
            broadcast_ops: 512,
            limits: Limits::default(),
        }
    }
}

/// Bounds that clients can run into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rooms with members.
    pub rooms: usize,
    /// Members of one room.
    pub members: usize,
    /// Publications of one peer in one room.
    pub publications: usize,
    /// Subscriptions of one peer in one room.
    pub subscriptions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rooms: 100_000, members: 5_000, publications: 16, subscriptions: 1_024 }
    }
}
