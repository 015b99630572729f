//! What an idle connection costs an edge in memory: connected, and as a member of a small room.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::sleep;

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
}

/// Measures. `rss_kib` tells the resident memory of all of `edges` together; a holder has at most `per_holder` connections.
pub async fn run(
    edges: &[SocketAddr],
    connections: usize,
    per_holder: usize,
    rss_kib: impl Fn() -> anyhow::Result<u64>,
) -> anyhow::Result<Idle> {
    let before = rss_kib()?;
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
    let connected = rss_kib()?;
    let mut joined = 0;
    for holder in &mut holders {
        joined += holder.join().await?;
    }
    ensure!(joined == connections, "{joined} of {connections} joined");
    sleep(SETTLE).await;
    let members = rss_kib()?;
    let mut alive = 0;
    for holder in &mut holders {
        alive += holder.alive().await?;
    }
    ensure!(alive == connections, "{alive} of {connections} are still there");
    let each = |kib: u64| kib.saturating_sub(before) as f64 * 1_024.0 / connections as f64;
    Ok(Idle { connections, edges: edges.len(), bytes_per_connection: each(connected), bytes_per_member: each(members) })
}
