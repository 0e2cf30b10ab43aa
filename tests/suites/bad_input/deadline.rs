//! Deadlines that pass while a request is queued behind others.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use forebay_client::{Client, Code, InferError, Reply, Request, StreamOptions, tensor};
use forebay_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
use forebay_server::executor::Mode;
use forebay_tests::harness::{TestServer, echo, framed, until, within};
use tokio::task::JoinHandle;

/// So long does each request run; long beside the deadlines here.
const BUSY: Duration = Duration::from_secs(2);
/// Long enough for a request to reach the queue.
const SOON: Duration = Duration::from_millis(300);

/// A server that runs one request at a time, and is at it.
async fn busy() -> (TestServer, Client, JoinHandle<Result<Reply, InferError>>) {
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", ""), None)
        .with_simulated(Duration::ZERO, BUSY, Duration::ZERO)
        .with_mode(Mode::Inline)
        .with_config(|config| config.executor.pipeline_depth = NonZeroUsize::MIN)
        .start()
        .await;
    let client = server.client().await;
    let first = {
        let client = client.clone();
        tokio::spawn(async move { client.infer(request("first")).await })
    };
    until(|| server.budget().used() > 0 && server.model("echo").scheduler.is_empty()).await;
    (server, client, first)
}

fn request(id: &str) -> Request {
    let input = tensor::from_slice("x", &[1.0f32; 8], [8]).unwrap();
    Request::new("echo").with_id(id).with_input(input)
}

/// A request as the SDK's, for clients that send frames by hand.
fn message() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![2],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from_static(&[0; 8])],
        ..ModelInferRequest::default()
    }
}

/// Asserts that the second request has left, while the first one still runs.
async fn left_alone(server: &TestServer, held: u64) {
    until(|| server.model("echo").scheduler.is_empty()).await;
    until(|| server.budget().used() == held).await;
    let report = server.model("echo").statistics.report("echo", 1);
    assert_eq!(report.execution_count, 0, "the first request has ended");
    let fail = report.inference_stats.unwrap().fail.unwrap();
    assert_eq!(fail.count, 1);
}

#[tokio::test]
async fn a_call_whose_deadline_passes_in_the_queue_is_answered_at_once_and_leaves_it() {
    let (server, _client, first) = busy().await;
    let held = server.budget().used();
    // A client without a clock of its own, which waits for what the server says.
    let mut raw = server.raw().await;
    let mut call = raw.call("ModelInfer", &[("grpc-timeout", "300m")]);
    call.send(framed(&message()), true);
    let status = call.ended().await;
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
    left_alone(&server, held).await;
    within(first).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_call_of_the_sdk_times_out_on_time() {
    let (server, client, first) = busy().await;
    let held = server.budget().used();
    let late = client.infer(request("late").with_timeout(SOON));
    let error = within(late).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    left_alone(&server, held).await;
    within(first).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_request_of_a_stream_times_out_by_itself_and_the_stream_goes_on() {
    let (server, client, first) = busy().await;
    let held = server.budget().used();
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let late = request("late").with_timeout(SOON);
    let late = session.submit(late).await.unwrap();
    let error = within(late).await.unwrap_err();
    assert!(matches!(error, InferError::Failed { .. }), "{error}");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    left_alone(&server, held).await;
    within(first).await.unwrap().unwrap();
    let next = session.submit(request("next")).await.unwrap();
    assert_eq!(within(next).await.unwrap().id(), "next");
    within(session.close()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_queue() {
    let (server, client, first) = busy().await;
    let held = server.budget().used();
    let gone = tokio::spawn(async move { client.infer(request("gone")).await });
    until(|| server.model("echo").scheduler.len() == 1).await;
    gone.abort();
    left_alone(&server, held).await;
    within(first).await.unwrap().unwrap();
    server.stop().await;
}
