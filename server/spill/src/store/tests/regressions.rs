//! What others lost or leaked, by name.

use bytes::Bytes;
use std::thread;

use super::*;
use crate::{
    engine::fault::{Fault, Until},
    error::{Error, Limit},
    store::{Class, Data, entry},
};

on_each_engine!(
    a_full_disk_loses_nothing_and_says_so,
    a_disk_that_is_full_in_spite_of_its_segments_loses_nothing,
    a_completion_wakes_its_waiter_without_another_call,
    a_read_that_returns_has_its_data,
    an_operation_that_is_put_off_does_not_hang,
    results_of_writes_are_checked_1000_bytes,
    a_vectored_read_frees_its_extents,
    a_view_does_not_change_its_base,
    a_vector_of_1500_tensors_comes_back,
    the_same_tensor_offloaded_twice_is_two,
    completions_out_of_order,
    operations_are_cut_to_pieces,
    every_length_comes_back,
    a_tensor_longer_than_a_segment_comes_back,
);

fn a_full_disk_loses_nothing_and_says_so(choice: Choice) {
    let rig = Rig::with(choice, 1, 2, |config| config.segment_bytes = 1 << 20);
    let (small, large) = (random(1, 500_000), random(2, 4 << 20));
    let fits = rig.store.offload(rig.buffer(&small)).unwrap();
    block_on(fits.settled()).unwrap();
    let too_much = rig.store.offload(rig.buffer(&large)).unwrap();
    let error = block_on(too_much.settled()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Full {
                what: Limit::Device,
                ..
            }
        ),
        "{error}"
    );
    let refused = rig.store.offload(rig.buffer(&large)).unwrap_err();
    assert!(matches!(
        refused.error,
        Error::Full {
            what: Limit::Device,
            ..
        }
    ));
    assert_eq!(refused.data.as_ref(), large);
    drop(refused);
    assert_eq!(rig.store.stats().kept_bytes, 4 << 20);
    let back = rig.store.blocking().onboard(too_much).unwrap();
    assert!(back[..] == large[..]);
    drop(back);
    let back = rig.store.blocking().onboard(fits).unwrap();
    assert!(back[..] == small[..]);
    drop(back);
    let again = rig
        .store
        .blocking()
        .offload_and_wait(small.clone())
        .unwrap();
    assert!(rig.store.blocking().onboard(again).unwrap()[..] == small[..]);
    rig.finish();
}

fn a_disk_that_is_full_in_spite_of_its_segments_loses_nothing(choice: Choice) {
    const ENOSPC: i32 = 28;
    let data = random(1, 3 << 20);
    for aligned in [true, false] {
        let rig = Rig::new(choice);
        rig.controls[0].set(plan::each(Direction::Write, Fault::Errno(ENOSPC)));
        let tensor: Data = match aligned {
            true => rig.buffer(&data).into(),
            false => data.clone().into(),
        };
        let parked = rig.store.offload(tensor).unwrap();
        let error = block_on(parked.settled()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Full {
                    what: Limit::Device,
                    ..
                }
            ),
            "{error}"
        );
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
        assert_eq!(rig.store.stats().bad_bytes, 0);
        assert!(rig.store.stats().dirs[0].out_of_use.is_none());
        rig.finish();
    }
}

fn a_completion_wakes_its_waiter_without_another_call(choice: Choice) {
    let rig = Rig::new(choice);
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::each(Direction::Write, held));
    let parked = rig.store.offload(rig.buffer(&random(1, 1 << 20))).unwrap();
    let settled = parked.settled();
    let waiter = thread::spawn(move || block_on(settled));
    eventually(|| rig.controls[0].counts().held == 1);
    assert!(!waiter.is_finished() && rig.pool.usage().leased_bytes > 0);
    gate.open();
    waiter.join().unwrap().unwrap();
    assert_eq!(
        rig.pool.usage().leased_bytes,
        0,
        "released before the waiter knows"
    );
    drop(parked);
    rig.finish();
}

