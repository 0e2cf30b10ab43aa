//! Bytes that are no messages, messages that never come, and streams that break off.

use std::time::Duration;

use forebay_proto::inference::{
    InferParameter, ModelStreamInferResponse, infer_parameter::ParameterChoice,
};
use forebay_tests::{
    harness::{TestServer, framed, prefix, until, within},
    models::Fixture,
};
use tonic::Code;

use super::{assert_says, good, serves_on};

const GIB: u32 = 1 << 30;
const METHODS: [&str; 2] = ["ModelInfer", "ModelStreamInfer"];

async fn start() -> TestServer {
    TestServer::start(&[Fixture::Simple]).await
}

#[tokio::test]
async fn a_prefix_that_claims_three_gibibytes_is_refused_before_they_come() {
    let server = start().await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        call.send(prefix(3 * GIB).to_vec(), false);
        let text = "a message of 3221225472 bytes is over the limit of 67108864 bytes";
        assert_says(&call.ended().await, Code::ResourceExhausted, text);
        assert_eq!(server.budget().used(), 0);
    }
    assert_eq!(server.budget().refused().length, METHODS.len() as u64);
    serves_on(server).await;
}

#[tokio::test]
async fn a_message_that_is_announced_and_never_comes_gives_its_bytes_back_in_time() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_progress_timeout(Duration::from_millis(100))
        .start()
        .await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        call.send(prefix(1000).to_vec(), false);
        let text = "no byte of a message arrived for 100ms";
        assert_says(&call.ended().await, Code::DeadlineExceeded, text);
        within(server.budget().drained()).await;
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_call_that_does_not_end_behind_its_message_gives_its_bytes_back_in_time() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_progress_timeout(Duration::from_millis(100))
        .start()
        .await;
    let mut client = server.raw().await;
    let mut large = good("half-open");
    large.raw_input_contents.push(vec![0; 100_000].into());
    for message in [good("half-open"), large] {
        let mut call = client.call("ModelInfer", &[]);
        call.send(framed(&message), false);
        let text = "the call did not end behind its message for 100ms";
        assert_says(&call.ended().await, Code::DeadlineExceeded, text);
        within(server.budget().drained()).await;
    }
    // A stream may rest for as long as it likes.
    let mut stream = client.call("ModelStreamInfer", &[]);
    stream.send(framed(&good("first")), false);
    stream.message::<ModelStreamInferResponse>().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.send(framed(&good("second")), true);
    stream.message::<ModelStreamInferResponse>().await.unwrap();
    assert_eq!(stream.ended().await.code(), Code::Ok);
    serves_on(server).await;
}

#[tokio::test]
async fn a_message_that_crawls_gives_its_bytes_back_and_a_slow_one_comes_in() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_progress_timeout(Duration::from_millis(500))
        .start()
        .await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        call.send(prefix(10_000_000).to_vec(), false);
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        while call.sends(vec![0]) {
            pause.tick().await;
        }
        within(server.budget().drained()).await;
        let text = "too few bytes of a message arrived for 500ms";
        assert_says(&call.ended().await, Code::DeadlineExceeded, text);
    }
    // Twice as long in all, but enough within each of its times.
    let mut message = good("slow");
    message.parameters = (0..60)
        .map(|n| (format!("{n}"), string_parameter("x".repeat(1000))))
        .collect();
    let mut call = client.call("ModelInfer", &[]);
    let message = framed(&message);
    for piece in message.chunks(message.len() / 10) {
        call.send(piece.to_vec(), false);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    call.send(Vec::new(), true);
    assert_eq!(call.ended().await.code(), Code::Ok);
    serves_on(server).await;
}

fn string_parameter(text: String) -> InferParameter {
    InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam(text)),
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_in_mid_message_gives_its_bytes_back() {
    let server = start().await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        let message = framed(&good("half"));
        call.send(message[..message.len() / 2].to_vec(), false);
        until(|| server.budget().used() > 0).await;
        call.reset();
        within(server.budget().drained()).await;
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_message_gives_its_bytes_back() {
    let server = start().await;
    let mut client = server.raw().await;
    let mut call = client.call("ModelStreamInfer", &[]);
    call.send(prefix(1000).to_vec(), false);
    until(|| server.budget().used() > 0).await;
    client.cut();
    within(server.budget().drained()).await;
    serves_on(server).await;
}

#[tokio::test]
async fn a_request_that_ends_in_mid_message_is_told_so() {
    let server = start().await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        let message = framed(&good("half"));
        call.send(message[..message.len() / 2].to_vec(), true);
        let text = "the request ended inside a message";
        assert_says(&call.ended().await, Code::InvalidArgument, text);
    }
    serves_on(server).await;
}

#[tokio::test]
async fn garbage_in_place_of_a_message_is_refused() {
    let server = start().await;
    let mut client = server.raw().await;
    // The second length is gathered in a slab, the first is not.
    for (method, length) in METHODS
        .into_iter()
        .flat_map(|method| [(method, 64), (method, 100_000)])
    {
        let mut call = client.call(method, &[]);
        call.send(
            [&prefix(length)[..], &vec![0xff; length as usize]].concat(),
            true,
        );
        // The code that gRPC's own libraries give to what cannot be parsed.
        assert_says(&call.ended().await, Code::Internal, "decode");
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_compressed_message_is_unimplemented() {
    let server = start().await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[("grpc-encoding", "gzip")]);
        let mut message = framed(&good("gzip"));
        message[0] = 1;
        call.send(message, true);
        assert_says(&call.ended().await, Code::Unimplemented, "gzip");
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_message_marked_as_compressed_without_an_encoding_is_refused() {
    let server = start().await;
    let mut client = server.raw().await;
    for method in METHODS {
        let mut call = client.call(method, &[]);
        let mut message = framed(&good("flag"));
        message[0] = 1;
        call.send(message, true);
        assert_says(&call.ended().await, Code::Internal, "compressed");
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_message_in_pieces_of_one_byte_is_a_message() {
    let server = start().await;
    let mut client = server.raw().await;
    let mut call = client.call("ModelInfer", &[]);
    let message = framed(&good("bytes"));
    for (index, byte) in message.iter().enumerate() {
        call.send(vec![*byte], index + 1 == message.len());
    }
    let answer: forebay_proto::inference::ModelInferResponse = call.message().await.unwrap();
    assert_eq!(answer.id, "bytes");
    assert_eq!(call.ended().await.code(), Code::Ok);
    serves_on(server).await;
}
