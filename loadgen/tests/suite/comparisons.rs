//! Queued against done, and one server's answers against another's.

use clap::Parser;
use forebay_loadgen::{
    cli::{self, Cli},
    output::ReportFile,
    parity, queued,
};

use super::server::Server;

fn parse(server: &Server, command: &str, line: &str) -> cli::Command {
    let endpoint = server.endpoint();
    let words = ["loadgen", command, "--endpoint", &endpoint];
    let words = words.into_iter().chain(line.split_whitespace());
    Cli::parse_from(words).command
}

async fn compare(server: &Server, line: &str) -> parity::Report {
    let line = format!("--reference {} {line}", server.endpoint());
    match parse(server, "parity", &line) {
        cli::Command::Parity(args) => parity::run(&args).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_queued_before_they_are_sent_before_they_are_done() {
    let server = Server::start().await;
    let cli::Command::Queued(args) = parse(&server, "async", "--model fast --requests 7") else {
        panic!("another command")
    };
    let report = queued::run(&args).await.unwrap();
    assert_eq!(server.requests(), 8);
    assert!(report.queued_ms > 0.0 && report.sent_ms < report.done_ms);
    let sums = report.server.unwrap();
    assert!((sums.compute_ms - 7.0 * 0.003).abs() < 1e-9, "{sums:?}");
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("async.json");
    let mut text = Vec::new();
    let file = ReportFile::open(Some(&json)).unwrap();
    queued::write(&report, file, &mut text).unwrap();
    let read: queued::Report = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!((read.model, read.requests), (report.model, 7));
    assert!((read.done_ms - report.done_ms).abs() < 1e-9);
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains("7 requests to fast")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_answers_are_the_same_and_others_are_not() {
    let server = Server::start().await;
    let same = compare(&server, "--model fast --batch 1,32").await;
    assert!(same.passes(), "{same:?}");
    assert_eq!((same.rows.len(), same.rows[1].difference), (2, Some(0.0)));

    let off = compare(&server, "--model off --reference-model fast --batch 2").await;
    assert!(!off.passes());
    assert!(
        (off.rows[0].difference.unwrap() - 1.0).abs() < 1e-6,
        "{off:?}"
    );
    assert_eq!(off.rows[0].note, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_asked_is_told_and_does_not_pass() {
    let server = Server::start().await;
    let report = compare(&server, "--model absent --model fast --batch 1").await;
    assert!(!report.passes());
    assert_eq!(report.rows[0].difference, None);
    assert!(report.rows[0].note.contains("no such model"), "{report:?}");
    assert!(report.rows[1].passes);
    let mut text = Vec::new();
    parity::write(&report, None, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("| absent | 1 | n/a | DIFFERS |"), "{text}");
}
