//! Single calls.

use std::time::Duration;

use forebay_client::{CallError, Client, Code, ConnectError, DataType, InferError, ServerTimings};

use crate::scripted::{Server, order, request, soon, values};

#[tokio::test]
async fn tells_what_the_server_says_of_itself_and_its_models() {
    let server = Server::start();
    let client = server.client().await;
    assert!(client.server_live().await.unwrap());
    assert!(!client.server_ready().await.unwrap());
    assert!(client.model_ready("m").await.unwrap());
    assert_eq!(
        client.server_metadata().await.unwrap().extensions,
        ["sequence"]
    );
    let metadata = client.model_metadata("m").await.unwrap();
    assert_eq!(metadata.inputs[0].datatype, DataType::Fp32);
    assert_eq!(metadata.outputs[0].shape, [-1, 3]);
    assert_eq!(client.model_config("m").await.unwrap().max_batch_size, 8);
    let statistics = client.model_statistics("m").await.unwrap();
    assert_eq!(statistics[0].queue.total, Duration::from_nanos(2500));
    let statistics = client.statistics("m").await.unwrap();
    let pipeline = statistics.models[0].pipeline.unwrap();
    assert_eq!(pipeline.computing_fraction(), Some(0.75));
    assert_eq!(statistics.devices[0].utilization_percent, Some(61));
    assert_eq!(client.repository_index().await.unwrap()[0].state, "READY");
    let error = client.model_metadata("other").await.unwrap_err();
    assert!(matches!(error, CallError::UnknownDatatype { datatype, .. } if datatype == "FP12"));
}

#[tokio::test]
async fn an_inference_brings_outputs_id_and_timings_in_order() {
    let server = Server::start();
    let client = server.client().await;
    let request = request(&[1.0, 2.0]).with_id("7").with_server_timings();
    let reply = client.infer(request).await.unwrap();
    assert_eq!((reply.id(), values(&reply)), ("7", vec![1.0, 2.0]));
    let timings = reply.timings();
    assert!(timings.reserved < timings.sent && timings.sent < timings.first_byte);
    assert!(timings.first_byte < timings.done);
    let nanos = Duration::from_nanos;
    let expected = ServerTimings {
        queue: nanos(1),
        h2d: nanos(2),
        compute: nanos(3),
        d2h: nanos(4),
        residency: Duration::ZERO,
        parked: None,
        onboard: None,
    };
    assert_eq!(reply.server_timings(), Some(expected));
    let on_disk = crate::scripted::request(&[])
        .with_parameter("was_on_disk", forebay_client::Parameter::Bool(true))
        .with_server_timings();
    let expected = ServerTimings {
        residency: nanos(5),
        parked: Some(nanos(6)),
        onboard: Some(nanos(7)),
        ..expected
    };
    let reply = client.infer(on_disk).await.unwrap();
    assert_eq!(reply.server_timings(), Some(expected));
}

#[tokio::test]
async fn messages_beyond_the_usual_four_mebibytes_pass() {
    let server = Server::start();
    let client = server.client().await;
    let reply = client.infer(request(&vec![0.5; 3 << 20])).await.unwrap();
    assert_eq!(values(&reply).len(), 3 << 20);
    let timings = reply.timings();
    assert!(timings.first_byte < timings.done);
}

#[tokio::test]
async fn refusals_keep_code_and_text() {
    let server = Server::start();
    let client = server.client().await;
    let error = client.infer(order("exhausted", &[])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.is_retryable() && error.has_no_side_effects());
    assert_eq!(
        error.to_string(),
        "model 'm' answered RESOURCE_EXHAUSTED: the queue is full; \
         retry after a pause or send less at once"
    );
    let error = client.infer(order("broken", &[])).await.unwrap_err();
    assert!(matches!(error, InferError::InvalidReply { .. }) && !error.is_retryable());
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_this_side_too() {
    let server = Server::start();
    let client = server.client().await;
    let request = order("hang", &[]).with_timeout(Duration::from_millis(20));
    let error = soon(client.infer(request)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(!error.has_no_side_effects());
}

#[tokio::test]
async fn deadlines_longer_than_headers_can_name_are_none() {
    let server = Server::start();
    let client = server.client().await;
    let longest = Duration::from_secs(99_999_999 * 3600);
    for timeout in [longest, longest + Duration::from_secs(3600), Duration::MAX] {
        let request = request(&[1.0]).with_timeout(timeout);
        let reply = soon(client.infer(request)).await.unwrap();
        assert_eq!(values(&reply), [1.0]);
    }
}

#[tokio::test]
async fn calls_about_models_are_given_up_in_time_and_inferences_go_on() {
    let server = Server::start();
    let builder = Client::builder(server.endpoint());
    let builder = builder.with_call_timeout(Duration::from_millis(20));
    let client = soon(builder.connect()).await.unwrap();
    let error = tokio::select! {
        biased;
        reply = client.infer(order("hang", &[])) => panic!("{reply:?}"),
        ready = soon(client.model_ready("hang")) => ready.unwrap_err(),
    };
    assert!(
        matches!(&error, CallError::DeadlineExceeded { call, .. } if *call == "ModelReady"),
        "{error:?}"
    );
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_and_not_cancelled() {
    let server = Server::start();
    let client = server.client().await;
    let told = client.infer(order("cancelled", &[])).await.unwrap_err();
    assert_eq!(told.code(), Code::Cancelled);

    let call = tokio::spawn({
        let client = client.clone();
        async move { client.infer(order("hang", &[])).await }
    });
    // The call is on the connection before this one, which was answered.
    tokio::task::yield_now().await;
    client.infer(request(&[])).await.unwrap();
    server.crash();
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(
        matches!(error, InferError::ConnectionLost { .. }),
        "{error:?}"
    );
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.is_retryable() && !error.has_no_side_effects());
    let error = soon(client.server_live()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn oversized_requests_are_refused_before_they_are_sent() {
    let server = Server::start();
    let builder = Client::builder(server.endpoint()).with_max_message_bytes(1000);
    let client = builder.connect().await.unwrap();
    let error = client.infer(request(&[0.0; 300])).await.unwrap_err();
    assert!(matches!(
        error,
        InferError::MessageTooLarge { limit: 1000, .. }
    ));
    assert_eq!(server.peak_bytes(), 0);
}

#[tokio::test]
async fn connecting_says_what_is_wrong_with_the_endpoint() {
    let connect = |endpoint: &str| Client::connect(endpoint.to_owned());
    for endpoint in ["127.0.0.1:1", "https://127.0.0.1:1", "no endpoint", ""] {
        let error = connect(endpoint).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidEndpoint { .. }),
            "{error}"
        );
    }
    let server = Server::start();
    let endpoint = server.endpoint();
    let no_connections = Client::builder(endpoint.clone()).with_connections(0);
    let error = no_connections.connect().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "with_connections is 0; it must be between 1 and 1024"
    );
    server.crash();
    let error = connect(&endpoint).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}
