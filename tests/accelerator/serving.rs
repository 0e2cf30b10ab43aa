//! A server whose models run on the device.

use std::{fs, time::Duration};

use forebay_client::{Client, Request, tensor};
use forebay_proto::inference::{ForebayDeviceStatistics, ModelStatisticsRequest};
use forebay_server::{
    device::{self, AnyDevice, Devices, Kind},
    executor::{MicroBatches, Mode},
    memory::Pool,
    registry,
    repository::{InstanceGroup, InstanceKind, Repository},
};
use forebay_tests::{
    harness::{Builder, TestServer, within},
    models::Fixture,
};

use super::rig::LIBRARY;

fn on_fake() -> Builder {
    TestServer::builder().with_config(|config| {
        config.device.kind = Kind::Accelerator;
        config.device.library = LIBRARY.to_owned();
        config.executor.mode = Mode::Stages;
        config.executor.micro_batches = MicroBatches::Off;
    })
}

/// Gives its input back; on what `group` says.
fn model(group: &str) -> String {
    let tensor = |field: &str, name: &str| {
        format!("{field} {{ name: \"{name}\" data_type: TYPE_FP32 dims: [ -1 ] }}\n")
    };
    let (input, output) = (tensor("input", "x"), tensor("output", "y"));
    format!(
        "backend: \"identity\" max_batch_size: 8 dynamic_batching {{}}\n{input}{output}\
         instance_group {{ {group} }}\n"
    )
}

async fn devices(server: &TestServer) -> Vec<ForebayDeviceStatistics> {
    let request = ModelStatisticsRequest::default();
    let answer = within(server.service().await.model_statistics(request)).await;
    answer.unwrap().into_inner().forebay_devices
}

async fn echoes(client: &Client, name: &str, rows: i64, columns: i64) {
    let count = usize::try_from(rows * columns).unwrap();
    let values: Vec<f32> = (0..count)
        .map(|at| f32::from(u16::try_from(at % 999).unwrap()))
        .collect();
    let input = tensor::from_slice("x", &values, [rows, columns]).unwrap();
    let response = within(client.infer(Request::new(name).with_input(input)))
        .await
        .unwrap();
    let output = response.output("y").unwrap();
    assert_eq!(tensor::to_vec::<f32>(output).unwrap(), values);
}

#[tokio::test]
async fn requests_go_through_the_device_and_the_steady_path_locks_nothing() {
    let config = model("kind: KIND_GPU gpus: [ 0 ] count: 2");
    let server = on_fake().with_model("echo", &config, None).start().await;
    let client = server.client().await;
    let sizes = [(1, 4), (8, 1000), (3, 5000)];
    // Together, so that more slabs are lent at a time than requests one after the other ever take; few
    // of them too, so that not all are joined to batches.
    for (rows, columns) in sizes.repeat(5) {
        for count in [1, 2, 4, 16] {
            let together = (0..count).map(|_| echoes(&client, "echo", rows, columns));
            futures_util::future::join_all(together).await;
        }
    }
    let before = devices(&server).await;
    let [device] = &before[..] else {
        panic!("one device is used: {before:?}")
    };
    assert_eq!(
        (device.name.as_str(), device.memory_total_bytes),
        ("fake:0", 64 << 20)
    );
    assert!(
        device.pinned_bytes > 0 && device.pinned_allocations > 0,
        "{device:?}"
    );
    assert_eq!(device.utilization_percent, None);
    for round in 0..200 {
        let (rows, columns) = sizes[round % sizes.len()];
        echoes(&client, "echo", rows, columns).await;
    }
    let after = devices(&server).await;
    assert_eq!(after[0].pinned_allocations, device.pinned_allocations);
    let accelerator = server.devices().accelerators()[0].clone();
    drop(client);
    server.stop().await;
    assert_eq!(accelerator.memory().unwrap().allocated, 0);
}

#[tokio::test]
async fn instances_are_where_their_group_puts_them() {
    let server = on_fake()
        .with_model("both", &model("kind: KIND_GPU gpus: [ 0, 1 ]"), None)
        .with_model(
            "listed",
            &model("kind: KIND_AUTO gpus: [ 1 ] count: 2"),
            None,
        )
        .with_model("host", &model("kind: KIND_CPU"), None)
        .with_model("absent", &model("kind: KIND_GPU gpus: [ 7 ]"), None)
        .with_model("not_listed", &model("kind: KIND_AUTO gpus: [ 7 ]"), None)
        .with_model("as_saved", &model("kind: KIND_MODEL"), None)
        .start()
        .await;
    let of = |devices: &[AnyDevice]| -> Vec<String> {
        let names = devices.iter().map(|device| device.name().to_owned());
        names.collect()
    };
    let places = |name: &str| of(&server.model(name).devices);
    assert_eq!(places("both"), ["fake:0", "fake:1"]);
    assert_eq!(places("listed"), ["fake:1"]);
    assert_eq!(places("host"), ["cpu"]);
    assert_eq!(places("not_listed"), ["cpu"]);
    let why = |name: &str| server.registry().find(name, "").unwrap_err().to_string();
    let absent = why("absent");
    assert!(
        absent.contains("GPU 7 is not there; this server has 4"),
        "{absent}"
    );
    let as_saved = why("as_saved");
    assert!(as_saved.contains("write kind: KIND_GPU"), "{as_saved}");
    let names = devices(&server).await.into_iter().map(|one| one.name);
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["cpu", "fake:0", "fake:1"]);

    let mut group = InstanceGroup {
        kind: InstanceKind::Auto,
        count: 2,
        gpus: vec![],
    };
    let everywhere = registry::places(server.devices(), std::slice::from_ref(&group)).unwrap();
    let expected = [0, 0, 1, 1, 2, 2, 3, 3].map(|index| format!("fake:{index}"));
    assert_eq!(of(&everywhere), expected);
    group.gpus = vec![2, 0];
    let listed = registry::places(server.devices(), &[group]).unwrap();
    assert_eq!(of(&listed), ["fake:2", "fake:2", "fake:0", "fake:0"]);
    server.stop().await;
}

