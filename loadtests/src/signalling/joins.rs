//! Joins at a steady rate: rooms of a few fill, stay for a while and empty again. Open loop: a slow answer does not slow the next
//! join down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, ClientError, InRoom, Target};
use super::latency::{Latency, Times};

/// How long a member stays.
const STAY: Duration = Duration::from_secs(2);
/// Kinds of errors that are told one by one; more would be a page of the same.
const MAX_ERRORS_TOLD: usize = 5;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Joins per second.
    pub rate: u32,
    /// How long that is measured.
    pub length: Duration,
    /// How long it is done before.
    pub warm_up: Duration,
    /// Members of a room.
    pub room: usize,
}

/// What it came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Joins {
    /// Joins per second.
    pub rate: u32,
    /// From the request to its answer.
    pub join: Latency,
    /// From the first packet to the WebSocket being open.
    pub connect: Latency,
    /// Joins, or connections for them, that failed.
    pub errors: u64,
    /// What the first of them said.
    pub first_errors: Vec<String>,
}

#[derive(Debug, Default)]
struct Ledger {
    join: Times,
    connect: Times,
    errors: u64,
    first_errors: Vec<String>,
}

/// Does it. `prefix` makes the names of rooms and members those of this run.
pub async fn run(targets: &[Target], plan: Plan, prefix: &str) -> Joins {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let begin = Instant::now();
    let every = Duration::from_secs(1) / plan.rate;
    let count = ((plan.warm_up + plan.length).as_secs_f64() * f64::from(plan.rate)) as u32;
    let mut members = JoinSet::new();
    for number in 0..count {
        let at = begin + every * number;
        sleep_until(at).await;
        let target = targets[number as usize % targets.len()].clone();
        let uid = format!("{prefix}-{number}");
        let rid = format!("{prefix}-room-{}", number as usize / plan.room);
        let ledger = Arc::clone(&ledger);
        let counts = at >= begin + plan.warm_up;
        members.spawn(async move {
            let outcome = member(&target, &uid, &rid, counts.then_some(&ledger)).await;
            if let Err(error) = outcome {
                let mut ledger = ledger.lock().expect("invariant: nobody panics holding it");
                ledger.errors += 1;
                if ledger.first_errors.len() < MAX_ERRORS_TOLD {
                    ledger.first_errors.push(error.to_string());
                }
            }
        });
        // Done ones are let go of on the way.
        while members.try_join_next().is_some() {}
    }
    while members.join_next().await.is_some() {}
    let ledger = ledger.lock().expect("invariant: nobody panics holding it");
    Joins {
        rate: plan.rate,
        join: ledger.join.summary(),
        connect: ledger.connect.summary(),
        errors: ledger.errors,
        first_errors: ledger.first_errors.clone(),
    }
}

/// One member's whole life.
async fn member(target: &Target, uid: &str, rid: &str, ledger: Option<&Mutex<Ledger>>) -> Result<(), ClientError> {
    let begun = Instant::now();
    let mut client = Client::connect(target, uid, rid, None).await?;
    let connected = Instant::now();
    client.request("join", &InRoom { rid }, |_| ()).await?;
    let joined = Instant::now();
    if let Some(ledger) = ledger {
        let mut ledger = ledger.lock().expect("invariant: nobody panics holding it");
        ledger.connect.record(connected - begun);
        ledger.join.record(joined - connected);
    }
    let until = joined + STAY;
    // Hears of the others meanwhile.
    while let Ok(received) = tokio::time::timeout_at(until, client.receive()).await {
        received?;
    }
    client.request("leave", &InRoom { rid }, |_| ()).await?;
    client.close().await;
    Ok(())
}
