//! What Sluice's services set up alike: settings, logs, metrics, health endpoints, shutdown.
//!
//! It holds no service's state and decides nothing about media or rooms.

pub mod settings;
