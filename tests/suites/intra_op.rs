//! The threads that passes run on are those that were asked for, counted from outside.

use std::{collections::BTreeMap, fs, time::Duration};

use forebay_client::{Request, StreamOptions, tensor};
use forebay_tests::{
    harness::{Process, TestRepository, within},
    models::{self, Fixture},
};

/// One of this many parts of the time of all passes is what a thread that takes part in them uses, at
/// least. There are up to four such threads, and what merely wakes up uses less.
const PARTS: u32 = 20;

/// Serves ResNet-18 on `instances` instances of `threads` threads, keeps all of them busy, and
/// returns how many threads of each name worked, and what every thread used. Those of the transport
/// are left out of the former.
async fn at_work(threads: usize, instances: usize) -> (BTreeMap<String, usize>, Vec<String>) {
    const REQUESTS: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    models::write(dir.path(), &[Fixture::ResNet18]).unwrap();
    let module = fs::read(dir.path().join("resnet18/1/model.pt")).unwrap();
    let config = Fixture::ResNet18.config();
    // Requests stay apart, so that each instance has some.
    let config = &config[..config.find("dynamic_batching").unwrap()];
    let config = format!("{config}\ninstance_group {{ count: {instances} }}");
    let repository = TestRepository::default().with_model("resnet18", &config, Some(&module));
    let toml = format!(
        "[scheduler]\nintra_op_threads = {threads}\n[registry]\nwarmup_timeout = \"300ms\"\n"
    );
    let mut server = Process::start(repository, &toml).await;
    let client = server.client().await;
    let pixels = vec![0.5f32; 3 * 224 * 224];
    let input = tensor::from_slice("INPUT__0", &pixels, [1, 3, 224, 224]).unwrap();
    let request = Request::new("resnet18").with_input(input);
    let options = StreamOptions::default().with_requests_in_flight(2 * instances);
    let session = client.stream(options).await.unwrap();

    let before = times(server.id());
    let mut tickets = Vec::new();
    for _ in 0..REQUESTS {
        tickets.push(within(session.submit(request.clone())).await.unwrap());
    }
    for ticket in tickets {
        within(ticket).await.unwrap();
    }
    let after = times(server.id());
    within(session.close()).await.unwrap();
    server.sigterm().await;
    server.wait().await;

    let spent = after.into_iter().map(|(thread, (name, spent))| {
        let earlier = before.get(&thread);
        (
            name,
            spent - earlier.map_or(Duration::ZERO, |(_, spent)| *spent),
        )
    });
    let (transport, others): (Vec<_>, Vec<_>) =
        spent.partition(|(name, _)| name.starts_with("fb-async"));
    let passes: Duration = others.iter().map(|(_, spent)| *spent).sum();
    let mut working = BTreeMap::new();
    for (name, _) in others.iter().filter(|(_, spent)| *spent * PARTS > passes) {
        *working.entry(name.clone()).or_default() += 1;
    }
    let used = transport.iter().chain(&others);
    let used = used.map(|(name, spent)| format!("{name} {spent:?}"));
    (working, used.collect())
}

/// Returns the name of each thread of a process, and the processor time that it has used.
fn times(process: u32) -> BTreeMap<u32, (String, Duration)> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let task = task.unwrap();
        let read = |file: &str| fs::read_to_string(task.path().join(file));
        // A thread may end between the listing and the reading.
        let (Ok(name), Ok(spent)) = (read("comm"), read("schedstat")) else {
            continue;
        };
        let nanos = spent.split_whitespace().next().unwrap().parse().unwrap();
        let id = task.file_name().to_string_lossy().parse().unwrap();
        times.insert(id, (name.trim().to_owned(), Duration::from_nanos(nanos)));
    }
    times
}

#[tokio::test]
async fn passes_run_on_as_many_threads_as_were_asked_for() {
    for (threads, instances) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        // Workers of a team carry the name of the thread that made them.
        let names = (0..instances).map(|index| (format!("fb-compute-{index}"), threads));
        let expected: BTreeMap<String, usize> = names.collect();
        let (working, used) = at_work(threads, instances).await;
        println!("{threads} threads for each of {instances} instances: {used:?}");
        assert_eq!(working, expected, "{used:?}");
    }
}
