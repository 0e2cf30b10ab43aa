//! Flow control: permits, and how they come back.

use std::{collections::VecDeque, pin::pin, task::Poll};

use forebay_client::{InferError, Session, StreamOptions, Ticket};

use crate::scripted::{Server, order, request, soon, values};

async fn session(server: &Server, options: StreamOptions) -> Session {
    server.client().await.stream(options).await.unwrap()
}

/// Polls once.
async fn now<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn bytes_in_flight_never_exceed_the_limit() {
    const LIMIT: usize = 4000;
    let server = Server::start();
    let session = session(
        &server,
        StreamOptions::default().with_bytes_in_flight(LIMIT),
    )
    .await;
    let sizes = [
        1000, 4, 2996, 4000, 400, 3600, 1200, 1200, 1200, 404, 8, 0, 2000, 2004, 4000,
    ];
    let mut tickets: VecDeque<(usize, Ticket)> = VecDeque::new();
    let mut in_flight = 0;
    let mut waits = 0;
    for bytes in sizes {
        let mut reserve = pin!(session.reserve(bytes));
        let permit = loop {
            match now(reserve.as_mut()).await {
                Poll::Ready(permit) => break permit.unwrap(),
                Poll::Pending => {
                    assert!(in_flight + bytes > LIMIT, "{bytes} more would have fitted");
                    waits += 1;
                    let (bytes, ticket) = tickets.pop_front().unwrap();
                    server.script.gate.add_permits(1);
                    soon(ticket).await.unwrap();
                    in_flight -= bytes;
                }
            }
        };
        in_flight += bytes;
        assert!(in_flight <= LIMIT);
        tickets.push_back((bytes, permit.submit(order("gated", &vec![0.0; bytes / 4]))));
    }
    server.script.gate.add_permits(tickets.len());
    soon(session.close()).await.unwrap();
    assert!(waits > 5);
    assert!((1..=LIMIT).contains(&server.peak_bytes()));
}

#[tokio::test]
async fn requests_in_flight_never_exceed_the_limit() {
    let server = Server::start();
    let session = session(&server, StreamOptions::default().with_requests_in_flight(2)).await;
    let first = session.submit(order("gated", &[])).await.unwrap();
    let _second = session.submit(order("gated", &[])).await.unwrap();
    let mut third = pin!(session.reserve(0));
    assert!(now(third.as_mut()).await.is_pending());
    server.script.gate.add_permits(1);
    soon(first).await.unwrap();
    assert_eq!(soon(third).await.unwrap().bytes(), 0);
}

#[tokio::test]
async fn dropped_tickets_give_back_their_room_when_answered() {
    let server = Server::start();
    let session = session(&server, StreamOptions::default().with_bytes_in_flight(8)).await;
    drop(session.submit(order("gated", &[1.0, 2.0])).await.unwrap());
    let mut reserve = pin!(session.reserve(4));
    assert!(now(reserve.as_mut()).await.is_pending());
    server.script.gate.add_permits(1);
    let ticket = soon(reserve).await.unwrap().submit(request(&[3.0]));
    assert_eq!(values(&soon(ticket).await.unwrap()), [3.0]);
}

#[tokio::test]
async fn unused_permits_and_cancelled_waits_give_back_their_room() {
    let server = Server::start();
    let options = StreamOptions::default()
        .with_bytes_in_flight(8)
        .with_requests_in_flight(2);
    let session = session(&server, options).await;
    let permit = session.reserve(8).await.unwrap();
    {
        let mut cancelled = pin!(session.reserve(8));
        assert!(now(cancelled.as_mut()).await.is_pending());
    }
    drop(permit);
    assert_eq!(soon(session.reserve(8)).await.unwrap().bytes(), 8);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once() {
    let server = Server::start();
    let session = session(&server, StreamOptions::default().with_bytes_in_flight(8)).await;
    let error = session.reserve(9).await.unwrap_err();
    assert!(matches!(
        error,
        InferError::LargerThanLimit { bytes: 9, limit: 8 }
    ));
    let ticket = session
        .reserve(4)
        .await
        .unwrap()
        .submit(request(&[1.0, 2.0]));
    let error = ticket.await.unwrap_err();
    assert!(matches!(
        error,
        InferError::PermitTooSmall {
            bytes: 8,
            reserved: 4
        }
    ));
    soon(session.submit(request(&[1.0, 2.0])))
        .await
        .unwrap()
        .await
        .unwrap();

    let nothing = StreamOptions::default().with_requests_in_flight(0);
    let error = server.client().await.stream(nothing).await.unwrap_err();
    assert!(matches!(error, InferError::InvalidOption { .. }));
}
