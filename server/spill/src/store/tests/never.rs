//! What is refused for good, as opposed to what is refused for now.

use super::*;
use crate::{
    engine::fault::{Fault, Until},
    error::{Error, Refused},
    store::{Data, Parked},
};

on_each_engine!(
    tensors_that_never_fit_the_queue_together_are_too_large,
    tensors_that_fit_an_empty_queue_are_not,
    a_tensor_longer_than_the_store_is_too_large,
    tensors_that_go_together_are_all_taken_or_none_is_started,
);

fn narrow(choice: Choice) -> Rig {
    Rig::with(choice, 1, usize::MAX, |config| {
        (config.write_queue_bytes, config.write_queue_items) = (100_000, 4);
        config.capacity_bytes = 1 << 20;
    })
}

/// Offers tensors in one call: all are taken, or the first refusal counts.
fn offer(rig: &Rig, lens: &[usize]) -> Result<Vec<Parked>, Refused> {
    let all = lens.iter().map(|len| Data::from(vec![1; *len])).collect();
    rig.store.offload_all(all).into_iter().collect()
}

#[track_caller]
fn assert_never(rig: &Rig, lens: &[usize], key: &str) {
    let refused = offer(rig, lens).unwrap_err();
    let text = refused.error.to_string();
    assert!(text.contains(key), "{text}");
    assert!(!refused.error.is_retryable());
    assert_eq!(refused.error.kind(), "too_large");
    rig.store.blocking().synchronize();
}

fn tensors_that_never_fit_the_queue_together_are_too_large(choice: Choice) {
    let rig = narrow(choice);
    assert_never(&rig, &[40_000, 40_000, 40_000], "write_queue_bytes");
    assert_never(&rig, &[1, 200_000], "write_queue_bytes");
    assert_never(&rig, &[1; 5], "write_queue_items");
    let parked: Vec<_> = [40_000; 3]
        .map(|len| {
            let parked = rig.store.blocking().offload_and_wait(vec![1; len]);
            parked.expect("one after the other they fit")
        })
        .into();
    drop(parked);
    assert_eq!(rig.store.stats().errors.too_large, 3);
    rig.finish();
}

fn tensors_that_fit_an_empty_queue_are_not(choice: Choice) {
    let rig = narrow(choice);
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::each(Direction::Write, held));
    let first = rig.store.offload(vec![1; 40_000]).unwrap();
    let refused = offer(&rig, &[40_000, 40_000]).unwrap_err();
    assert!(matches!(refused.error, Error::QueueFull { .. }));
    gate.open();
    rig.store.blocking().synchronize();
    // Empty ones need no room.
    let parked = offer(&rig, &[50_000, 0, 0, 0, 50_000]).unwrap();
    drop((first, parked));
    rig.finish();
}

fn a_tensor_longer_than_the_store_is_too_large(choice: Choice) {
    let rig = narrow(choice);
    assert_never(&rig, &[(1 << 20) + 1], "capacity_bytes");
    let alone = rig.store.offload(vec![1; 1 << 20]).unwrap();
    let refused = rig.store.offload(vec![1]).unwrap_err();
    assert!(matches!(refused.error, Error::Full { .. }), "for now");
    drop(alone);
    rig.finish();
}

fn tensors_that_go_together_are_all_taken_or_none_is_started(choice: Choice) {
    let rig = narrow(choice);
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::each(Direction::Write, held));
    let together = |lens: [usize; 2]| {
        let all = lens.map(|len| Data::from(vec![1; len])).into();
        rig.store.offload_together(all)
    };
    let first = together([40_000, 1]).unwrap();
    eventually(|| rig.controls[0].counts().held > 0);
    let before = rig.store.stats();
    let (error, all) = together([40_000, 40_000]).unwrap_err();
    assert_eq!(error.kind(), "queue_full");
    let lens: Vec<usize> = all.iter().map(Data::len).collect();
    assert_eq!(lens, [40_000, 40_000]);
    let (error, _) = together([40_000, 80_000]).unwrap_err();
    assert_eq!(error.kind(), "too_large");
    let after = rig.store.stats();
    let held = |stats: &crate::stats::Stats| (stats.parked, stats.queued_items, stats.queued_bytes);
    assert_eq!(held(&before), (2, 2, 40_001));
    assert_eq!(held(&after), held(&before));
    let second = together([40_000, 19_999]).unwrap();
    assert_eq!(rig.store.stats().queued_bytes, 100_000);
    gate.open();
    drop((first, second));
    rig.finish();
}
