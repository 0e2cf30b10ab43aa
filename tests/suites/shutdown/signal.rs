//! SIGTERM to the real process.

use std::time::{Duration, Instant};

use forebay_client::{Code, InferError, Request, StreamOptions, tensor};
use forebay_server::executor::Mode;
use forebay_tests::{
    harness::{Process, TestRepository, TestServer, until, within},
    models::Fixture,
};

use super::load::Load;

const GRACE: Duration = Duration::from_secs(20);

async fn start() -> Process {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Simple]);
    let config = "\
        scheduler.intra_op_threads = 1\n\
        executor.mode = 'stages'\n\
        telemetry.log = 'warn'\n\
        transport.drain_timeout = '20s'\n\
        device = { kind = 'simulated', h2d = '1ms', compute = '2ms', d2h = '1ms' }\n";
    Process::start(repository, config).await
}

/// Sends SIGTERM when `answers` requests were answered, and checks the account.
async fn terminate_after(answers: usize) {
    let mut process = start().await;
    let client = process.client().await;
    let load = Load::start(&client).await;
    until(|| load.answers() >= answers).await;
    process.sigterm().await;
    let signalled = Instant::now();
    let tally = load.ended().await;
    let status = process.wait().await;
    assert!(signalled.elapsed() < GRACE, "{:?}", signalled.elapsed());
    assert_eq!(status.code(), Some(0), "{status}");
    tally.assert_complete();
    assert!(tally.answered.len() >= answers);
}

#[tokio::test]
async fn at_once_under_load_nothing_is_lost_and_the_exit_is_clean() {
    terminate_after(0).await;
}

#[tokio::test]
async fn in_the_first_answers_nothing_is_lost_and_the_exit_is_clean() {
    terminate_after(1).await;
}

#[tokio::test]
async fn under_steady_load_nothing_is_lost_and_the_exit_is_clean() {
    terminate_after(500).await;
}

#[tokio::test]
async fn what_the_callers_count_is_what_the_server_executed() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_simulated(
            Duration::from_millis(1),
            Duration::from_millis(2),
            Duration::from_millis(1),
        )
        .with_mode(Mode::Stages)
        .start()
        .await;
    let client = server.client().await;
    let model = server.model("simple");
    let load = Load::start(&client).await;
    until(|| load.answers() >= 300).await;
    server.begin_shutdown();
    let tally = load.ended().await;
    tally.assert_complete();
    let drained = server.stop().await;
    assert_eq!(drained.connections_aborted, 0);
    let report = model.statistics.report("simple", 1);
    let stats = report.inference_stats.unwrap();
    assert_eq!(stats.success.unwrap().count, tally.answered.len() as u64);
    assert_eq!(stats.fail.unwrap().count, 0);
}

#[tokio::test]
async fn while_models_load_it_ends_soon_and_well() {
    let slow = "name: 'slow' backend: 'identity' \
        input [ { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] } ] \
        output [ { name: 'y' data_type: TYPE_FP32 dims: [ 4 ] } ] \
        model_warmup { name: 'one' inputs { key: 'x' \
            value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }";
    // The first pass is waited for, the second one is not.
    for pass in ["300ms", "1h"] {
        let repository = TestRepository::default().with_model("slow", slow, None);
        let config = format!("device = {{ kind = 'simulated', compute = '{pass}' }}\n");
        let ended = within(Process::end_while_loading(repository, &config)).await;
        assert_eq!(ended.code(), Some(0), "{ended}");
    }
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_the_start_in_order() {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Simple]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let said = Process::refuse_writing(repository, "", writer.into()).await;
    assert!(
        said.ends_with("forebay: write to standard output: Broken pipe (os error 32)\n"),
        "{said}"
    );
}

#[tokio::test]
async fn a_stream_without_requests_does_not_hold_it_up() {
    let mut process = start().await;
    let client = process.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let input = |name| tensor::from_slice(name, &[1i32; 16], [1, 16]).unwrap();
    let request = Request::new("simple")
        .with_input(input("INPUT0"))
        .with_input(input("INPUT1"));
    within(session.submit(request.clone()).await.unwrap())
        .await
        .unwrap();
    process.sigterm().await;
    let signalled = Instant::now();
    let status = process.wait().await;
    assert_eq!(status.code(), Some(0));
    assert!(signalled.elapsed() < GRACE / 4, "{:?}", signalled.elapsed());
    match within(session.close()).await {
        Err(InferError::StreamEnded { code, .. }) => assert_eq!(code, Code::Unavailable),
        other => panic!("{other:?}"),
    }
    let error = within(client.infer(request)).await.unwrap_err();
    assert!(
        error.is_retryable() && error.has_no_side_effects(),
        "{error}"
    );
}
