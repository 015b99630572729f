//! What a join costs with ever more rooms in the store: they are made through an edge that is then killed, so that they are
//! nobody's work but the store's.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use tokio::time::timeout;

use super::client::{Client, ClientError, InRoom, Target};
use super::deployment::Deployment;
use super::joins::{self, Plan};
use super::latency::Latency;

/// Connections that make rooms at a time.
const FILLING: usize = 16;
/// Tries for one room, and between them.
const MAX_TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// `errorCode` of a store that does not answer.
const STORE_UNAVAILABLE: i32 = 11;
/// Rooms that one connection makes.
const PER_CONNECTION: usize = 1_000;
/// Rooms that one edge makes before the next does: it keeps all of its rooms' leases, which is work of its own.
const PER_EDGE: usize = 10_000;
/// For one edge's rooms to be made.
const FILL_WITHIN: Duration = Duration::from_mins(5);
/// Between the last room and the first join that counts.
const SETTLE: Duration = Duration::from_secs(2);

/// Joins with so many rooms in the store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Crowd {
    /// Rooms, each with a member.
    pub rooms: usize,
    /// From the request to its answer.
    pub join: Latency,
    /// CPU microseconds of the store for each join, with the leave that follows and the room's own work.
    pub store_us_per_join: f64,
    /// Likewise of the edges.
    pub edge_us_per_join: f64,
    /// Joins that failed.
    pub errors: u64,
    /// What the first of them said.
    pub first_errors: Vec<String>,
}

/// Measures at each of these numbers of rooms, which grow.
pub async fn run(
    deployment: &Deployment,
    targets: &[Target],
    steps: &[usize],
    plan: Plan,
) -> anyhow::Result<Vec<Crowd>> {
    let mut there = 0;
    let mut crowds = Vec::new();
    for &rooms in steps {
        while there < rooms {
            let next = rooms.min(there + PER_EDGE);
            let filled = timeout(FILL_WITHIN, fill(deployment, there, next)).await;
            filled.context("in time").flatten().with_context(|| format!("making {next} rooms"))?;
            there = next;
        }
        // The edges find a dead one's traces at their own pace.
        tokio::time::sleep(SETTLE).await;
        let (edges, store) = deployment.cpu()?;
        let joins = joins::run(targets, plan, &format!("crowd-{rooms}")).await;
        let (edges_after, store_after) = deployment.cpu()?;
        let all = (plan.length + plan.warm_up).as_secs_f64() * f64::from(plan.rate);
        crowds.push(Crowd {
            rooms,
            join: joins.join,
            store_us_per_join: (store_after - store) * 1e6 / all,
            edge_us_per_join: (edges_after - edges) * 1e6 / all,
            errors: joins.errors,
            first_errors: joins.first_errors,
        });
    }
    Ok(crowds)
}

/// A store that is asked for as much as it can do may not answer in time: what is measured is not how it is filled.
async fn make_room(client: &mut Client, rid: &str) -> Result<(), ClientError> {
    let mut tries = 0;
    loop {
        match client.request("join", &InRoom { rid }, |_| ()).await {
            Err(ClientError::Refused { code: STORE_UNAVAILABLE, .. }) if tries < MAX_TRIES => tries += 1,
            outcome => return outcome.map(drop),
        }
        tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}

async fn fill(deployment: &Deployment, from: usize, to: usize) -> anyhow::Result<()> {
    let filler = deployment.edge(&format!("filler-{to}"))?;
    let target = Target { edge: filler.clients, token: None };
    let make = |first: usize| {
        let target = target.clone();
        async move {
            let mut client = Client::connect(&target, &format!("owner-{first}"), "", None).await?;
            for number in first..to.min(first + PER_CONNECTION) {
                make_room(&mut client, &format!("standing-{number}")).await?;
            }
            anyhow::Ok(client)
        }
    };
    let firsts = stream::iter((from..to).step_by(PER_CONNECTION));
    let owners: Vec<_> = firsts.map(make).buffer_unordered(FILLING).try_collect().await?;
    // First the edge, so that it sees none of its clients go: their rooms stay.
    filler.program.kill();
    drop(owners);
    Ok(())
}
