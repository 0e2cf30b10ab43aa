//! Models are warm before they are ready.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use forebay_client::{Client, Request, tensor};
use forebay_tests::{
    harness::{TestRepository, TestServer, within},
    models::{self, Fixture},
};

/// Asks the MLP for `rows` rows, and returns what the pass took.
async fn pass(client: &Client, rows: usize) -> Duration {
    let values = vec![0.5f32; rows * 784];
    let shape = [i64::try_from(rows).unwrap(), 784];
    let request = Request::new("mlp")
        .with_input(tensor::from_slice("INPUT__0", &values, shape).unwrap())
        .with_server_timings();
    let reply = within(client.infer(request)).await.unwrap();
    reply.server_timings().unwrap().compute
}

#[tokio::test]
async fn the_first_request_of_any_size_takes_no_longer_than_a_few_later_ones() {
    const SIZES: usize = 12;
    const SERVERS: usize = 3;
    let (mut first, mut steady) = (BTreeMap::new(), BTreeMap::new());
    // A pass is a few tens of microseconds, and the machine is shared: the best of three counts.
    for _ in 0..SERVERS {
        let builder = TestServer::builder().with_fixtures(&[Fixture::Mlp]);
        let builder = builder.with_config(|config| {
            config.registry.warmup_timeout = Duration::from_secs(5);
        });
        let server = builder.start().await;
        let client = server.client().await;
        for rows in 1..=SIZES {
            let took = pass(&client, rows).await;
            let best = first.entry(rows).or_insert(took);
            *best = took.min(*best);
            let mut later = Vec::new();
            for _ in 0..9 {
                later.push(pass(&client, rows).await);
            }
            later.sort_unstable();
            let worst = steady.entry(rows).or_insert(later[4]);
            *worst = later[4].max(*worst);
        }
        server.stop().await;
    }
    println!("first {first:?}\nlater {steady:?}");
    for (rows, first) in first {
        let later = steady[&rows];
        assert!(first < 3 * later, "{rows} rows: {first:?}, later {later:?}");
    }
}

#[tokio::test]
async fn a_size_that_was_not_warmed_up_takes_no_longer_than_a_few_later_ones() {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Mlp])
        .with_config(|config| config.registry.warmup_timeout = Duration::from_millis(2))
        .start()
        .await;
    let client = server.client().await;
    // Graphs are not specialised for shapes, so that a new one costs no compilation.
    let mut over = Vec::new();
    for rows in 40..60 {
        let first = pass(&client, rows).await;
        let mut later = Vec::new();
        for _ in 0..5 {
            later.push(pass(&client, rows).await);
        }
        later.sort_unstable();
        over.push(first.div_duration_f64(later[2]));
    }
    over.sort_by(f64::total_cmp);
    println!("first over later passes: {over:.2?}");
    assert!(over[over.len() / 2] < 3.0, "{over:.2?}");
    server.stop().await;
}

fn thrower(first: f32) -> TestRepository {
    let repository = TestRepository::default().with_fixtures(&[Fixture::Thrower]);
    let dir = repository.path().join("thrower");
    let warmup = "model_warmup { name: 'of a file' batch_size: 2 inputs { key: 'x' value { \
        data_type: TYPE_FP32 dims: 4 input_data_file: 'x.bin' } } }";
    let config = format!("{}\n{warmup}", Fixture::Thrower.config());
    let config = config.replace("dims: [ -1 ]", "dims: [ 4 ]");
    fs::write(dir.join("config.pbtxt"), config).unwrap();
    fs::create_dir(dir.join("warmup")).unwrap();
    let values: Vec<u8> = [first, 1.0, 1.0, 1.0]
        .iter()
        .flat_map(|value: &f32| value.to_le_bytes())
        .collect();
    fs::write(dir.join("warmup/x.bin"), values).unwrap();
    repository
}

#[tokio::test]
async fn a_model_that_fails_its_own_warm_up_is_not_ready_and_says_why() {
    for (first, ready) in [(1.0, true), (-1.0, false)] {
        let server = TestServer::builder()
            .with_repository(thrower(first))
            .start()
            .await;
        let client = server.client().await;
        assert_eq!(within(client.model_ready("thrower")).await.unwrap(), ready);
        let reasons: Vec<String> = server
            .registry()
            .index(false)
            .into_iter()
            .map(|entry| entry.reason)
            .collect();
        let told = reasons[0].starts_with("model_warmup 'of a file': ")
            && reasons[0].contains("the first element is -1");
        assert_eq!(told, !ready, "{reasons:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn nothing_of_the_warm_up_is_left() {
    // The fixture that counts its calls, for requests that belong to no sequence.
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::Counter]).unwrap();
    let module = fs::read(dir.path().join("counter/1/model.pt")).unwrap();
    let config = Fixture::Counter.config();
    let config = &config[..config.find("sequence_batching").unwrap()];
    let server = TestServer::builder()
        .with_model("counter", config, Some(&module))
        .start()
        .await;
    let client = server.client().await;
    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let reply = within(client.infer(Request::new("counter").with_input(input))).await;
    let reply = reply.unwrap();
    let total: Vec<f32> = tensor::to_vec(reply.output("OUTPUT__1").unwrap()).unwrap();
    assert_eq!(total, [1.0]);
    let report = server.model("counter").statistics.report("counter", 1);
    assert_eq!((report.execution_count, report.inference_count), (1, 1));
    server.stop().await;
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string(Path::new("/proc/self/statm")).unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn instances_of_a_version_share_its_weights() {
    const INSTANCES: u64 = 6;
    const WEIGHTS: u64 = 46 << 20;
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::ResNet18]).unwrap();
    let module = fs::read(dir.path().join("resnet18/1/model.pt")).unwrap();
    let config = format!(
        "{}\ninstance_group {{ count: {INSTANCES} }}",
        Fixture::ResNet18.config()
    );
    let before = resident();
    let server = TestServer::builder()
        .with_model("resnet18", &config, Some(&module))
        .with_config(|config| config.registry.warmup_timeout = Duration::ZERO)
        .start()
        .await;
    let client = server.client().await;
    assert!(within(client.model_ready("resnet18")).await.unwrap());
    let grown = resident().saturating_sub(before);
    println!("{INSTANCES} instances took {} MiB", grown >> 20);
    // Loading and comparing forms leaves something behind with the allocator; six copies are more.
    assert!(grown < INSTANCES * WEIGHTS, "{grown}");
    server.stop().await;
}
