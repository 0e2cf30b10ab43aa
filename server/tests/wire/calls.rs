//! How calls end: at their deadline, or by a fault of ours.

use forebay_proto::inference::{ServerLiveRequest, ServerLiveResponse};
use tonic::Code;

use super::harness::{Server, within};
use super::raw::{Client, INFER, LIVE, STREAM, framed, infer};

#[tokio::test]
async fn a_call_past_its_deadline_before_the_response_head_is_cut() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call_with(INFER, &[("grpc-timeout", "60m")]);
    call.send(infer("wait", 10), true);
    let status = call.ended().await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "deadline of 60ms passed");
    within(server.script.call_ended.cancelled()).await;
    within(server.budget.drained()).await;
}

#[tokio::test]
async fn a_stream_past_its_deadline_ends_after_what_it_has_sent() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call_with(STREAM, &[("grpc-timeout", "300000u")]);
    call.send(infer("m", 10), false);
    call.reply().await.unwrap();
    let status = call.reply().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "deadline of 300ms passed");
    within(server.script.call_ended.cancelled()).await;
}

#[tokio::test]
async fn a_deadline_frees_what_a_peer_that_does_not_read_makes_the_server_hold() {
    let server = Server::with_budget(1_000_000).await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call_with(STREAM, &[("grpc-timeout", "500m")]);
    // More replies than the windows of a client that reads none of them let through.
    call.send(infer("verbose", 100).repeat(100), false);
    within(server.script.call_ended.cancelled()).await;
    within(server.budget.drained()).await;
    assert_eq!(call.ended().await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_ends_a_message_that_waits_for_its_bytes() {
    let server = Server::with_budget(1000).await;
    let _held = server.budget.charge(1000);
    let mut client = Client::connect(server.address).await;
    let mut call = client.call_with(STREAM, &[("grpc-timeout", "60m")]);
    call.send(infer("m", 10), false);
    assert_eq!(call.ended().await.code(), Code::DeadlineExceeded);
    within(server.script.call_ended.cancelled()).await;
    assert_eq!(server.budget.waiting(), 0);
}

#[tokio::test]
async fn a_handler_learns_of_the_deadline_only_where_there_is_one() {
    let server = Server::with_budget(1000).await;
    let mut client = Client::connect(server.address).await;
    for headers in [&[][..], &[("grpc-timeout", "20S")]] {
        let mut call = client.call_with(LIVE, headers);
        call.send(framed(&ServerLiveRequest {}), true);
        let response: ServerLiveResponse = call.message().await.unwrap();
        assert_eq!(response.live, headers.is_empty());
        assert_eq!(call.ended().await.code(), Code::Ok);
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_refused_by_name() {
    let server = Server::with_budget(1000).await;
    let mut client = Client::connect(server.address).await;
    for value in ["5x", "S", "123456789S", "-1S"] {
        let mut call = client.call_with(LIVE, &[("grpc-timeout", value)]);
        let status = call.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("grpc-timeout"), "{status}");
    }
}

#[tokio::test]
async fn a_panic_ends_its_own_call_with_internal() {
    let server = Server::with_budget(10_000).await;
    let mut client = Client::connect(server.address).await;
    let mut stream = client.call(STREAM);
    stream.send(infer("m", 10), false);
    stream.reply().await.unwrap();

    let mut unary = client.call(INFER);
    unary.send(infer("panic", 10), true);
    assert_eq!(unary.ended().await.code(), Code::Internal);
    stream.send(infer("panic", 10), false);
    let status = stream.ended().await;
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("scripted"), "{status}");

    assert_eq!(client.live().await.code(), Code::Ok);
    within(server.budget.drained()).await;
}
