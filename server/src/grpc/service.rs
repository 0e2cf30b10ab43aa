//! The methods of `inference.GRPCInferenceService`.

use std::{sync::Arc, time::Instant};

use forebay_proto::inference::{grpc_inference_service_server::GrpcInferenceService, *};
use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::{
    admission_body::MessagePermits,
    deadline::Deadline,
    describe,
    outbound::{Answers, Outgoing, Sent},
    status,
    stream::{Drain, GRPC_ERROR_HEADER, InferStream, ORDER_HEADER, Options},
};
use crate::{
    error::Error,
    inference::{Inference, Origin, Running},
    registry::Registry,
    telemetry::Parent,
    transport::Draining,
};

/// Answers the protocol's calls.
#[derive(Debug, Clone)]
pub struct InferenceService {
    /// The models.
    pub registry: Arc<Registry>,
    /// What answers requests to them.
    pub inference: Inference,
    /// Cancelled when the server stops taking requests.
    pub draining: CancellationToken,
    /// Requests of one stream that may be queued or run.
    pub max_stream_items: usize,
}

type Answer<T> = Result<Response<T>, Status>;

/// Joins a message with what came with it.
fn receive(
    message: ModelInferRequest,
    extensions: &Extensions,
    parent: Parent,
) -> Result<(ModelInferRequest, Origin), Status> {
    let (message, admitted) = match extensions.get::<MessagePermits>() {
        Some(permits) => permits.claim(message)?,
        None => (message, None),
    };
    let mut origin = Origin {
        permit: None,
        message_bytes: 0,
        refused: None,
        arrived: Instant::now(),
        deadline: extensions.get::<Deadline>().map(|deadline| deadline.0),
        parent,
    };
    if let Some(admitted) = admitted {
        origin.permit = Some(admitted.permit);
        origin.message_bytes = admitted.bytes;
        origin.refused = admitted.refused;
        origin.arrived = admitted.arrived;
    }
    Ok((message, origin))
}

fn says(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers
        .get(name)
        .is_some_and(|given| given.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

fn unserved<T>(what: &'static str) -> Answer<T> {
    Err(Error::Unsupported(what).into())
}

const NO_MODEL_CONTROL: &str =
    "models are loaded at start only: this server does not load or unload them on request";
const NO_SHARED_MEMORY: &str =
    "this server does not serve shared memory: send tensors in raw_input_contents";
const NO_SETTINGS: &str =
    "this server takes its trace and log settings from its configuration only";

/// A unary call whose request is queued.
struct Begun {
    id: String,
    running: Running,
    answers: Option<Answers>,
}

impl InferenceService {
    /// Queues the request of a unary call. Apart from what awaits it, which would else carry the message too.
    fn begin(&self, request: Request<ModelInferRequest>) -> Result<Begun, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let parent = Parent::from_headers(&metadata.into_headers());
        let (message, mut origin) = receive(message, &extensions, parent)?;
        let id = message.id.clone();
        let request = self.inference.read(message, &mut origin);
        let running = request
            .and_then(|request| self.inference.begin(request, origin))
            .map_err(|error| status::of_request(&id, &error))?;
        let answers = extensions.get().cloned();
        Ok(Begun {
            id,
            running,
            answers,
        })
    }
}

/// Answers a unary call.
async fn answer(running: Running, answers: Option<Answers>) -> Result<ModelInferResponse, Error> {
    let answered = running.answered().await?;
    let shares_memory = answered.shares_memory();
    let answer = Outgoing {
        message: answered.response().collect().await?.into(),
        shares_memory,
    };
    Ok(answer.send(answers.as_ref()))
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    type ModelStreamInferStream = Sent<InferStream>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.registry.all_ready() && !self.draining.is_cancelled();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.registry.find(&name, &version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let served = self.registry.find(&name, &version)?;
        let versions = self.registry.versions(&name);
        Ok(Response::new(describe::model(served, &versions)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let served = self.registry.find(&name, &version)?;
        let config = Some(served.settings.config.clone());
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let asked: Vec<_> = match (name.as_str(), version.as_str()) {
            // Also of those that take no requests now: what became of theirs is of interest most then.
            ("", _) => self.registry.loaded().collect(),
            (name, version) => match self.registry.asked_for(name, version) {
                None => vec![self.registry.find(name, version)?],
                Some(_) if version.is_empty() => {
                    let all = self.registry.loaded();
                    all.filter(|served| served.name == name).collect()
                }
                Some(served) => vec![served],
            },
        };
        let model_stats = asked.iter().map(|served| served.report()).collect();
        let forebay_devices = describe::devices(self.registry.devices()).await;
        Ok(Response::new(ModelStatisticsResponse {
            model_stats,
            forebay_devices,
            forebay_weights: Some(describe::weights(self.registry.weights())),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let models = self.registry.index(request.into_inner().ready);
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let Begun {
            id,
            running,
            answers,
        } = self.begin(request)?;
        match answer(running, answers).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => Err(status::of_request(&id, &error)),
        }
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Sent<InferStream>> {
        let (metadata, extensions, requests) = request.into_parts();
        let headers = metadata.into_headers();
        let options = Options {
            completion_order: says(&headers, ORDER_HEADER, "completion"),
            end_on_failure: says(&headers, GRPC_ERROR_HEADER, "true"),
            max_items: self.max_stream_items,
        };
        let parent = Parent::from_headers(&headers);
        // That of the connection, which may be asked to go before the server is.
        let connection = extensions
            .get::<Draining>()
            .map(|draining| draining.0.clone());
        let drain = Drain {
            connection: connection.unwrap_or_else(|| self.draining.clone()),
            server: self.draining.clone(),
        };
        let answers = extensions.get::<Answers>().cloned();
        let receive = move |message| receive(message, &extensions, parent.clone());
        let inference = self.inference.clone();
        let stream = InferStream::new(inference, requests, Box::new(receive), drain, options);
        Ok(Response::new(Sent::new(stream, answers)))
    }

    async fn repository_model_load(
        &self,
        _: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        unserved(NO_MODEL_CONTROL)
    }

    async fn repository_model_unload(
        &self,
        _: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        unserved(NO_MODEL_CONTROL)
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        unserved(NO_SHARED_MEMORY)
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Answer<TraceSettingResponse> {
        unserved(NO_SETTINGS)
    }

    async fn log_settings(&self, _: Request<LogSettingsRequest>) -> Answer<LogSettingsResponse> {
        unserved(NO_SETTINGS)
    }
}
