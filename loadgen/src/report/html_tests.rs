use std::time::Duration;

use crate::{
    record::{Outcome, Record, Stages},
    report::{
        BacklogReport, ClientReport, CountsReport, Distribution, InputReport, LatencyReport,
        Pacing, Report, RunReport, SCHEMA, ServerReport, StageReport, ThroughputReport,
        WindowReport, html::page, table::Table,
    },
    runner::End,
    schedule::Arrivals,
    stats::{Offering, Summary, Throughput, windows},
    verdict::{Evidence, Verdict},
};

fn records(count: u64) -> Vec<Record> {
    (0..count)
        .map(|number| {
            let intended = Duration::from_millis(5 * number);
            let took = Duration::from_micros(2000 + number * 7919 % 3000);
            Record {
                number,
                intended,
                submitted: Some(intended + Duration::from_micros(50)),
                sent: Some(intended + Duration::from_micros(80)),
                first: Some(intended + took / 2),
                done: intended + took,
                outcome: if number % 100 == 99 {
                    Outcome::TimedOut
                } else {
                    Outcome::Ok
                },
                stages: Some(Stages {
                    queue: took / 8,
                    h2d: took / 16,
                    compute: took / 2,
                    d2h: took / 16,
                    ..Stages::default()
                }),
            }
        })
        .collect()
}

fn report(records: &[Record]) -> Report {
    let second = Duration::from_secs(1);
    let summary = Summary::of(records, second, Some(second * 9), second);
    let evidence = Evidence {
        open: true,
        end: End::Complete,
        max_in_flight: 64,
        cpu_share: None,
        runner_thread: None,
        busiest_thread: None,
        shared_cores: Some(2),
        streams_reopened: 0,
        served: None,
    };
    let (width, windows) = windows(records);
    Report {
        schema: SCHEMA.to_owned(),
        tool_version: "0".to_owned(),
        started_at_unix_s: 0.0,
        verdict: Verdict::of(&summary, &evidence),
        run: run(),
        counts: CountsReport::new(&summary.counts, summary.warmup),
        throughput: ThroughputReport::new(
            &Throughput::of(&summary, &offering(second)),
            summary.span,
            1,
        ),
        latency: LatencyReport {
            response: Distribution::from(&summary.response),
            service: Distribution::from(&summary.service),
            first_byte: Distribution::from(&summary.first_byte),
            lag: Distribution::from(&summary.lag),
            held: Distribution::from(&summary.held),
            errors: Distribution::from(&summary.errors),
        },
        backlog: BacklogReport::from(&summary.backlog),
        server: ServerReport {
            statistics: None,
            stages: summary
                .stages
                .as_ref()
                .map(StageReport::all)
                .unwrap_or_default(),
            waits: summary
                .stages
                .as_ref()
                .map(StageReport::waits)
                .unwrap_or_default(),
        },
        client: ClientReport::default(),
        series_width_s: width.as_secs_f64(),
        series: windows.iter().map(WindowReport::from).collect(),
    }
}

fn offering(second: Duration) -> Offering {
    Offering {
        open: true,
        warmup: second,
        duration: Some(second * 9),
        requests: None,
        arrivals_ended: second * 10,
        end: End::Complete,
    }
}

fn run() -> RunReport {
    RunReport {
        endpoint: "http://127.0.0.1:8001".to_owned(),
        model: "<script>".to_owned(),
        mode: "unary".to_owned(),
        pacing: Pacing::Open {
            rate: 200.0,
            arrivals: Arrivals::Poisson,
            scheduled: 2000,
            schedule_sha256: "0".repeat(64),
        },
        warmup_s: 1.0,
        duration_s: Some(9.0),
        requests: None,
        seed: 0,
        batch: 1,
        variants: 16,
        payload_bytes: 64,
        inputs: vec![InputReport {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 16],
        }],
        parameters: std::collections::BTreeMap::new(),
        connections: 1,
        streams: None,
        completion_order: false,
        max_in_flight: 64,
        timeout_s: 1.0,
        grace_s: 1.0,
        sequences: false,
    }
}

#[test]
fn the_page_stands_alone_and_runs_nothing() {
    let page = page(&report(&records(2000)));
    for foreign in [
        "<script", "src=", "href=", "url(", "@import", "NaN", "inf\"",
    ] {
        assert!(!page.contains(foreign), "the page holds {foreign}");
    }
    assert!(page.contains("&lt;script&gt;"));
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.contains("Where the time goes") && page.contains("network + client"));
}

#[test]
fn a_run_without_answers_still_makes_a_page_and_a_table() {
    let report = report(&[]);
    assert!(page(&report).contains("INVALID"));
    assert!(Table(&report).to_string().contains("n/a"));
}

#[test]
fn the_table_shows_response_service_and_lag_and_hides_unsupported_percentiles() {
    let text = Table(&report(&records(2000))).to_string();
    let row = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    for name in [
        "response",
        "service",
        "lag",
        "held back",
        "errors",
        "queue",
        "compute",
    ] {
        row(name);
    }
    // 1800 samples: p99 may be given, p99.9 may not. One in a hundred timed out.
    let cells: Vec<String> = row("response")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(cells[6..8], ["n/a", "n/a"], "{cells:?}");
    assert!(cells[8].starts_with(">="), "{cells:?}");
    assert!(
        text.contains("offered 1800 = 1782 ok + 0 failed + 18 timed out"),
        "{text}"
    );
}

#[test]
fn the_throughput_says_what_it_is_taken_over() {
    let records = records(2000);
    let mut report = report(&records);
    let text = Table(&report).to_string();
    // 1782 correct answers from 1 s until the last at 10 s.
    assert!(
        text.contains("throughput 198.1 requests/s over 8.99"),
        "{text}"
    );
    let second = Duration::from_secs(1);
    let summary = Summary::of(&records, second, Some(second * 9), second);
    let closed = Offering {
        open: false,
        ..offering(second)
    };
    let throughput = Throughput::of(&summary, &closed);
    report.throughput = ThroughputReport::new(&throughput, summary.span, 2);
    report.run.batch = 2;
    let text = Table(&report).to_string();
    let told = "requests/s, 396.0 inferences/s in the measured window of 9.000 s";
    assert!(text.contains(told), "{text}");
    assert!(page(&report).contains("correct answers a second, in the measured window of 9.000 s"));
}

#[test]
fn the_report_survives_json() {
    let report = report(&records(300));
    let text = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.counts, report.counts);
    assert_eq!(back.verdict, report.verdict);
    assert_eq!(
        back.latency.response.buckets_ns,
        report.latency.response.buckets_ns
    );
    assert!(text.contains("\"loop\":{\"kind\":\"open\"") && text.contains("\"status\":\"VALID\""));
}
