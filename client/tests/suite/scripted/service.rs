//! The calls of the scripted server. Those that no test needs are unimplemented.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use forebay_proto::{
    InferRequest, InferResponse, Parameter, Tensor,
    inference::{
        InferStatistics, StatisticDuration, grpc_inference_service_server::GrpcInferenceService,
        model_metadata_response::TensorMetadata, repository_index_response::ModelIndex, *,
    },
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Script;

pub(crate) struct Scripted(pub(crate) Arc<Script>);

impl Scripted {
    fn note_peer(&self, kind: usize, peer: Option<SocketAddr>) {
        self.0.peers.lock().unwrap()[kind].extend(peer);
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// Answers with the inputs, `x` as `y`, others under their names.
pub(crate) fn echo(request: InferRequest) -> InferResponse {
    let outputs = request.inputs.into_iter().map(|input| {
        let (name, datatype, shape, data) = input.into_parts();
        let name = if name == "x" { "y".into() } else { name };
        Tensor::new(name, datatype, shape, data).unwrap()
    });
    let stages = [
        "queue",
        "h2d",
        "compute",
        "d2h",
        "residency",
        "parked",
        "onboard",
    ];
    // An older server, and requests that were not on disk, do not have the last ones.
    let told = match request.parameters.contains_key("was_on_disk") {
        true => &stages[..],
        false => &stages[..4],
    };
    let timings = told.iter().zip(1..);
    let timings = timings.map(|(stage, ns)| (format!("forebay_{stage}_ns"), Parameter::Int64(ns)));
    let timed = matches!(
        request.parameters.get("forebay_timings"),
        Some(Parameter::Bool(true))
    );
    InferResponse {
        model_name: request.model_name,
        model_version: "1".into(),
        id: request.id,
        parameters: timings.filter(|_| timed).collect(),
        outputs: outputs.collect(),
    }
}

pub(crate) fn what_to_do(request: &InferRequest) -> &str {
    match request.parameters.get("do") {
        Some(Parameter::String(what)) => what,
        _ => "echo",
    }
}

/// Written out as `async_trait` would, which does not look into macros.
macro_rules! unimplemented_calls {
    ($($call:ident($request:ident) -> $response:ident;)*) => {$(
        fn $call<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented("not scripted"))))
        }
    )*};
}

#[tonic::async_trait]
impl GrpcInferenceService for Scripted {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: false }))
    }

    async fn model_ready(&self, call: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let name = call.into_inner().name;
        if name == "hang" {
            std::future::pending::<()>().await;
        }
        let ready = name == "m";
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "scripted".into(),
            version: "1.2".into(),
            extensions: vec!["sequence".into()],
        }))
    }

    async fn model_metadata(
        &self,
        call: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let name = call.into_inner().name;
        let datatype = if name == "m" { "FP32" } else { "FP12" };
        let tensor = |name: &str| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![-1, 3],
        };
        Ok(Response::new(ModelMetadataResponse {
            inputs: vec![tensor("x")],
            outputs: vec![tensor("y")],
            name,
            ..Default::default()
        }))
    }

    async fn model_config(&self, call: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        let config = ModelConfig {
            name: call.into_inner().name,
            max_batch_size: 8,
            ..Default::default()
        };
        Ok(Response::new(ModelConfigResponse {
            config: Some(config),
        }))
    }

    async fn model_statistics(
        &self,
        call: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let statistics = ModelStatistics {
            name: call.into_inner().name,
            inference_count: 8,
            execution_count: 1,
            inference_stats: Some(InferStatistics {
                queue: Some(StatisticDuration { count: 8, ns: 2500 }),
                ..Default::default()
            }),
            forebay_pipeline: Some(ForebayPipelineStatistics {
                busy_ns: 4000,
                computing_ns: 3000,
                ..Default::default()
            }),
            ..Default::default()
        };
        let device = ForebayDeviceStatistics {
            name: "cuda:0".into(),
            utilization_percent: Some(61),
            ..Default::default()
        };
        Ok(Response::new(ModelStatisticsResponse {
            model_stats: vec![statistics],
            forebay_devices: vec![device],
            ..Default::default()
        }))
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let model = ModelIndex {
            name: "m".into(),
            state: "READY".into(),
            ..Default::default()
        };
        Ok(Response::new(RepositoryIndexResponse {
            models: vec![model],
        }))
    }

    async fn model_infer(&self, call: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        self.note_peer(0, call.remote_addr());
        let message = call.into_inner();
        let request =
            InferRequest::try_from(message).map_err(|e| Status::internal(e.to_string()))?;
        match what_to_do(&request) {
            "exhausted" => Err(Status::resource_exhausted("the queue is full")),
            "cancelled" => Err(Status::cancelled("by the server")),
            "hang" => std::future::pending().await,
            "broken" => Ok(Response::new(ModelInferResponse {
                raw_output_contents: vec![Default::default()],
                ..Default::default()
            })),
            _ => Ok(Response::new(echo(request).into())),
        }
    }

    async fn model_stream_infer(
        &self,
        call: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        self.note_peer(1, call.remote_addr());
        let completion = call.metadata().get("forebay-response-order").cloned();
        let mut inbound = call.into_inner();
        let first = if self.0.late_headers {
            inbound.message().await?
        } else {
            None
        };
        let replies = super::streaming::start(Arc::clone(&self.0), inbound, first);
        let mut response: Response<Self::ModelStreamInferStream> = Response::new(Box::pin(replies));
        if let Some(order) = completion {
            response
                .metadata_mut()
                .insert("forebay-response-order", order);
        }
        Ok(response)
    }

    unimplemented_calls! {
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
