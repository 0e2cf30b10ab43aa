//! What the process holds, as the system tells it.

use forebay_tests::harness::Process;

use super::*;

/// Weights of one model. Blocks of this size are mapped, and go back to the system at once.
const MIB: u64 = 48;

/// Returns the peak of the process's memory in MiB.
fn peak(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

async fn serve(budget: &str) -> Process {
    let mut repository = TestRepository::default();
    for index in 0..5 {
        let kib = i64::try_from(MIB * 1024).unwrap();
        repository = with_layer(repository, &format!("m{index}"), kib, factor(index));
    }
    let toml = format!(
        "scheduler.intra_op_threads = 1\ntelemetry.log = 'warn'\n\
         [registry]\nwarmup_timeout = '0s'\n{budget}\n"
    );
    Process::start(repository, &toml).await
}

/// Asks each model some times, and returns the peak of memory after that.
async fn peak_of(mut process: Process) -> u64 {
    let client = process.client().await;
    for index in [0, 3, 1, 4, 2, 0, 2, 4, 1, 3, 0] {
        ask(&client, index, 1.0).await.unwrap();
    }
    let peak = peak(&process);
    process.sigterm().await;
    assert_eq!(process.wait().await.code(), Some(0));
    peak
}

#[tokio::test]
async fn the_process_holds_as_many_weights_as_it_may() {
    let all = peak_of(serve("").await).await;
    let budget = format!(
        "model_residency = 'lru'\nweights_bytes = '{} MiB'",
        2 * MIB + 8
    );
    let two = peak_of(serve(&budget).await).await;
    println!("peak with five models in memory {all} MiB, with two {two} MiB");
    // Three fewer, save for one that is being loaded at the start, and for what else differs.
    assert!(two + 3 * MIB / 2 <= all, "{two} MiB and {all} MiB");
}
