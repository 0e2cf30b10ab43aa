//! The bounds of a model's queue: how many wait, and how long.

use std::time::Duration;

use forebay_client::{Client, Code, InferError, Reply, Request, StreamOptions, tensor};
use forebay_server::executor::Mode;
use forebay_tests::harness::{TestServer, echo, until, within};

/// Serves `echo` with passes of `compute`, one at a time, under a queue policy.
async fn start(max_batch_size: usize, compute: Duration, policy: &str) -> TestServer {
    let batching = format!(
        "max_batch_size: {max_batch_size} \
         dynamic_batching {{ default_queue_policy {{ {policy} }} }}"
    );
    let config = echo("echo", "TYPE_FP32", &batching);
    TestServer::builder()
        .with_model("echo", &config, None)
        .with_simulated(Duration::ZERO, compute, Duration::ZERO)
        .with_mode(Mode::Inline)
        .start()
        .await
}

fn request(server: &TestServer) -> Request {
    let batch = server.model("echo").settings.max_batch_size > 0;
    let dims = if batch { vec![1, 1] } else { vec![1] };
    let input = tensor::from_slice("x", &[1.0f32], dims).unwrap();
    Request::new("echo").with_input(input)
}

async fn call(client: Client, request: Request) -> Result<Reply, InferError> {
    client.infer(request).await
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    // Also of a model that has no batches.
    for max_batch_size in [1, 0] {
        refuses_when_full(max_batch_size).await;
    }
}

async fn refuses_when_full(max_batch_size: usize) {
    let compute = Duration::from_millis(300);
    let server = start(max_batch_size, compute, "max_queue_size: 2").await;
    let client = server.client().await;
    let model = server.model("echo");
    let mut calls = vec![tokio::spawn(call(client.clone(), request(&server)))];
    until(|| server.budget().used() > 0 && model.scheduler.is_empty()).await;
    for waiting in 1..=2 {
        calls.push(tokio::spawn(call(client.clone(), request(&server))));
        until(|| model.scheduler.len() == waiting).await;
    }
    let refused = within(client.infer(request(&server))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.to_string().contains("Exceeds maximum queue size"),
        "{refused}"
    );
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_queue_timeout_ends_what_is_queued_and_not_what_runs() {
    let server = start(
        1,
        Duration::from_millis(600),
        "default_timeout_microseconds: 200000",
    )
    .await;
    let client = server.client().await;
    let model = server.model("echo");
    let running = tokio::spawn(call(client.clone(), request(&server)));
    until(|| server.budget().used() > 0 && model.scheduler.is_empty()).await;
    let queued = within(client.infer(request(&server))).await.unwrap_err();
    assert_eq!(queued.code(), Code::Unavailable);
    assert!(
        queued.to_string().contains("Request timeout expired"),
        "{queued}"
    );
    assert!(!running.is_finished());
    within(running).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_stream_with_as_many_requests_as_it_may_have_is_not_read() {
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", ""), None)
        .with_config(|config| config.scheduler.max_stream_items = 3)
        .with_simulated(Duration::ZERO, Duration::from_millis(20), Duration::ZERO)
        .with_mode(Mode::Inline)
        .start()
        .await;
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let mut tickets = Vec::new();
    for _ in 0..20 {
        tickets.push(session.submit(request(&server)).await.unwrap());
    }
    let model = server.model("echo");
    let mut most = 0;
    for ticket in tickets {
        most = most.max(model.scheduler.len());
        within(ticket).await.unwrap();
    }
    // The three may all be seen before the first of them runs.
    assert!((1..=3).contains(&most), "{most} were queued");
    within(session.close()).await.unwrap();
    server.stop().await;
}
