//! Traces and figures, as a collector receives them from the real binary.

use std::time::{Duration, Instant};

use forebay_client::Client;
use forebay_proto::{
    InferRequest,
    inference::{
        ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient as Service,
    },
};
use forebay_tests::harness::{Process, TestRepository, until, within};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};

use self::{collector::Collector, figures::Figures, stages::assert_stages};

mod burst;
mod collector;
mod figures;
mod stages;

const MODEL: &str = "echo";
const CONFIG: &str = r#"
    name: "echo" backend: "identity" max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"#;

/// As a caller's `traceparent` names them.
const TRACE: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736u128.to_be_bytes();
const CALLER: [u8; 8] = 0x00f0_67aa_0ba9_02b7u64.to_be_bytes();
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The server gives its last spans 2 s, and has nothing else to wait for.
const END_IN_TIME: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_call_shows_its_stages_in_the_callers_trace() {
    let traced = Traced::start().await;
    let mut call = tonic::Request::new(request("unary"));
    call.metadata_mut()
        .insert("traceparent", TRACEPARENT.parse().unwrap());
    within(traced.service().await.model_infer(call))
        .await
        .unwrap();

    let spans = traced.stop().await;
    let infer = only(&spans, |span| span.name == "infer");
    assert_eq!(
        (&infer.trace_id[..], &infer.parent_span_id[..]),
        (&TRACE[..], &CALLER[..])
    );
    assert_stages(&spans, infer);
}

#[tokio::test]
async fn each_request_of_a_stream_has_a_span_in_the_callers_trace() {
    const REQUESTS: usize = 5;
    let traced = Traced::start().await;
    let requests = (0..REQUESTS).map(|number| request(&number.to_string()));
    let mut call = tonic::Request::new(tokio_stream::iter(requests.collect::<Vec<_>>()));
    call.metadata_mut()
        .insert("traceparent", TRACEPARENT.parse().unwrap());
    let replies = traced.service().await.model_stream_infer(call).await;
    let mut replies = replies.unwrap().into_inner();
    while let Some(reply) = within(replies.message()).await.unwrap() {
        assert_eq!(reply.error_message, "");
    }

    let spans = traced.stop().await;
    let infers: Vec<_> = spans.iter().filter(|span| span.name == "infer").collect();
    assert_eq!(infers.len(), REQUESTS);
    for infer in infers {
        assert_eq!(
            (&infer.trace_id[..], &infer.parent_span_id[..]),
            (&TRACE[..], &CALLER[..])
        );
        assert_stages(&spans, infer);
    }
}

#[tokio::test]
async fn a_call_without_a_trace_begins_one() {
    let traced = Traced::start().await;
    let mut service = traced.service().await;
    for id in ["1", "2"] {
        within(service.model_infer(request(id))).await.unwrap();
    }

    let spans = traced.stop().await;
    let infers: Vec<_> = spans.iter().filter(|span| span.name == "infer").collect();
    let [first, second] = infers[..] else {
        panic!("{} spans", infers.len());
    };
    assert_ne!(first.trace_id, second.trace_id);
    for infer in [first, second] {
        assert!(infer.parent_span_id.is_empty());
        assert_stages(&spans, infer);
    }
}

#[tokio::test]
async fn a_request_that_fails_is_marked_in_its_trace() {
    let traced = Traced::start().await;
    let mut late = request("late");
    late.parameters.insert("timeout".to_owned(), micros(1));
    let error = traced.service().await.model_infer(late).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");

    let spans = traced.stop().await;
    let infer = only(&spans, |span| span.name == "infer");
    let status = infer.status.as_ref().unwrap();
    assert!(status.message.contains("timeout"), "{status:?}");
}

#[tokio::test]
async fn a_request_whose_caller_goes_away_does_not_look_well_in_its_trace() {
    let waits =
        "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 60000000 }";
    let repository = TestRepository::default().with_model(MODEL, &format!("{CONFIG}{waits}"), None);
    let traced = Traced::serve(repository, stages::DEVICE, "50ms").await;
    let mut service = traced.service().await;
    let call = tokio::spawn(async move { service.model_infer(request("gone")).await });
    until(|| {
        let all = traced.collector.figures();
        let queued = |one: &Figures| {
            one.starting("forebay.model.queue.length")
                .any(|(_, n)| n > 0.0)
        };
        all.iter().any(queued)
    })
    .await;
    call.abort();

    let spans = traced.stop().await;
    let infer = only(&spans, |span| span.name == "infer");
    let status = infer.status.as_ref().unwrap();
    assert!(status.message.contains("cancelled"), "{status:?}");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_neither_requests_nor_the_end() {
    // One refuses connections; the other takes them, and never says a word.
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addresses = [&closed, &silent].map(|listener| listener.local_addr().unwrap());
    drop(closed);
    for address in addresses {
        let mut process = start(&format!("http://{address}")).await;
        let client: Client = process.client().await;
        for _ in 0..20 {
            let request = forebay_client::Request::new(MODEL).with_input(input());
            within(client.infer(request)).await.unwrap();
        }
        let asked = Instant::now();
        process.sigterm().await;
        assert!(process.wait().await.success());
        assert!(asked.elapsed() < END_IN_TIME, "{:?}", asked.elapsed());
    }
}

/// The real binary, and the collector that it exports to.
struct Traced {
    process: Process,
    collector: Collector,
}

impl Traced {
    async fn start() -> Self {
        let repository = TestRepository::default().with_model(MODEL, CONFIG, None);
        Self::serve(repository, stages::DEVICE, "10s").await
    }

    /// Serves `repository` with the configuration `toml`, and figures every `interval`.
    async fn serve(repository: TestRepository, toml: &str, interval: &str) -> Self {
        let collector = Collector::start().await;
        let endpoint = collector.endpoint();
        let toml = format!(
            "{toml}[telemetry]\notlp_endpoint = \"{endpoint}\"\nmetrics_interval = \"{interval}\"\n"
        );
        Self {
            process: Process::start(repository, &toml).await,
            collector,
        }
    }

    async fn service(&self) -> Service<Channel> {
        let endpoint = Channel::from_shared(self.process.endpoint()).unwrap();
        Service::new(endpoint.connect().await.unwrap())
    }

    /// Ends the server, which exports what it has.
    async fn end(mut self) -> Collector {
        self.process.sigterm().await;
        assert!(self.process.wait().await.success());
        self.collector
    }

    /// Ends the server, and returns all its spans.
    async fn stop(self) -> Vec<Span> {
        self.end().await.spans()
    }
}

async fn start(collector: &str) -> Process {
    let repository = TestRepository::default().with_model(MODEL, CONFIG, None);
    let toml = format!(
        "{}[telemetry]\notlp_endpoint = \"{collector}\"\n",
        stages::DEVICE
    );
    Process::start(repository, &toml).await
}

fn input() -> forebay_client::Tensor {
    forebay_client::tensor::from_slice("x", &[1.0f32; 4], [1, 4]).unwrap()
}

fn request(id: &str) -> ModelInferRequest {
    let request = InferRequest {
        model_name: MODEL.to_owned(),
        id: id.to_owned(),
        inputs: vec![input()],
        ..InferRequest::default()
    };
    request.into()
}

fn micros(micros: i64) -> forebay_proto::inference::InferParameter {
    use forebay_proto::inference::{InferParameter, infer_parameter::ParameterChoice};
    InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(micros)),
    }
}

fn only(spans: &[Span], wanted: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<_> = spans.iter().filter(|span| wanted(span)).collect();
    let [span] = found[..] else {
        panic!("{} spans instead of one: {found:#?}", found.len());
    };
    span
}
