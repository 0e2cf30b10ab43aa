//! Data on its way: read before it is written, dropped in mid-flight, refused.

use super::*;
use crate::{
    engine::fault::{Fault, Gate, Until},
    error::{Error, Limit},
    store::{Class, Data},
};

on_each_engine!(
    bytes_come_back_while_their_write_is_held,
    a_buffer_that_waits_comes_back_without_the_disk,
    a_buffer_in_flight_comes_back_when_its_write_ends,
    a_tensor_dropped_in_mid_write_keeps_its_memory_until_the_end,
    a_read_dropped_in_mid_flight_keeps_its_memory_until_the_end,
    a_tensor_that_came_back_frees_its_place_before_anybody_looks,
    a_full_queue_gives_the_data_back,
    a_full_store_gives_the_data_back,
    synchronize_waits_for_what_was_accepted,
    dropping_the_store_writes_what_it_accepted,
);

fn hold(rig: &Rig, direction: Direction) -> Gate {
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::each(direction, held));
    gate
}

fn bytes_come_back_while_their_write_is_held(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = hold(&rig, Direction::Write);
    let data = random(1, 700_000);
    let parked = rig.store.offload(data.clone()).unwrap();
    eventually(|| rig.controls[0].counts().held == 1);
    assert!(rig.store.blocking().read(&parked).unwrap()[..] == data[..]);
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    let stats = rig.store.stats();
    assert!(stats.used_bytes > 0, "the disk is still at it");
    assert_eq!((stats.read.operations, stats.from_memory), (0, 2));
    gate.open();
    rig.finish();
}

fn a_buffer_that_waits_comes_back_without_the_disk(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = hold(&rig, Direction::Write);
    let data: Vec<_> = (0..40).map(|seed| random(seed, 300_000)).collect();
    let offload = |data: &Vec<u8>| rig.store.offload(rig.buffer(data)).unwrap();
    let mut parked: Vec<_> = data.iter().map(offload).collect();
    eventually(|| rig.controls[0].counts().held == 32);
    let last = parked.pop().unwrap();
    assert!(rig.store.blocking().read(&last).unwrap()[..] == data[39][..]);
    assert!(rig.store.blocking().onboard(last).unwrap()[..] == data[39][..]);
    gate.open();
    for (parked, data) in parked.into_iter().zip(&data) {
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    rig.finish();
}

fn a_buffer_in_flight_comes_back_when_its_write_ends(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = hold(&rig, Direction::Write);
    let data = random(1, 3 << 20);
    let parked = rig.store.offload(rig.buffer(&data)).unwrap();
    eventually(|| rig.controls[0].counts().held == 3);
    let store = rig.store.clone();
    let reader = thread::spawn(move || {
        let copy = store.blocking().read(&parked).unwrap();
        (copy, store.blocking().onboard(parked).unwrap())
    });
    gate.open();
    let (copy, back) = reader.join().unwrap();
    assert!(copy[..] == data[..] && back[..] == data[..]);
    drop((copy, back));
    rig.finish();
}

fn a_tensor_dropped_in_mid_write_keeps_its_memory_until_the_end(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = hold(&rig, Direction::Write);
    let parked = rig.store.offload(rig.buffer(&random(1, 2 << 20))).unwrap();
    let settled = parked.settled();
    eventually(|| rig.controls[0].counts().held == 2);
    drop(parked);
    let stats = rig.store.stats();
    assert_eq!((stats.parked, stats.used_bytes), (0, 2 << 20));
    assert_eq!(rig.pool.usage().leased_bytes, 2 << 20);
    // Were the memory free, this would be it, and the poison on the disk.
    let mut poison = rig.pool.lease(2 << 20);
    poison.fill(0xdd);
    assert_eq!(rig.pool.usage().leased_bytes, 4 << 20);
    gate.open();
    assert!(matches!(block_on(settled), Err(Error::Withdrawn)));
    drop(poison);
    rig.finish();
}

fn a_read_dropped_in_mid_flight_keeps_its_memory_until_the_end(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 1 << 20);
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(rig.buffer(&data))
        .unwrap();
    let gate = hold(&rig, Direction::Read);
    drop(rig.store.read(&parked, Class::Prefetch));
    drop(rig.store.read(&parked, Class::Demand));
    let onboard = rig.store.onboard(parked, Class::Demand);
    eventually(|| rig.controls[0].counts().held > 0);
    drop(onboard);
    assert!(rig.pool.usage().leased_bytes > 0);
    assert_eq!(rig.store.stats().used_bytes, 1 << 20);
    gate.open();
    rig.finish();
}

