//! A collector of traces and figures, inside the test.

use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, transport::Server};

use super::figures::Figures;

/// Takes spans and figures by OTLP over gRPC, on a port of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    endpoint: String,
    received: Received,
    _serving: AbortOnDropHandle<Result<(), tonic::transport::Error>>,
}

#[derive(Debug, Clone, Default)]
struct Received {
    spans: Arc<Mutex<Vec<Span>>>,
    /// One for each export.
    figures: Arc<Mutex<Vec<Figures>>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        Self {
            endpoint,
            received,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the spans that came so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.received.spans.lock().unwrap().clone()
    }

    /// Returns the figures that came so far, by exports.
    pub(super) fn figures(&self) -> MutexGuard<'_, Vec<Figures>> {
        self.received.figures.lock().unwrap()
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|spans| spans.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let scopes = resources.flat_map(|metrics| metrics.scope_metrics);
        let figures = Figures::read(scopes.flat_map(|scope| scope.metrics));
        self.figures.lock().unwrap().push(figures);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
