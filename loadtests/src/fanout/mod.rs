//! The fan-out load test (being written).
pub mod payload;
pub mod publisher;
pub mod traffic;
