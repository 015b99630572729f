//! In each room somebody counts aloud. Whoever is there is to hear every number, and is held to the last one at the end: a member
//! who hears nothing any more would otherwise miss nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::member::{Shared, Standing};
use crate::signalling::client::{Client, InRoom, Target};

/// Between two numbers in a room.
const EVERY: Duration = Duration::from_secs(1);
/// For the last numbers to arrive; what comes later counts as lost.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);

/// What was said so far.
#[derive(Debug)]
pub struct Counters {
    /// By room: the last number that was answered.
    said: Vec<AtomicU64>,
    quiet: AtomicBool,
}

/// What the one who counts says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Count {
    /// The next number.
    pub n: u64,
}

#[derive(Serialize)]
struct Broadcast<'a> {
    rid: &'a str,
    data: Count,
}

/// The name of a room.
pub fn rid(room: usize) -> String {
    format!("room-{room}")
}

impl Counters {
    /// Of so many rooms.
    pub fn new(rooms: usize) -> Self {
        Self { said: (0..rooms).map(|_| AtomicU64::new(0)).collect(), quiet: AtomicBool::new(false) }
    }

    /// The last number that was said in a room.
    pub fn said(&self, room: usize) -> u64 {
        self.said[room].load(Ordering::Relaxed)
    }
}

/// All who count, on one edge.
#[derive(Debug)]
pub struct Counting {
    shared: Arc<Shared>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Counting {
    /// Begins, in all rooms.
    pub fn start(target: &Target, shared: &Arc<Shared>) -> Self {
        let mut tasks = JoinSet::new();
        for room in 0..shared.counters.said.len() {
            tasks.spawn(count(target.clone(), room, Arc::clone(shared)));
        }
        Self { shared: Arc::clone(shared), tasks }
    }

    /// Ends, and waits until everybody has heard everything, for a while. What all together were to hear.
    pub async fn finish(mut self, members: &[Arc<Standing>]) -> anyhow::Result<u64> {
        self.shared.counters.quiet.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("invariant: nobody aborts them")?.context("somebody who counts aloud")?;
        }
        let deadline = Instant::now() + ARRIVE_WITHIN;
        while unheard(&self.shared.counters, members) > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.shared.ledger.unheard(unheard(&self.shared.counters, members));
        Ok(members.iter().map(|member| self.shared.counters.said(member.room)).sum())
    }
}

/// Numbers beyond the last one of each member.
fn unheard(counters: &Counters, members: &[Arc<Standing>]) -> u64 {
    let missing =
        |member: &Arc<Standing>| counters.said(member.room).saturating_sub(member.heard.load(Ordering::Relaxed));
    members.iter().map(missing).sum()
}

/// Says one number after the other, until it is to be quiet.
async fn count(target: Target, room: usize, shared: Arc<Shared>) -> anyhow::Result<()> {
    let rid = rid(room);
    let mut client = Client::connect(&target, &format!("counter-{room}"), &rid, None).await?;
    client.request("join", &InRoom { rid: &rid }, |_| ()).await?;
    // Not all rooms in one instant.
    sleep(EVERY.mul_f64((room % 100) as f64 / 100.0)).await;
    for n in 1.. {
        client.request("broadcast", &Broadcast { rid: &rid, data: Count { n } }, |_| ()).await?;
        shared.counters.said[room].store(n, Ordering::Relaxed);
        let until = Instant::now() + EVERY;
        while let Ok(received) = tokio::time::timeout_at(until, client.receive()).await {
            received?;
        }
        if shared.counters.quiet.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_hears_nothing_more_misses_all_that_is_said_after() {
        let counters = Counters::new(2);
        counters.said[0].store(5, Ordering::Relaxed);
        counters.said[1].store(7, Ordering::Relaxed);
        let member = |room, heard| {
            Arc::new(Standing { uid: String::new(), room, port: AtomicU64::new(0), heard: AtomicU64::new(heard) })
        };
        assert_eq!(unheard(&counters, &[member(0, 5), member(1, 7)]), 0);
        // Ahead: its notification came before the answer to who said it.
        assert_eq!(unheard(&counters, &[member(0, 6), member(0, 3), member(1, 0)]), 2 + 7);
    }
}
