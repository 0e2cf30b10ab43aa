//! The order of answers on a stream.

use forebay_proto::{
    StreamReply,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use forebay_tests::harness::{TestServer, echo};

use crate::conversation::converse;

/// A batch that waits for company, of which none comes: so slow is `slow`, and only `slow`.
const SLOW: &str = "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 300000 }";
const FAST: &str = "max_batch_size: 8";

async fn start() -> TestServer {
    TestServer::builder()
        .with_model("slow", &echo("slow", "TYPE_UINT8", SLOW), None)
        .with_model("fast", &echo("fast", "TYPE_UINT8", FAST), None)
        .start()
        .await
}

fn request(model: &str, id: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        id: id.to_string(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![1, 4],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![vec![7; 4].into()],
        ..ModelInferRequest::default()
    }
}

/// Sends two slow requests and many fast ones between them, and returns the ids of the answers.
async fn answers(metadata: &[(&'static str, &'static str)]) -> Vec<usize> {
    let server = start().await;
    let messages = (0..20).map(|id| {
        let model = if id % 10 == 0 { "slow" } else { "fast" };
        request(model, id)
    });
    let mut service = server.service().await;
    let (replies, end) = converse(&mut service, messages.collect(), metadata).await;
    end.unwrap();
    let id = |reply: StreamReply| match reply {
        StreamReply::Answer(answer) => answer.id.parse().unwrap(),
        failure @ StreamReply::Failure { .. } => panic!("{failure:?}"),
    };
    let ids = replies.into_iter().map(id).collect();
    server.stop().await;
    ids
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests() {
    let ids = answers(&[]).await;
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn answers_come_as_they_finish_where_the_stream_asks() {
    let mut ids = answers(&[("forebay-response-order", "completion")]).await;
    assert_eq!(ids.len(), 20);
    let slow = ids.split_off(18);
    assert_eq!(slow, [0, 10], "the slow ones came before {ids:?}");
    ids.sort_unstable();
    assert_eq!(ids, (1..10).chain(11..20).collect::<Vec<_>>());
}
