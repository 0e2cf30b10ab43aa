//! Requests with large tensors, which go past the encoder, among others, which do not.

use forebay_client::{Reply, Request, StreamOptions, Tensor, tensor};

use crate::scripted::{Server, soon};

/// The values in each input of some requests.
const SIZES: [&[u16]; 8] = [
    &[1],
    &[40_000],
    &[40_000, 40_000],
    &[],
    &[3, 20_000, 4_095, 0, 4_096, 7],
    &[4_095, 4_095, 4_095, 4_095, 4_095],
    &[2, 16_383],
    &[60_000, 1],
];

/// Makes inputs of `sizes` values, all of them different.
fn inputs(sizes: &[u16]) -> Vec<Tensor> {
    let mut next = 0.0;
    let tensors = sizes.iter().enumerate().map(|(n, &size)| {
        let values: Vec<f32> = (0..size).map(|n| next + f32::from(n)).collect();
        next += f32::from(size);
        tensor::from_slice(n.to_string(), &values, [size.into()]).unwrap()
    });
    tensors.collect()
}

fn request(inputs: &[Tensor]) -> Request {
    let request = Request::new("m").with_id("7");
    inputs.iter().cloned().fold(request, Request::with_input)
}

/// Asserts that the server got `inputs`, which it sends back.
fn check(reply: &Reply, inputs: &[Tensor]) {
    let data = |tensors: &[Tensor]| -> Vec<_> {
        let tensors = tensors.iter();
        tensors.map(|tensor| tensor.data().clone()).collect()
    };
    assert!(data(reply.outputs()) == data(inputs));
    assert_eq!(reply.id(), "7");
}

#[tokio::test]
async fn calls_bring_tensors_of_any_size() {
    let server = Server::start();
    let client = server.client().await;
    for sizes in SIZES {
        let inputs = inputs(sizes);
        check(
            &soon(client.infer(request(&inputs))).await.unwrap(),
            &inputs,
        );
    }
}

#[tokio::test]
async fn a_stream_brings_large_and_small_requests_in_order() {
    let server = Server::start();
    let client = server.client().await;
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let mut tickets = Vec::new();
    // On the one thread of this test: they are all queued before the first is encoded.
    for sizes in [SIZES, SIZES].concat() {
        let inputs = inputs(sizes);
        let permit = session.reserve(request(&inputs).bytes()).await.unwrap();
        tickets.push((permit.submit(request(&inputs)), inputs));
    }
    for (ticket, inputs) in tickets {
        check(&soon(ticket).await.unwrap(), &inputs);
    }
    soon(session.close()).await.unwrap();
}
