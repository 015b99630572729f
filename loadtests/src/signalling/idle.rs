//! What an idle connection costs: memory of an edge, connected and as the member of a small room; and what work its being there is
//! for the edge and the store.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::hold::Holder;

/// Between the last connection and the reading: buffers of handshakes are let go of.
const SETTLE: Duration = Duration::from_secs(5);
/// Members of a room.
const ROOM: usize = 5;

/// What it came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Idle {
    /// Connections in all.
    pub connections: usize,
    /// Over so many edges: one process may have only so many open files.
    pub edges: usize,
    /// Resident memory of an edge for each connection, bytes.
    pub bytes_per_connection: f64,
    /// The same when each is the member of a room of five.
    pub bytes_per_member: f64,
    /// CPU microseconds of an edge in a second for each such member: its pings, its room's lease.
    pub edge_us_per_member: f64,
    /// Likewise of the store.
    pub store_us_per_member: f64,
}

/// What the servers have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Resident memory of all edges that are measured.
    pub rss_kib: u64,
    /// CPU seconds of them.
    pub edge_cpu: f64,
    /// CPU seconds of the store.
    pub store_cpu: f64,
}

/// Measures. `used` tells of all of `edges` together; a holder has at most `per_holder` connections, which are members for `length`.
pub async fn run(
    edges: &[SocketAddr],
    connections: usize,
    per_holder: usize,
    length: Duration,
    used: impl Fn() -> anyhow::Result<Used>,
) -> anyhow::Result<Idle> {
    let before = used()?.rss_kib;
    let mut holders = Vec::new();
    let share = connections.div_ceil(edges.len());
    let (mut first, mut left) = (0, connections);
    for edge in edges {
        let mut here = share.min(left);
        left -= here;
        while here > 0 {
            let count = per_holder.min(here);
            holders.push(Holder::start(*edge, first, count, ROOM).await?);
            first += count;
            here -= count;
        }
    }
    sleep(SETTLE).await;
    let connected = used()?.rss_kib;
    let mut joined = 0;
    for holder in &mut holders {
        joined += holder.join().await?;
    }
    ensure!(joined == connections, "{joined} of {connections} joined");
    sleep(SETTLE).await;
    let members = used()?;
    let begun = Instant::now();
    sleep(length).await;
    let (after, seconds) = (used()?, begun.elapsed().as_secs_f64());
    let mut alive = 0;
    for holder in &mut holders {
        alive += holder.alive().await?;
    }
    ensure!(alive == connections, "{alive} of {connections} are still there");
    let each = |kib: u64| kib.saturating_sub(before) as f64 * 1_024.0 / connections as f64;
    let work = |cpu: f64| cpu * 1e6 / seconds / connections as f64;
    Ok(Idle {
        connections,
        edges: edges.len(),
        bytes_per_connection: each(connected),
        bytes_per_member: each(members.rss_kib),
        edge_us_per_member: work(after.edge_cpu - members.edge_cpu),
        store_us_per_member: work(after.store_cpu - members.store_cpu),
    })
}
