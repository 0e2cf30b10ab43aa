//! The wire side: the services, the layers under them, and the one table of status codes.

use std::convert::Infallible;

use forebay_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use http::{Request, Response};
use tonic::{body::Body, service::Routes};
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{
    admission::{self, Budget},
    memory::Pool,
};

pub mod admission_body;
pub mod deadline;
mod describe;
mod direct;
mod health;
pub mod outbound;
pub mod panic;
mod reflection;
mod service;
pub mod status;
mod stream;
mod trailers;

pub use health::Health;
pub use service::InferenceService;

/// Largest message that the decoder takes. The layer under it refuses by
/// `admission.max_message_bytes`, with the right status code, before the decoder sees a byte.
const DECODE_LIMIT: usize = usize::MAX;

/// Joins the services and the layers under them. From the outside in: large answers are joined with what
/// tonic encoded, the deadline cuts, a panic becomes INTERNAL, a message is admitted, tonic decodes.
pub fn routes<B>(
    service: InferenceService,
    health: &Health,
    (budget, pool): (Budget, Pool),
    admission: &admission::Config,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let draining = service.draining.clone();
    let inference = GrpcInferenceServiceServer::new(service)
        .max_decoding_message_size(DECODE_LIMIT)
        .max_encoding_message_size(usize::MAX);
    let routes = reflection::add(Routes::new(health.service()), &draining);
    let outbound = outbound::OutboundLayer::new(budget.clone(), admission);
    let admitted = admission_body::AdmissionLayer::new(budget, pool, admission)
        .layer(direct::Direct::new(inference, routes));
    let guarded = deadline::DeadlineLayer.layer(panic::PanicLayer.layer(admitted));
    // Outermost, so that no deadline ends a message in its middle.
    outbound.layer(guarded)
}
