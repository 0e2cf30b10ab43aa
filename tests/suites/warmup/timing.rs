//! What warm-up saves the first requests, in times: alone on the machine, as nextest's configuration has it.

use std::{collections::BTreeMap, fs, time::Duration};

use forebay_client::{Client, Request, tensor};
use forebay_tests::harness::{TestServer, within};

/// Serves a model of many small operations, whose graph takes far longer to compile than to run.
async fn deep(warmup: Duration) -> TestServer {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.pt");
    let example = tch::Tensor::zeros([2, 8], (tch::Kind::Float, tch::Device::Cpu));
    let module = tch::CModule::create_by_tracing("Deep", "forward", &[example], &mut |inputs| {
        let mut x = inputs[0].shallow_clone();
        for step in 0..300 {
            x = x.relu() + f64::from(step);
        }
        vec![x]
    });
    module.unwrap().save(&file).unwrap();
    let config = "platform: 'pytorch_libtorch' max_batch_size: 12 dynamic_batching { }
        input [ { name: 'INPUT__0' data_type: TYPE_FP32 dims: [ 8 ] } ]
        output [ { name: 'OUTPUT__0' data_type: TYPE_FP32 dims: [ 8 ] } ]
        parameters { key: 'DISABLE_OPTIMIZED_EXECUTION' value { string_value: 'true' } }";
    TestServer::builder()
        .with_model("deep", config, Some(&fs::read(&file).unwrap()))
        .with_config(|config| config.registry.warmup_timeout = warmup)
        .start()
        .await
}

/// Asks for `rows` rows, and returns what the pass took.
async fn pass(client: &Client, rows: usize) -> Duration {
    let values = vec![0.5f32; rows * 8];
    let shape = [i64::try_from(rows).unwrap(), 8];
    let request = Request::new("deep")
        .with_input(tensor::from_slice("INPUT__0", &values, shape).unwrap())
        .with_server_timings();
    let reply = within(client.infer(request)).await.unwrap();
    reply.server_timings().unwrap().compute
}

/// Returns what the first pass of each size takes over later ones, at best in three servers: the
/// machine is shared, and a pass takes less than a millisecond.
async fn first_over_later(warmup: Duration) -> BTreeMap<usize, f64> {
    let mut ratios = BTreeMap::new();
    for _ in 0..3 {
        let server = deep(warmup).await;
        let client = server.client().await;
        for rows in [1, 5, 12, 7, 2, 3, 11] {
            let first = pass(&client, rows).await;
            let mut later = Vec::new();
            for _ in 0..9 {
                later.push(pass(&client, rows).await);
            }
            later.sort_unstable();
            let ratio = first.div_duration_f64(later[4]);
            let best = ratios.entry(rows).or_insert(ratio);
            *best = ratio.min(*best);
        }
        server.stop().await;
    }
    ratios
}

#[tokio::test]
async fn the_first_request_of_any_size_takes_about_as_long_as_later_ones() {
    // With the first limit every size is warmed up, with the second one only the first: sizes that
    // were not seen before cost no compilation either, since graphs are not specialised for them.
    for warmup in [Duration::from_secs(5), Duration::from_millis(1)] {
        let ratios = first_over_later(warmup).await;
        println!("warmed up for {warmup:?}: {ratios:.2?}");
        assert!(
            ratios.values().all(|ratio| *ratio < 3.0),
            "{warmup:?}: {ratios:.2?}"
        );
    }
}

#[tokio::test]
async fn the_first_request_pays_where_nothing_was_warmed_up() {
    // What the test above is about: were it not so, it could not fail.
    let ratios = first_over_later(Duration::ZERO).await;
    println!("not warmed up: {ratios:.2?}");
    assert!(ratios[&1] > 3.0, "{ratios:.2?}");
}
