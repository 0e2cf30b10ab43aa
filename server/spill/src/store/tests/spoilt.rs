//! Places on a disk that cannot be read.

use super::*;
use crate::{engine::fault::Fault, error::Error};

const EIO: i32 = 5;
const ENOMEM: i32 = 12;

on_each_engine!(
    a_place_that_cannot_be_read_is_not_given_out_again,
    a_place_is_not_to_blame_for_a_lack_of_memory,
);

fn bad_bytes_after(choice: Choice, errno: i32) -> u64 {
    let rig = Rig::new(choice);
    let parked = rig.store.blocking().offload_and_wait(random(1, 5000));
    let parked = parked.unwrap();
    rig.controls[0].set(plan::each(Direction::Read, Fault::Errno(errno)));
    let lost = rig.store.blocking().onboard(parked).unwrap_err();
    assert!(matches!(lost.error, Error::Io { .. }), "{}", lost.error);
    drop(lost);
    let bad_bytes = rig.store.stats().bad_bytes;
    rig.finish();
    bad_bytes
}

fn a_place_that_cannot_be_read_is_not_given_out_again(choice: Choice) {
    assert_eq!(bad_bytes_after(choice, EIO), 8192);
}

fn a_place_is_not_to_blame_for_a_lack_of_memory(choice: Choice) {
    assert_eq!(bad_bytes_after(choice, ENOMEM), 0);
}
