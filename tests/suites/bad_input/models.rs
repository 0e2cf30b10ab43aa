//! Models that fail while they run.

use forebay_client::{Code, InferError, Request, StreamOptions, tensor};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};

use super::serves_on;

fn request(model: &str, first: f32) -> Request {
    let input = tensor::from_slice("x", &[first, 1.0, 2.0, 3.0], [1, 4]).unwrap();
    Request::new(model).with_input(input)
}

/// Asks `model` on its own and on a stream, and returns the text that both failures have.
async fn fails(server: &TestServer, model: &str) -> String {
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request(model, -1.0)).await.unwrap();
    let outcomes = [
        within(client.infer(request(model, -1.0))).await,
        within(ticket).await,
    ];
    let texts = outcomes.map(|outcome| match outcome {
        Err(InferError::Failed { code, message, .. }) => {
            assert_eq!(code, Code::Internal, "{message}");
            message
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(texts[0], texts[1]);
    within(session.close()).await.unwrap();
    texts.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_model_that_throws_fails_its_request_with_its_own_words_cut_short() {
    let server = TestServer::start(&[Fixture::Simple, Fixture::Thrower]).await;
    let text = fails(&server, "thrower").await;
    assert!(text.contains("the first element is -1"), "{text}");
    assert!(text.len() < 1000, "{} bytes: {text}", text.len());
    assert!(!text.contains("line 100 of"), "{text}");

    let client = server.client().await;
    assert!(within(client.model_ready("thrower")).await.unwrap());
    within(client.infer(request("thrower", 1.0))).await.unwrap();
    serves_on(server).await;
}

#[tokio::test]
async fn a_model_that_breaks_its_own_signature_is_told_what_came() {
    let server = TestServer::start(&[Fixture::Simple, Fixture::WrongOutput]).await;
    let text = fails(&server, "wrong_output").await;
    assert!(
        text.contains("'OUTPUT__0'") && text.contains("[1, 4]"),
        "{text}"
    );
    let model = server.model("wrong_output");
    let stats = model.report();
    assert_eq!((stats.inference_count, stats.execution_count), (0, 0));
    serves_on(server).await;
}
