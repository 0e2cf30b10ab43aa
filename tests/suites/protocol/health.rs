//! `grpc.health.v1`.

use forebay_tests::{
    harness::{TestServer, within},
    models::Fixture,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

#[tokio::test]
async fn check_tells_of_the_server_under_any_name() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = HealthClient::new(server.channel().await);
    for service in SERVICES.into_iter().chain(["a name of the user's"]) {
        let answer = within(client.check(asking(service))).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    server.stop().await;
}

#[tokio::test]
async fn only_the_server_and_the_service_can_be_watched() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = HealthClient::new(server.channel().await);
    let status = within(client.watch(asking("nobody"))).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_server_with_a_broken_model_does_not_serve_in_full() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_model("broken", "name: \"broken\"", None)
        .start()
        .await;
    let mut client = HealthClient::new(server.channel().await);
    for service in ["", "a name of the user's"] {
        let answer = within(client.check(asking(service))).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_the_shutdown_and_does_not_hold_it_up() {
    let server = TestServer::start(&[Fixture::Simple]).await;
    let mut client = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for service in SERVICES {
        let watch = within(client.watch(asking(service))).await.unwrap();
        watches.push(watch.into_inner());
    }
    for watch in &mut watches {
        let first = within(watch.message()).await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
    }
    server.begin_shutdown();
    for watch in &mut watches {
        let next = within(watch.message()).await.unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
    let drained = server.stop().await;
    assert_eq!(drained.connections_aborted, 0);
}
