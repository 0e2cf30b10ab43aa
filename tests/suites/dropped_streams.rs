//! Many busy streams that go away at once, again and again. Servers have died of it.

use std::time::{Duration, Instant};

use forebay_client::{Client, Request, Session, StreamOptions, Ticket, tensor};
use forebay_server::device::AnyDevice;
use forebay_tests::harness::{TestServer, echo, until, within};
use futures_util::future::try_join_all;

const ROUNDS: usize = 100;
const STREAMS: usize = 64;
/// Requests in flight on each stream.
const REQUESTS: usize = 4;
/// Of a pass: long enough for most requests to wait when their streams go.
const PASS: Duration = Duration::from_millis(2);
const BATCHING: &str = "max_batch_size: 8 dynamic_batching { }";
/// For all rounds, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

fn request() -> Request {
    let row = [1.0_f32; 1024];
    let tensor = tensor::from_slice("x", &row, [1, 1024]).unwrap();
    Request::new("echo").with_input(tensor)
}

/// Opens streams with requests in flight on each of them.
async fn busy(client: &Client) -> Vec<(Session, Vec<Ticket>)> {
    let options = StreamOptions::default().with_requests_in_flight(REQUESTS);
    let open = (0..STREAMS).map(|_| async {
        let session = client.stream(options.clone()).await?;
        let mut tickets = Vec::new();
        for _ in 0..REQUESTS {
            tickets.push(session.submit(request()).await?);
        }
        Ok::<_, forebay_client::InferError>((session, tickets))
    });
    within(try_join_all(open)).await.unwrap()
}

fn holds_nothing(server: &TestServer) -> bool {
    let on_device = match server.devices().host() {
        AnyDevice::Simulated(device) => device.taken_bytes(),
        _ => 0,
    };
    let budget = server.budget();
    budget.used() == 0 && budget.waiting() == 0 && on_device == 0
}

#[tokio::test]
async fn busy_streams_dropped_at_once_a_hundred_times_leave_nothing_behind() {
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", BATCHING), None)
        .with_simulated(Duration::ZERO, PASS, Duration::ZERO)
        .start()
        .await;
    let began = Instant::now();
    let stays = server.client().await;
    let mut dropped_early = 0;
    for round in 0..ROUNDS {
        // In turn, streams end on a connection that stays, and together with their connection.
        let client = match round % 2 {
            0 => stays.clone(),
            _ => server.client().await,
        };
        let mut streams = busy(&client).await;
        let first = streams[0].1.remove(0);
        within(first).await.unwrap();
        dropped_early += usize::from(server.budget().used() > 0);
        drop((streams, client));
        until(|| holds_nothing(&server)).await;
    }
    assert!(began.elapsed() < LIMIT, "took {:?}", began.elapsed());
    // Else nothing was shown: everything had been answered before it was dropped.
    assert_eq!(dropped_early, ROUNDS);
    let reply = within(stays.infer(request())).await.unwrap();
    assert!(reply.output("y").is_some());
    drop(stays);
    server.stop().await;
}
