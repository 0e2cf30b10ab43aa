//! Models are warm before they are ready.

use std::fs;

use forebay_client::{Request, tensor};
use forebay_tests::{
    harness::{TestRepository, TestServer, within},
    models::{self, Fixture},
};

mod timing;

fn thrower(first: f32) -> TestRepository {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Thrower]);
    let dir = repository.path().join("thrower");
    let warmup = "model_warmup { name: 'of a file' batch_size: 2 inputs { key: 'x' value { \
        data_type: TYPE_FP32 dims: 4 input_data_file: 'x.bin' } } }";
    let config = format!("{}\n{warmup}", Fixture::Thrower.config());
    let config = config.replace("dims: [ -1 ]", "dims: [ 4 ]");
    fs::write(dir.join("config.pbtxt"), config).unwrap();
    fs::create_dir(dir.join("warmup")).unwrap();
    let values: Vec<u8> = [first, 1.0, 1.0, 1.0]
        .iter()
        .flat_map(|value: &f32| value.to_le_bytes())
        .collect();
    fs::write(dir.join("warmup/x.bin"), values).unwrap();
    repository
}

#[tokio::test]
async fn a_model_that_fails_its_own_warm_up_is_not_ready_and_says_why() {
    for (first, ready) in [(1.0, true), (-1.0, false)] {
        let server = TestServer::builder()
            .with_repository(thrower(first))
            .start()
            .await;
        let client = server.client().await;
        assert_eq!(within(client.model_ready("thrower")).await.unwrap(), ready);
        let reasons: Vec<String> = server
            .registry()
            .index(false)
            .into_iter()
            .map(|entry| entry.reason)
            .collect();
        let told = reasons[0].starts_with("model_warmup 'of a file': ")
            && reasons[0].contains("the first element is -1");
        assert_eq!(told, !ready, "{reasons:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn nothing_of_the_warm_up_is_left() {
    // The fixture that counts its calls, for requests that belong to no sequence.
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Counter]).unwrap();
    let module = fs::read(dir.path().join("counter/1/model.pt")).unwrap();
    let config = Fixture::Counter.config();
    let config = &config[..config.find("sequence_batching").unwrap()];
    let server = TestServer::builder()
        .with_model("counter", config, Some(&module))
        .start()
        .await;
    let client = server.client().await;
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let reply = within(client.infer(Request::new("counter").with_input(input))).await;
    let reply = reply.unwrap();
    let total: Vec<f32> = tensor::to_vec(reply.output("OUTPUT__1").unwrap()).unwrap();
    assert_eq!(total, [1.0]);
    let report = server.model("counter").statistics.report("counter", 1);
    assert_eq!((report.execution_count, report.inference_count), (1, 1));
    server.stop().await;
}
