//! What a fault of nodes may cost: the streams that were on them, and no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::Expected;
use crate::population::Population;

/// The streams on some nodes, and all others beside them.
#[derive(Debug)]
pub struct Stake {
    /// By owner.
    lost: BTreeMap<String, String>,
    others: BTreeMap<String, String>,
    published: u64,
}

impl Stake {
    /// All streams on `nodes`. There must be some, or the fault would show nothing.
    pub fn on(population: &Population, nodes: &[&str]) -> Self {
        let (lost, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            population.streams().into_iter().partition(|(_, stream)| nodes.contains(&stream.node.as_str()));
        assert!(!lost.is_empty(), "no stream is on {nodes:?}");
        let mids = |streams: BTreeMap<String, Carried>| streams.into_iter().map(|(uid, at)| (uid, at.mid)).collect();
        Self { lost: mids(lost), others: mids(others), published: population.published() }
    }

    /// The streams (`mid`).
    pub fn mids(&self) -> BTreeSet<String> {
        self.lost.values().cloned().collect()
    }

    /// They may end, and nothing else.
    pub fn expected(&self) -> Expected {
        Expected { streams_lost: self.mids(), ..Expected::default() }
    }

    /// Each of these streams was published anew, once, on none of `nodes`; all others are what they were.
    pub fn only_these_moved(&self, population: &Population, nodes: &[&str]) {
        let now = population.streams();
        for (uid, mid) in &self.others {
            let at = now.get(uid).map(|stream| &stream.mid);
            assert_eq!(at, Some(mid), "{uid} published anew, although its stream was on another node");
        }
        for (uid, mid) in &self.lost {
            let stream = now.get(uid).unwrap_or_else(|| panic!("{uid} publishes no more"));
            assert_ne!(stream.mid, *mid, "{uid} has not published anew");
            assert!(!nodes.contains(&stream.node.as_str()), "{uid} published on {}", stream.node);
        }
        let anew = population.published() - self.published;
        assert_eq!(anew, self.lost.len() as u64, "streams that were published anew");
    }
}

/// A stream and the node that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Which.
    pub mid: String,
    /// The node's id.
    pub node: String,
}
