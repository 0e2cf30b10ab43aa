//! Methods that do what the model name says.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use forebay_proto::inference::*;
use forebay_server::admission::Permit;
use forebay_server::grpc::admission_body::MessagePermits;
use forebay_server::grpc::deadline::Deadline;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What a test and the service share.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// Permits of messages to the model "hold".
    held: Arc<Mutex<Vec<Permit>>>,
    /// Answers one request to the model "wait".
    pub(super) go_on: Arc<Notify>,
    /// Cancelled when a call was dropped or has ended.
    pub(super) call_ended: CancellationToken,
}

impl Script {
    pub(super) fn held(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn let_go(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Permit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with the bytes of the request's permit as the id.
    async fn answer(
        &self,
        request: ModelInferRequest,
        permit: Option<Permit>,
    ) -> ModelInferResponse {
        let permit = permit.expect("each message has a permit");
        let id = permit.bytes().to_string();
        match request.model_name.as_str() {
            "hold" => self.lock().push(permit),
            "wait" => self.go_on.notified().await,
            "panic" => panic!("scripted"),
            _ => {}
        }
        let raw_output_contents = match request.model_name.as_str() {
            "verbose" => vec![vec![0; 64 * 1024].into()],
            _ => Vec::new(),
        };
        ModelInferResponse {
            id,
            raw_output_contents,
            ..ModelInferResponse::default()
        }
    }
}

pub(super) struct Scripted {
    script: Script,
}

impl Scripted {
    pub(super) fn new(script: Script) -> Self {
        Self { script }
    }

    fn stream(&self, request: Request<Streaming<ModelInferRequest>>) -> Replies {
        let permits = permits_of(&request);
        let script = self.script.clone();
        let ended = script.call_ended.clone().drop_guard();
        let replies = request.into_inner().then(move |message| {
            let (script, permits, _ended) = (script.clone(), permits.clone(), &ended);
            async move {
                let (message, admitted) = permits.claim(message?)?;
                let permit = admitted.map(|admitted| admitted.permit);
                let response = script.answer(message, permit).await;
                Ok(ModelStreamInferResponse {
                    infer_response: Some(response),
                    ..ModelStreamInferResponse::default()
                })
            }
        });
        Box::pin(replies)
    }
}

fn permits_of<T>(request: &Request<T>) -> MessagePermits {
    let permits = request.extensions().get::<MessagePermits>();
    permits.expect("the layer put it there").clone()
}

type Replies = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

macro_rules! scripted {
    ($($unscripted:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl GrpcInferenceService for Scripted {
            type ModelStreamInferStream = Replies;

            async fn server_live(
                &self,
                request: Request<ServerLiveRequest>,
            ) -> Result<Response<ServerLiveResponse>, Status> {
                // Tells in the one field that there is whether the call has no deadline.
                let live = request.extensions().get::<Deadline>().is_none();
                Ok(Response::new(ServerLiveResponse { live }))
            }

            async fn model_infer(
                &self,
                request: Request<ModelInferRequest>,
            ) -> Result<Response<ModelInferResponse>, Status> {
                let _ended = self.script.call_ended.clone().drop_guard();
                let permits = permits_of(&request);
                let (message, admitted) = permits.claim(request.into_inner())?;
                let permit = admitted.map(|admitted| admitted.permit);
                Ok(Response::new(self.script.answer(message, permit).await))
            }

            async fn model_stream_infer(
                &self,
                request: Request<Streaming<ModelInferRequest>>,
            ) -> Result<Response<Replies>, Status> {
                Ok(Response::new(self.stream(request)))
            }

            $(async fn $unscripted(
                &self,
                _: Request<$request>,
            ) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

scripted! {
    server_ready(ServerReadyRequest) -> ServerReadyResponse;
    model_ready(ModelReadyRequest) -> ModelReadyResponse;
    server_metadata(ServerMetadataRequest) -> ServerMetadataResponse;
    model_metadata(ModelMetadataRequest) -> ModelMetadataResponse;
    model_config(ModelConfigRequest) -> ModelConfigResponse;
    model_statistics(ModelStatisticsRequest) -> ModelStatisticsResponse;
    repository_index(RepositoryIndexRequest) -> RepositoryIndexResponse;
    repository_model_load(RepositoryModelLoadRequest) -> RepositoryModelLoadResponse;
    repository_model_unload(RepositoryModelUnloadRequest) -> RepositoryModelUnloadResponse;
    system_shared_memory_status(SystemSharedMemoryStatusRequest) -> SystemSharedMemoryStatusResponse;
    system_shared_memory_register(SystemSharedMemoryRegisterRequest) -> SystemSharedMemoryRegisterResponse;
    system_shared_memory_unregister(SystemSharedMemoryUnregisterRequest) -> SystemSharedMemoryUnregisterResponse;
    cuda_shared_memory_status(CudaSharedMemoryStatusRequest) -> CudaSharedMemoryStatusResponse;
    cuda_shared_memory_register(CudaSharedMemoryRegisterRequest) -> CudaSharedMemoryRegisterResponse;
    cuda_shared_memory_unregister(CudaSharedMemoryUnregisterRequest) -> CudaSharedMemoryUnregisterResponse;
    trace_setting(TraceSettingRequest) -> TraceSettingResponse;
    log_settings(LogSettingsRequest) -> LogSettingsResponse;
}
