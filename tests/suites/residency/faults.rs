//! Models that do not fit, do not come back, or are not waited for.

use std::time::Instant;

use forebay_client::Code;
use forebay_proto::inference::ModelStatisticsRequest;
use forebay_server::executor;
use forebay_tests::{harness::until, models::Fixture};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;

fn reason(server: &TestServer, model: &str) -> String {
    let index = server.registry().index(false);
    let entry = index.into_iter().find(|entry| entry.name == model);
    entry.unwrap().reason
}

#[tokio::test]
async fn a_model_that_never_fits_is_refused_with_the_figures() {
    let repository = with_layer(pinned(models(2), "m0"), "large", 1536, 1.0);
    let server = within_kib(repository, 2100).start().await;
    let reason = reason(&server, "large");
    for part in [
        "1572864 bytes",
        "registry.weights_bytes = 2150400",
        "1048576",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    let client = server.client().await;
    assert!(!within(client.model_ready("large")).await.unwrap());
    ask(&client, 1, 1.0).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn sequences_and_lru_do_not_go_together() {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Counter]);
    let file = repository.path().join("counter/config.pbtxt");
    let says = "parameters { key: 'model_residency' value { string_value: 'lru' } }";
    fs::write(&file, format!("{}\n{says}\n", Fixture::Counter.config())).unwrap();
    let server = within_kib(repository, 2100).start().await;
    let reason = reason(&server, "counter");
    assert!(reason.contains("lru would lose the state"), "{reason}");
    server.stop().await;
}

#[tokio::test]
async fn a_model_whose_file_is_gone_is_not_ready_until_a_request_finds_it_again() {
    let server = within_kib(models(2), 1100).start().await;
    let client = server.client().await;
    ask(&client, 0, 1.0).await.unwrap();
    let file = server.repository().path().join("m1/1/model.pt");
    let aside = server.repository().scratch().join("aside.pt");
    fs::rename(&file, &aside).unwrap();

    let refused = ask(&client, 1, 1.0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(
        refused.to_string().contains("model.pt cannot be read"),
        "{refused}"
    );
    assert!(!within(client.model_ready("m1")).await.unwrap());
    assert!(reason(&server, "m1").contains("put it back"));
    // Others go on, and what is refused is not tried at each request.
    ask(&client, 0, 1.0).await.unwrap();
    let refused = ask(&client, 1, 1.0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    fs::rename(&aside, &file).unwrap();
    let again = Instant::now();
    while let Err(refused) = ask(&client, 1, 1.0).await {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(
            again.elapsed() < Duration::from_secs(20),
            "it does not come back"
        );
    }
    assert!(within(client.model_ready("m1")).await.unwrap());
    assert_eq!(residency(&server, 1).brought_in_count, 1);
    server.stop().await;
}

#[tokio::test]
async fn what_could_not_come_is_ready_again_without_a_request_and_health_tells() {
    let server = within_kib(models(2), 1100).start().await;
    let client = server.client().await;
    let mut health = HealthClient::new(server.channel().await);
    let asked = HealthCheckRequest::default();
    let mut told = within(health.watch(asked)).await.unwrap().into_inner();
    let mut next = async || {
        let told = within(told.message()).await.unwrap().unwrap();
        told.status()
    };
    assert_eq!(next().await, ServingStatus::Serving);
    let file = server.repository().path().join("m1/1/model.pt");
    let aside = server.repository().scratch().join("aside.pt");
    fs::rename(&file, &aside).unwrap();
    ask(&client, 1, 1.0).await.unwrap_err();
    assert_eq!(next().await, ServingStatus::NotServing);
    assert!(!within(client.server_ready()).await.unwrap());
    fs::rename(&aside, &file).unwrap();
    assert_eq!(next().await, ServingStatus::Serving);
    assert!(within(client.server_ready()).await.unwrap());
    assert_eq!(resident(&server, 2), [1]);
    server.stop().await;
}

#[tokio::test]
async fn statistics_of_a_model_that_takes_no_requests_go_on() {
    let server = within_kib(models(2), 1100).start().await;
    let client = server.client().await;
    let file = server.repository().path().join("m1/1/model.pt");
    fs::remove_file(&file).unwrap();
    for _ in 0..3 {
        ask(&client, 1, 1.0).await.unwrap_err();
    }
    for (model, version) in [("", ""), ("m1", ""), ("m1", "1")] {
        let request = ModelStatisticsRequest {
            name: model.to_owned(),
            version: version.to_owned(),
        };
        let told = within(server.service().await.model_statistics(request)).await;
        let stats = told.unwrap().into_inner().model_stats;
        let its = stats.iter().find(|one| one.name == "m1").unwrap();
        let fail = its.inference_stats.unwrap().fail.unwrap();
        assert_eq!(fail.count, 3, "{model:?} {version:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_was_changed_is_not_taken_for_the_one_that_was_checked() {
    let server = within_kib(models(2), 1100).start().await;
    let client = server.client().await;
    let folder = server.repository().path();
    fs::copy(folder.join("m0/1/model.pt"), folder.join("m1/1/model.pt")).unwrap();
    let refused = ask(&client, 1, 1.0).await.unwrap_err();
    assert!(refused.to_string().contains("is not the file"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_counts_while_weights_are_waited_for() {
    // A pass of the one in memory takes longer than the deadline.
    let pass = Duration::from_millis(600);
    let server = within_kib(models(2), 1100)
        .with_simulated(Duration::ZERO, pass, Duration::ZERO)
        .with_mode(executor::Mode::Inline)
        .start()
        .await;
    let client = server.client().await;
    let busy = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, 0, 1.0).await }
    });
    let holder = server.model("m0");
    until(|| server.budget().used() > 0 && holder.scheduler.is_empty()).await;
    let hurried = request(1, 1.0).with_timeout(Duration::from_millis(50));
    let late = within(client.infer(hurried)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    within(busy).await.unwrap().unwrap();
    // Nobody waited for it any more.
    assert_eq!(residency(&server, 1).brought_in_count, 0);
    assert_eq!(resident(&server, 2), [0]);
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_fails_ends_also_models_out_of_memory() {
    let server = within_kib(models(2), 1100)
        .with_simulated(Duration::ZERO, Duration::ZERO, Duration::ZERO)
        .with_config(|config| config.device.fails_at = Some(40))
        .start()
        .await;
    let client = server.client().await;
    let mut failed = None;
    for number in 0..100 {
        failed = ask(&client, number % 2, 1.0).await.err();
        if failed.is_some() {
            break;
        }
    }
    let failed = failed.expect("the device fails");
    assert_eq!(failed.code(), Code::Unavailable, "{failed}");
    for (index, model) in ["m0", "m1"].into_iter().enumerate() {
        assert!(reason(&server, model).contains("has failed"));
        let refused = ask(&client, index, 1.0).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    server.stop().await;
}
