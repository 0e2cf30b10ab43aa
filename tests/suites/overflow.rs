//! More requests than memory holds, with a disk to spill to.

mod readers;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use forebay_client::{Client, Code, Request, tensor};
use forebay_server::executor::Mode;
use forebay_tests::{
    harness::{Process, TestServer, echo, until, within},
    overload::{Outcome, Overload},
};
use futures_util::future::join_all;
use tempfile::TempDir;

/// Ten times the budget at once.
const LOAD: Overload = Overload {
    budget: 16 << 20,
    streams: 16,
    requests: 80,
    elements: 32 << 10,
    // Slower than requests come in, also where nothing is optimised.
    pass: Duration::from_millis(20),
};

/// A folder on a disk, and the section `[spill]` that names it.
fn disk(more: &str) -> (TempDir, String) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = folder.path().display();
    let section = format!("dirs = ['{dir}']\nmin_free = \"1 MiB\"\n{more}");
    (folder, section)
}

async fn stop(mut server: Process) {
    server.sigterm().await;
    assert!(server.wait().await.success());
}

async fn assert_served(load: &Overload, spill: &str) {
    let server = load.serve(spill).await;
    assert_all_right(load, &load.run(&server).await.unwrap());
    stop(server).await;
}

fn assert_all_right(load: &Overload, outcome: &Outcome) {
    let all = load.streams * load.requests;
    let counts = (outcome.right, outcome.wrong, outcome.refused);
    assert_eq!(counts, (all, 0, 0), "{outcome:?}");
}

/// Bytes that the process has written to disks, as the system counts them.
fn written(server: &Process) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", server.id())).unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_budget_is_answered_rightly_and_most_of_it_was_on_disk() {
    let (_folder, spill) = disk("capacity = \"1 GiB\"");
    let server = LOAD.serve(&spill).await;
    let outcome = LOAD.run(&server).await.unwrap();
    assert_all_right(&LOAD, &outcome);
    assert!(written(&server) > LOAD.bytes() / 2, "{}", written(&server));
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_disk_the_same_load_is_held_back_and_answered() {
    let server = LOAD.serve("").await;
    let outcome = LOAD.run(&server).await.unwrap();
    assert_all_right(&LOAD, &outcome);
    assert_eq!(written(&server), 0);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_small_holds_back_the_rest() {
    let (_folder, spill) = disk("capacity = \"8 MiB\"");
    assert_served(&LOAD, &spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_tensors_come_back_as_they_were() {
    let (_folder, spill) = disk("capacity = \"1 GiB\"\nencrypt = true\nengine = \"psync\"");
    let load = Overload {
        requests: 20,
        budget: 4 << 20,
        ..LOAD
    };
    assert_served(&load, &spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_what_is_read_ahead_runs() {
    let (_folder, spill) = disk("capacity = \"1 GiB\"");
    // Batches of 4 take 1 MiB; an eighth of the budget is read ahead.
    let load = Overload {
        budget: 4 << 20,
        requests: 20,
        elements: 64 << 10,
        ..LOAD
    };
    assert_served(&load, &spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_spills_it_leaves_nothing_behind() {
    let (folder, spill) = disk("capacity = \"1 GiB\"");
    let server = LOAD.serve(&spill).await;
    let id = server.id();
    let load = async {
        // The connections end with the server.
        let _gone = LOAD.run(&server).await;
    };
    let killed = async {
        until(|| written(&server) > LOAD.budget).await;
        assert_eq!(files(folder.path()), 0, "its files have no names");
        let kill = tokio::process::Command::new("sh")
            .args(["-c", "kill -KILL \"$0\""])
            .arg(id.to_string())
            .status();
        assert!(kill.await.unwrap().success());
    };
    tokio::join!(load, killed);
    assert_eq!(files(folder.path()), 0);
    let again = LOAD.serve(&spill).await;
    let few = Overload {
        requests: 4,
        ..LOAD
    };
    assert_eq!(few.run(&again).await.unwrap().right, 4 * LOAD.streams);
    stop(again).await;
}

/// Serves `echo` with a budget of 16 requests and a disk in `dirs`, and makes 30 unary calls at once.
/// Returns how many were answered; the others were refused.
async fn answered_of_30_calls(dirs: Vec<PathBuf>) -> usize {
    let server = TestServer::builder()
        .with_model("echo", &echo("echo", "TYPE_INT32", ""), None)
        .with_host_bytes((16 * 257) << 10)
        .with_simulated(Duration::ZERO, Duration::from_millis(50), Duration::ZERO)
        .with_mode(Mode::Inline)
        .with_config(|config| {
            config.admission.unary_wait = Duration::from_secs(60);
            config.spill.dirs = dirs;
            config.spill.capacity = ByteSize::mib(64);
            config.spill.min_free = ByteSize::mib(1);
        })
        .start()
        .await;
    let client = server.client().await;
    let calls = (0..30).map(|seed| call(&client, seed));
    let answers = within(join_all(calls)).await;
    server.stop().await;
    answers.into_iter().filter(|answered| *answered).count()
}

/// Returns whether the call was answered, and rightly, rather than refused.
async fn call(client: &Client, seed: i32) -> bool {
    let values = vec![seed; 64 << 10];
    let input = tensor::from_slice("x", &values, [64 << 10]).unwrap();
    match client.infer(Request::new("echo").with_input(input)).await {
        Ok(reply) => {
            assert_eq!(tensor::to_vec::<i32>(&reply.outputs()[0]).unwrap(), values);
            true
        }
        Err(error) => {
            assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
            false
        }
    }
}

#[tokio::test]
async fn a_burst_of_unary_calls_is_refused_only_without_a_disk() {
    assert!(answered_of_30_calls(Vec::new()).await < 30);
    let (folder, _) = disk("");
    assert_eq!(
        answered_of_30_calls(vec![folder.path().to_owned()]).await,
        30
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_at_start() {
    let missing = "dirs = ['/proc/forebay']";
    let toml = format!("[spill]\n{missing}\n");
    let said = Process::refuse(forebay_tests::harness::TestRepository::default(), &toml).await;
    assert!(said.contains("/proc/forebay"), "{said}");
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
