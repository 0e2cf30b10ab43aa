//! ModelStatistics: what load generators divide by, so the sums must be right.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use forebay_client::{Client, Request, tensor};
use forebay_proto::{
    InferRequest,
    inference::{ModelInferRequest, ModelStatistics, ModelStatisticsRequest, StatisticDuration},
};
use forebay_tests::{
    harness::{TestServer, echo, until, within},
    models::Fixture,
};

async fn statistics(server: &TestServer, name: &str) -> Vec<ModelStatistics> {
    let request = ModelStatisticsRequest {
        name: name.to_owned(),
        ..ModelStatisticsRequest::default()
    };
    let answer = within(server.service().await.model_statistics(request)).await;
    answer.unwrap().into_inner().model_stats
}

/// By rows of a batch, how many batches there were.
fn batches(statistics: &ModelStatistics) -> BTreeMap<u64, u64> {
    let stats = statistics.batch_stats.iter();
    stats
        .map(|batch| {
            let count = batch.compute_infer.unwrap().count;
            assert_eq!(batch.compute_input.unwrap().count, count);
            assert_eq!(batch.compute_output.unwrap().count, count);
            (batch.batch_size, count)
        })
        .collect()
}

async fn infer_simple(client: &Client, columns: i64, rows: i64) -> bool {
    let values = vec![1i32; usize::try_from(rows * columns).unwrap()];
    let input = |name| tensor::from_slice(name, &values, [rows, columns]).unwrap();
    let request = Request::new("simple")
        .with_input(input("INPUT0"))
        .with_input(input("INPUT1"));
    within(client.infer(request)).await.is_ok()
}

#[tokio::test]
async fn each_request_counts_once_and_its_rows_as_inferences() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let client = server.client().await;
    for _ in 0..6 {
        assert!(infer_simple(&client, 16, 1).await);
    }
    for _ in 0..4 {
        assert!(infer_simple(&client, 16, 2).await);
    }
    for _ in 0..3 {
        assert!(!infer_simple(&client, 17, 1).await);
    }
    let [statistics] = &statistics(&server, "simple").await[..] else {
        panic!("one model has one version");
    };
    assert_eq!(statistics.version, "1");
    assert_eq!(statistics.inference_count, 6 + 4 * 2);
    assert_eq!(statistics.execution_count, 10);
    assert_eq!(batches(statistics), BTreeMap::from([(1, 6), (2, 4)]));
    assert!(statistics.last_inference > 0);

    let stats = statistics.inference_stats.unwrap();
    let count = |sum: Option<StatisticDuration>| sum.unwrap().count;
    assert_eq!(count(stats.success), 10);
    assert_eq!(count(stats.fail), 3);
    // Also for requests that did not wait: clients tell by it that there were any.
    assert_eq!(count(stats.queue), 10);
    assert_eq!(count(stats.compute_input), 10);
    assert_eq!(count(stats.compute_infer), 10);
    assert_eq!(count(stats.compute_output), 10);

    let ns = |sum: Option<StatisticDuration>| sum.unwrap().ns;
    let parts = ns(stats.queue)
        + ns(stats.compute_input)
        + ns(stats.compute_infer)
        + ns(stats.compute_output);
    assert!(ns(stats.compute_infer) > 0);
    assert!(
        parts <= ns(stats.success),
        "the parts of the time are more than the whole: {stats:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn requests_that_share_a_batch_are_one_execution() {
    // The batch is full with the last request, and until then it waits.
    let more = "max_batch_size: 8\n\
        dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 20000000 }";
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_UINT8", more), None)
        .start()
        .await;
    let client = server.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        let input = tensor::from_slice("x", &[1u8; 4], [1, 4]).unwrap();
        calls.spawn(async move { client.infer(Request::new("echo").with_input(input)).await });
    }
    for reply in within(calls.join_all()).await {
        reply.unwrap();
    }
    let [statistics] = &statistics(&server, "echo").await[..] else {
        panic!("one model has one version");
    };
    assert_eq!(statistics.inference_count, 8);
    assert_eq!(statistics.execution_count, 1);
    assert_eq!(batches(statistics), BTreeMap::from([(8, 1)]));
    let success = statistics.inference_stats.unwrap().success.unwrap();
    assert_eq!(success.count, 8);
    server.stop().await;
}

#[tokio::test]
async fn without_a_name_every_model_reports() {
    let server = TestServer::start(&[Fixture::Simple, Fixture::Strings]).await;
    let statistics = statistics(&server, "").await;
    let names: Vec<&str> = statistics.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["simple", "strings"]);
    for statistics in &statistics {
        assert_eq!(statistics.inference_count, 0);
        assert_eq!(statistics.inference_stats.unwrap().queue.unwrap().count, 0);
    }
    server.stop().await;
}

/// hyper does not ask a stream for its answers while their reader has no room for them.
#[tokio::test]
async fn how_long_a_client_takes_to_read_is_no_part_of_a_requests_time() {
    const REQUESTS: usize = 4;
    // One batch, so that all requests are read by then.
    let batch = "max_batch_size: 4 \
        dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 }";
    let config = echo("slow", "TYPE_UINT8", batch);
    let builder = TestServer::builder().with_model("slow", &config, None);
    let server = builder.start().await;
    // More than HTTP/2 takes in before anybody reads.
    let bytes = vec![0u8; 8 << 20];
    let input = tensor::from_slice("x", &bytes, [1, 8 << 20]).unwrap();
    let request: ModelInferRequest = InferRequest {
        model_name: "slow".to_owned(),
        inputs: vec![input],
        ..InferRequest::default()
    }
    .into();
    let requests = tokio_stream::iter(vec![request; REQUESTS]);
    let began = Instant::now();
    let service = server.service().await;
    let mut service = service.max_decoding_message_size(usize::MAX);
    let answers = within(service.model_stream_infer(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let model = server.model("slow");
    until(|| model.report().execution_count == 1).await;
    let executed = began.elapsed();
    until(|| began.elapsed() > 5 * executed).await;
    while let Some(answer) = within(answers.message()).await.unwrap() {
        assert_eq!(answer.error_message, "");
    }
    let success = model.report().inference_stats.unwrap().success.unwrap();
    assert_eq!(success.count, REQUESTS as u64);
    // The last may be sent a moment after its batch is counted.
    let mean = Duration::from_nanos(success.ns / success.count);
    assert!(mean < 2 * executed, "{mean:?}, executed after {executed:?}");
    server.stop().await;
}
