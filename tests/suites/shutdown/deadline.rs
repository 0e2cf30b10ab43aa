//! The end of the drain: what has not ended by then is cut.

use std::time::{Duration, Instant};

use forebay_client::{InferError, Request, StreamOptions, tensor};
use forebay_server::executor::Mode;
use forebay_tests::harness::{Process, TestRepository, TestServer, echo, until, within};

#[tokio::test]
async fn a_stream_whose_model_takes_longer_than_the_drain_is_cut() {
    const COMPUTE: Duration = Duration::from_millis(1500);
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", ""), None)
        .with_simulated(Duration::ZERO, COMPUTE, Duration::ZERO)
        .with_mode(Mode::Inline)
        .with_drain_timeout(Duration::from_millis(100))
        .start()
        .await;
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let request = Request::new("echo").with_input(input);
    let ticket = session.submit(request).await.unwrap();
    let model = server.model("echo");
    until(|| server.budget().used() > 0 && model.scheduler.is_empty()).await;

    server.begin_shutdown();
    let begun = Instant::now();
    let error = within(ticket).await.unwrap_err();
    assert!(
        matches!(error, InferError::ConnectionLost { .. }),
        "{error:?}"
    );
    // Executed or not, the caller cannot know.
    assert!(error.is_retryable() && !error.has_no_side_effects());
    assert!(begun.elapsed() < COMPUTE / 2, "{:?}", begun.elapsed());
    let drained = server.stop().await;
    assert_eq!(drained.connections_aborted, 1);
}

#[tokio::test]
async fn a_pass_that_never_ends_does_not_keep_the_process() {
    let repository =
        TestRepository::default().with_model("echo", &echo("echo", "TYPE_FP32", ""), None);
    let config = "\
        executor.mode = 'inline'\n\
        telemetry.log = 'warn'\n\
        registry.warmup_timeout = '0s'\n\
        transport.drain_timeout = '100ms'\n\
        device = { kind = 'simulated', compute = '1h' }\n";
    let mut process = Process::start(repository, config).await;
    let client = process.client().await;
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let request = Request::new("echo").with_input(input);
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request).await.unwrap();
    let begun = Instant::now();
    process.sigterm().await;
    assert!(within(ticket).await.is_err());
    let status = process.wait().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}
