//! Which threads do the work.

use std::{collections::BTreeMap, fs, time::Duration};

use forebay_client::{Request, tensor};
use forebay_tests::{harness::TestServer, models::Fixture};

/// As tokio names the threads of the test's runtime, which is the server's as well.
const ASYNC_WORKER: &str = "tokio-rt-worker";
const COMPUTE: &str = "fb-compute";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_pass_never_runs_on_an_async_worker() {
    const REQUESTS: usize = 10;
    let server = TestServer::start(&[Fixture::ResNet18]).await;
    let client = server.client().await;
    let pixels = vec![0.5f32; 3 * 224 * 224];
    let input = tensor::from_slice("INPUT__0", &pixels, [1, 3, 224, 224]).unwrap();
    let request = Request::new("resnet18").with_input(input);
    // What a first pass costs is spent once, on whatever thread.
    client.infer(request.clone()).await.unwrap();

    let before = processor_time();
    for _ in 0..REQUESTS {
        client.infer(request.clone()).await.unwrap();
    }
    let after = processor_time();
    let used = |name: &str| -> Duration {
        let spent = |times: &BTreeMap<String, Duration>| times.get(name).copied();
        spent(&after).unwrap_or_default() - spent(&before).unwrap_or_default()
    };
    let (compute, workers) = (used(COMPUTE), used(ASYNC_WORKER));
    println!("{COMPUTE} used {compute:?}, {ASYNC_WORKER} {workers:?}");
    // What the workers do use is the transport of 600 KB a request, on both sides.
    assert!(workers < compute / 2, "{workers:?} beside {compute:?}");
    server.stop().await;
}

/// Returns the processor time that this process has used, by the names of its threads without the
/// number of the instance.
fn processor_time() -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::<String, Duration>::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may end between the listing and the reading.
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        let Ok(spent) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let nanos = spent.split_whitespace().next().unwrap().parse().unwrap();
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit());
        *times
            .entry(name.trim_end_matches('-').to_owned())
            .or_default() += Duration::from_nanos(nanos);
    }
    times
}
