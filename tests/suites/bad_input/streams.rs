//! What a bad request does to the stream it comes on.

use forebay_tests::{harness::TestServer, models::Fixture};
use tonic::Code;

use super::{assert_answers, assert_fails, assert_says, converse, good, serves_on};

fn bad(id: &str) -> forebay_proto::inference::ModelInferRequest {
    let mut message = good(id);
    message.inputs[0].shape = vec![1, 17];
    message.raw_input_contents[0] = vec![0; 68].into();
    message
}

#[tokio::test]
async fn bad_requests_fail_in_their_places_and_the_stream_goes_on() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    let messages = (0..40).map(|index| {
        let id = index.to_string();
        if index % 3 == 1 { bad(&id) } else { good(&id) }
    });
    let (replies, end) = converse(&mut service, messages.collect(), &[]).await;
    end.unwrap();
    assert_eq!(replies.len(), 40);
    for (index, reply) in replies.iter().enumerate() {
        let id = index.to_string();
        if index % 3 == 1 {
            assert_fails(reply, &id, Code::InvalidArgument, "'INPUT0'");
        } else {
            assert_answers(reply, &id);
        }
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_stream_that_asks_for_grpc_errors_ends_with_the_code_of_the_first() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    let messages = vec![good("a"), good("b"), bad("c"), good("d")];
    let metadata = [("triton_grpc_error", "true")];
    let (replies, end) = converse(&mut service, messages, &metadata).await;
    assert_says(&end.unwrap_err(), Code::InvalidArgument, "'INPUT0'");
    assert_eq!(replies.len(), 2);
    assert_answers(&replies[0], "a");
    assert_answers(&replies[1], "b");
    serves_on(server).await;
}

#[tokio::test]
async fn streams_keep_to_themselves() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    let mut other = service.clone();
    let metadata = [("triton_grpc_error", "true")];
    let (ended, going) = tokio::join!(
        converse(&mut service, vec![bad("a")], &metadata),
        converse(&mut other, vec![bad("a"), good("b")], &[]),
    );
    ended.1.unwrap_err();
    going.1.unwrap();
    assert_answers(&going.0[1], "b");
    serves_on(server).await;
}
