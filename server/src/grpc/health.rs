//! `grpc.health.v1`: what load balancers and orchestrators ask.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::{HealthReporter, HealthService},
};

/// Name of the service whose health is told besides the server's as a whole ("").
const INFERENCE: &str = "inference.GRPCInferenceService";

/// Tells whether the server serves.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            reporter: HealthReporter::new(),
        }
    }
}

impl Health {
    /// Tells everyone who asks or watches.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", INFERENCE] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Returns the service.
    pub(super) fn service(&self) -> HealthServer<impl HealthApi> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
