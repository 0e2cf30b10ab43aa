//! Disks that fail: nothing that was accepted is lost.

use super::*;
use crate::{engine::fault::Fault, error::Error, store::Class};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOMEM: i32 = 12;

on_each_engine!(
    a_write_that_fails_once_is_tried_again,
    a_bad_place_is_left_and_another_taken,
    a_disk_that_cannot_write_leaves_tensors_in_memory_and_goes_out_of_use,
    the_other_disk_takes_what_one_cannot,
    a_disk_that_went_out_of_use_still_gives_back_what_it_has,
    a_read_that_fails_can_be_tried_again,
    short_and_interrupted_transfers_go_on,
    a_segment_cut_short_behind_the_store_is_an_error,
);

/// Writes until the first disk, which fails, is out of use.
fn wear_out(rig: &Rig) {
    eventually(|| {
        let written = rig.store.blocking().offload_and_wait(random(9, 5000));
        drop(written);
        rig.store.stats().dirs[0].out_of_use.is_some()
    });
}

fn a_write_that_fails_once_is_tried_again(choice: Choice) {
    let rig = Rig::new(choice);
    rig.controls[0].set(plan::script([Fault::Errno(EIO)]));
    let data = random(1, 10_000);
    let parked = rig.store.blocking().offload_and_wait(data.clone()).unwrap();
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    assert_eq!(
        (rig.store.stats().retries, rig.store.stats().bad_bytes),
        (1, 0)
    );
    rig.finish();
}

fn a_bad_place_is_left_and_another_taken(choice: Choice) {
    let rig = Rig::new(choice);
    rig.controls[0].set(Box::new(|op| match (op.direction, op.offset) {
        (Direction::Write, 0) => Fault::Errno(EIO),
        _ => Fault::Pass,
    }));
    let data: Vec<_> = (0..5).map(|seed| random(seed, 5000)).collect();
    let all = data.iter().map(|data| rig.buffer(data).into()).collect();
    let parked: Vec<_> = rig
        .store
        .offload_all(all)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (parked, data) in parked.into_iter().zip(&data) {
        block_on(parked.settled()).unwrap();
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    assert_eq!(rig.store.stats().bad_bytes, 5 * 8192);
    rig.finish();
}

fn a_disk_that_cannot_write_leaves_tensors_in_memory_and_goes_out_of_use(choice: Choice) {
    let rig = Rig::new(choice);
    rig.controls[0].set(plan::each(Direction::Write, Fault::Errno(EIO)));
    let data = [random(1, 3 << 20), random(2, 3 << 20)];
    let all = vec![rig.buffer(&data[0]).into(), data[1].clone().into()];
    let parked = rig.store.offload_all(all);
    rig.store.blocking().synchronize();
    for (parked, data) in parked.into_iter().zip(&data) {
        let parked = parked.unwrap();
        let error = block_on(parked.settled()).unwrap_err();
        assert!(
            matches!(error, Error::Io { .. } | Error::Disabled { .. }),
            "{error}"
        );
        assert!(rig.store.blocking().read(&parked).unwrap()[..] == data[..]);
        assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    }
    wear_out(&rig);
    let refused = rig.store.offload(vec![1]).unwrap_err();
    assert!(matches!(refused.error, Error::Disabled { .. }));
    assert_eq!(rig.store.stats().read.operations, 0);
    rig.finish();
}

fn the_other_disk_takes_what_one_cannot(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    rig.controls[0].set(plan::each(Direction::Write, Fault::Errno(EIO)));
    let data: Vec<_> = (0..10).map(|seed| random(seed, 9 << 19)).collect();
    for round in data.chunks(5) {
        let all = round.iter().map(|data| rig.buffer(data).into()).collect();
        let parked: Vec<_> = rig
            .store
            .offload_all(all)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        for (parked, data) in parked.into_iter().zip(round) {
            block_on(parked.settled()).unwrap();
            assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
        }
    }
    wear_out(&rig);
    let out: Vec<_> = rig
        .store
        .stats()
        .dirs
        .iter()
        .map(|dir| dir.out_of_use.is_some())
        .collect();
    assert_eq!(out, [true, false]);
    rig.finish();
}

fn a_disk_that_went_out_of_use_still_gives_back_what_it_has(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 2 << 20);
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(rig.buffer(&data))
        .unwrap();
    rig.controls[0].set(plan::each(Direction::Write, Fault::Errno(EIO)));
    let doomed = rig
        .store
        .blocking()
        .offload_and_wait(random(2, 4 << 20))
        .unwrap();
    wear_out(&rig);
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    drop(doomed);
    rig.finish();
}

fn a_read_that_fails_can_be_tried_again(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 1000);
    let parked = rig.store.blocking().offload_and_wait(data.clone()).unwrap();
    rig.controls[0].set(plan::script([Fault::Errno(EIO), Fault::Errno(EIO)]));
    let lost = rig.store.blocking().onboard(parked).unwrap_err();
    let Error::Io { op, source, .. } = &lost.error else {
        panic!("{}", lost.error);
    };
    assert_eq!((*op, source.raw_os_error()), (Direction::Read, Some(EIO)));
    let parked = lost.parked.expect("it may be there");
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    rig.finish();
}

fn short_and_interrupted_transfers_go_on(choice: Choice) {
    let rig = Rig::new(choice);
    let faults = || {
        let short = |by, round| Fault::Short { by, round };
        plan::script([
            Fault::Errno(EINTR),
            short(5000, 1),
            Fault::Errno(ENOMEM),
            short(4096, 4096),
            short(1, 1),
        ])
    };
    rig.controls[0].set(faults());
    let data = random(1, 60_000);
    let parked = rig
        .store
        .blocking()
        .offload_and_wait(rig.buffer(&data))
        .unwrap();
    rig.controls[0].set(faults());
    let back = block_on(rig.store.onboard(parked, Class::Demand)).unwrap();
    assert!(back[..] == data[..]);
    let stats = rig.store.stats();
    assert_eq!((stats.retries, stats.short_transfers), (4, 6));
    drop(back);
    rig.finish();
}

fn a_segment_cut_short_behind_the_store_is_an_error(choice: Choice) {
    let rig = Rig::new(choice);
    let data = [random(1, 1 << 20), random(2, 1 << 20)];
    let parked = data.each_ref().map(|data| {
        let tensor = rig.buffer(data);
        rig.store.blocking().offload_and_wait(tensor).unwrap()
    });
    let segment = Arc::clone(&rig.segments.lock().unwrap()[0]);
    segment.set_len((1 << 20) + 8192).unwrap();
    let [whole, cut] = parked;
    let error = rig.store.blocking().read(&cut).unwrap_err();
    let Error::Io { op, source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*op, Direction::Read);
    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
    assert!(rig.store.blocking().onboard(whole).unwrap()[..] == data[0][..]);
    drop(cut);
    rig.finish();
}
