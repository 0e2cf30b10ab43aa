//! Every datatype of the protocol, there and back.

use std::fmt::Write as _;

use forebay_client::{DataType, Request, Shape, StreamOptions, Tensor, tensor};
use forebay_tests::harness::{Builder, TestServer, echo, within};
use tokio::task::JoinSet;

/// The name of a datatype in `config.pbtxt`.
fn config_type(datatype: DataType) -> String {
    match datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}

fn model(datatype: DataType) -> String {
    format!("echo_{datatype}").to_lowercase()
}

/// Serves an echo of each datatype, with `more` in each configuration.
fn serving(more: &str) -> Builder {
    DataType::ALL
        .into_iter()
        .fold(TestServer::builder(), |builder, datatype| {
            let name = model(datatype);
            let config = echo(&name, &config_type(datatype), more);
            builder.with_model(&name, &config, None)
        })
}

/// A tensor whose bytes are all different.
fn tensor_of(datatype: DataType, shape: &[i64]) -> Tensor {
    let shape = Shape::new(shape.to_vec()).unwrap();
    let elements = usize::try_from(shape.elements()).unwrap();
    let Some(size) = datatype.size() else {
        let texts: Vec<String> = (0..elements)
            .map(|index| "ä\0".repeat(index % 5) + &index.to_string())
            .collect();
        return tensor::from_strings("x", &texts, shape.dims().to_vec()).unwrap();
    };
    let bytes: Vec<u8> = (0u8..=255).cycle().take(elements * size).collect();
    Tensor::new("x", datatype, shape, bytes).unwrap()
}

fn assert_echoed(sent: &Tensor, reply: &forebay_client::Reply) {
    let back = reply.output("y").unwrap();
    assert_eq!(back.datatype(), sent.datatype());
    assert_eq!(back.shape(), sent.shape());
    assert_eq!(back.data(), sent.data());
}

#[tokio::test]
async fn tensors_of_every_datatype_come_back_as_they_went() {
    let server = serving("").start().await;
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    for datatype in DataType::ALL {
        for length in [0, 1, 33] {
            let sent = tensor_of(datatype, &[length]);
            let request = Request::new(model(datatype)).with_input(sent.clone());
            let ticket = session.submit(request.clone()).await.unwrap();
            assert_echoed(&sent, &within(client.infer(request)).await.unwrap());
            assert_echoed(&sent, &within(ticket).await.unwrap());
        }
    }
    within(session.close()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn requests_of_every_datatype_that_share_a_batch_get_their_own_rows_back() {
    // The batch is full with the third request, and until then it waits.
    let mut more = String::from("max_batch_size: 6\n");
    more.push_str("dynamic_batching { preferred_batch_size: [ 6 ] ");
    write!(more, "max_queue_delay_microseconds: {} }}", 20_000_000).unwrap();
    let server = serving(&more).start().await;
    let client = server.client().await;
    for datatype in DataType::ALL {
        let mut calls = JoinSet::new();
        for rows in [1, 2, 3] {
            let sent = tensor_of(datatype, &[rows, 7]);
            let request = Request::new(model(datatype)).with_input(sent.clone());
            let client = client.clone();
            calls.spawn(async move { assert_echoed(&sent, &client.infer(request).await.unwrap()) });
        }
        within(calls.join_all()).await;
        let report = server.model(&model(datatype)).statistics.report("", 1);
        assert_eq!(
            report.execution_count, 1,
            "{datatype} did not share a batch"
        );
    }
    server.stop().await;
}
