//! Messages that are small on the wire and large once they are decoded.

use std::{fs, time::Duration};

use forebay_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelStreamInferResponse,
    model_infer_request::InferInputTensor,
};
use forebay_server::executor::Mode;
use forebay_tests::{
    harness::{TestServer, echo, prefix, until, within},
    models::Fixture,
};
use tonic::Code;

use super::{assert_answers, assert_fails, assert_says, good, serves_on};
use crate::conversation::converse;

const MIB: u64 = 1 << 20;

/// Returns what the system says of the memory of this process, in bytes. It has this test alone.
fn memory(of: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

/// Returns the most that it has held.
fn peak() -> u64 {
    memory("VmHWM:")
}

fn resident() -> u64 {
    memory("VmRSS:")
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
            match call.message::<ModelStreamInferResponse>().await {
                Ok(answer) => {
                    assert!(answer.error_message.contains(text), "{answer:?}");
                    assert_eq!(call.ended().await.code(), Code::Ok);
                }
                Err(status) => assert_says(&status, Code::InvalidArgument, text),
            }
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
        until(|| server.budget().used() == 8 * count as u64).await;
        let answer = within(answer).await.unwrap().unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0].len(), 8 * count);
        within(server.budget().drained()).await;
    }
    serves_on(server).await;
}

#[tokio::test]
async fn typed_contents_without_room_are_refused_before_they_are_decoded() {
    let server = start(MIB).await;
    let text = "typed contents take 2400000 bytes to decode; send raw_input_contents";
    let large = ModelInferRequest {
        id: "large".to_owned(),
        ..ones(100_000)
    };
    let mut service = server.service().await;
    let refused = within(service.model_infer(large.clone()))
        .await
        .unwrap_err();
    assert_says(&refused, Code::ResourceExhausted, text);
    within(server.budget().drained()).await;
    // The stream goes on.
    let (replies, end) = converse(&mut service, vec![large, good("after")], &[]).await;
    assert_fails(&replies[0], "large", Code::ResourceExhausted, text);
    assert_answers(&replies[1], "after");
    end.unwrap();
    let stats = server.model("echo").report().inference_stats.unwrap();
    assert_eq!(stats.fail.unwrap().count, 2);
    // More than there is in all: no waiting would have helped.
    assert_eq!(server.budget().refused().length, 2);
    serves_on(server).await;
}

#[tokio::test]
async fn a_tensor_that_claims_more_than_its_part_of_the_message_takes_no_memory() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.raw().await;
    // An input of five bytes, whose contents claim the rest of the message.
    let items = [0x42, 0].repeat(8 << 20);
    let name = [&[0x0a, 6][..], b"simple"].concat();
    let claim = [0x2a, 5, 0x2a, 0x80, 0x80, 0x80, 0x08];
    let message = [&name[..], &claim, &items].concat();
    let length = u32::try_from(message.len()).unwrap();
    let message = [&prefix(length)[..], &message].concat();
    drop(items);
    let before = peak();
    let mut call = client.call("ModelInfer", &[]);
    call.send(message, true);
    let text = "a tensor of the message breaks off";
    assert_says(&call.ended().await, Code::InvalidArgument, text);
    let grown = peak() - before;
    assert!(grown < 100 * MIB, "{grown} bytes");
    serves_on(server).await;
}

#[tokio::test]
async fn a_short_call_that_stays_open_is_not_decoded_before_it_ends() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = server.raw().await;
    let items = [0x2a, 0].repeat(16 << 10);
    let message = [&prefix(u32::try_from(items.len()).unwrap())[..], &items].concat();
    let before = resident();
    let mut calls: Vec<_> = (0..50)
        .map(|_| {
            let mut call = client.call("ModelInfer", &[]);
            call.send(message.clone(), false);
            call
        })
        .collect();
    until(|| server.budget().used() == 50 * items.len() as u64).await;
    // Each takes 5 MB decoded. Those that end are decoded one by one.
    let grown = resident().saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes");
    for call in &mut calls {
        call.send(Vec::new(), true);
        let text = "model_name must not be empty";
        assert_says(&call.ended().await, Code::InvalidArgument, text);
    }
    serves_on(server).await;
}
