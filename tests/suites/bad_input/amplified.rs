//! Messages that are small on the wire and large once they are decoded.

use std::{fs, time::Duration};

use forebay_proto::inference::{
    InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor,
};
use forebay_server::executor::Mode;
use forebay_tests::{
    harness::{TestServer, echo, framed, prefix, until, within},
    models::Fixture,
};
use tonic::Code;

use super::{assert_says, serves_on};

const MIB: u64 = 1 << 20;

/// Returns the most memory that this process has held, in bytes. It has this test alone.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

#[tokio::test]
async fn items_without_end_are_refused_and_take_no_memory() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.raw().await;
    for (item, text) in [
        ([0x2a, 0], "257 inputs"),
        ([0x32, 0], "257 outputs"),
        ([0x3a, 0], "257 raw contents"),
    ] {
        for method in ["ModelInfer", "ModelStreamInfer"] {
            let items = item.repeat(8 << 20);
            let length = u32::try_from(items.len()).unwrap();
            let message = [&prefix(length)[..], &items].concat();
            drop(items);
            let before = peak();
            let mut call = client.call(method, &[]);
            call.send(message, true);
            assert_says(&call.ended().await, Code::InvalidArgument, text);
            // It takes 2.6 GB decoded.
            let grown = peak() - before;
            assert!(grown < 100 * MIB, "{text}: {grown} bytes");
        }
    }
    serves_on(server).await;
}

#[tokio::test]
async fn a_method_that_takes_names_takes_no_long_message() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.raw().await;
    let mut call = client.call("ModelReady", &[]);
    call.send(prefix(2 << 20).to_vec(), false);
    let text = "over the limit of 1048576 bytes of methods that do not infer";
    assert_says(&call.ended().await, Code::ResourceExhausted, text);
    serves_on(server).await;
}

/// Returns a request whose tensor takes a byte for each element on the wire, and eight decoded.
fn ones(count: usize) -> ModelInferRequest {
    let contents = InferTensorContents {
        int64_contents: vec![1; count],
        ..InferTensorContents::default()
    };
    ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "INT64".to_owned(),
            shape: vec![i64::try_from(count).unwrap()],
            contents: Some(contents),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

async fn start(host_bytes: u64) -> TestServer {
    TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_model("echo", &echo("echo", "TYPE_INT64", ""), None)
        .with_host_bytes(host_bytes)
        .with_simulated(Duration::ZERO, Duration::from_secs(1), Duration::ZERO)
        .with_mode(Mode::Inline)
        .start()
        .await
}

#[tokio::test]
async fn typed_contents_hold_the_bytes_that_they_become() {
    let server = start(64 * MIB).await;
    // The second is gathered in a slab, the first is not.
    for count in [50_000, 100_000] {
        let mut service = server.service().await;
        let answer = tokio::spawn(async move { service.model_infer(ones(count)).await });
        until(|| server.budget().used() >= 8 * count as u64).await;
        let answer = within(answer).await.unwrap().unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0].len(), 8 * count);
        within(server.budget().drained()).await;
    }
    serves_on(server).await;
}

#[tokio::test]
async fn typed_contents_without_room_are_refused_before_they_are_decoded() {
    let server = start(MIB).await;
    let mut client = server.raw().await;
    for method in ["ModelInfer", "ModelStreamInfer"] {
        let mut call = client.call(method, &[]);
        call.send(framed(&ones(100_000)), true);
        let text = "typed contents take 2400000 bytes to decode; send raw_input_contents";
        assert_says(&call.ended().await, Code::ResourceExhausted, text);
        within(server.budget().drained()).await;
    }
    serves_on(server).await;
}
