//! The fault rig: real Redis, etcd and Kafka, edges and SFU nodes as processes, links that can be cut, and clients that account for every
//! notification and every gap in their media. The scenarios are in `tests/`.
//!
//! Nothing in it is a stand-in: what it does not start is not there. It measures, but it is no benchmark; those are in `loadtests`.

pub mod account;
pub mod admin;
pub mod client;
pub mod deployment;
pub mod figures;
pub mod lines;
pub mod media;
pub mod population;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod recordings;
pub mod scenario;
pub mod schema;
pub mod stake;
pub mod stores;
pub mod topic;
