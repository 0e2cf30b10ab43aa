//! A device that fails for good, while the server serves.

use std::time::Duration;

use forebay_client::{Client, Code, InferError, Request, StreamOptions, tensor};
use forebay_proto::inference::{
    ModelReadyRequest, RepositoryIndexRequest, ServerLiveRequest, ServerReadyRequest,
    repository_index_response::ModelIndex,
};
use forebay_server::device::OnFailure;
use forebay_tests::{
    harness::{Process, TestRepository, TestServer, within},
    models::Fixture,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The operation at which the device fails: some way into the requests.
const FAILS_AT: u64 = 300;

/// Exit status of a server that ended because of its device.
const DEVICE_FAILED: i32 = 70;

fn request() -> Request {
    let input = |name| tensor::from_slice(name, &[1i32; 16], [1, 16]).unwrap();
    Request::new("simple")
        .with_input(input("INPUT0"))
        .with_input(input("INPUT1"))
}

async fn start(on_failure: OnFailure) -> TestServer {
    TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_simulated(Duration::ZERO, Duration::ZERO, Duration::ZERO)
        .with_config(|config| {
            config.device.fails_at = Some(FAILS_AT);
            config.device.on_failure = on_failure;
        })
        .start()
        .await
}

/// Asks until the device fails, and returns what the first request that was not answered was told.
async fn until_it_fails(client: &Client) -> (Code, String) {
    for _ in 0..=FAILS_AT {
        match within(client.infer(request())).await {
            Ok(_) => {}
            Err(InferError::Failed { code, message, .. }) => return (code, message),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the device did not fail");
}

/// Sends many requests at once and checks that each is answered: with outputs, or with the reason.
async fn each_of_many_is_answered(client: &Client) {
    const MANY: usize = 2000;
    let options = StreamOptions::default().with_requests_in_flight(64);
    let session = within(client.stream(options)).await.unwrap();
    let mut tickets = Vec::new();
    for _ in 0..MANY {
        tickets.push(within(session.submit(request())).await.unwrap());
    }
    let (mut answered, mut refused) = (0, 0);
    for ticket in tickets {
        match within(ticket).await {
            Ok(_) => answered += 1,
            Err(InferError::Failed { code, message, .. }) => {
                assert_eq!(code, Code::Unavailable, "{message}");
                assert!(message.contains("has failed"), "{message}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(answered + refused, MANY);
    assert!(answered > 0 && refused > 0, "{answered} and {refused}");
    within(session.close()).await.unwrap();
}

#[tokio::test]
async fn its_models_are_not_ready_and_tell_the_reason() {
    let server = start(OnFailure::NotReady).await;
    let mut health = HealthClient::new(server.channel().await);
    let asking = HealthCheckRequest::default();
    let mut watch = within(health.watch(asking)).await.unwrap().into_inner();
    let first = within(watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);

    let client = server.client().await;
    let (code, text) = until_it_fails(&client).await;
    assert_eq!(code, Code::Unavailable, "{text}");
    assert!(text.contains("device 'simulated' has failed"), "{text}");
    let (code, text) = until_it_fails(&client).await;
    assert_eq!(code, Code::Unavailable, "{text}");
    assert!(text.contains("not at ready state"), "{text}");

    let next = within(watch.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    let mut service = server.service().await;
    let ready = within(service.server_ready(ServerReadyRequest {})).await;
    assert!(!ready.unwrap().into_inner().ready);
    let live = within(service.server_live(ServerLiveRequest {})).await;
    assert!(live.unwrap().into_inner().live);
    let asked = ModelReadyRequest {
        name: "simple".to_owned(),
        version: "1".to_owned(),
    };
    let ready = within(service.model_ready(asked)).await;
    assert!(!ready.unwrap().into_inner().ready);
    let index = within(service.repository_index(RepositoryIndexRequest::default())).await;
    let [ModelIndex { state, reason, .. }] = &index.unwrap().into_inner().models[..] else {
        panic!("there is one model");
    };
    assert_eq!(state, "UNAVAILABLE");
    assert!(reason.contains("device 'simulated' has failed"), "{reason}");
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn of_many_requests_each_is_answered_once() {
    let server = start(OnFailure::NotReady).await;
    each_of_many_is_answered(&server.client().await).await;
    server.stop().await;
}

fn served(on_failure: &str) -> String {
    format!(
        "scheduler.intra_op_threads = 1\n\
         telemetry.log = 'warn'\n\
         device = {{ kind = 'simulated', fails_at = {FAILS_AT}, on_failure = '{on_failure}' }}\n"
    )
}

#[tokio::test]
async fn told_to_exit_the_process_answers_and_ends_with_a_status_of_its_own() {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Simple]);
    let mut process = Process::start(repository, &served("exit")).await;
    let client = process.client().await;
    let (code, text) = until_it_fails(&client).await;
    assert_eq!(code, Code::Unavailable, "{text}");
    assert_eq!(process.wait().await.code(), Some(DEVICE_FAILED));
}

#[tokio::test]
async fn by_default_the_process_goes_on_and_ends_well() {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Simple]);
    let mut process = Process::start(repository, &served("not_ready")).await;
    let client = process.client().await;
    until_it_fails(&client).await;
    assert!(!within(client.model_ready("simple")).await.unwrap());
    process.sigterm().await;
    assert_eq!(process.wait().await.code(), Some(0));
}
