//! What the node records: the recorder beside the shards, and what becomes of its files.

pub(crate) mod settings;
pub(crate) mod spool;
