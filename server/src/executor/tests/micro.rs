//! Batches that run in pieces: who gets which rows, and what fails together.

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::rig::*;
use crate::{
    executor::{MicroBatches, Mode},
    repository::Scheduling,
    request::Reply,
};

/// Jobs of a batch of 8 rows; what is in a row tells them apart.
fn rows(count: usize, first: u8) -> Vec<u8> {
    let last = first + u8::try_from(count).unwrap();
    (first..last).flat_map(|row| [row; 4]).collect()
}

fn wiring(scheduling: Scheduling, pieces: usize) -> Wiring {
    Wiring {
        scheduling,
        depth: 3,
        mode: Mode::Auto,
        instances: 1,
        micro_batches: MicroBatches::Pieces(NonZeroUsize::new(pieces).unwrap()),
    }
}

/// Waits for company until the batch of 8 rows is full.
fn full() -> Scheduling {
    batching_for(Duration::from_secs(60))
}

#[test]
fn every_job_gets_its_own_rows_wherever_the_batch_is_cut() {
    for pieces in 2..=8 {
        for counts in [
            vec![8],
            vec![3, 3, 2],
            vec![1, 6, 1],
            vec![1; 8],
            vec![4, 4],
        ] {
            let device = stage_times(0, 0, 0);
            let passes = Arc::default();
            let rig = rig_of(&device, &wiring(full(), pieces), || echo(&passes));
            let mut first = 10;
            let mut pending = Vec::new();
            for &count in &counts {
                let bytes = rows(count, first);
                first += u8::try_from(count).unwrap();
                let (reply, answer) = Reply::channel();
                let job = rig.job_of(bytes.clone(), reply);
                pending.push((bytes, rig.scheduler.submit(job, answer).unwrap()));
            }
            for (bytes, answer) in pending {
                let outputs = wait(answer).unwrap().outputs;
                assert_eq!(outputs[0].data()[..], bytes, "{counts:?} in {pieces}");
                let count = i64::try_from(bytes.len() / 4).unwrap();
                assert_eq!(outputs[0].shape().dims(), [count, 4]);
            }
            assert_eq!(passes.load(Ordering::Relaxed), pieces);
            let batches = &rig.statistics.report("echo", 1).batch_stats;
            assert_eq!((batches.len(), batches[0].forebay_cut_count), (1, 1));
            rig.finish();
            assert_eq!(device.hazards(), []);
        }
    }
}

#[test]
fn a_piece_that_fails_fails_its_batch_and_no_other() {
    // An echo whose first byte is 1 fails: here the first of the second piece.
    let device = stage_times(1, 1, 1);
    let passes = Arc::default();
    let rig = rig_of(&device, &wiring(full(), 2), || echo(&passes));
    let submit = |byte| rig.submit(4, byte);
    let failing = [submit(7), submit(1)];
    for answer in failing {
        assert!(wait(answer).unwrap_err().to_string().contains("planted"));
    }
    for answer in [submit(7), submit(8)] {
        wait(answer).unwrap();
    }
    rig.finish();
    assert_eq!(device.hazards(), []);
}

#[test]
fn rows_that_may_depend_on_each_other_are_not_cut() {
    let device = stage_times(0, 0, 0);
    let passes = Arc::default();
    let rig = rig_of(&device, &wiring(Scheduling::Each, 4), || echo(&passes));
    wait(rig.submit(8, 7)).unwrap();
    assert_eq!(passes.load(Ordering::Relaxed), 1);
    rig.finish();
}
