//! What a client and an edge say to each other over a WebSocket: the typed form of the signalling contract.

pub mod minfo;

pub use minfo::{Minfo, Muted};
