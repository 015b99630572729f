//! What others are told of the node's phase while they ask: `/readyz`, and the health service beside the node's own.

use telemetry::Latch;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::control::Phase;

/// Names that the health service knows: the whole, and the service of edges.
const SERVICES: [&str; 2] = ["", "sluice.v1.SfuNode"];

/// Tells them.
pub(crate) struct Presence {
    phase: watch::Receiver<Phase>,
    latch: Latch,
    health: HealthReporter,
}

impl Presence {
    /// Of a node in this phase, for whose `latch` it speaks from now on.
    pub(crate) fn new(phase: watch::Receiver<Phase>, latch: Latch) -> Self {
        Self { phase, latch, health: HealthReporter::new() }
    }

    /// The health service.
    pub(crate) fn health(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.health.clone()))
    }

    /// Follows the phases until the node ends.
    pub(crate) async fn run(mut self) {
        loop {
            let phase = *self.phase.borrow_and_update();
            let status = if phase == Phase::Ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            match phase {
                Phase::Ready => self.latch.ready(),
                Phase::Draining { .. } => self.latch.wait("draining"),
                Phase::Superseded => self.latch.wait("another process has this node's id"),
                Phase::Ending => self.latch.wait("going away"),
            }
            for service in SERVICES {
                self.health.set_service_status(service, status).await;
            }
            if phase == Phase::Ending || self.phase.changed().await.is_err() {
                break;
            }
        }
        // Those that watch it would keep the server open.
        for service in SERVICES {
            self.health.clear_service_status(service).await;
        }
    }
}