fn a_read_that_returns_has_its_data(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 4 << 20);
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(rig.buffer(&data))
        .unwrap();
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::each(Direction::Read, held));
    let store = rig.store.clone();
    let reader = thread::spawn(move || {
        // What is written is no answer for what is read.
        store.blocking().synchronize();
        store.blocking().onboard(parked)
    });
    eventually(|| rig.controls[0].counts().held == 4);
    assert!(!reader.is_finished());
    gate.open();
    assert!(reader.join().unwrap().unwrap()[..] == data[..]);
    rig.finish();
}

fn an_operation_that_is_put_off_does_not_hang(choice: Choice) {
    const EAGAIN: i32 = 11;
    let rig = Rig::new(choice);
    let put_off = || plan::script([Fault::Errno(EAGAIN), Fault::Errno(EAGAIN)]);
    rig.controls[0].set(put_off());
    let data = random(1, 100_000);
    let parked = rig.store.offload(rig.buffer(&data)).unwrap();
    rig.store.blocking().synchronize();
    block_on(parked.settled()).unwrap();
    rig.controls[0].set(put_off());
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    assert_eq!(rig.store.stats().retries, 4);
    rig.finish();
}

fn results_of_writes_are_checked_1000_bytes(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 1000);
    let parked = rig.store.offload(rig.buffer(&data)).unwrap();
    block_on(parked.settled()).unwrap();
    let mut on_disk = vec![0; 4096];
    rig.on_disk(Direction::Read, 0, &mut on_disk);
    assert!(on_disk[..1000] == data[..], "it says so when it is there");
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);

    let short = Fault::Short { by: 4096, round: 1 };
    rig.controls[0].set(plan::each(Direction::Write, short));
    let parked = rig.store.offload(rig.buffer(&data)).unwrap();
    let error = block_on(parked.settled()).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::Disabled { .. }));
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    rig.finish();
}

fn a_vectored_read_frees_its_extents(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| {
        config.segment_bytes = 4 << 20
    });
    let all: Vec<_> = (0..8).map(|seed| random(seed, 256 << 10)).collect();
    for _ in 0..50 {
        let data = all.iter().map(|one| rig.buffer(one).into()).collect();
        let parked: Vec<_> = rig
            .store
            .offload_all(data)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        rig.store.blocking().synchronize();
        let back = rig.store.onboard_all(parked, Class::Demand);
        for (back, one) in back.into_iter().zip(&all) {
            assert!(block_on(back).unwrap()[..] == one[..]);
        }
    }
    let stats = rig.store.stats();
    assert_eq!(
        (stats.used_bytes, stats.dirs[0].segment_bytes),
        (0, 4 << 20)
    );
    assert_eq!(stats.written.bytes, 50 * (2 << 20));
    rig.finish();
}

fn a_view_does_not_change_its_base(choice: Choice) {
    let rig = Rig::new(choice);
    let base = Bytes::from(random(1, 100_000));
    let before = base.to_vec();
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(base.slice(512..))
        .unwrap();
    assert_eq!(parked.len(), base.len() - 512);
    assert!(base == before);
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == before[512..]);
    rig.finish();
}

fn a_vector_of_1500_tensors_comes_back(choice: Choice) {
    let rig = Rig::new(choice);
    let all: Vec<_> = (0..1500).map(|seed| random(seed, 4096)).collect();
    let data = all.iter().map(|one| one.clone().into()).collect();
    let parked: Vec<_> = rig
        .store
        .offload_all(data)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    rig.store.blocking().synchronize();
    let back = rig.store.onboard_all(parked, Class::Demand);
    assert_eq!(back.len(), 1500);
    for (back, one) in back.into_iter().zip(&all) {
        assert!(block_on(back).unwrap()[..] == one[..]);
    }
    let stats = rig.store.stats();
    assert!(stats.written.operations <= 10, "{stats:?}");
    assert!(stats.read.operations <= 20, "{stats:?}");
    assert_eq!((stats.coalesced, stats.read.bytes), (1500, 1500 * 4096));
    rig.finish();
}

