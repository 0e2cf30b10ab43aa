//! Loads from the command line to the report.

use std::process::Command;

use clap::Parser;
use forebay_loadgen::{
    cli::{self, Cli, RunArgs},
    report::{Distribution, Pacing, Report},
    run,
    stats::Basis,
    verdict::Status,
};

use super::server::Server;

fn args(server: &Server, line: &str) -> RunArgs {
    let endpoint = server.endpoint();
    let words = ["loadgen", "run", "--quiet", "--endpoint", &endpoint];
    let words = words.into_iter().chain(line.split_whitespace());
    match Cli::parse_from(words).command {
        cli::Command::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

async fn report(server: &Server, line: &str) -> Report {
    run::run(&args(server, line)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_accounts_for_every_arrival_of_its_schedule() {
    let server = Server::start().await;
    let line =
        "--model echo --rate 300 --warmup 200ms --duration 800ms --batch 2 --shape t:2 --seed 5";
    let first = report(&server, line).await;
    let counts = &first.counts;
    let Pacing::Open {
        scheduled,
        schedule_sha256,
        ..
    } = &first.run.pacing
    else {
        panic!("{:?}", first.run.pacing)
    };
    assert_eq!(counts.offered + counts.warmup, *scheduled as u64);
    assert_eq!(counts.completed_ok, counts.offered, "{counts:?}");
    assert_eq!(server.requests(), *scheduled as u64);
    assert!(counts.warmup > 20 && counts.offered > 150);
    assert_eq!(first.latency.response.samples, counts.offered);
    assert_eq!(first.latency.lag.samples, counts.offered);
    assert_eq!(first.run.inputs[1].shape, [2, 2]);
    let rate = first.throughput.inferences_per_s.unwrap();
    assert!((rate / first.throughput.requests_per_s.unwrap() - 2.0).abs() < 1e-9);
    // The warm-up is not in the statistics, but for what was in flight at its end.
    let statistics = first.server.statistics.unwrap();
    assert!(
        (1..*scheduled as u64).contains(&statistics.success),
        "{statistics:?} {counts:?}"
    );
    assert!((statistics.stages[2].mean_ms - 0.003).abs() < 1e-9);

    let again = report(&server, line).await;
    assert!(
        matches!(again.run.pacing, Pacing::Open { schedule_sha256: hash, .. } if hash == *schedule_sha256)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_on_streams_gives_the_stages_of_each_answer() {
    let server = Server::start().await;
    let line = "--model echo --mode stream --streams 2 --concurrency 4 --sequences --requests 500 \
                --warmup 0s --shape t:1 --param forebay_timings=true";
    let report = report(&server, line).await;
    assert_eq!(
        (report.counts.completed_ok, report.counts.offered),
        (500, 500)
    );
    let stages: Vec<_> = report
        .server
        .stages
        .iter()
        .map(|stage| (&*stage.stage, stage.latency.samples))
        .collect();
    assert_eq!(stages.len(), 5);
    assert!(
        stages.iter().all(|(_, samples)| *samples == 500),
        "{stages:?}"
    );
    assert!((report.server.stages[2].latency.mean_ms.unwrap() - 0.003).abs() < 1e-5);
    assert!(report.verdict.notes[0].starts_with("closed: says nothing about latency"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_counts_where_a_closed_loop_was_offered_for_all_of_it() {
    let server = Server::start().await;
    let line = "--model fast --concurrency 2 --warmup 50ms --duration 200ms";
    let whole = report(&server, line).await.throughput;
    assert_eq!((whole.basis, whole.basis_s), (Basis::Window, 0.2));
    assert_eq!(whole.requests_per_s, whole.window_requests_per_s);
    // Two hundred answers do not take a minute.
    let line = "--model fast --concurrency 2 --warmup 0s --duration 60s --requests 200";
    let cut = report(&server, line).await.throughput;
    assert_eq!((cut.basis, cut.window_requests_per_s), (Basis::Span, None));
    assert!(cut.requests_per_s.unwrap() > 200.0 / 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_itself_took_is_told() {
    let server = Server::start().await;
    let line = "--model fast --mode stream --rate 200 --warmup 0s --duration 300ms";
    let report = report(&server, line).await;
    let latency = &report.latency;
    assert_eq!(latency.held.samples, report.counts.completed_ok);
    // What it is held back comes after what it is late.
    let mean = |of: &Distribution| of.mean_ms.unwrap();
    let parts = mean(&latency.lag) + mean(&latency.held) + mean(&latency.service);
    assert!((parts / mean(&latency.response) - 1.0).abs() < 0.01);
    if let (Some(runner), Some(busiest)) =
        (report.client.runner_thread, report.client.busiest_thread)
    {
        assert!(busiest.share >= runner.share && busiest.name != "lg-pacer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_are_opened_again_and_told() {
    let server = Server::start().await;
    let line =
        "--model brief --mode stream --streams 2 --concurrency 4 --requests 1500 --warmup 0s";
    let report = report(&server, line).await;
    let counts = &report.counts;
    assert_eq!(counts.completed_ok + counts.failed, 1500, "{counts:?}");
    // A stream takes a hundred, and then at most the four in flight fail.
    assert!(counts.failed >= 13 && counts.failed <= 60, "{counts:?}");
    assert_ne!(
        report.verdict.status,
        Status::Invalid,
        "{:?}",
        report.verdict
    );
    let reopened = report.client.streams_reopened;
    assert!((13..=15).contains(&reopened), "{reopened}");
    let told = format!("ended {reopened} times");
    let notes = &report.verdict.notes;
    assert!(notes.iter().any(|note| note.contains(&told)), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_count_as_inferences_where_the_model_batches() {
    let server = Server::start().await;
    for (model, batch) in [("fast", 5), ("whole", 1)] {
        let line = format!("--model {model} --rate 100 --requests 20 --warmup 0s --shape x:5,3");
        let report = report(&server, &line).await;
        assert_eq!(
            (report.run.inputs[0].shape[0], report.run.batch),
            (5, batch)
        );
        let throughput = &report.throughput;
        let rows = throughput.inferences_per_s.unwrap() / throughput.requests_per_s.unwrap();
        assert!((rows - batch as f64).abs() < 1e-9, "{rows}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_would_do_nothing_are_refused() {
    let server = Server::start().await;
    let error = run::run(&args(&server, "--model fast --rate 5 --streams 2"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--mode stream"), "{error:#}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_is_told_before_anything_is_sent() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(["run", "--endpoint", &server.endpoint(), "--model", "fast"])
        .args([
            "--rate",
            "100",
            "--warmup",
            "0s",
            "--requests",
            "5",
            "--json",
        ])
        .arg(folder.path().join("none/r.json"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("none/r.json"), "{text}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_requests_are_failures_and_never_fast_answers() {
    let server = Server::start().await;
    let report = report(
        &server,
        "--model busy --rate 200 --warmup 0s --duration 300ms --shape t:1",
    )
    .await;
    assert_eq!(
        report.counts.failures["RESOURCE_EXHAUSTED"],
        report.counts.offered
    );
    assert_eq!(report.latency.response.never, report.counts.offered);
    assert_eq!(report.verdict.status, Status::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_counted_with_at_least_its_length() {
    let server = Server::start().await;
    let line = "--model slow --rate 50 --warmup 0s --duration 300ms --timeout 50ms --shape t:1";
    let report = report(&server, line).await;
    assert_eq!(
        report.counts.timed_out, report.counts.offered,
        "{:?}",
        report.counts
    );
    assert!(report.latency.errors.min_ms.unwrap() >= 49.9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_own_limit_is_a_failure_with_the_time_that_it_took() {
    let server = Server::start().await;
    let report = report(
        &server,
        "--model hasty --rate 100 --warmup 0s --requests 20",
    )
    .await;
    let counts = &report.counts;
    assert_eq!(counts.timed_out, 0, "{counts:?}");
    assert_eq!(counts.failures["DEADLINE_EXCEEDED"], counts.offered);
    // Far from the 30 s that an answer may take.
    assert!(report.latency.errors.max_ms.unwrap() < 20_000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_on_a_stream_costs_no_other_request_its_place() {
    let server = Server::start().await;
    let line = "--model lost --mode stream --concurrency 1 --completion-order --timeout 2s \
                --requests 4 --warmup 0s";
    let report = report(&server, line).await;
    let counts = &report.counts;
    assert_eq!(
        (counts.timed_out, counts.completed_ok),
        (1, 3),
        "{counts:?}"
    );
    assert_eq!(server.requests(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_there_is_named_in_the_error() {
    let server = Server::start().await;
    let error = run::run(&args(&server, "--model absent --rate 1"))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("ask for the inputs of model 'absent'"),
        "{error:#}"
    );
    let error = run::run(&args(&server, "--model echo --rate 1"))
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("--shape t:"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_writes_its_reports_and_ends_with_its_verdict() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("r.json"), folder.path().join("r.html"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args([
            "run",
            "--endpoint",
            &server.endpoint(),
            "--model",
            "slow",
            "--shape",
            "t:1",
        ])
        .args([
            "--rate",
            "100",
            "--warmup",
            "0s",
            "--duration",
            "500ms",
            "--max-in-flight",
            "2",
        ])
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("INVALID") && text.contains("were not sent"),
        "{text}"
    );
    let report: Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let counts = &report.counts;
    assert!(
        counts.not_sent > 0 && counts.offered == counts.completed_ok + counts.not_sent,
        "{counts:?}"
    );
    assert!(
        std::fs::read_to_string(html)
            .unwrap()
            .ends_with("</html>\n")
    );
}
