//! What load tests and end-to-end tests are made of: a cheap WebRTC client, bad networks, a simulation of whole calls in virtual
//! time. No product depends on it.

pub mod allocations;
pub mod fanout;
pub mod instructions;
pub mod live;
pub mod logging;
pub mod lossy_proxy;
pub mod network;
pub mod os;
pub mod peer;
pub mod play;
pub mod reconnect;
pub mod recording;
pub mod serve;
pub mod signalling;
pub mod simulation;
