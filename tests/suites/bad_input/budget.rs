//! More than the budget of host memory has: calls are refused, streams are not read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use forebay_client::{Client, Code, Request, Session, StreamOptions, tensor};
use forebay_proto::inference::ModelStreamInferResponse;
use forebay_server::executor::Mode;
use forebay_tests::{
    harness::{TestServer, echo, framed, prefix, until, within},
    models::Fixture,
};

use super::{good, serves_on};

const MIB: u64 = 1 << 20;
/// Five of them fit into a budget of 1 MiB.
const FLOATS: usize = 48 << 10;
const STREAMS: u16 = 4;
const REQUESTS: u16 = 12;

async fn start(compute: Duration) -> TestServer {
    TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_FP32", ""), None)
        .with_host_bytes(MIB)
        .with_simulated(Duration::ZERO, compute, Duration::ZERO)
        .with_mode(Mode::Inline)
        .start()
        .await
}

fn request(value: u16) -> Request {
    let length = i64::try_from(FLOATS).unwrap();
    let values = vec![f32::from(value); FLOATS];
    let input = tensor::from_slice("x", &values, [length]).unwrap();
    Request::new("echo")
        .with_id(value.to_string())
        .with_input(input)
}

#[tokio::test]
async fn a_call_over_the_budget_is_refused_and_may_be_retried() {
    let server = start(Duration::ZERO).await;
    let client = server.client().await;
    let held = server.budget().charge(MIB - 1000);
    let error = within(client.infer(request(1))).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.is_retryable() && error.has_no_side_effects());
    let text = error.to_string();
    assert!(
        text.contains("do not fit into the host budget now (1047576 of 1048576 bytes are in use)"),
        "{text}"
    );
    // What needs no room is answered meanwhile.
    assert!(within(client.model_ready("echo")).await.unwrap());
    drop(held);
    within(client.infer(request(1))).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_stream_over_the_budget_waits_for_room() {
    let server = start(Duration::ZERO).await;
    let client = server.client().await;
    let held = server.budget().charge(MIB - 1000);
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let ticket = session.submit(request(1)).await.unwrap();
    until(|| server.budget().waiting() == 1).await;
    drop(held);
    within(ticket).await.unwrap();
    within(session.close()).await.unwrap();
    server.stop().await;
}

/// Submits a stream's requests at once, and counts the answers, which must be the right ones.
async fn flood(client: Client, first: u16) -> usize {
    let session: Session = client.stream(StreamOptions::default()).await.unwrap();
    let mut tickets = Vec::new();
    for value in first..first + REQUESTS {
        tickets.push((value, session.submit(request(value)).await.unwrap()));
    }
    let mut answered = 0;
    for (value, ticket) in tickets {
        let reply = within(ticket).await.unwrap();
        assert_eq!(reply.id(), value.to_string());
        let values: Vec<f32> = tensor::to_vec(reply.output("y").unwrap()).unwrap();
        assert_eq!(values, vec![f32::from(value); FLOATS]);
        answered += 1;
    }
    within(session.close()).await.unwrap();
    answered
}

/// Watches the budget until told to stop, and returns the most bytes used and streams in line.
async fn watch(server: &TestServer, done: &AtomicBool) -> (u64, usize) {
    let (mut used, mut waiting) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        used = used.max(server.budget().used());
        waiting = waiting.max(server.budget().waiting());
        tokio::task::yield_now().await;
    }
    (used, waiting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_the_budget_are_not_read_and_everything_is_answered_once() {
    let server = start(Duration::from_millis(5)).await;
    let client = server.client().await;
    let done = Arc::new(AtomicBool::new(false));
    let floods = {
        let done = Arc::clone(&done);
        async move {
            let floods =
                (0..STREAMS).map(|stream| tokio::spawn(flood(client.clone(), stream * REQUESTS)));
            let mut answered = 0;
            for flood in floods.collect::<Vec<_>>() {
                answered += flood.await.unwrap();
            }
            done.store(true, Ordering::Relaxed);
            answered
        }
    };
    let (answered, (used, waiting)) = tokio::join!(floods, watch(&server, &done));
    assert_eq!(answered, usize::from(STREAMS * REQUESTS));
    assert!(waiting > 0, "no stream had to wait");
    // What is in, and a reply of the same size to each.
    assert!(used <= 2 * MIB, "{used} bytes were in use");
    let report = server.model("echo").statistics.report("echo", 1);
    let success = report.inference_stats.unwrap().success.unwrap().count;
    assert_eq!(success, u64::from(STREAMS * REQUESTS));
    server.stop().await;
}

#[tokio::test]
async fn refusing_many_uploads_does_not_end_their_connection() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .start()
        .await;
    let mut client = server.raw().await;
    let mut accepted = client.call("ModelStreamInfer", &[]);
    accepted.send(framed(&good("first")), false);
    accepted
        .message::<ModelStreamInferResponse>()
        .await
        .unwrap();
    let held = server.budget().charge(server.budget().capacity());
    let mut refused = Vec::new();
    for _ in 0..4000 {
        client.ready().await;
        let mut call = client.call("ModelInfer", &[]);
        call.send(prefix(1 << 20).to_vec(), false);
        for _ in 0..16 {
            call.sends(vec![0; 16 << 10]);
        }
        refused.push(call);
    }
    for mut call in refused {
        let status = call.ended().await;
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    }
    drop(held);
    accepted.send(framed(&good("second")), true);
    accepted
        .message::<ModelStreamInferResponse>()
        .await
        .unwrap();
    assert_eq!(accepted.ended().await.code(), tonic::Code::Ok);
    serves_on(server).await;
}
