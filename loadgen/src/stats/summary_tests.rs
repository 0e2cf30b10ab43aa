use forebay_client::Code;
use proptest::prelude::*;

use super::*;
use crate::{record::Stages, report::StageReport, stats::QUANTILES};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn record(number: u64, intended: u64, sent: u64, done: u64, outcome: Outcome) -> Record {
    Record {
        number,
        intended: ms(intended),
        submitted: (outcome != Outcome::NotSent).then_some(ms(sent)),
        sent: (outcome != Outcome::NotSent).then_some(ms(sent)),
        first: None,
        done: ms(done),
        outcome,
        stages: None,
    }
}

#[test]
fn throughput_is_answers_over_the_time_they_took_and_not_over_whole_seconds() {
    // 40 requests of 1.1 ms, back to back: 44 ms, not a second.
    let records: Vec<Record> = (0..40u64)
        .map(|n| Record {
            intended: Duration::from_micros(1100 * n),
            done: Duration::from_micros(1100 * (n + 1)),
            ..record(n, 0, 0, 0, Outcome::Ok)
        })
        .collect();
    let summary = Summary::of(&records, Duration::ZERO, None, ms(1000));
    let rate = summary.span.rate(summary.counts.ok).unwrap();
    assert!((rate - 909.09).abs() < 0.01, "{rate}");
}

#[test]
fn a_target_that_dies_halfway_has_half_the_throughput() {
    let dies = |outcome: Outcome, took: u64| {
        let records: Vec<Record> = (0..1000u64)
            .map(|n| match n {
                0..500 => record(n, n * 10, n * 10, n * 10 + 5, Outcome::Ok),
                _ => record(n, n * 10, n * 10, n * 10 + took, outcome),
            })
            .collect();
        let summary = Summary::of(&records, Duration::ZERO, None, ms(1000));
        summary.span.rate(summary.counts.ok).unwrap()
    };
    for (outcome, took) in [
        (Outcome::Failed(Code::Unavailable), 0),
        (Outcome::Failed(Code::Unavailable), 5),
        (Outcome::TimedOut, 1000),
        (Outcome::Unfinished, 30_000),
        (Outcome::NotSent, 0),
    ] {
        let rate = dies(outcome, took);
        assert!((rate / 50.0 - 1.0).abs() < 0.01, "{outcome:?}: {rate}");
    }
}

#[test]
fn a_failure_that_ends_last_ends_the_span() {
    let records = [
        record(0, 0, 0, 100, Outcome::Ok),
        record(1, 50, 50, 400, Outcome::Failed(Code::Internal)),
    ];
    let summary = Summary::of(&records, Duration::ZERO, None, ms(1000));
    assert_eq!(summary.span.end, ms(400));
}

#[test]
fn warm_up_is_left_out_by_intended_time_even_if_it_ends_later() {
    let records = [
        record(0, 99, 99, 500, Outcome::Ok),
        record(1, 100, 100, 130, Outcome::Ok),
        record(2, 150, 150, 190, Outcome::Ok),
    ];
    let summary = Summary::of(&records, ms(100), Some(ms(100)), ms(1000));
    assert_eq!((summary.warmup, summary.counts.offered), (1, 2));
    assert_eq!(
        summary.span,
        Span {
            start: ms(100),
            end: ms(190)
        }
    );
    assert_eq!(summary.window_ok, Some(2));
    assert!(summary.response.max().unwrap() < ms(41));
}

#[test]
fn a_timed_out_request_counts_with_at_least_its_timeout() {
    let mut records: Vec<Record> = (0..9).map(|n| record(n, 0, 0, 1, Outcome::Ok)).collect();
    records.push(record(9, 0, 0, 3, Outcome::TimedOut));
    let summary = Summary::of(&records, Duration::ZERO, None, ms(50));
    assert!(summary.response.max().unwrap() >= ms(50));
    assert!(summary.errors.min().unwrap() >= ms(49));
    assert_eq!(summary.response.censored(), 1);
}

#[test]
fn a_late_send_counts_in_response_and_lag_but_not_in_service() {
    let records = [record(0, 10, 510, 513, Outcome::Ok)];
    let summary = Summary::of(&records, Duration::ZERO, None, ms(50));
    let whole = |latencies: &Latencies| latencies.max().unwrap().as_millis();
    assert_eq!(whole(&summary.response), 503);
    assert_eq!(whole(&summary.lag), 500);
    assert_eq!(whole(&summary.service), 3);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Ok),
        1 => Just(Outcome::Failed(Code::Unavailable)),
        1 => Just(Outcome::Failed(Code::Internal)),
        1 => Just(Outcome::TimedOut),
        1 => Just(Outcome::Unfinished),
        1 => Just(Outcome::NotSent),
    ]
}

proptest! {
    // Each case scans histograms of 250 KiB, slowly without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_is_counted_once_and_has_a_rank(
        ends in proptest::collection::vec((0u64..1000, 0u64..50, 0u64..500, outcome()), 0..200),
        warmup in 0u64..400,
    ) {
        let records: Vec<Record> = ends.iter().zip(0..)
            .map(|(&(at, lag, took, outcome), number)| record(number, at, at + lag, at + lag + took, outcome))
            .collect();
        let summary = Summary::of(&records, ms(warmup), Some(ms(600)), ms(300));
        let counts = &summary.counts;
        prop_assert!(counts.check(counts.offered).is_ok());
        prop_assert!(counts.check(counts.offered + 1).is_err());
        prop_assert_eq!(counts.offered + summary.warmup, records.len() as u64);
        prop_assert_eq!(counts.failures.values().sum::<u64>(), counts.failed);
        prop_assert_eq!(summary.response.samples(), counts.offered);
        prop_assert_eq!(summary.response.never(), counts.failed + counts.not_sent);
        prop_assert_eq!(summary.response.censored(), counts.timed_out + counts.unfinished);
        prop_assert_eq!(summary.errors.samples(), counts.failed + counts.timed_out);
        prop_assert_eq!(summary.service.samples(), counts.ok);
        for quantile in QUANTILES {
            let percentile = summary.response.percentile(quantile);
            let given = summary.response.samples() >= quantile.floor && summary.response.max().is_some();
            prop_assert_eq!(percentile.value.is_some(), given);
        }
    }
}

#[test]
fn the_disk_counts_only_for_answers_that_were_there() {
    let with = |number, parked| Record {
        stages: Some(Stages {
            queue: ms(5),
            parked,
            onboard: parked.map(|_| ms(1)),
            ..Stages::default()
        }),
        ..record(number, 0, 0, 10, Outcome::Ok)
    };
    let records = [with(0, Some(ms(3))), with(1, None)];
    let stages = Summary::of(&records, Duration::ZERO, None, ms(1000))
        .stages
        .unwrap();
    let samples = [
        &stages.queue,
        &stages.parked,
        &stages.onboard,
        &stages.residency,
    ];
    assert_eq!(samples.map(Latencies::samples), [2, 1, 1, 0]);
    // What is within the queue's time counts once.
    assert!(stages.rest.mean().unwrap().abs_diff(ms(5)) < Duration::from_micros(10));
    let told = StageReport::waits(&stages)
        .into_iter()
        .map(|wait| wait.stage);
    assert_eq!(
        told.collect::<Vec<_>>(),
        ["of queue: on disk", "of queue: from disk"]
    );
}
