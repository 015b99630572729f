//! What is known of SFU nodes and regions.

use std::{collections::BTreeMap, sync::Arc};

use proto::ids::{BootId, NodeId, RegionId};

/// Whether a node takes new streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NodeState {
    /// Yes.
    #[default]
    Ready,
    /// No: it is going away.
    Draining,
}

/// What a node can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Egress, bit/s.
    pub egress_bps: u64,
    /// Subscribed tracks.
    pub tracks: u64,
}

impl Default for Capacity {
    /// A gigabit and what it carries of video.
    fn default() -> Self {
        Self { egress_bps: 1_000_000_000, tracks: 5_000 }
    }
}

/// What a node carries.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Share of all its cores in use, 0–1.
    pub cpu: f32,
    /// Share of the last second that the busiest of its threads of media did not wait, 0–1.
    pub busy: f32,
    /// Egress, bit/s.
    pub egress_bps: u64,
    /// Subscribed tracks.
    pub tracks: u64,
    /// Forwarded packets per second.
    pub packets_per_second: u64,
    /// Share of packets lost on the way to subscribers, 0–1.
    pub loss: f32,
    /// How long packets were on the node, µs: 19 of 20 were so long at most in the last second, their time in the kernel's queue
    /// included.
    pub delay_us: u32,
    /// Share of the memory that it may have in use, 0–1.
    pub memory: f32,
    /// The greatest of `busy`, `delay_us`, `memory` and egress, each over the mark from which the node refuses: from 1 on it takes
    /// no new publications, and beyond that nothing new. 0 of one that does not say.
    pub pressure: f32,
    /// How old all of it was when it was written where it is read, ms. Time since then is for its reader to add.
    pub age_ms: u32,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRecord {
    /// Its id.
    pub node: NodeId,
    /// Its start. `None` where the directory doesn't know it (a list in the settings): ask the node.
    pub boot: Option<BootId>,
    /// Its region.
    pub region: RegionId,
    /// Where its gRPC service is: a URI such as `http://10.0.0.7:7000`.
    pub address: String,
    /// Its share of new rooms among equals.
    pub weight: u32,
    /// What it can carry.
    pub capacity: Capacity,
    /// Whether it takes new streams.
    pub state: NodeState,
    /// What it carried when it last said so.
    pub load: Load,
    /// How often it has said so: another number is another report.
    pub reports: u64,
    /// Version of its program.
    pub version: String,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its share among equally distant ones. 0: it serves no clients but its own.
    pub weight: u32,
    /// Distances to other regions, in any unit, the same for all.
    pub distances: BTreeMap<RegionId, u32>,
}

impl Default for Region {
    /// One that nothing is said of.
    fn default() -> Self {
        Self { weight: 1, distances: BTreeMap::new() }
    }
}

/// All nodes and regions, as last heard. Cheap to share: each change makes a new map.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeMap {
    /// Nodes whose lease is alive.
    pub nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    /// Nodes as they once registered, also those that have no lease any more: where to ask them what they still carry. Not to be
    /// chosen from.
    pub once: BTreeMap<NodeId, Arc<NodeRecord>>,
    /// Regions somebody said something about.
    pub regions: BTreeMap<RegionId, Region>,
}
