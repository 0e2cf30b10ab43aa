//! Ladders from the command line to the report.

use std::process::Command;

use clap::Parser;
use forebay_loadgen::{
    cli::{self, Cli},
    ladder::{self, Report, Source, State, Table},
};

use super::server::Server;

async fn climb(server: &Server, line: &str) -> Report {
    let endpoint = server.endpoint();
    let words = ["loadgen", "ladder", "--quiet", "--endpoint", &endpoint];
    let words = words.into_iter().chain(line.split_whitespace());
    match Cli::parse_from(words).command {
        cli::Command::Ladder(args) => ladder::run(&args).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_that_is_served_gets_each_of_its_requests() {
    let server = Server::start().await;
    let line = "--column auto=fast --column inline=other --column gone=absent --column bad=broken \
                --floor light --batch 1,4 --requests 20 --repetitions 3 --streams 2";
    let report = climb(&server, line).await;
    // At two sizes, twenty and one for warm-up: a run-in and three times, and the floor twice.
    assert_eq!(server.requests(), 2 * 21 * (2 * (1 + 3) + (1 + 2)));
    for (row, column) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let cell = report.columns[column].cell(row).unwrap();
        assert_eq!((cell.repetitions, cell.answered, cell.failed), (3, 60, 0));
        let spread = cell.samples_per_s.unwrap();
        assert!(spread.n == 3 && spread.min > 0.0 && spread.sd.is_some());
        assert!(cell.first_warmup_ms.unwrap() > 0.0);
        assert!(cell.percentile_ms("p90").is_some());
        assert_eq!(cell.percentile_ms("p99"), None);
        assert!((cell.overlap.unwrap() - 1.3).abs() < 1e-9);
        // The server counts one slab for each request.
        assert_eq!(cell.pinned_allocations, [20, 20, 20]);
        let told = cell.utilisation.unwrap();
        assert_eq!(told.source, Source::Computing);
        assert!((told.percent - 75.0).abs() < 1e-9);
        // The stages that the server tells of each reply: 1, 2, 3 and 4 microseconds.
        let bound = cell.bound_per_s.unwrap();
        let batch = f64::from(report.batches[row]);
        assert!((bound - batch * 250_000.0).abs() < 1.0, "{bound}");
    }
    for (column, expected) in [
        (2, "no such model"),
        (3, "UNAVAILABLE: its file is of yesterday"),
    ] {
        let State::Absent { reason } = &report.columns[column].state else {
            panic!("{:?}", report.columns[column])
        };
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(report.floor.cell(1).unwrap().samples_per_s.is_some());
    assert_eq!(report.devices, ["card:0: A Card"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volley_before_the_first_repetition_does_not_count() {
    let server = Server::start().await;
    // The request for warm-up is answered, the only one after it fails, and all that follow are answered.
    let line =
        "--column auto=cold --floor absent --batch 1 --requests 1 --repetitions 2 --streams 1";
    let report = climb(&server, line).await;
    let cell = report.columns[0].cell(0).unwrap();
    assert_eq!((cell.repetitions, cell.answered, cell.failed), (2, 2, 0));
    assert!(cell.first_warmup_ms.is_some() && cell.failure.is_none());
    assert_eq!(cell.warmup_ms.unwrap().n, 2);
    let said = cell.run_in_failure.as_deref().unwrap();
    assert!(said.contains("not warm yet"), "{said}");
    let faults = &report.judgements[0].faults;
    assert_eq!(faults, &["there is no other figure to hold auto against"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_no_configuration_of_the_same_model() {
    let server = Server::start().await;
    let line = "--column auto=slow --column .pt2=package --floor absent --batch 1 --requests 1 \
                --repetitions 1 --shape t:1";
    let report = climb(&server, line).await;
    let judged = &report.judgements[0];
    assert_eq!(judged.auto_of_best, Some(1.0));
    assert_eq!(judged.best_of_all.as_ref().unwrap().0, ".pt2");
    assert!(judged.auto_of_all.unwrap() < 0.98);
    let faults = &judged.faults;
    assert_eq!(faults, &["there is no other figure to hold auto against"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_is_asked_while_requests_are_under_way() {
    let server = Server::start().await;
    // One after the other, so that the volley takes the two seconds from which a driver's figure counts.
    let line = "--column auto=slow --floor absent --batch 1 --requests 11 --repetitions 1 \
                --streams 1 --shape t:1";
    let report = climb(&server, line).await;
    let told = report.columns[0].cell(0).unwrap().utilisation.unwrap();
    assert_eq!((told.percent, told.source), (61.0, Source::Driver));
    // One every 100 ms of the 1.2 s that count, and not of the first.
    assert!(told.samples <= 14, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_and_told() {
    let server = Server::start().await;
    let line =
        "--column auto=busy --floor absent --batch 1 --requests 5 --repetitions 2 --shape t:1";
    let report = climb(&server, line).await;
    let cell = report.columns[0].cell(0).unwrap();
    assert_eq!((cell.answered, cell.failed), (0, 10));
    assert_eq!((cell.samples_per_s, cell.first_warmup_ms), (None, None));
    assert!(!report.passes());
    let text = Table(&report).to_string();
    assert!(text.contains("the queue is full"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_limit_it_reports_what_is_there() {
    let server = Server::start().await;
    // A volley and its warm-up take 400 ms, so that after the run-in the limit is in the second one.
    let line =
        "--column auto=slow --floor absent --batch 1 --requests 2 --shape t:1 --limit 1100ms";
    let report = climb(&server, line).await;
    assert!(report.cut.as_ref().unwrap().contains("limit"), "{report:?}");
    let cell = report.columns[0].cell(0).unwrap();
    assert_eq!((cell.repetitions, cell.answered, cell.failed), (1, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_cannot_hold_it_beyond_its_limit() {
    let server = Server::start().await;
    let line = "--column auto=stuck --floor absent --batch 1 --requests 2 --limit 200ms";
    let report = climb(&server, line).await;
    assert!(report.cut.is_some() && report.took_s < 30.0, "{report:?}");
    let cell = report.columns[0].cell(0).unwrap();
    assert_eq!((cell.repetitions, cell.failed), (0, 0));
    assert_eq!((cell.samples_per_s, report.passes()), (None, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_nothing_of_itself_cannot_hold_it_beyond_its_limit() {
    let server = Server::start().await;
    let line = "--column auto=mute --floor absent --batch 1 --requests 2 --limit 300ms";
    let report = climb(&server, line).await;
    assert!(report.cut.is_some() && report.took_s < 30.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_fails_where_nothing_was_compared() {
    let server = Server::start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["ladder", "--endpoint", &server.endpoint(), "--check"]);
    command.args(["--column", "auto=fast", "--column", "inline=absent"]);
    command.args(["--floor", "absent", "--batch", "2", "--requests", "3"]);
    command.args(["--repetitions", "2"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("no other figure to hold auto against"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_fails_where_auto_lags_and_the_report_is_written_all_the_same() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("ladder.json");
    for (check, code) in [(true, 1), (false, 0)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(["ladder", "--endpoint", &server.endpoint()]);
        command.args(["--column", "auto=slow", "--column", "inline=echo"]);
        command.args(["--shape", "t:1", "--batch", "2", "--requests", "3"]);
        command.args(["--repetitions", "1", "--floor", "absent"]);
        command.args(check.then_some("--check"));
        command.arg("--json").arg(&json);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("inline is best with"), "{text}");
        assert!(text.contains("MISSED"), "{text}");
        let report: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(report.columns[0].cell(0).unwrap().answered, 3);
        assert!(report.judgements[0].auto_of_best.unwrap() < 0.98);
        std::fs::remove_file(&json).unwrap();
    }
}
