//! What the client does on a connection over which nothing comes. Time is virtual.

use std::time::Duration;

use forebay_client::{Builder, Client};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, timeout},
};

const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Accepts one connection, on which calls are taken and never answered, until it is pinged.
async fn pinged(listener: TcpListener) -> std::io::Result<()> {
    let (mut socket, _) = listener.accept().await?;
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    socket
        .write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
        .await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        socket.read_exact(&mut payload).await?;
        match (kind, flags) {
            (SETTINGS, 0) => {
                socket
                    .write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0])
                    .await?
            }
            (PING, 0) => return Ok(()),
            _ => {}
        }
    }
}

/// Returns after how long a server is pinged that owes an answer, or owes none.
async fn first_ping(settings: fn(Builder) -> Builder, calls: bool) -> Option<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(pinged(listener));
    let client = settings(Client::builder(endpoint)).connect().await.unwrap();
    let start = Instant::now();
    let call = async {
        if calls {
            client.server_live().await.map(|_| ())
        } else {
            std::future::pending().await
        }
    };
    let two_hours = Duration::from_secs(7200);
    tokio::select! {
        pinged = timeout(two_hours, server) => {
            pinged.ok()?.unwrap().unwrap();
            Some(start.elapsed())
        }
        answer = call => panic!("{answer:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn servers_are_pinged_as_seldom_as_grpc_core_asks_for() {
    let pinged = first_ping(|builder| builder, true).await.unwrap();
    assert!((300..400).contains(&pinged.as_secs()), "{pinged:?}");
    assert_eq!(first_ping(|builder| builder, false).await, None);
}

#[tokio::test(start_paused = true)]
async fn servers_are_pinged_as_often_as_is_set() {
    let pinged = first_ping(
        |builder| builder.with_ping_interval(Duration::from_secs(3)),
        true,
    );
    let pinged = pinged.await.unwrap();
    assert!((3..5).contains(&pinged.as_secs()), "{pinged:?}");
}
