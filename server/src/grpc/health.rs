//! `grpc.health.v1`: what load balancers and orchestrators ask.

use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health as HealthApi, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

/// Whose health is told: the server's as a whole, and the service's. They are always the same.
const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

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
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Tells everyone that the server does not serve any more, and ends the calls that watch: they
    /// have nothing to wait for, and would hold up the shutdown.
    pub async fn end(&self) {
        self.set(false).await;
        for service in SERVICES {
            // A watch yields the last status before it ends.
            self.reporter.clone().clear_service_status(service).await;
        }
        // For those who still ask.
        self.set(false).await;
    }

    /// Returns the service.
    pub(super) fn service(&self) -> HealthServer<impl HealthApi> {
        let service = HealthService::from_health_reporter(self.reporter.clone());
        HealthServer::new(AnyName(service))
    }
}

/// Answers a check under any name with the server's health, as Triton does: probes are configured with
/// names of their users'. Only [`SERVICES`] can be watched.
#[derive(Debug)]
struct AnyName(HealthService);

#[tonic::async_trait]
impl HealthApi for AnyName {
    async fn check(
        &self,
        mut request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        request.get_mut().service.clear();
        self.0.check(request).await
    }

    type WatchStream = <HealthService as HealthApi>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.0.watch(request).await
    }
}
