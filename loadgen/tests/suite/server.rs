//! A small server of the protocol. Its model's name says how it answers.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use forebay_proto::{
    InferRequest, InferResponse, Parameter, StreamReply, Tensor,
    inference::{
        grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer},
        model_metadata_response::TensorMetadata,
        *,
    },
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// How long the model `slow` takes.
const SLOW: Duration = Duration::from_millis(200);

/// Requests that a stream to the model `brief` takes before it ends.
const BRIEF: u64 = 100;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let service = GrpcInferenceServiceServer::new(Service(Arc::clone(&requests)));
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serve).abort_handle();
        Self {
            address,
            requests,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service(Arc<AtomicU64>);

/// Answers with the inputs. `busy` refuses, `hasty` does not wait at all, `cold` refuses the second time,
/// `slow` takes its time, `stuck` never ends, and `off` answers with zeros. Of the statistics of `mute`
/// nothing is ever told, and of the first request on each stream to `lost`.
async fn answer(requests: &AtomicU64, request: InferRequest) -> Result<InferResponse, Status> {
    let earlier = requests.fetch_add(1, Ordering::SeqCst);
    match &*request.model_name {
        "cold" if earlier == 1 => return Err(Status::resource_exhausted("it is not warm yet")),
        "busy" => return Err(Status::resource_exhausted("the queue is full")),
        "hasty" => return Err(Status::deadline_exceeded("it waited for too long")),
        "slow" => tokio::time::sleep(SLOW).await,
        "stuck" => std::future::pending().await,
        _ => {}
    }
    let outputs = match &*request.model_name {
        "off" => vec![zeros(&request.inputs[0])],
        _ => request.inputs.clone(),
    };
    let timed = request.flag("forebay_timings").unwrap();
    let stages = ["queue", "h2d", "compute", "d2h"].into_iter().zip(1i64..);
    let timings =
        stages.map(|(stage, n)| (format!("forebay_{stage}_ns"), Parameter::Int64(n * 1000)));
    Ok(InferResponse {
        model_name: request.model_name,
        model_version: "1".into(),
        id: request.id,
        parameters: timings.filter(|_| timed).collect(),
        outputs,
    })
}

/// Returns a tensor like `tensor` that holds zeros.
fn zeros(tensor: &Tensor) -> Tensor {
    let (name, datatype, shape, data) = tensor.clone().into_parts();
    Tensor::new(name, datatype, shape, vec![0; data.len()]).unwrap()
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
            Box::pin(std::future::ready(Err(Status::unimplemented("not served here"))))
        }
    )*};
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_metadata(
        &self,
        call: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let name = call.into_inner().name;
        if name == "absent" {
            return Err(Status::not_found("no such model"));
        }
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
        };
        Ok(Response::new(ModelMetadataResponse {
            inputs: match &*name {
                "echo" | "busy" | "slow" | "package" => vec![
                    tensor("x", "FP32", &[-1, 3]),
                    tensor("t", "BYTES", &[-1, -1]),
                ],
                _ => vec![tensor("x", "FP32", &[-1, 3])],
            },
            platform: match &*name {
                "package" => "torch_aoti".into(),
                _ => "pytorch_libtorch".into(),
            },
            name,
            ..Default::default()
        }))
    }

    async fn model_config(&self, call: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        let name = call.into_inner().name;
        let max_batch_size = if name == "whole" { 0 } else { 64 };
        let config = ModelConfig {
            name,
            max_batch_size,
            ..Default::default()
        };
        Ok(Response::new(ModelConfigResponse {
            config: Some(config),
        }))
    }

    async fn model_ready(&self, call: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        match &*call.into_inner().name {
            "absent" => Err(Status::not_found("no such model")),
            name => Ok(Response::new(ModelReadyResponse {
                ready: name != "broken",
            })),
        }
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let broken = repository_index_response::ModelIndex {
            name: "broken".into(),
            state: "UNAVAILABLE".into(),
            reason: "its file is of yesterday".into(),
            ..Default::default()
        };
        Ok(Response::new(RepositoryIndexResponse {
            models: vec![broken],
        }))
    }

    async fn model_statistics(
        &self,
        call: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        if call.into_inner().name == "mute" {
            std::future::pending::<()>().await;
        }
        let count = self.0.load(Ordering::SeqCst);
        let took = |ns| {
            Some(StatisticDuration {
                count,
                ns: ns * count,
            })
        };
        let statistics = ModelStatistics {
            inference_count: 2 * count,
            execution_count: count,
            inference_stats: Some(InferStatistics {
                success: took(10_000),
                queue: took(1_000),
                compute_input: took(2_000),
                compute_infer: took(3_000),
                compute_output: took(4_000),
                ..Default::default()
            }),
            forebay_pipeline: Some(ForebayPipelineStatistics {
                busy_ns: 100 * count,
                h2d_ns: 30 * count,
                compute_ns: 80 * count,
                d2h_ns: 20 * count,
                computing_ns: 75 * count,
            }),
            ..Default::default()
        };
        let device = ForebayDeviceStatistics {
            name: "card:0".into(),
            model: "A Card".into(),
            utilization_percent: Some(61),
            pinned_allocations: count,
            ..Default::default()
        };
        Ok(Response::new(ModelStatisticsResponse {
            model_stats: vec![statistics],
            forebay_devices: vec![device],
            ..Default::default()
        }))
    }

    async fn model_infer(&self, call: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let request = InferRequest::try_from(call.into_inner()).unwrap();
        answer(&self.0, request)
            .await
            .map(|response| Response::new(response.into()))
    }

    async fn model_stream_infer(
        &self,
        call: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let requests = Arc::clone(&self.0);
        let mut taken = 0;
        let replies = call.into_inner().then(move |message| {
            let requests = Arc::clone(&requests);
            taken += 1;
            async move {
                let request = InferRequest::try_from(message?).unwrap();
                if request.model_name == "brief" && taken > BRIEF {
                    return Err(Status::unavailable("the connection has reached its age"));
                }
                let lost = request.model_name == "lost" && taken == 1;
                let reply = StreamReply::Answer(answer(&requests, request).await?);
                Ok((!lost).then(|| ModelStreamInferResponse::from(reply)))
            }
        });
        let replies = replies.filter_map(Result::transpose);
        Ok(Response::new(Box::pin(replies)))
    }

    unserved! {
        server_live(ServerLiveRequest) -> ServerLiveResponse;
        server_ready(ServerReadyRequest) -> ServerReadyResponse;
        server_metadata(ServerMetadataRequest) -> ServerMetadataResponse;
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
