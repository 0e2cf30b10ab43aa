//! Times. The configuration of nextest runs these tests alone.

use std::time::{Duration, Instant};

use forebay_client::Request;
use forebay_tests::{
    harness::{TestServer, until, within},
    slow_clients::{Figures, Load},
};

/// As the row is worded: within 10 % of the larger of network and compute.
const MOST_OVER_BOUND: f64 = 1.10;

const LOAD: Load = Load {
    clients: 64,
    tensors: 10,
    send: Duration::from_millis(50),
    compute: Duration::from_millis(5),
    batch: 1,
};

#[expect(clippy::print_stdout, reason = "the figures are what the test is for")]
fn assert_hidden(case: &str, figures: &Figures) {
    let Figures {
        io,
        compute,
        total,
        executions,
    } = figures;
    let over = figures.over_bound();
    println!(
        "{case}: network {io:?}, compute {compute:?} in {executions} batches, total {total:?}: \
         {over:.3} x the larger"
    );
    assert!(over <= MOST_OVER_BOUND, "{case}: {over:.3} x the larger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_hides_behind_compute() {
    let figures = LOAD.run().await;
    assert!(figures.compute > figures.io);
    assert_hidden("compute-bound", &figures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compute_hides_behind_the_network() {
    let load = Load {
        // Two seconds, of which the allowed tenth is ample for what a machine adds at the end.
        tensors: 40,
        batch: 64,
        ..LOAD
    };
    let figures = load.run().await;
    assert!(figures.io > figures.compute);
    assert_hidden("network-bound", &figures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_at_once_while_every_instance_computes() {
    const COMPUTE: Duration = Duration::from_secs(1);
    const INSTANCES: usize = 4;
    let config = format!(
        r#"
        name: "echo" backend: "identity"
        input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }} ]
        output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
        instance_group [ {{ count: {INSTANCES} }} ]
        "#
    );
    let server = TestServer::builder()
        .with_model("echo", &config, None)
        .with_simulated(Duration::ZERO, COMPUTE, Duration::ZERO)
        .start()
        .await;
    let client = server.client().await;
    // More instances than the runtime has threads: if they computed there, nothing else would run.
    let input = forebay_client::tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let request = Request::new("echo").with_input(input);
    let computing: Vec<_> = (0..INSTANCES)
        .map(|_| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.infer(request).await })
        })
        .collect();
    until(|| server.budget().used() > 0 && server.model("echo").scheduler.is_empty()).await;

    let mut calls = 0;
    let mut longest = Duration::ZERO;
    while !computing.iter().all(|task| task.is_finished()) {
        let asked = Instant::now();
        assert!(within(client.server_live()).await.unwrap());
        longest = longest.max(asked.elapsed());
        calls += 1;
    }
    println!("{calls} calls, of which the longest took {longest:?}");
    assert!(longest < COMPUTE / 2, "{longest:?}");
    for task in computing {
        task.await.unwrap().unwrap();
    }
    server.stop().await;
}
