//! What the stages gain, by the clock. These tests run alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::rig::*;
use crate::{executor::Mode, repository::Scheduling};

#[test]
fn fifty_batches_take_the_time_of_the_slowest_stage() {
    let device = stage_times(10, 20, 10);
    let rig = rig(Arc::clone(&device), &Scheduling::Each, 3, Mode::Stages);
    let began = Instant::now();
    let pending: Vec<_> = (0..50).map(|_| rig.submit(1, 7)).collect();
    for answer in pending {
        wait(answer).unwrap();
    }
    let took = began.elapsed();
    let bound = Duration::from_millis(50 * 20 + 20);
    println!("50 batches of 10/20/10 ms took {took:?}; the bound is {bound:?}");
    assert!(took <= bound.mul_f64(1.1), "{took:?}");
    assert_eq!(rig.finish(), 3);
    assert_eq!(device.hazards(), []);
}
