//! The shapes that clients see: `dims`, also where the model sees others, and of outputs those that
//! they have.

use std::fs;

use forebay_client::{Request, Tensor, tensor};
use forebay_proto::inference::ModelConfigRequest;
use forebay_tests::{
    harness::{TestRepository, TestServer, within},
    models::Fixture,
};
use tokio::task::JoinSet;

/// Returns the file of a fixture.
fn module(fixture: Fixture) -> Vec<u8> {
    let source = TestRepository::default().with_fixtures(&[fixture]);
    fs::read(source.path().join(fixture.name()).join("1/model.pt")).unwrap()
}

/// Adds up rows of 2 x 3 elements, for a model that takes rows of 6.
const DIGEST: &str = "platform: 'pytorch_libtorch' max_batch_size: 6 \
    dynamic_batching { preferred_batch_size: 6 max_queue_delay_microseconds: 20000000 } \
    input { name: 'x' data_type: TYPE_INT32 dims: [ 2, 3 ] reshape { shape: [ 6 ] } } \
    output { name: 'digest' data_type: TYPE_INT64 dims: [ 1, 1 ] reshape { shape: [ 1 ] } }";

/// Rows of the numbers from 1.
fn numbers(rows: i64) -> Tensor {
    let count = i32::try_from(6 * rows).unwrap();
    let values: Vec<i32> = (1..=count).collect();
    tensor::from_slice("x", &values, [rows, 2, 3]).unwrap()
}

#[tokio::test]
async fn a_model_gets_rows_in_its_own_shape_and_clients_answers_in_theirs() {
    let server = TestServer::builder()
        .with_model("digest", DIGEST, Some(&module(Fixture::Digest)))
        .start()
        .await;
    let client = server.client().await;
    // The batch is full with the third request, and until then it waits.
    let mut calls = JoinSet::new();
    for rows in [1, 2, 3] {
        let client = client.clone();
        calls.spawn(async move {
            let request = Request::new("digest").with_input(numbers(rows));
            let reply = client.infer(request).await.unwrap();
            let digest = reply.output("digest").unwrap();
            assert_eq!(digest.shape().dims(), [rows, 1, 1]);
            // Squares of 1 to 6, and for each row before 6 more of each place.
            let expected: Vec<i64> = (0..rows).map(|row| 91 + 6 * row * 21).collect();
            assert_eq!(tensor::to_vec::<i64>(digest).unwrap(), expected);
        });
    }
    within(calls.join_all()).await;
    server.stop().await;
}

#[tokio::test]
async fn metadata_and_configuration_tell_dims() {
    let server = TestServer::builder()
        .with_model("digest", DIGEST, Some(&module(Fixture::Digest)))
        .start()
        .await;
    let metadata = within(server.client().await.model_metadata("digest")).await;
    let metadata = metadata.unwrap();
    assert_eq!(metadata.inputs[0].shape, [-1, 2, 3]);
    assert_eq!(metadata.outputs[0].shape, [-1, 1, 1]);
    let request = ModelConfigRequest {
        name: "digest".to_owned(),
        ..ModelConfigRequest::default()
    };
    let answer = within(server.service().await.model_config(request)).await;
    let config = answer.unwrap().into_inner().config.unwrap();
    assert_eq!(config.input[0].dims, [2, 3]);
    assert_eq!(config.input[0].reshape.as_ref().unwrap().shape, [6]);
    server.stop().await;
}

#[tokio::test]
async fn a_model_without_dimensions_but_the_batch_has_one_for_clients() {
    let of =
        |name: &str| format!("{{ name: '{name}' data_type: TYPE_FP32 dims: 1 reshape {{ }} }}");
    let config = format!(
        "platform: 'pytorch_libtorch' max_batch_size: 4 input {} output {}",
        of("INPUT__0"),
        of("OUTPUT__0")
    );
    let server = TestServer::builder()
        .with_model("scalars", &config, Some(&module(Fixture::IdentityFp32)))
        .start()
        .await;
    let client = server.client().await;
    let metadata = within(client.model_metadata("scalars")).await.unwrap();
    assert_eq!(metadata.inputs[0].shape, [-1, 1]);
    let input = tensor::from_slice("INPUT__0", &[1.5f32, 2.5, 3.5], [3, 1]).unwrap();
    let request = Request::new("scalars").with_input(input);
    // An output that had not come as [3] would be refused.
    let reply = within(client.infer(request)).await.unwrap();
    assert_eq!(reply.outputs()[0].shape().dims(), [3, 1]);
    let values: Vec<f32> = tensor::to_vec(&reply.outputs()[0]).unwrap();
    assert_eq!(values, [1.5, 2.5, 3.5]);
    server.stop().await;
}

#[tokio::test]
async fn strings_are_reshaped_too() {
    let config = "backend: 'identity' \
        input { name: 'x' data_type: TYPE_STRING dims: [ 2, -1 ] reshape { shape: [ 1, 2, -1 ] } } \
        output { name: 'y' data_type: TYPE_STRING dims: [ 2, -1 ] reshape { shape: [ 1, 2, -1 ] } }";
    let server = TestServer::builder()
        .with_model("texts", config, None)
        .start()
        .await;
    let texts = ["a", "", "bc", "d", "e", "f"];
    let input = tensor::from_strings("x", &texts, [2, 3]).unwrap();
    let client = server.client().await;
    let reply = within(client.infer(Request::new("texts").with_input(input))).await;
    let reply = reply.unwrap();
    assert_eq!(reply.outputs()[0].shape().dims(), [2, 3]);
    assert_eq!(tensor::to_strings(&reply.outputs()[0]).unwrap(), texts);
    server.stop().await;
}

#[tokio::test]
async fn a_reshape_to_another_number_of_elements_is_told_when_it_is_loaded() {
    let config = DIGEST.replace("[ 6 ]", "[ 5 ]");
    let server = TestServer::builder()
        .with_model("digest", &config, Some(&module(Fixture::Digest)))
        .start()
        .await;
    let client = server.client().await;
    assert!(!within(client.model_ready("digest")).await.unwrap());
    let index = within(client.repository_index()).await.unwrap();
    let text =
        "input[0].reshape.shape: [5] has another number of elements than dims, [2, 3]; use sizes";
    assert!(index[0].reason.contains(text), "{}", index[0].reason);
    server.stop().await;
}

#[tokio::test]
async fn an_output_that_differs_from_its_dims_is_answered_as_it_is() {
    let config = Fixture::IdentityFp32.config();
    let (input, output) = config.split_once("output").unwrap();
    let config = format!("{input}output{}", output.replace("[ -1 ]", "[ 7 ]"));
    let server = TestServer::builder()
        .with_model(
            "identity_fp32",
            &config,
            Some(&module(Fixture::IdentityFp32)),
        )
        .start()
        .await;
    let client = server.client().await;
    for width in [3, 4] {
        let values = vec![1.0f32; 2 * usize::try_from(width).unwrap()];
        let input = tensor::from_slice("INPUT__0", &values, [2, width]).unwrap();
        let request = Request::new("identity_fp32").with_input(input);
        let reply = within(client.infer(request)).await.unwrap();
        assert_eq!(reply.outputs()[0].shape().dims(), [2, width]);
    }
    let report = server.model("identity_fp32").report();
    assert_eq!(report.execution_count, 2);
    server.stop().await;
}
