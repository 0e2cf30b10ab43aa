//! Requests and replies on a stream that goes well.

use std::time::Duration;

use forebay_client::{Client, Code, InferError, Session, StreamOptions};

use crate::scripted::{Server, order, request, soon, values};

async fn session(server: &Server) -> Session {
    let client = server.client().await;
    client.stream(StreamOptions::default()).await.unwrap()
}

#[tokio::test]
async fn replies_find_their_tickets_whatever_their_order() {
    let server = Server::start();
    let client = server.client().await;
    let options = StreamOptions::default().with_completion_order(true);
    let session = client.stream(options).await.unwrap();
    // Ids that are absent, shared, and like those that the session makes up itself.
    let ids = ["", "same", "", "same", "fb-1", "fb-7", "same"];
    let mut tickets = Vec::new();
    for (value, id) in (0u8..).zip(ids) {
        let request = order("turn", &[value.into()]).with_id(id);
        tickets.push(session.submit(request).await.unwrap());
    }
    let last = session.submit(order("release", &[])).await.unwrap();
    let mut done = vec![soon(last).await.unwrap().timings().done];
    for ((value, id), ticket) in (0u8..).zip(ids).zip(tickets) {
        let reply = soon(ticket).await.unwrap();
        assert_eq!((values(&reply), reply.id()), (vec![value.into()], id));
        done.insert(1, reply.timings().done);
    }
    assert!(done.is_sorted(), "the server replied last first");
    soon(session.close()).await.unwrap();
}

#[tokio::test]
async fn every_reply_has_timings_of_its_own() {
    let server = Server::start();
    let session = session(&server).await;
    let sizes = [1, 1 << 20, 1, 1 << 20, 0];
    let mut tickets = Vec::new();
    for size in sizes {
        tickets.push(session.submit(request(&vec![0.0; size])).await.unwrap());
    }
    let mut before = None;
    for (size, ticket) in sizes.into_iter().zip(tickets) {
        let timings = soon(ticket).await.unwrap().timings();
        assert!(timings.reserved <= timings.sent && timings.sent < timings.first_byte);
        // Four mebibytes come in many pieces, and the clock runs between the first and the last.
        assert!(timings.first_byte < timings.done || size <= 1);
        let order = before <= Some(timings.first_byte);
        assert!(order, "a reply began before the one ahead of it");
        before = Some(if size <= 1 {
            timings.first_byte
        } else {
            timings.done
        });
    }
}

#[tokio::test]
async fn sent_is_when_the_transport_took_it_and_not_when_it_was_queued() {
    let server = Server::start();
    let session = session(&server).await;
    let permit = session.reserve(4).await.unwrap();
    // Runs on the one thread of this test, so the transport cannot take it before the await below.
    let ticket = permit.submit(request(&[1.0]));
    let queued = std::time::Instant::now();
    let timings = soon(ticket).await.unwrap().timings();
    assert!(timings.reserved < queued && queued < timings.sent);
}

#[tokio::test]
async fn a_request_that_is_late_is_not_sent_and_the_stream_goes_on() {
    let server = Server::start();
    let session = session(&server).await;
    let late = request(&[1.0]).with_timeout(Duration::ZERO);
    let error = soon(session.submit(late).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, InferError::Expired { .. }), "{error:?}");
    assert!(error.code() == Code::DeadlineExceeded && error.has_no_side_effects());
    assert_eq!(server.peak_bytes(), 0);
    for timeout in [Duration::from_secs(600), Duration::MAX] {
        let next = request(&[2.0]).with_timeout(timeout);
        let reply = soon(session.submit(next).await.unwrap()).await.unwrap();
        assert_eq!(values(&reply), [2.0]);
    }
    soon(session.close()).await.unwrap();
}

#[tokio::test]
async fn one_failed_request_leaves_the_others_alone() {
    let server = Server::start();
    let session = session(&server).await;
    let before = session.submit(order("gated", &[1.0])).await.unwrap();
    let failed = session.submit(order("fail", &[2.0])).await.unwrap();
    let broken = session.submit(order("broken", &[])).await.unwrap();
    let after = session.submit(request(&[3.0])).await.unwrap();
    let error = soon(failed).await.unwrap_err();
    assert!(
        matches!(&error, InferError::Failed { code: Code::ResourceExhausted, model, .. } if model == "m")
    );
    assert!(error.is_retryable());
    let error = soon(broken).await.unwrap_err();
    assert!(matches!(error, InferError::InvalidReply { .. }));
    assert_eq!(values(&soon(after).await.unwrap()), [3.0]);
    server.script.gate.add_permits(1);
    assert_eq!(values(&soon(before).await.unwrap()), [1.0]);
}

#[tokio::test]
async fn a_failure_without_id_belongs_to_the_oldest_request() {
    let server = Server::start();
    let session = session(&server).await;
    let failed = session.submit(order("fail_without_id", &[])).await.unwrap();
    let answered = session.submit(order("gated", &[])).await.unwrap();
    let error = soon(failed).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    server.script.gate.add_permits(1);
    soon(answered).await.unwrap();
}

#[tokio::test]
async fn requests_larger_than_a_message_fail_alone() {
    let server = Server::start();
    let builder = Client::builder(server.endpoint()).with_max_message_bytes(1000);
    let client = builder.connect().await.unwrap();
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request(&[0.0; 250])).await.unwrap();
    let error = soon(ticket).await.unwrap_err();
    assert!(matches!(error, InferError::MessageTooLarge { .. }));
    soon(session.submit(request(&[0.0; 200])).await.unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn servers_that_send_headers_with_their_first_reply_are_not_waited_for() {
    let server = Server::start_with(true);
    let client = server.client().await;
    let session = soon(client.stream(StreamOptions::default())).await.unwrap();
    let ticket = session.submit(request(&[1.0])).await.unwrap();
    assert_eq!(values(&soon(ticket).await.unwrap()), [1.0]);
}

#[tokio::test]
async fn calls_and_streams_take_turns_on_connections_of_their_own() {
    let server = Server::start();
    let builder = Client::builder(server.endpoint()).with_connections(2);
    let client = builder.connect().await.unwrap();
    for _ in 0..4 {
        soon(client.infer(request(&[]))).await.unwrap();
        let session = client.stream(StreamOptions::default()).await.unwrap();
        soon(session.submit(request(&[])).await.unwrap())
            .await
            .unwrap();
    }
    let [calls, streams] = &*server.script.peers.lock().unwrap();
    assert_eq!((calls.len(), streams.len()), (2, 2));
    assert!(calls.is_disjoint(streams));
}
