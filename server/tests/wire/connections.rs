//! Who may connect, and for how long.

use std::time::Duration;

use forebay_server::transport::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::harness::{LONG, Server, within};
use super::raw::{Client, STREAM, infer};

/// Soon over, and yet long enough for a client to connect and have its first answer.
const SOON: Duration = Duration::from_secs(1);

/// Waits until the server has closed `socket`, without it having said anything.
async fn closed(mut socket: TcpStream) {
    let mut received = Vec::new();
    // Closing with bytes unread resets, which is an error here and just as final.
    drop(within(socket.read_to_end(&mut received)).await);
    assert_eq!(received, b"");
}

#[tokio::test]
async fn a_peer_that_does_not_finish_its_preface_is_cut() {
    let server = Server::with_transport(Config {
        preface_timeout: SOON,
        ..Config::default()
    })
    .await;
    let mut live = Client::connect(server.address).await;
    for sent in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(sent).await.unwrap();
        closed(socket).await;
    }
    assert_eq!(live.live().await.code(), Code::Ok);
}

#[tokio::test]
async fn another_protocol_is_closed_without_waiting() {
    let server = Server::with_transport(Config {
        preface_timeout: LONG * 10,
        ..Config::default()
    })
    .await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    closed(socket).await;
}

#[tokio::test]
async fn a_connection_over_the_cap_is_closed_while_the_others_serve() {
    let server = Server::with_transport(Config {
        max_connections: 2,
        ..Config::default()
    })
    .await;
    let mut first = Client::connect(server.address).await;
    let second = Client::connect(server.address).await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    assert_eq!(first.live().await.code(), Code::Ok);

    second.connection.abort();
    let mut third = within(async {
        loop {
            if let Ok(client) = Client::try_connect(server.address).await {
                return client;
            }
        }
    })
    .await;
    assert_eq!(third.live().await.code(), Code::Ok);
    drop((first, third));
    let drained = server.stop().await;
    assert_eq!(drained.connections_accepted, 3);
    assert!(drained.connections_refused >= 1);
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_its_calls_may_finish() {
    let server = Server::with_transport(Config {
        max_connection_age: SOON,
        ..Config::default()
    })
    .await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(STREAM);
    call.send(infer("m", 1), false);
    call.reply().await.unwrap();
    // An idle one shows that the time is up.
    let idle = Client::connect(server.address).await;
    within(idle.connection).await.unwrap().unwrap();
    call.send(infer("m", 1), true);
    call.reply().await.unwrap();
    assert_eq!(call.ended().await.code(), Code::Ok);
    within(client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_old_connection_is_cut_when_its_grace_is_over() {
    let server = Server::with_transport(Config {
        max_connection_age: SOON,
        max_connection_age_grace: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(STREAM);
    call.send(infer("m", 1), false);
    call.reply().await.unwrap();
    assert_eq!(call.ended().await.code(), Code::Unknown);
    within(server.script.call_ended.cancelled()).await;
    assert_eq!(server.stop().await.connections_aborted, 0);
}
