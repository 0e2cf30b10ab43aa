//! A connection that has reached its age: what was read on it is answered, and its streams end.

use std::time::Duration;

use forebay_client::{Code, InferError, Request, StreamOptions, tensor};
use forebay_tests::harness::{TestServer, echo, within};

#[tokio::test]
async fn a_stream_is_ended_after_its_answers_and_another_can_be_opened() {
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", ""), None)
        .with_config(|config| {
            config.transport.max_connection_age = Duration::from_millis(500);
            config.transport.max_connection_age_grace = Duration::from_secs(20);
        })
        .start()
        .await;
    let client = server.client().await;
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let request = || Request::new("echo").with_input(input.clone());
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ended = loop {
        match session.submit(request()).await {
            Ok(ticket) => match within(ticket).await {
                Ok(_) => {}
                Err(error) => break error,
            },
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, InferError::StreamEnded { .. }), "{ended:?}");
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.to_string().contains("reached its age"), "{ended}");
    assert!(ended.is_retryable() && ended.has_no_side_effects());
    drop(session);

    let again = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = again.submit(request()).await.unwrap();
    within(ticket).await.unwrap();
    within(again.close()).await.unwrap();
    server.stop().await;
}
