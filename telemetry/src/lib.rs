//! What Sluice's services set up alike: settings, logs, metrics, health endpoints, shutdown, and what a
//! program does around its service.
//!
//! It holds no service's state and decides nothing about media or rooms.

mod admin;
mod health;
mod logs;
mod memory;
mod otlp;
#[cfg(any(feature = "kafka", feature = "otlp"))]
mod pace;
mod shutdown;

pub mod events;
pub mod kafka;
pub mod metrics;
pub mod program;
pub mod settings;
pub mod trace;

pub use admin::{begin_drain, drain_route};
pub use health::{Latch, Readiness, routes};
pub use logs::{LogError, LogFormat, LogGuard, LogSettings, Service, flush_logs, init_logs};
pub use memory::{memory_limit, resident_memory};
pub use metrics::{Metrics, MetricsError};
pub use otlp::OtlpSettings;
pub use shutdown::{cancel_in_turn, cancel_on_signal};
