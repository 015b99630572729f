//! Orders that end something on a shard. What they end is forgotten here before they are given, so that nobody could ask for
//! them again: those that find a full queue wait for room in it.

use std::collections::VecDeque;
use std::time::Duration;

use sfu_core::Command;
use tokio::time::sleep;

use super::Control;
use super::registry::{Orders, Registry};
use crate::drive::Order;
use crate::shard::{Busy, ShardHandle};

/// Commands in one order. A room's end may be thousands: one order each would fill the queue, one for all would hold up media.
const PER_ORDER: usize = 16;

/// Between two looks for room in a full queue; a shard carries out dozens of orders meanwhile.
const RETRY: Duration = Duration::from_millis(10);

/// What shards are still to be told, by shard. It is bounded by what was live: a shard gets nothing new before it.
#[derive(Debug)]
pub(crate) struct Closings {
    late: Vec<VecDeque<Command>>,
}

impl Closings {
    /// None yet, for this many shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self { late: (0..shards).map(|_| VecDeque::new()).collect() }
    }

    pub(super) fn add(&mut self, orders: Orders) {
        for (shard, command) in orders {
            self.late[usize::from(shard.0)].push_back(command);
        }
    }

    /// Gives the shard what it is still to be told, as far as its queue has room.
    pub(crate) fn give(&mut self, shard: &ShardHandle) -> Result<(), Busy> {
        let late = &mut self.late[usize::from(shard.index.0)];
        while !late.is_empty() {
            let some: Order = late.drain(..PER_ORDER.min(late.len())).collect();
            if let Err(refused) = shard.try_order(some) {
                refused.into_iter().rev().for_each(|command| late.push_front(command));
                return Err(Busy);
            }
        }
        Ok(())
    }
}

impl Control {
    /// Ends things on their shards, now or as soon as they have room for it.
    pub(super) fn close_on_shards(&self, registry: &mut Registry, orders: Orders) {
        registry.closings.add(orders);
        if !self.give_closings(registry) {
            self.late.notify_one();
        }
    }

    /// False when some have to wait.
    fn give_closings(&self, registry: &mut Registry) -> bool {
        let mut all = true;
        for shard in &self.shards {
            all &= registry.closings.give(shard).is_ok();
        }
        all
    }

    /// Gives shards what they had no room for, for as long as the node lives.
    pub(crate) async fn mind_late_closings(&self) {
        loop {
            self.late.notified().await;
            while !self.give_late_closings() {
                sleep(RETRY).await;
            }
        }
    }

    fn give_late_closings(&self) -> bool {
        self.give_closings(&mut self.lock())
    }
}
