//! What changes on the disk never comes back as if it were the tensor.

use super::*;
use crate::{
    engine::fault::Fault,
    error::{Error, Lost},
    store::Parked,
};

on_each_engine!(
    a_bit_flipped_once_on_the_way_is_read_again,
    a_bit_flipped_on_the_disk_is_an_error_and_its_place_is_not_used_again,
    swapped_extents_are_caught,
    a_stale_extent_is_caught,
    encrypted_tensors_come_back_and_cannot_be_read_on_the_disk,
    an_unchecked_store_still_moves_bytes,
);

fn offload(rig: &Rig, data: &[u8]) -> Parked {
    let parked = rig.store.offload(rig.buffer(data)).unwrap();
    block_on(parked.settled()).unwrap();
    parked
}

fn is_corrupt(lost: &Lost) -> bool {
    matches!(lost.error, Error::Corrupt { .. }) && lost.parked.is_none()
}

fn a_bit_flipped_once_on_the_way_is_read_again(choice: Choice) {
    let rig = Rig::new(choice);
    let data = random(1, 300_000);
    let parked = offload(&rig, &data);
    rig.controls[0].set(plan::script([Fault::Flip { bit: 1_000_000 }]));
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    assert_eq!(
        (rig.store.stats().retries, rig.store.stats().errors.corrupt),
        (1, 0)
    );
    rig.finish();
}

fn a_bit_flipped_on_the_disk_is_an_error_and_its_place_is_not_used_again(choice: Choice) {
    let rig = Rig::new(choice);
    let (bad, good) = (random(1, 300_000), random(2, 300_000));
    rig.controls[0].set(plan::script([Fault::Flip { bit: 77_777 }]));
    let parked = offload(&rig, &bad);
    let error = rig.store.blocking().read(&parked).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let lost = rig.store.blocking().onboard(parked).unwrap_err();
    assert!(is_corrupt(&lost), "{lost:?}");
    assert_eq!(rig.store.stats().bad_bytes, 303_104);
    let parked = offload(&rig, &good);
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == good[..]);
    rig.finish();
}

fn swapped_extents_are_caught(choice: Choice) {
    for encrypt in [false, true] {
        let rig = Rig::with(choice, 1, usize::MAX, |config| config.encrypt = encrypt);
        let parked = [1, 2].map(|seed| offload(&rig, &random(seed, 4096)));
        let (mut first, mut second) = (vec![0; 4096], vec![0; 4096]);
        rig.on_disk(Direction::Read, 0, &mut first);
        rig.on_disk(Direction::Read, 4096, &mut second);
        rig.on_disk(Direction::Write, 0, &mut second);
        rig.on_disk(Direction::Write, 4096, &mut first);
        for parked in parked {
            let lost = rig.store.blocking().onboard(parked).unwrap_err();
            assert!(is_corrupt(&lost), "{lost:?}");
        }
        rig.finish();
    }
}

fn a_stale_extent_is_caught(choice: Choice) {
    for encrypt in [false, true] {
        let rig = Rig::with(choice, 1, usize::MAX, |config| config.encrypt = encrypt);
        let data = random(1, 4096);
        let before = offload(&rig, &data);
        let mut stale = vec![0; 4096];
        rig.on_disk(Direction::Read, 0, &mut stale);
        drop(before);
        let parked = offload(&rig, &random(2, 4096));
        let mut fresh = vec![0; 4096];
        rig.on_disk(Direction::Read, 0, &mut fresh);
        assert_ne!(stale, fresh, "it has the same place");
        rig.on_disk(Direction::Write, 0, &mut stale);
        let lost = rig.store.blocking().onboard(parked).unwrap_err();
        assert!(is_corrupt(&lost), "{lost:?}");
        rig.finish();
    }
}

fn encrypted_tensors_come_back_and_cannot_be_read_on_the_disk(choice: Choice) {
    let rig = Rig::with(choice, 1, usize::MAX, |config| config.encrypt = true);
    let data = b"nobody else reads this ".repeat(1000);
    let parked = offload(&rig, &data);
    let mut on_disk = vec![0; 24_576];
    rig.on_disk(Direction::Read, 0, &mut on_disk);
    assert!(!on_disk.windows(7).any(|bytes| bytes == b"nobody "));
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    let large = random(1, (2 << 20) + 1);
    let parked = rig.store.offload(large.clone()).unwrap();
    block_on(parked.settled()).unwrap();
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == large[..]);
    rig.finish();
}

fn an_unchecked_store_still_moves_bytes(choice: Choice) {
    let off = crate::config::Checksum::Off;
    let rig = Rig::with(choice, 1, usize::MAX, |config| config.checksum = off);
    let data = random(1, 100_000);
    let parked = offload(&rig, &data);
    assert!(rig.store.blocking().onboard(parked).unwrap()[..] == data[..]);
    rig.finish();
}
