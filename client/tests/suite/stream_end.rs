//! How streams end, and who is told.

use forebay_client::{Code, InferError, Session, StreamOptions, Ticket};

use crate::scripted::{Server, order, request, soon, values};

async fn session(server: &Server) -> Session {
    let client = server.client().await;
    client.stream(StreamOptions::default()).await.unwrap()
}

async fn submit(session: &Session, what: &str) -> Ticket {
    session.submit(order(what, &[1.0])).await.unwrap()
}

/// Sends `last`, and returns the error of two tickets, a late submit, a late reserve and `close`.
async fn errors_after(server: &Server, last: &str) -> Vec<InferError> {
    let session = session(server).await;
    let permit = session.reserve(4).await.unwrap();
    let held = submit(&session, "gated").await;
    let last = submit(&session, last).await;
    let mut errors = Vec::new();
    errors.push(soon(held).await.unwrap_err());
    errors.push(soon(last).await.unwrap_err());
    errors.push(soon(permit.submit(request(&[1.0]))).await.unwrap_err());
    errors.push(soon(session.reserve(1)).await.unwrap_err());
    errors.push(soon(session.close()).await.unwrap_err());
    errors
}

#[tokio::test]
async fn a_shutdown_reaches_every_ticket_as_one_retryable_error() {
    let server = Server::start();
    for error in errors_after(&server, "unavailable").await {
        assert_eq!(
            error.to_string(),
            "the server ended the stream with UNAVAILABLE: shutting down; \
             retry after a pause, on a new session"
        );
        assert!(error.is_retryable() && error.has_no_side_effects());
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_reaches_every_ticket() {
    let server = Server::start();
    for error in errors_after(&server, "hang_up").await {
        assert!(matches!(error, InferError::EndedEarly), "{error:?}");
        assert!(error.is_retryable() && !error.has_no_side_effects());
    }
}

#[tokio::test]
async fn a_reply_to_nothing_ends_the_session() {
    let server = Server::start();
    for error in errors_after(&server, "stray").await {
        assert!(matches!(&error, InferError::UnexpectedReply { id } if id == "stray"));
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_lost_connection_reaches_every_ticket() {
    let server = Server::start();
    let session = session(&server).await;
    let tickets = [
        submit(&session, "gated").await,
        submit(&session, "gated").await,
    ];
    soon(submit(&session, "echo").await).await.unwrap();
    let permit = session.reserve(4).await.unwrap();
    server.crash();
    for ticket in tickets {
        let error = soon(ticket).await.unwrap_err();
        assert!(
            matches!(error, InferError::ConnectionLost { .. }),
            "{error:?}"
        );
        assert_eq!(error.code(), Code::Unavailable);
    }
    // What comes later was certainly not sent.
    let unsent = [
        soon(permit.submit(request(&[1.0]))).await.unwrap_err(),
        soon(session.reserve(4)).await.unwrap_err(),
    ];
    for error in unsent {
        assert!(matches!(error, InferError::Unsent { .. }), "{error:?}");
        assert!(error.is_retryable() && error.has_no_side_effects());
    }
    let error = soon(session.close()).await.unwrap_err();
    assert!(matches!(error, InferError::ConnectionLost { .. }));
}

#[tokio::test]
async fn no_server_is_told_when_the_stream_is_opened() {
    let server = Server::start();
    let client = server.client().await;
    server.crash();
    let error = soon(client.stream(StreamOptions::default()))
        .await
        .unwrap_err();
    assert!(matches!(error, InferError::Unsent { .. }), "{error:?}");
    assert!(error.is_retryable() && error.has_no_side_effects());
}

#[tokio::test]
async fn closing_drains_what_was_submitted() {
    let server = Server::start();
    let session = session(&server).await;
    let mut tickets = Vec::new();
    for _ in 0..5 {
        tickets.push(submit(&session, "gated").await);
    }
    let unused = session.reserve(4).await.unwrap();
    server.script.gate.add_permits(5);
    soon(session.close()).await.unwrap();
    for ticket in tickets {
        assert_eq!(values(&soon(ticket).await.unwrap()), [1.0]);
    }
    let error = soon(unused.submit(request(&[1.0]))).await.unwrap_err();
    assert!(matches!(error, InferError::Closed) && error.has_no_side_effects());
}

#[tokio::test]
async fn the_stream_outlives_the_session_and_ends_with_its_last_ticket() {
    let server = Server::start();
    let session = session(&server).await;
    let mut ended = server.script.streams_ended.subscribe();
    let first = submit(&session, "gated").await;
    let second = submit(&session, "gated").await;
    drop(session);
    server.script.gate.add_permits(1);
    soon(first).await.unwrap();
    assert_eq!(*ended.borrow_and_update(), 0);
    drop(second);
    soon(ended.wait_for(|&ended| ended == 1)).await.unwrap();
}

#[test]
fn tickets_that_outlive_their_runtime_resolve() {
    let server = Server::start();
    // Of one thread, which does not run the session when the connection's task is already dropped.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let session = runtime.block_on(session(&server));
    let ticket = runtime.block_on(submit(&session, "gated"));
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async { soon(ticket).await }).unwrap_err();
    assert!(matches!(error, InferError::Stopped), "{error:?}");
}
