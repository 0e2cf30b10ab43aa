//! Engines that break down and keep the memory of what they were at.

use super::*;
use crate::{
    engine::fault::Fault,
    error::Error,
    store::{Class, Parked},
};

on_each_engine!(
    what_was_being_written_comes_back_from_memory,
    what_was_being_read_fails_and_the_store_ends,
    the_other_disk_takes_what_a_broken_engine_did_not,
);

/// Of one piece, of several, and small ones that share a write.
const LENS: [usize; 5] = [1 << 20, 3_000_000, 5000, 6000, 7000];

fn out_of_use(rig: &Rig, dir: usize) -> bool {
    rig.store.stats().dirs[dir].out_of_use.is_some()
}

fn offload(rig: &Rig) -> Vec<(Parked, Vec<u8>)> {
    let data: Vec<_> = (0..).zip(LENS).map(|(i, len)| random(i, len)).collect();
    let buffers = data.iter().map(|data| rig.buffer(data).into());
    let bytes = data.iter().map(|data| data.clone().into());
    let parked = rig.store.offload_all(buffers.chain(bytes).collect());
    let parked = parked.into_iter().map(Result::unwrap);
    parked.zip(data.iter().chain(&data).cloned()).collect()
}

fn what_was_being_written_comes_back_from_memory(choice: Choice) {
    let rig = Rig::new(choice);
    rig.controls[0].set(plan::each(Direction::Write, Fault::Break));
    let all = offload(&rig);
    rig.store.blocking().synchronize();
    assert!(out_of_use(&rig, 0));
    for (parked, data) in all {
        assert!(block_on(parked.settled()).is_err());
        assert!(rig.store.blocking().read(&parked).unwrap()[..] == data[..]);
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    let stats = rig.store.stats();
    assert_eq!((stats.used_bytes, stats.kept_bytes), (0, 0));
    assert!(stats.bad_bytes > 0, "the kernel may still write there");
    let Rig { store, pool, .. } = rig;
    drop(store);
    assert!(
        pool.usage().leased_bytes > 0,
        "the kernel may still read it"
    );
}

fn what_was_being_read_fails_and_the_store_ends(choice: Choice) {
    let rig = Rig::new(choice);
    let all = offload(&rig);
    rig.store.blocking().synchronize();
    rig.controls[0].set(plan::each(Direction::Read, Fault::Break));
    let parked = all.into_iter().map(|(parked, _)| parked).collect();
    for answer in rig.store.onboard_all(parked, Class::Demand) {
        let lost = block_on(answer).unwrap_err();
        assert!(matches!(lost.error, Error::Io { .. }), "{}", lost.error);
        assert!(lost.parked.is_none(), "it will never come back");
    }
    assert!(out_of_use(&rig, 0));
    eventually(|| rig.store.stats().used_bytes == 0);
    let Rig { store, pool, .. } = rig;
    drop(store);
    assert!(
        pool.usage().leased_bytes > 0,
        "the kernel may still fill it"
    );
}

fn the_other_disk_takes_what_a_broken_engine_did_not(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    rig.controls[0].set(plan::each(Direction::Write, Fault::Break));
    let all = offload(&rig);
    rig.store.blocking().synchronize();
    assert!(out_of_use(&rig, 0) && !out_of_use(&rig, 1));
    for (parked, data) in all {
        block_on(parked.settled()).unwrap();
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    drop(rig.store);
}
