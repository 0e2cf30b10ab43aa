//! More models than memory: weights leave while nobody uses them, and requests wait for them.

mod faults;
mod load;
mod memory;

use std::{fs, time::Duration};

use bytesize::ByteSize;
use forebay_client::{Client, InferError, Reply, Request, tensor};
use forebay_proto::inference::{ForebayResidencyStatistics, RepositoryIndexRequest};
use forebay_server::residency::Mode;
use forebay_tests::harness::{Builder, TestRepository, TestServer, within};
use tch::{CModule, Kind, Tensor};

/// Inputs of a layer; each output is their sum times the model's own factor.
const INPUTS: i64 = 1024;

/// Adds the model `name`: one linear layer whose weights take `kib` KiB and are all `factor`.
fn with_layer(repository: TestRepository, name: &str, kib: i64, factor: f32) -> TestRepository {
    let rows = kib * 1024 / (4 * INPUTS);
    let on_host = (Kind::Float, tch::Device::Cpu);
    let weights = Tensor::full([rows, INPUTS], f64::from(factor), on_host);
    let example = Tensor::zeros([2, INPUTS], on_host);
    let module = CModule::create_by_tracing("Layer", "forward", &[example], &mut |inputs| {
        vec![inputs[0].linear(&weights, None::<&Tensor>)]
    });
    let file = repository.scratch().join("layer.pt");
    module.unwrap().save(&file).unwrap();
    // Forms of a model are not what this is about, and measuring them takes time.
    let config = format!(
        "platform: 'pytorch_libtorch' max_batch_size: 4 dynamic_batching {{ }}
        input {{ name: 'x' data_type: TYPE_FP32 dims: {INPUTS} }}
        output {{ name: 'y' data_type: TYPE_FP32 dims: {rows} }}
        parameters {{ key: 'DISABLE_OPTIMIZED_EXECUTION' value {{ string_value: 'true' }} }}"
    );
    repository.with_model(name, &config, Some(&fs::read(&file).unwrap()))
}

/// Has a model say that its weights stay.
fn pinned(repository: TestRepository, name: &str) -> TestRepository {
    let file = repository.path().join(name).join("config.pbtxt");
    let says = "parameters { key: 'model_residency' value { string_value: 'pinned' } }";
    let text = format!("{}\n{says}\n", fs::read_to_string(&file).unwrap());
    fs::write(&file, text).unwrap();
    repository
}

/// Makes models `m0` and on of one MiB each, with factors from 1.
fn models(count: usize) -> TestRepository {
    let repository = TestRepository::default();
    (0..count).fold(repository, |repository, index| {
        with_layer(repository, &format!("m{index}"), 1024, factor(index))
    })
}

fn factor(index: usize) -> f32 {
    f32::from(u8::try_from(index).unwrap()) + 1.0
}

/// Lets weights take `kib` KiB, and leave where there is no room.
fn within_kib(repository: TestRepository, kib: u64) -> Builder {
    TestServer::builder()
        .with_repository(repository)
        .with_config(|config| {
            config.registry.model_residency = Mode::Lru;
            config.registry.weights_bytes = ByteSize::kib(kib);
            config.registry.warmup_timeout = Duration::ZERO;
        })
}

/// Asks `m{index}` with inputs that are all `value`.
fn request(index: usize, value: f32) -> Request {
    let values = vec![value; usize::try_from(INPUTS).unwrap()];
    let input = tensor::from_slice("x", &values, [1, INPUTS]).unwrap();
    Request::new(format!("m{index}")).with_input(input)
}

/// Checks the answer to such a request.
fn check(reply: &Reply, index: usize, value: f32) {
    let outputs: Vec<f32> = tensor::to_vec(reply.output("y").unwrap()).unwrap();
    let expected = value * factor(index) * f32::from(u16::try_from(INPUTS).unwrap());
    assert!(!outputs.is_empty());
    assert!(outputs.iter().all(|output| *output == expected), "m{index}");
}

async fn ask(client: &Client, index: usize, value: f32) -> Result<(), InferError> {
    let reply = within(client.infer(request(index, value))).await?;
    check(&reply, index, value);
    Ok(())
}

fn residency(server: &TestServer, index: usize) -> ForebayResidencyStatistics {
    let report = server.model(&format!("m{index}")).report();
    report.forebay_residency.unwrap()
}

/// Returns which of the models are in memory.
fn resident(server: &TestServer, count: usize) -> Vec<usize> {
    (0..count)
        .filter(|&index| residency(server, index).resident)
        .collect()
}

#[tokio::test]
async fn a_request_for_a_model_out_of_memory_waits_and_tells_how_long() {
    let server = within_kib(models(3), 2100).start().await;
    assert_eq!(resident(&server, 3), [0, 1]);
    let client = server.client().await;
    let waited = |reply: &Reply| match reply.parameters()["forebay_residency_ns"] {
        forebay_proto::Parameter::Int64(nanos) => nanos,
        ref other => panic!("{other:?}"),
    };
    let queued = |reply: &Reply| reply.server_timings().unwrap().queue.as_nanos();
    let timed = |index| request(index, 2.0).with_server_timings();

    let within_memory = within(client.infer(timed(0))).await.unwrap();
    assert_eq!(waited(&within_memory), 0);
    let out = within(client.infer(timed(2))).await.unwrap();
    check(&out, 2, 2.0);
    let told = u128::try_from(waited(&out)).unwrap();
    assert!(told > 0 && told <= queued(&out), "{told}");
    // The one that was used last stayed.
    assert_eq!(resident(&server, 3), [0, 2]);
    let came = residency(&server, 2);
    assert_eq!((came.brought_in_count, came.evicted_count), (1, 1));
    assert!(came.brought_in_ns > 0 && came.weights_bytes == 1 << 20);
    server.stop().await;
}

#[tokio::test]
async fn a_model_out_of_memory_is_ready_and_keeps_its_statistics() {
    let server = within_kib(models(2), 1100).start().await;
    let client = server.client().await;
    ask(&client, 0, 1.0).await.unwrap();
    ask(&client, 1, 1.0).await.unwrap();
    assert_eq!(resident(&server, 2), [1]);
    assert!(within(client.model_ready("m0")).await.unwrap());
    assert!(within(client.server_ready()).await.unwrap());
    let mut service = server.service().await;
    let asked = RepositoryIndexRequest {
        ready: true,
        ..RepositoryIndexRequest::default()
    };
    let index = within(service.repository_index(asked)).await.unwrap();
    assert_eq!(index.into_inner().models.len(), 2);
    assert_eq!(server.model("m0").report().inference_count, 1);
    ask(&client, 0, 3.0).await.unwrap();
    assert_eq!(server.model("m0").report().inference_count, 2);
    server.stop().await;
}

#[tokio::test]
async fn models_that_are_pinned_or_keep_state_never_leave() {
    let repository =
        pinned(models(3), "m0").with_fixtures(&[forebay_tests::models::Fixture::Counter]);
    let server = within_kib(repository, 2100).start().await;
    let client = server.client().await;
    for index in [1, 2, 1, 2, 0, 1, 2] {
        ask(&client, index, 1.0).await.unwrap();
    }
    let stays = residency(&server, 0);
    assert_eq!((stays.resident, stays.evicted_count), (true, 0));
    assert!(residency(&server, 1).evicted_count > 0);
    let counter = server.model("counter").report();
    let counter = counter.forebay_residency.unwrap();
    assert_eq!((counter.resident, counter.evicted_count), (true, 0));
    server.stop().await;
}