#[test]
fn a_check_loads_a_model_to_where_it_would_run() {
    let config = device::Config {
        kind: Kind::Accelerator,
        library: LIBRARY.to_owned(),
        ..device::Config::default()
    };
    let devices = Devices::open(&config, Pool::new(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    forebay_tests::models::write(dir.path(), &[Fixture::Mlp]).unwrap();
    let tried = |gpu| {
        let group = format!("\ninstance_group {{ kind: KIND_GPU gpus: [ {gpu} ] }}\n");
        let config = Fixture::Mlp.config().to_owned() + &group;
        fs::write(dir.path().join("mlp/config.pbtxt"), config).unwrap();
        let scanned = Repository::open(dir.path()).unwrap().scan().unwrap();
        let entry = scanned[0].as_ref().unwrap();
        registry::try_load(entry, &entry.versions[0], &devices)
    };
    tried(0).unwrap();
    let error = tried(2).unwrap_err().to_string();
    assert!(error.contains("illegal memory access"), "{error}");
}

#[tokio::test]
async fn a_device_that_fails_for_good_is_told_to_the_client() {
    // The one fails at once, the other on the way, and then throws from destructors.
    for gpu in [2, 3] {
        let config = model(&format!("kind: KIND_GPU gpus: [ {gpu} ]"));
        let server = on_fake()
            .with_config(|config| config.registry.warmup_timeout = Duration::ZERO)
            .with_model("echo", &config, None)
            .start()
            .await;
        server.registry().find("echo", "").unwrap();
        let input = tensor::from_slice("x", &[1f32], [1, 1]).unwrap();
        let request = Request::new("echo").with_input(input);
        let error = within(server.client().await.infer(request))
            .await
            .unwrap_err();
        let why = server.registry().find("echo", "").unwrap_err();
        for text in [error.to_string(), why.to_string()] {
            assert!(text.contains("illegal memory access"), "{text}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_network_on_the_device_answers_as_on_the_cpu() {
    let gpu =
        Fixture::Mlp.config().to_owned() + "\ninstance_group { kind: KIND_GPU gpus: [ 0 ] }\n";
    let cpu = Fixture::Mlp.config().to_owned() + "\ninstance_group { kind: KIND_CPU }\n";
    let dir = tempfile::tempdir().unwrap();
    // Found before libtorch is used: it looks for accelerators once.
    forebay_server::device::Accelerator::find(LIBRARY, 0).unwrap();
    forebay_tests::models::write(dir.path(), &[Fixture::Mlp]).unwrap();
    let module = fs::read(dir.path().join("mlp/1/model.pt")).unwrap();
    let rename =
        |config: String, name: &str| config.replace("name: \"mlp\"", &format!("name: \"{name}\""));
    let server = on_fake()
        .with_model("gpu", &rename(gpu, "gpu"), Some(&module))
        .with_model("cpu", &rename(cpu, "cpu"), Some(&module))
        .start()
        .await;
    let parameters = &server.model("gpu").settings.config.parameters;
    let why = &parameters["FOREBAY_FORM_REASON"].string_value;
    assert!(
        why.ends_with("optimized on an accelerator answers as the saved one does"),
        "{why}"
    );
    let client = server.client().await;
    for rows in [1i64, 4] {
        let values: Vec<f32> = (0..rows * 784)
            .map(|at| f32::from(u16::try_from(at % 89).unwrap()) / 89.0)
            .collect();
        let mut answers = Vec::new();
        for name in ["gpu", "cpu"] {
            let input = tensor::from_slice("INPUT__0", &values, [rows, 784]).unwrap();
            let response = within(client.infer(Request::new(name).with_input(input)))
                .await
                .unwrap();
            answers.push(tensor::to_vec::<f32>(response.output("OUTPUT__0").unwrap()).unwrap());
        }
        let pairs = answers[0].iter().zip(&answers[1]);
        assert_eq!(answers[0].len(), usize::try_from(rows * 10).unwrap());
        for (gpu, cpu) in pairs {
            assert!((gpu - cpu).abs() < 1e-4, "{gpu} {cpu}");
        }
    }
    drop(client);
    server.stop().await;
}
