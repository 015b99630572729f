//! The SFU node: threads, sockets and gRPC around the media core.
//!
//! ```text
//!  edge ──gRPC──▶ grpc.rs ─▶ control/ (rooms, SDP) ──orders──▶ drive.rs (one thread per shard) ◀─▶ udp.rs
//!                                 ▲────────events──────────────────┘   ▲ siblings.rs ▲
//! ```
//!
//! [`Node`] is all of it; the program `sfu-node` gives it settings, a port and signals. Rooms and members are known here by
//! name only: who may do what is the edge's business, and packets are the core's (`sfu-core`).
//!
//! What is recorded goes from the shards to `recording/`, whose threads no shard waits for.
//!
//! A shard's thread that panics ends the process: half a node would be worse than none (`shard.rs`).

mod addresses;
mod config;
mod control;
mod drive;
mod governor;
mod grpc;
mod load;
mod metrics;
mod node;
mod overload;
mod presence;
mod recording;
mod registration;
mod serve;
mod shard;
mod siblings;
mod stats;
mod udp;

pub use addresses::MediaError;
pub use config::{
    Affinity, CapacityConfig, DrainConfig, GrpcConfig, GrpcTls, MediaConfig, MediaIp, NodeConfig, OverloadConfig,
};
pub use metrics::CATALOGUE;
pub use node::{Entry, Identification, Node, StartError};
pub use recording::{Fsync, RecordingConfig, file_url};