fn the_same_tensor_offloaded_twice_is_two(choice: Choice) {
    let rig = Rig::new(choice);
    let data = Bytes::from(random(1, 70_000));
    let first = rig.store.offload(data.clone()).unwrap();
    let second = rig.store.offload(data.clone()).unwrap();
    rig.store.blocking().synchronize();
    assert_eq!(rig.store.stats().used_bytes, 2 * 73_728);
    drop(first);
    assert_eq!(rig.store.stats().used_bytes, 73_728);
    assert!(rig.store.blocking().onboard(second).unwrap()[..] == data[..]);
    rig.finish();
}

fn completions_out_of_order(choice: Choice) {
    let rig = Rig::new(choice);
    let (first, second) = (random(1, 1 << 20), random(2, 1 << 20));
    let parked = [&first, &second].map(|data| rig.store.offload(rig.buffer(data)).unwrap());
    rig.store.blocking().synchronize();
    let gate = rig.controls[0].gate();
    let held = Fault::Hold(Until::Open(gate.clone()));
    rig.controls[0].set(plan::script([held]));
    let [slow, fast] = parked.map(|parked| rig.store.onboard(parked, Class::Demand));
    assert!(block_on(fast).unwrap()[..] == second[..]);
    gate.open();
    assert!(block_on(slow).unwrap()[..] == first[..]);
    rig.finish();
}

fn operations_are_cut_to_pieces(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    let longest = Arc::new(Mutex::new(0));
    for control in &rig.controls {
        let longest = Arc::clone(&longest);
        control.set(Box::new(move |op| {
            let mut longest = longest.lock().unwrap();
            *longest = op.memory.len().max(*longest);
            Fault::Pass
        }));
    }
    let data = random(1, (20 << 20) + 5);
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(rig.buffer(&data))
        .unwrap();
    let segments: Vec<_> = rig
        .store
        .stats()
        .dirs
        .iter()
        .map(|dir| dir.segment_bytes)
        .collect();
    assert!(
        segments.iter().all(|bytes| *bytes > 0),
        "striped: {segments:?}"
    );
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    assert_eq!(*longest.lock().unwrap(), entry::PIECE_BYTES);
    rig.finish();
}

#[test]
fn more_than_2_gib_are_cut_to_chunks_without_a_gap() {
    let len = (5 << 30) + 1;
    let mut end = 0;
    for (start, bytes) in entry::chunks(len) {
        assert!(start == end && bytes > 0 && bytes <= entry::CHUNK_BYTES);
        end = start + bytes;
    }
    assert_eq!(end, len);
}

fn every_length_comes_back(choice: Choice) {
    let rig = Rig::new(choice);
    let bytes = Bytes::from(random(1, 8193));
    for lens in [0..3000, 3000..6000, 6000..8194] {
        let data = |len: usize| match len % 2 {
            0 => bytes.slice(..len).into(),
            _ => rig.buffer(&bytes[..len]).into(),
        };
        let all = lens.clone().map(data).collect();
        let parked: Vec<_> = rig
            .store
            .offload_all(all)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        rig.store.blocking().synchronize();
        let back = rig.store.onboard_all(parked, Class::Prefetch);
        for (back, len) in back.into_iter().zip(lens) {
            assert_eq!(block_on(back).unwrap()[..], bytes[..len]);
        }
    }
    rig.finish();
}

fn a_tensor_longer_than_a_segment_comes_back(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| {
        config.segment_bytes = 1_200_128 & !4095
    });
    let data = random(1, 5_000_003);
    for tensor in [Data::from(rig.buffer(&data)), data.clone().into()] {
        let parked = rig.store.offload(tensor).unwrap();
        block_on(parked.settled()).unwrap();
        assert!(rig.store.blocking().read(&parked).unwrap()[..] == data[..]);
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    rig.finish();
}
