//! What requests with an `op` have done, so that the same `op` again does nothing and gets the same.

use std::collections::{HashMap, VecDeque};

use proto::ids::{Mid, OpId, PeerId, SessionId, Sid};
use tokio::time::Instant;

use super::Step;
use crate::error::Conflict;

/// What an `op` has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Done {
    Joined(SessionId),
    Left,
    Published(Mid),
    Subscribed(Sid),
    Broadcast,
}

#[derive(Clone)]
struct Remembered {
    op: OpId,
    done: Done,
    until: Instant,
}

/// By peer, bounded for each: a walk over some hundred is quicker than an index.
#[derive(Clone, Default)]
pub(super) struct Ops(HashMap<PeerId, Known>);

/// Oldest first.
#[derive(Clone, Default)]
struct Known {
    /// None is forgotten before its time: a client that sends an `op` again relies on it.
    requests: VecDeque<Remembered>,
    /// Of broadcasts, which are many and soon over: the oldest give way, and take no place from the others.
    broadcasts: VecDeque<Remembered>,
}

impl Ops {
    pub(super) fn recall(&self, now: Instant, peer: &PeerId, op: Option<&OpId>) -> Option<&Done> {
        let op = op?;
        let known = self.0.get(peer)?;
        let mut all = known.requests.iter().chain(&known.broadcasts).rev();
        all.find(|remembered| remembered.op == *op && remembered.until > now).map(|remembered| &remembered.done)
    }

    /// Whether the `op` could be remembered: to be asked before anything is done with it. A broadcast's always can.
    pub(super) fn admit(&mut self, step: &Step<'_>, peer: &PeerId, op: Option<&OpId>) -> Result<(), Conflict> {
        let Some((op, Known { requests: known, .. })) = op.zip(self.0.get_mut(peer)) else { return Ok(()) };
        while known.front().is_some_and(|oldest| oldest.until <= step.now) {
            known.pop_front();
        }
        let is_there = || known.iter().any(|remembered| remembered.op == *op);
        if known.len() < step.settings.ops || is_there() { Ok(()) } else { Err(Conflict::TooManyOps) }
    }

    pub(super) fn remember(&mut self, step: &Step<'_>, peer: &PeerId, op: Option<&OpId>, done: Done) {
        let Some(op) = op else { return };
        let known = self.0.entry(peer.clone()).or_default();
        let kind = if done == Done::Broadcast { &mut known.broadcasts } else { &mut known.requests };
        kind.retain(|remembered| remembered.op != *op);
        kind.push_back(Remembered { op: op.clone(), done, until: step.now + step.settings.ttl });
        while known.broadcasts.len() > step.settings.broadcast_ops {
            known.broadcasts.pop_front();
        }
    }

    /// What it did was given back before anybody saw it: the same `op` may do it anew.
    pub(super) fn forget(&mut self, peer: &PeerId, done: &Done) {
        if let Some(known) = self.0.get_mut(peer) {
            known.requests.retain(|remembered| remembered.done != *done);
        }
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, known| {
            for kind in [&mut known.requests, &mut known.broadcasts] {
                kind.retain(|remembered| remembered.until > now);
            }
            !(known.requests.is_empty() && known.broadcasts.is_empty())
        });
    }
}
