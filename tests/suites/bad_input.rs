//! Bad input: each kind is answered with a status that names the thing, the server lives on, and
//! not a byte of its budget is lost.

mod amplified;
mod budget;
mod deadline;
mod framing;
mod messages;
mod models;
mod repository;
mod sequences;
mod streams;
mod unsupported;

use bytes::Bytes;
use forebay_proto::{
    StreamReply,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};
use tonic::{Code, Status};

use crate::conversation::converse;

/// A request to `simple` that it answers.
fn good(id: &str) -> ModelInferRequest {
    let input = |name: &str| InferInputTensor {
        name: name.to_owned(),
        datatype: "INT32".to_owned(),
        shape: vec![1, 16],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: "simple".to_owned(),
        id: id.to_owned(),
        inputs: vec![input("INPUT0"), input("INPUT1")],
        raw_input_contents: vec![Bytes::from_static(&[1; 64]); 2],
        ..ModelInferRequest::default()
    }
}

/// Asserts that a good request is answered, and that the server then ends without a debt.
async fn serves_on(server: TestServer) {
    let mut service = server.service().await;
    let answer = within(service.model_infer(good("after"))).await;
    assert_eq!(answer.expect("the server lives").into_inner().id, "after");
    server.stop().await;
}

/// Asserts that `status` has `code`, and says `text`.
fn assert_says(status: &Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert!(
        status.message().contains(text),
        "`{}` does not say `{text}`",
        status.message()
    );
}

/// Asserts that `reply` is the answer to `id`.
fn assert_answers(reply: &StreamReply, id: &str) {
    match reply {
        StreamReply::Answer(answer) => assert_eq!(answer.id, id),
        StreamReply::Failure { message, .. } => panic!("`{id}` failed: {message}"),
    }
}

/// Asserts that `reply` is the failure of `id` with `code`, and says `text`.
fn assert_fails(reply: &StreamReply, id: &str, code: Code, text: &str) {
    let StreamReply::Failure {
        id: failed,
        message,
        code: number,
        ..
    } = reply
    else {
        panic!("`{id}` was answered: {reply:?}");
    };
    assert_eq!(failed, id);
    let number = number.expect("Forebay tells the code");
    assert_says(&Status::new(Code::from_i32(number), message), code, text);
}

/// Asserts that `simple` refuses `bad` alone, and on a stream between two good requests, which are
/// answered in their places.
async fn refuses(bad: ModelInferRequest, code: Code, text: &str) {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    let status = within(service.model_infer(bad.clone())).await.unwrap_err();
    assert_says(&status, code, text);

    let id = bad.id.clone();
    let messages = vec![good("before"), bad, good("behind")];
    let (replies, end) = converse(&mut service, messages, &[]).await;
    end.expect("the stream goes on to its end");
    assert_eq!(replies.len(), 3);
    assert_answers(&replies[0], "before");
    assert_fails(&replies[1], &id, code, text);
    assert_answers(&replies[2], "behind");
    serves_on(server).await;
}