fn a_tensor_that_came_back_frees_its_place_before_anybody_looks(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 3 << 20);
    let parked = rig.store.blocking().offload_and_wait(data.clone()).unwrap();
    let back = rig.store.onboard(parked, Class::Demand);
    eventually(|| rig.store.stats().used_bytes == 0);
    assert!(block_on(back).unwrap()[..] == data[..]);
    rig.finish();
}

fn a_full_queue_gives_the_data_back(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| {
        config.write_queue_bytes = 100_000;
        config.write_queue_items = 2;
    });
    let gate = hold(&rig, Direction::Write);
    let data = random(1, 60_000);
    let first = rig
        .store
        .offload(random(2, 200_000))
        .expect("one that waits alone may be larger");
    let refused = rig.store.offload(data.clone()).unwrap_err();
    assert!(matches!(
        refused.error,
        Error::QueueFull {
            queued_items: 1,
            ..
        }
    ));
    assert_eq!(refused.data.as_ref(), data);
    gate.open();
    rig.store.blocking().synchronize();
    let gate = hold(&rig, Direction::Write);
    let some: Vec<Data> = (0..2).map(|seed| random(seed, 10).into()).collect();
    let taken = rig.store.offload_all(some);
    assert!(taken.iter().all(Result::is_ok));
    let refused = rig.store.offload(random(3, 10)).unwrap_err();
    assert!(matches!(
        refused.error,
        Error::QueueFull {
            queued_items: 2,
            ..
        }
    ));
    assert!(refused.error.is_retryable());
    assert_eq!(rig.store.stats().errors.queue_full, 2);
    gate.open();
    drop((first, taken));
    rig.finish();
}

fn a_full_store_gives_the_data_back(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| {
        config.capacity_bytes = 1 << 20
    });
    let data = random(1, 1 << 20);
    let parked = rig.store.offload(data.clone()).unwrap();
    let refused = rig.store.offload(vec![1]).unwrap_err();
    let error = refused.error;
    assert!(
        matches!(
            error,
            Error::Full {
                what: Limit::Quota,
                left_bytes: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(refused.data.as_ref(), [1]);
    drop(parked);
    eventually(|| rig.store.stats().used_bytes == 0);
    drop(rig.store.offload(data).unwrap());
    rig.finish();
}

fn synchronize_waits_for_what_was_accepted(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = hold(&rig, Direction::Write);
    let parked = rig.store.offload(random(1, 5000)).unwrap();
    let all = rig.store.synchronize();
    let waiter = thread::spawn(move || block_on(all));
    eventually(|| rig.controls[0].counts().held == 1);
    assert!(!waiter.is_finished());
    gate.open();
    waiter.join().unwrap();
    assert_eq!(rig.store.stats().written.bytes, 8192);
    drop(parked);
    rig.finish();
}

fn dropping_the_store_writes_what_it_accepted(choice: Choice) {
    let rig = Rig::new(choice);
    let parked = rig.store.offload(rig.buffer(&random(1, 5 << 20))).unwrap();
    let settled = parked.settled();
    let waited_for = rig
        .store
        .onboard(rig.store.offload(vec![7; 9]).unwrap(), Class::Demand);
    drop(rig.store);
    assert!(block_on(settled).is_ok());
    assert_eq!(block_on(waited_for).unwrap()[..], [7; 9]);
    assert_eq!(rig.pool.usage().leased_bytes, 0);
    drop(parked);
}
