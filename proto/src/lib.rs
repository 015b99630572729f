//! What Sluice's parts say to each other: identifiers, the signalling messages of edges and clients, and the gRPC service
//! between edges and SFU nodes. Types only: no I/O, no clock.

pub mod ids;
pub mod json;
pub mod refusal;
pub mod sfu;
pub mod signalling;
