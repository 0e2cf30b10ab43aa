//! Requests to models with state that name no sequence, or none that is open.

use forebay_client::{Code, InferError, Request, StreamOptions, tensor};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};

use super::serves_on;

fn request() -> Request {
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    Request::new("counter").with_input(input)
}

async fn refuses(request: Request, text: &str) {
    let server = TestServer::start(&[Fixture::Simple, Fixture::Counter]).await;
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request.clone()).await.unwrap();
    for outcome in [within(client.infer(request)).await, within(ticket).await] {
        match outcome {
            Err(InferError::Failed { code, message, .. }) => {
                assert_eq!(code, Code::InvalidArgument);
                assert!(message.contains(text), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    within(session.close()).await.unwrap();
    serves_on(server).await;
}

#[tokio::test]
async fn a_sequence_that_was_not_started_is_named() {
    refuses(
        request().with_sequence(42, false, false),
        "sequence 42 to model 'counter' must specify the START flag",
    )
    .await;
}

#[tokio::test]
async fn a_request_without_a_sequence_is_told_the_parameter() {
    refuses(request(), "set the parameter sequence_id").await;
}
