//! Tensors that share transfers.

use super::*;
use crate::{error::Error, store::Class};

on_each_engine!(each_tensor_of_a_damaged_shared_read_is_said_to_be_damaged);

fn each_tensor_of_a_damaged_shared_read_is_said_to_be_damaged(choice: Choice) {
    // More than an engine takes at once.
    const COUNT: usize = 100;
    let rig = Rig::new(choice);
    let data = (0..COUNT as u64).map(|seed| random(seed, 4096).into());
    let parked = rig.store.offload_all(data.collect());
    let parked: Vec<_> = parked.into_iter().map(Result::unwrap).collect();
    rig.store.blocking().synchronize();
    rig.on_disk(Direction::Write, 0, &mut vec![0x55; COUNT * 4096]);
    for back in rig.store.onboard_all(parked, Class::Demand) {
        let lost = block_on(back).unwrap_err();
        assert!(
            matches!(lost.error, Error::Corrupt { .. }),
            "{}",
            lost.error
        );
    }
    let stats = rig.store.stats();
    assert_eq!(stats.retries, COUNT as u64);
    assert_eq!(stats.bad_bytes, COUNT as u64 * 4096);
    rig.finish();
}
