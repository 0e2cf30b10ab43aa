//! Server reflection, for tools that have no `.proto` files.

use std::time::Duration;

use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};

const SERVICES: [&str; 2] = ["grpc.health.v1.Health", "inference.GRPCInferenceService"];

/// The two versions have the same messages in modules of their own.
macro_rules! lists_the_services {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };

            let server = TestServer::start(&[Fixture::Simple]).await;
            let mut client = ServerReflectionClient::new(server.channel().await);
            let ask = |request| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            };
            let requests = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(SERVICES[1].to_owned())),
            ]);
            let answers = within(client.server_reflection_info(requests)).await;
            let mut answers = answers.unwrap().into_inner();
            let mut next = async || {
                let answer = within(answers.message()).await.unwrap().unwrap();
                answer.message_response.unwrap()
            };
            let MessageResponse::ListServicesResponse(list) = next().await else {
                panic!("the services were asked for");
            };
            let listed = |name: &str| list.service.iter().any(|service| service.name == name);
            assert!(SERVICES.into_iter().all(listed), "{list:?}");
            let MessageResponse::FileDescriptorResponse(files) = next().await else {
                panic!("a file was asked for");
            };
            assert!(!files.file_descriptor_proto.is_empty());
            server.stop().await;
        }
    };
}

lists_the_services!(version_1_lists_the_services_and_has_their_files, v1);
lists_the_services!(
    version_1_alpha_lists_the_services_and_has_their_files,
    v1alpha
);

/// Some tools keep one open for as long as they run.
#[tokio::test]
async fn a_call_without_requests_does_not_hold_up_the_shutdown() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_drain_timeout(Duration::from_secs(3600))
        .start()
        .await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let answers = within(client.server_reflection_info(tokio_stream::pending())).await;
    let mut answers = answers.unwrap().into_inner();
    within(server.stop()).await;
    assert_eq!(within(answers.message()).await.unwrap(), None);
}
