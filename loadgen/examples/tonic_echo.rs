//! A bare echo over stock tonic, with the protocol's own messages: what the wire alone costs.
//!
//! Every tensor of a request comes back as it is, under the name that the model `identity` has for
//! it. Nothing is checked, queued or counted, so that a server that does any of it can be held
//! against this one. Prints `listening on ADDRESS`.

use std::{
    future,
    io::{self, Write as _},
    net::SocketAddr,
    pin::Pin,
};

use anyhow::Context as _;
use forebay_proto::inference::{
    grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
    model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
    *,
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// Windows that hold the largest message of the benchmark several times.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const LARGEST_MESSAGE: usize = 64 << 20;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug)]
struct Echo;

fn echo(request: ModelInferRequest) -> ModelInferResponse {
    let outputs = request.inputs.into_iter().map(|input| InferOutputTensor {
        name: "OUTPUT__0".to_owned(),
        datatype: input.datatype,
        shape: input.shape,
        ..InferOutputTensor::default()
    });
    ModelInferResponse {
        model_name: request.model_name,
        id: request.id,
        outputs: outputs.collect(),
        raw_output_contents: request.raw_input_contents,
        ..ModelInferResponse::default()
    }
}

/// Written out as `async_trait` would, which does not look into macros.
macro_rules! unserved {
    ($($call:ident($request:ident) -> $response:ident;)*) => {$(
        fn $call<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(future::ready(Err(Status::unimplemented("an echo only"))))
        }
    )*};
}

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_ready(&self, _: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn model_metadata(
        &self,
        call: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let tensor = |name: &str| TensorMetadata {
            name: name.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![-1, -1],
        };
        Ok(Response::new(ModelMetadataResponse {
            name: call.into_inner().name,
            inputs: vec![tensor("INPUT__0")],
            outputs: vec![tensor("OUTPUT__0")],
            ..ModelMetadataResponse::default()
        }))
    }

    async fn model_infer(&self, call: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        Ok(Response::new(echo(call.into_inner())))
    }

    async fn model_stream_infer(
        &self,
        call: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let replies = call.into_inner().map(|message| {
            Ok(ModelStreamInferResponse {
                infer_response: Some(echo(message?)),
                ..ModelStreamInferResponse::default()
            })
        });
        Ok(Response::new(Box::pin(replies)))
    }

    unserved! {
        server_live(ServerLiveRequest) -> ServerLiveResponse;
        server_ready(ServerReadyRequest) -> ServerReadyResponse;
        server_metadata(ServerMetadataRequest) -> ServerMetadataResponse;
        repository_index(RepositoryIndexRequest) -> RepositoryIndexResponse;
        model_statistics(ModelStatisticsRequest) -> ModelStatisticsResponse;
        model_config(ModelConfigRequest) -> ModelConfigResponse;
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
}

/// Serves at the address given, or at a free port.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let address: SocketAddr = address.as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let listener = TcpListener::bind(address).await.context("bind")?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    let service = GrpcInferenceServiceServer::new(Echo)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    // The builder's own switch does not reach connections of a listener that it did not make.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(service)
        .serve_with_incoming(incoming)
        .await
        .context("serve")
}
