use super::*;

const MS: Duration = Duration::from_millis(1);

fn stages(h2d: u32, compute: u32, d2h: u32) -> Stages {
    Stages {
        h2d: h2d * MS,
        compute: compute * MS,
        d2h: d2h * MS,
        ..Stages::default()
    }
}

/// A hundred answers, one every `step`.
fn steady(step: Duration) -> Repetition {
    Repetition {
        warmup: Some(7 * step),
        alone: Some(stages(6, 58, 31)),
        responses: (1..=100).map(|place| place * step).collect(),
        ..Repetition::default()
    }
}

#[test]
fn throughput_is_over_the_time_to_the_last_answer_and_not_over_latencies() {
    let cell = Cell::of(32, &[steady(10 * MS)]);
    // 3200 samples in one second; over the sum of latencies it would be 63.
    let spread = cell.samples_per_s.unwrap();
    assert!((spread.mean - 3200.0).abs() < 1e-9, "{spread:?}");
    assert_eq!(cell.latency_ms.unwrap().mean, 505.0);
}

#[test]
fn the_spread_is_over_repetitions() {
    let cell = Cell::of(1, &[steady(10 * MS), steady(5 * MS)]);
    let spread = cell.samples_per_s.unwrap();
    assert!((spread.mean - 150.0).abs() < 1e-9 && spread.n == 2);
    assert!((spread.sd.unwrap() - 5000f64.sqrt()).abs() < 1e-9);
    assert_eq!((cell.warmup_ms.unwrap().mean, cell.answered), (52.5, 200));
}

#[test]
fn a_percentile_needs_its_samples() {
    let few = Cell::of(1, &[steady(MS)]);
    assert!(few.percentile_ms("p90").is_some());
    assert_eq!(few.percentile_ms("p99"), None);
    let enough = Cell::of(1, &vec![steady(MS); 5]);
    let p99 = enough.percentile_ms("p99").unwrap();
    assert!((p99 - 99.0).abs() < 0.2, "{p99}");
}

#[test]
fn failures_never_improve_a_percentile() {
    let mut repetition = steady(MS);
    repetition.responses.truncate(40);
    repetition.failed = 60;
    let cell = Cell::of(1, &[repetition]);
    let p50 = &cell.percentiles[0];
    assert!(p50.at_least && p50.value_ms.unwrap() > 39.9, "{p50:?}");
    assert_eq!((cell.answered, cell.failed), (40, 60));
}

#[test]
fn of_the_run_in_its_first_request_and_its_fault_are_told_and_nothing_counts() {
    let mut volley = steady(900 * MS);
    volley.alone = Some(stages(900, 900, 900));
    volley.failed = 3;
    volley.failure = Some("cold".to_owned());
    let counted = [steady(MS), steady(MS)];
    let cell = Cell::of(1, &counted).after(&volley.into());
    assert_eq!(cell.first_warmup_ms, Some(6300.0));
    assert_eq!(cell.run_in_failure.as_deref(), Some("cold"));
    let without = Cell {
        first_warmup_ms: None,
        run_in_failure: None,
        ..cell
    };
    assert_eq!(without, Cell::of(1, &counted));
}

#[test]
fn slabs_are_told_of_each_repetition_or_of_none() {
    let gained = |count| Repetition {
        pinned_allocations: count,
        ..steady(MS)
    };
    let told = |counts: [Option<u64>; 2]| Cell::of(1, &counts.map(gained)).pinned_allocations;
    assert_eq!(told([Some(4), Some(0)]), [4, 0]);
    assert!(told([Some(4), None]).is_empty());
}

#[test]
fn the_bound_is_of_the_slowest_stage_of_single_requests() {
    let cell = Cell::of(1, &[steady(58 * MS), steady(58 * MS)]);
    assert_eq!(cell.alone_ms.unwrap().h2d, 6.0);
    assert!((cell.bound_per_s.unwrap() - 1000.0 / 58.0).abs() < 1e-9);
    assert!((cell.of_bound.unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn what_an_idle_device_takes_alone_does_not_lower_the_bound() {
    let mut repetition = steady(29 * MS);
    // Copies take longer under load, the pass longer alone.
    repetition.stages = vec![stages(9, 29, 40)];
    let cell = Cell::of(1, &[repetition]);
    assert!((cell.bound_per_s.unwrap() - 1000.0 / 31.0).abs() < 1e-9);
}

#[test]
fn the_driver_is_asked_first_and_the_server_else() {
    let mut repetition = steady(MS);
    assert_eq!(Cell::of(1, &[repetition.clone()]).utilisation, None);
    repetition.pipeline = Some(PipelineStatistics {
        busy: 100 * MS,
        h2d: 30 * MS,
        compute: 80 * MS,
        d2h: 20 * MS,
        computing: 75 * MS,
    });
    let cell = Cell::of(1, &[repetition.clone()]);
    let told = cell.utilisation.unwrap();
    assert!((told.percent - 75.0).abs() < 1e-9);
    assert_eq!(told.source, Source::Computing);
    assert!((cell.overlap.unwrap() - 1.3).abs() < 1e-9);
    repetition.utilisation = vec![(500 * MS, 1), (1500 * MS, 40), (1900 * MS, 60)];
    let short = Cell::of(1, std::slice::from_ref(&repetition));
    assert_eq!(short.utilisation.unwrap().source, Source::Computing);
    repetition.responses.push(2000 * MS);
    let told = Cell::of(1, &[repetition]).utilisation.unwrap();
    assert_eq!((told.percent, told.source), (50.0, Source::Driver));
}

#[test]
fn what_was_not_measured_is_absent() {
    let cell = Cell::of(8, &[]);
    assert_eq!(cell.samples_per_s, None);
    assert_eq!((cell.latency_ms, cell.of_bound), (None, None));
    assert_eq!(cell.percentile_ms("p50"), None);
}
