//! What is let in, what waits and what is refused.

use std::time::Duration;

use bytesize::ByteSize;
use forebay_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use forebay_proto::inference::{ModelInferRequest, ModelInferResponse};
use forebay_server::{admission, transport};
use http::HeaderMap;
use tonic::Code;
use tonic::transport::Endpoint;

use super::harness::{LONG, Server, until, within};
use super::raw::{Client, INFER, STREAM, infer, prefix};

const MIB: usize = 1024 * 1024;

/// Bytes of address space that this process has reserved.
fn reserved_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux keeps it");
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the first field is the size in pages") * 4096
}

#[tokio::test]
async fn a_prefix_that_claims_3_gib_is_refused_at_once_and_reserves_nothing() {
    let server = Server::with_budget(1024 * MIB as u64).await;
    let mut client = Client::connect(server.address).await;
    for method in [INFER, STREAM, "RepositoryModelLoad"] {
        let before = reserved_bytes();
        let mut call = client.call(method);
        call.send(prefix(3 << 30).to_vec(), false);
        let status = call.ended().await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{method}: {status}");
        assert!(
            status.message().contains("admission.max_message_bytes"),
            "{status}"
        );
        assert!(reserved_bytes() < before + (1 << 30));
        assert_eq!(server.budget.used(), 0);
    }
    assert_eq!(client.live().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_message_larger_than_the_whole_budget_is_refused_rather_than_left_waiting() {
    let server = Server::with_budget(1000).await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(STREAM);
    call.send(prefix(1001).to_vec(), false);
    let status = call.ended().await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().contains("whole host budget of 1000 bytes"),
        "{status}"
    );
}

#[tokio::test]
async fn a_message_that_stands_still_fails_and_gives_its_bytes_back() {
    let admission = admission::Config {
        progress_timeout: Duration::from_millis(150),
        ..admission::Config::default()
    };
    let server = Server::start(transport::Config::default(), &admission).await;
    let mut client = Client::connect(server.address).await;
    for (method, sent) in [(INFER, 0), (STREAM, 0), (STREAM, 10)] {
        let mut call = client.call(method);
        call.send([&prefix(1000)[..], &vec![0; sent]].concat(), false);
        until(|| server.budget.used() == 1000).await;
        let status = call.ended().await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(
            status
                .message()
                .contains("no byte of a message arrived for 150ms"),
            "{status}"
        );
        within(server.budget.drained()).await;
    }
}

#[tokio::test]
async fn a_stream_may_be_silent_between_messages() {
    let admission = admission::Config {
        progress_timeout: Duration::from_millis(50),
        ..admission::Config::default()
    };
    let server = Server::start(transport::Config::default(), &admission).await;
    let mut client = Client::connect(server.address).await;
    let (mut idle, mut stalled) = (client.call(STREAM), client.call(STREAM));
    idle.send(infer("m", 10), false);
    idle.reply().await.unwrap();
    stalled.send(prefix(9).to_vec(), false);
    // The stalled stream's end shows that the time is up for both.
    assert_eq!(stalled.ended().await.code(), Code::DeadlineExceeded);
    idle.send(infer("m", 10), true);
    idle.reply().await.unwrap();
    assert_eq!(idle.ended().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_reset_inside_a_message_gives_its_bytes_back() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    for method in [INFER, STREAM] {
        for reason in [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR] {
            let mut call = client.call(method);
            call.send([&prefix(5000)[..], &[0; 100]].concat(), false);
            until(|| server.budget.used() == 5000).await;
            call.send.send_reset(reason);
            within(server.budget.drained()).await;
        }
    }
    assert_eq!(client.live().await.code(), Code::Ok);
}

#[tokio::test]
async fn a_reset_while_a_message_waits_takes_it_out_of_the_line() {
    let server = Server::with_budget(10_000).await;
    let held = server.budget.charge(10_000);
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(STREAM);
    call.send(infer("m", 100), false);
    until(|| server.budget.waiting() == 1).await;
    call.send.send_reset(h2::Reason::CANCEL);
    until(|| server.budget.waiting() == 0).await;
    drop(held);
    assert_eq!(server.budget.used(), 0);
}

#[tokio::test]
async fn a_request_that_ends_inside_a_message_is_an_error_and_not_an_end() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    for bytes in [&prefix(10)[..3], &prefix(10)[..], &[0, 0, 0, 0, 2, 1]] {
        let mut call = client.call(STREAM);
        call.send(bytes.to_vec(), true);
        let status = call.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let mut call = client.call(STREAM);
    call.send(prefix(10).to_vec(), false);
    call.send.send_trailers(HeaderMap::new()).unwrap();
    assert_eq!(call.ended().await.code(), Code::InvalidArgument);
    within(server.budget.drained()).await;
}

#[tokio::test]
async fn a_stream_over_the_budget_waits_while_others_on_its_connection_go_on() {
    let admission = admission::Config {
        host_bytes: ByteSize(8 * MIB as u64),
        progress_timeout: LONG,
        ..admission::Config::default()
    };
    let server = Server::start(transport::Config::default(), &admission).await;
    let mut client = Client::connect(server.address).await;

    // One stream has its message admitted and sends only the beginning of it.
    let message = infer("m", 4 * MIB);
    let (beginning, rest) = message.split_at(MIB);
    let mut goes_on = client.call(STREAM);
    goes_on.send(beginning.to_vec(), false);
    until(|| server.budget.used() > 4 * MIB as u64).await;

    // Another fills the budget and then wants more than there will be when the first is done.
    let mut waits = client.call(STREAM);
    waits.send(infer("hold", 3 * MIB), false);
    waits.reply().await.unwrap();
    waits.send(infer("m", 6 * MIB), false);
    until(|| server.budget.waiting() == 1).await;

    goes_on.send(rest.to_vec(), true);
    goes_on.reply().await.unwrap();
    assert_eq!(goes_on.ended().await.code(), Code::Ok);
    assert_eq!(client.live().await.code(), Code::Ok);
    assert_eq!((server.budget.waiting(), server.script.held()), (1, 1));

    server.script.let_go();
    assert!(waits.reply().await.unwrap().parse::<usize>().unwrap() > 6 * MIB);
    within(server.budget.drained()).await;
}

#[tokio::test]
async fn a_unary_call_over_the_budget_is_refused_while_health_checks_are_answered() {
    let server = Server::with_budget(10_000).await;
    let held = server.budget.charge(12_000);
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(INFER);
    call.send(infer("m", 500), true);
    let status = call.ended().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status
            .message()
            .contains("do not fit into the host budget now"),
        "{status}"
    );
    assert_eq!(client.live().await.code(), Code::Ok);
    drop(held);
    let mut call = client.call(INFER);
    call.send(infer("m", 500), true);
    call.message::<ModelInferResponse>().await.unwrap();
}

#[tokio::test]
async fn each_message_brings_a_permit_of_its_own_length() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    let messages = [
        infer("m", 0),
        infer("m", 1),
        prefix(0).to_vec(),
        infer("hold", 3000),
        infer("m", 70),
    ];
    let mut call = client.call(STREAM);
    call.send(messages.concat(), true);
    for message in &messages {
        assert_eq!(call.reply().await.unwrap(), (message.len() - 5).to_string());
    }
    assert_eq!(call.ended().await.code(), Code::Ok);
    until(|| server.budget.used() == (messages[3].len() - 5) as u64).await;
}

#[tokio::test]
async fn a_stock_client_learns_why_its_message_was_refused_while_it_still_sends() {
    let admission = admission::Config {
        max_message_bytes: ByteSize::mib(1),
        ..admission::Config::default()
    };
    let server = Server::start(transport::Config::default(), &admission).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut client = GrpcInferenceServiceClient::new(endpoint.connect().await.unwrap());
    for _ in 0..20 {
        let request = ModelInferRequest {
            raw_input_contents: vec![vec![0; 5 * MIB].into()],
            ..ModelInferRequest::default()
        };
        let status = within(client.model_infer(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(
            status.message().contains("admission.max_message_bytes"),
            "{status}"
        );
    }
}
