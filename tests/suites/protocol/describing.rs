//! What the server tells of itself and its models.

use forebay_client::DataType;
use forebay_proto::inference::{ModelConfigRequest, ModelReadyRequest, RepositoryIndexRequest};
use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};

#[tokio::test]
async fn a_server_whose_models_are_loaded_is_live_and_ready() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let client = server.client().await;
    assert!(within(client.server_live()).await.unwrap());
    assert!(within(client.server_ready()).await.unwrap());
    assert!(within(client.model_ready("simple")).await.unwrap());
    assert!(!within(client.model_ready("nobody")).await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_version_that_is_not_there_is_not_ready() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut service = server.service().await;
    for (version, ready) in [("", true), ("1", true), ("2", false)] {
        let request = ModelReadyRequest {
            name: "simple".to_owned(),
            version: version.to_owned(),
        };
        let answer = within(service.model_ready(request)).await.unwrap();
        assert_eq!(answer.into_inner().ready, ready, "version `{version}`");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_server_names_itself_and_its_extensions() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let metadata = within(server.client().await.server_metadata()).await;
    let metadata = metadata.unwrap();
    assert_eq!(metadata.name, "forebay");
    assert_eq!(metadata.version, env!("CARGO_PKG_VERSION"));
    for extension in ["statistics", "sequence", "model_configuration"] {
        let has = metadata.extensions.iter().any(|it| it == extension);
        assert!(has, "{extension} is not among {:?}", metadata.extensions);
    }
    server.stop().await;
}

#[tokio::test]
async fn metadata_shows_the_signature_with_the_batch_first() {
    let server = TestServer::start(&[Fixture::Simple, Fixture::Scaled]).await;
    let client = server.client().await;
    let simple = within(client.model_metadata("simple")).await.unwrap();
    assert_eq!(simple.name, "simple");
    assert_eq!(simple.versions, ["1"]);
    assert_eq!(simple.platform, "pytorch_libtorch");
    let names = |tensors: &[forebay_client::TensorMetadata]| -> Vec<String> {
        tensors.iter().map(|tensor| tensor.name.clone()).collect()
    };
    assert_eq!(names(&simple.inputs), ["INPUT0", "INPUT1"]);
    assert_eq!(names(&simple.outputs), ["OUTPUT0", "OUTPUT1"]);
    assert_eq!(simple.inputs[0].datatype, DataType::Int32);
    assert_eq!(simple.inputs[0].shape, [-1, 16]);

    let scaled = within(client.model_metadata("scaled")).await.unwrap();
    assert_eq!(names(&scaled.inputs), ["x", "times", "by", "negate"]);
    assert_eq!(scaled.inputs[1].shape, [1]);
    server.stop().await;
}

#[tokio::test]
async fn a_configuration_is_told_as_it_was_written() {
    let server = TestServer::start(&[Fixture::Mlp]).await;
    let request = ModelConfigRequest {
        name: "mlp".to_owned(),
        ..ModelConfigRequest::default()
    };
    let answer = within(server.service().await.model_config(request)).await;
    let config = answer.unwrap().into_inner().config.unwrap();
    assert_eq!(config.name, "mlp");
    assert_eq!(config.max_batch_size, 64);
    assert_eq!(config.input[0].dims, [784]);
    assert_eq!(config.output[0].name, "OUTPUT__0");
    // Which scheduler there is decides how load generators behave.
    assert!(config.scheduling_choice.is_some(), "{config:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_index_lists_what_is_ready_and_on_request_nothing_else() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple, Fixture::Strings])
        .with_model("broken", "name: \"broken\"", None)
        .start()
        .await;
    let mut service = server.service().await;
    for (ready, expected) in [
        (false, vec!["broken", "simple", "strings"]),
        (true, vec!["simple", "strings"]),
    ] {
        let request = RepositoryIndexRequest {
            ready,
            ..RepositoryIndexRequest::default()
        };
        let answer = within(service.repository_index(request)).await.unwrap();
        let models = answer.into_inner().models;
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, expected);
    }
    server.stop().await;
}
