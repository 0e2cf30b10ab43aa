//! The end of serving.

use std::time::Duration;

use forebay_proto::inference::ModelInferResponse;
use forebay_server::transport::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::harness::{LONG, Server, until, within};
use super::raw::{Client, INFER, STREAM, infer};

/// A drain that must not come to its end.
fn patient() -> Config {
    Config {
        drain_timeout: LONG * 10,
        preface_timeout: LONG * 10,
        ..Config::default()
    }
}

#[tokio::test]
async fn a_drain_ends_although_a_client_holds_a_stream_open() {
    let server = Server::with_transport(Config {
        drain_timeout: Duration::from_millis(200),
        ..Config::default()
    })
    .await;
    let mut client = Client::connect(server.address).await;
    let mut call = client.call(STREAM);
    call.send(infer("m", 1), false);
    call.reply().await.unwrap();
    let mut unary = client.call(INFER);
    unary.send(infer("wait", 1), true);
    until(|| server.budget.used() > 0).await;
    let (script, budget) = (server.script.clone(), server.budget.clone());
    let drained = server.stop().await;
    assert_eq!(
        (drained.connections_accepted, drained.connections_aborted),
        (1, 1)
    );
    assert!(
        script.call_ended.is_cancelled(),
        "the call outlived the server"
    );
    assert_eq!(budget.used(), 0);
    assert_eq!(call.ended().await.code(), Code::Unknown);
    assert_eq!(unary.ended().await.code(), Code::Unknown);
}

#[tokio::test]
async fn a_drain_waits_for_calls_under_way_and_for_nothing_else() {
    let server = Server::with_transport(patient()).await;
    let mut client = Client::connect(server.address).await;
    let _idle = Client::connect(server.address).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut call = client.call(INFER);
    call.send(infer("wait", 1), true);
    until(|| server.budget.used() > 0).await;

    server.shutdown.cancel();
    // The silent socket is closed first, which shows that the drain has begun.
    assert_eq!(within(silent.read(&mut [0])).await.unwrap(), 0);
    server.script.go_on.notify_one();
    call.message::<ModelInferResponse>().await.unwrap();
    assert_eq!(call.ended().await.code(), Code::Ok);
    assert_eq!(server.stop().await.connections_aborted, 0);
}

#[tokio::test]
async fn who_is_connected_when_the_drain_begins_is_served_and_not_reset() {
    const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let server = Server::with_transport(Config::default()).await;
    // Nothing was awaited since the server was spawned, so the kernel alone knows of the peer.
    let peer = std::net::TcpStream::connect(server.address).unwrap();
    server.shutdown.cancel();
    peer.set_nonblocking(true).unwrap();
    let mut peer = TcpStream::from_std(peer).unwrap();
    peer.write_all(PREFACE_AND_SETTINGS).await.unwrap();
    let mut head = [0; 9];
    within(peer.read_exact(&mut head)).await.unwrap();
    assert_eq!(head[3], 4, "the server's SETTINGS come first");
    drop(peer);
    assert_eq!(server.stop().await.connections_accepted, 1);
}

#[tokio::test]
async fn nobody_is_let_in_after_the_drain_began() {
    let server = Server::with_transport(patient()).await;
    let address = server.address;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
