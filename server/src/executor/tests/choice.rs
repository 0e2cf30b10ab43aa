//! Which way batches go, as the statistics tell it.

use super::rig::*;
use crate::{executor::Mode, repository::Scheduling};

/// Runs batches of 4/4/4 ms, all at once, and returns how many went inline and through the stages,
/// and the times of the stages over the time that the pipeline was busy.
fn run(mode: Mode) -> (u64, u64, f64) {
    let device = stage_times(4, 4, 4);
    let rig = rig(device.clone(), &Scheduling::Each, 3, mode);
    let pending: Vec<_> = (0..30).map(|_| rig.submit(1, 7)).collect();
    for answer in pending {
        wait(answer).unwrap();
    }
    let statistics = rig.statistics.clone();
    rig.finish();
    assert_eq!(device.hazards(), []);
    let report = statistics.report("echo", 1);
    let [batches] = &report.batch_stats[..] else {
        panic!("{report:?}")
    };
    assert_eq!(batches.forebay_cut_count, 0);
    let ways = (batches.forebay_inline_count, batches.forebay_staged_count);
    assert_eq!(ways.0 + ways.1, report.execution_count);
    let pipeline = report.forebay_pipeline.unwrap();
    let stages = pipeline.h2d_ns + pipeline.compute_ns + pipeline.d2h_ns;
    assert!(pipeline.computing_ns <= pipeline.compute_ns + 30_000_000);
    assert!(pipeline.computing_ns <= pipeline.busy_ns);
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let overlap = stages as f64 / pipeline.busy_ns as f64;
    (ways.0, ways.1, overlap)
}

#[test]
fn batches_that_wait_go_through_the_stages_and_overlap() {
    let (inline, staged, overlap) = run(Mode::Auto);
    assert!(staged >= 25, "{inline} inline, {staged} staged");
    assert!(overlap > 1.5, "{overlap}");
}

#[test]
fn batches_that_run_inline_do_not_overlap() {
    let (inline, staged, overlap) = run(Mode::Inline);
    assert_eq!((inline, staged), (30, 0));
    assert!(overlap <= 1.0, "{overlap}");
}
