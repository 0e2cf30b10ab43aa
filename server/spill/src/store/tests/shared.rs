//! Tensors that share transfers.

use super::*;
use crate::{
    engine::fault::Fault,
    error::{Error, Lost},
    store::Class,
};

const EIO: i32 = 5;

on_each_engine!(
    each_tensor_of_a_damaged_shared_read_is_said_to_be_damaged,
    a_bad_place_is_no_fault_of_its_neighbours,
);

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

fn a_bad_place_is_no_fault_of_its_neighbours(choice: Choice) {
    const BAD: u64 = 3 * 4096;
    let rig = Rig::new(choice);
    let data: Vec<_> = (0..8).map(|seed| random(seed, 4096)).collect();
    let parked = rig
        .store
        .offload_all(data.iter().map(|data| data.clone().into()).collect());
    let parked: Vec<_> = parked.into_iter().map(Result::unwrap).collect();
    rig.store.blocking().synchronize();
    rig.controls[0].set(Box::new(|op| {
        let covered = op.offset..op.offset + op.memory.len() as u64;
        match op.direction == Direction::Read && covered.contains(&BAD) {
            true => Fault::Errno(EIO),
            false => Fault::Pass,
        }
    }));
    let mut lost = 0;
    for (back, data) in rig
        .store
        .onboard_all(parked, Class::Demand)
        .into_iter()
        .zip(&data)
    {
        match block_on(back) {
            Ok(back) => assert!(back[..] == data[..]),
            Err(Lost { error, .. }) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                lost += 1;
            }
        }
    }
    let stats = rig.store.stats();
    assert!(stats.merged_reads > 1, "they were read apart");
    assert_eq!((lost, stats.bad_bytes), (1, 4096));
    rig.finish();
}
