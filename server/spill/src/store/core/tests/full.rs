//! File systems that are full although their segments have room.

use std::{io, sync::Arc, time::Duration};

use super::*;
use crate::error::Limit;

const LEN: usize = 300_000;
/// Longer than a full file system is left alone.
const A_WHILE: Duration = Duration::from_secs(6);

/// Makes a core whose queue has room for three tensors.
fn narrow() -> Core {
    let mut core = core();
    core.config.write_queue_bytes = 3 * LEN as u64;
    core
}

/// Lets all writes fail that can be started.
fn fail_writes(core: &mut Core, now: Instant) {
    let full = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
    while let Some(start) = core.pick(0, Room { now, ..room() }) {
        let Start::Write { parts, .. } = start else {
            panic!("{start:?}");
        };
        for part in parts {
            core.not_written(0, part, &full, now);
        }
    }
}

fn is_full(refused: Result<u64, crate::error::Refused>) -> bool {
    let error = refused.map_err(|refused| refused.error);
    matches!(
        error,
        Err(Error::Full {
            what: Limit::Device,
            left_bytes: 0,
            ..
        })
    )
}

fn offer(core: &mut Core, now: Instant) -> Result<u64, crate::error::Refused> {
    core.admit(Data::from(vec![0; LEN]), None, now)
}

#[test]
fn a_write_that_finds_no_room_stops_the_intake_for_a_while() {
    let (mut core, now) = (narrow(), Instant::now());
    let ids = [(); 2].map(|()| offer(&mut core, now).unwrap());
    let free = core.disks[0].space.free_bytes();
    fail_writes(&mut core, now);
    assert_eq!(core.stats().kept_bytes, 2 * LEN as u64);
    assert_eq!(core.disks[0].space.free_bytes(), free);
    assert!(is_full(offer(&mut core, now)));
    ids.into_iter().for_each(|id| core.abandon(id));
    assert!(is_full(offer(&mut core, now)), "time mends it, not room");
    assert!(offer(&mut core, now + A_WHILE).is_ok());
    assert_eq!(core.stats().kept_bytes, 0);
}

#[test]
fn nothing_is_written_to_a_full_file_system_for_a_while() {
    let (mut core, now) = (narrow(), Instant::now());
    let [first, second] = [(); 2].map(|()| offer(&mut core, now).unwrap());
    let Some(Start::Write { mut parts, .. }) = core.pick(0, room()) else {
        panic!("there is room");
    };
    let full = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
    core.not_written(0, parts.remove(0), &full, now);
    let room = Room { now, ..room() };
    assert!(core.pick(0, room).is_none(), "the second is not tried");
    let kept = |id| matches!(core.entries[&id].outcome, Some(Err(Error::Full { .. })));
    assert!(kept(first) && kept(second));
}

#[test]
fn what_no_disk_takes_has_the_write_queue_s_bound() {
    let (mut core, start) = (narrow(), Instant::now());
    let mut ids = Vec::new();
    for round in 0..3 {
        let now = start + round * A_WHILE;
        ids.push(offer(&mut core, now).unwrap());
        fail_writes(&mut core, now);
    }
    let later = start + 3 * A_WHILE;
    assert!(is_full(offer(&mut core, later)), "memory is full of them");
    core.abandon(ids.remove(0));
    assert!(offer(&mut core, later).is_ok());
    let refused = offer(&mut core, later).unwrap_err();
    assert!(matches!(refused.error, Error::QueueFull { .. }));
}

#[test]
fn no_others_are_sought_to_share_a_write_where_there_is_no_room() {
    let (mut core, now) = (core(), Instant::now());
    let ids = [(); 3].map(|()| admit(&mut core, 4096));
    core.disks[0].write_full_until = Some(now + A_WHILE);
    let first = core.next_part(0, |_| true).unwrap();
    // What is written no more leaves the queue when it is looked at.
    core.abandon(ids[1]);
    let alone = core.gather(0, first, now).unwrap_err();
    assert_eq!(alone.entry, ids[0]);
    assert_eq!((core.disks[0].writes.len(), core.stale), (2, 1));
}

#[test]
fn a_full_store_says_so_to_a_call_that_never_fits_the_queue() {
    let (mut core, now) = (narrow(), Instant::now());
    let never = core.config.bounds().exceeded([LEN; 4]);
    let offer = |core: &mut Core| {
        let refused = core.admit(Data::from(vec![0; LEN]), never.as_ref(), now);
        refused.map_err(|refused| refused.error.kind())
    };
    let _taken = [(); 3].map(|()| offer(&mut core).unwrap());
    assert_eq!(offer(&mut core), Err("too_large"));
    fail_writes(&mut core, now);
    assert_eq!(offer(&mut core), Err("full"));
}
