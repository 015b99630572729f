//! The keys below `recording`: the edge's, which says what is recorded, and the node's, which says what becomes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_signal::settings::RoomPattern;
use serde::{Deserialize, Serialize};
use sfu_node::{Fsync, RecordingConfig};
use telemetry::settings::{Period, Secret};

/// See [`RecordingConfig`] and [`edge_signal::settings::RecordingSettings`].
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecordingSection {
    /// Rooms in which every stream is recorded.
    pub(crate) rooms: Vec<RoomPattern>,
    /// Where finished recordings are delivered to; absent: nothing is recorded.
    pub(crate) url: Option<String>,
    /// Options of the store that `url` names.
    store: BTreeMap<String, Secret>,
    /// Where recordings are written.
    spool_dir: Option<PathBuf>,
    /// When what is written has to be on the disk itself.
    fsync: Fsync,
    /// Recordings at once.
    pub(crate) max: u32,
    /// How long one may become.
    max_length: Period,
    /// Free bytes that are left.
    min_free: u64,
}

impl Default for RecordingSection {
    fn default() -> Self {
        let RecordingConfig { url, store, spool_dir, fsync, max, max_length, min_free } = RecordingConfig::default();
        Self { rooms: Vec::new(), url, store, spool_dir, fsync, max, max_length, min_free }
    }
}

impl RecordingSection {
    /// The node's part.
    pub(crate) fn node(&self) -> RecordingConfig {
        let Self { rooms: _, url, store, spool_dir, fsync, max, max_length, min_free } = self.clone();
        RecordingConfig { url, store, spool_dir, fsync, max, max_length, min_free }
    }
}
