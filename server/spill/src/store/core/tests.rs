use std::{io, path::Path, time::Duration};

use super::*;
use crate::store::Data;

mod broken;
mod coalesced;
mod freed;
mod full;
mod leaks;
mod merged;
mod stale;

fn room() -> Room {
    Room {
        flight: true,
        bounce: true,
        recall: true,
        now: Instant::now(),
    }
}

/// Makes a core of disks without a segment.
fn bare(disks: u16) -> Core {
    let paths = (0..disks).map(|dir| format!("/spill/{dir}").into());
    let disk = |dir| Disk::new(dir, Path::new("/spill").into(), "none");
    Core::new(Config::new(paths), (0..disks).map(disk).collect(), true)
}

fn core() -> Core {
    let mut core = bare(1);
    core.grown(0, Ok(1 << 30), Instant::now());
    core
}

/// Keeps a disk from getting another segment, for longer than a test takes.
fn no_more_room(core: &mut Core, dir: usize) {
    let later = Instant::now() + Duration::from_secs(3600);
    core.grown(dir, Err(io::ErrorKind::StorageFull.into()), later);
}

/// Puts a disk out of use.
fn put_out(core: &mut Core, dir: usize) {
    let start = Instant::now();
    for secs in 0..3 {
        core.failed(dir, "io", start + Duration::from_secs(secs));
    }
}

fn admit(core: &mut Core, len: usize) -> u64 {
    core.admit(Data::from(vec![0; len]), None, Instant::now())
        .unwrap()
}

/// Puts tensors on the disk.
fn parked(core: &mut Core, count: usize, len: usize) -> Vec<u64> {
    let ids = (0..count).map(|_| admit(core, len)).collect();
    while let Some(Start::Write { parts, .. }) = core.pick(0, room()) {
        parts.into_iter().for_each(|part| core.written(part));
    }
    ids
}

#[test]
fn reads_that_somebody_waits_for_go_first_and_the_others_and_writes_have_their_share() {
    let mut core = core();
    let ids = parked(&mut core, 12, 300_000);
    let (early, late) = ids.split_at(6);
    let mut answers: Vec<_> = early
        .iter()
        .map(|id| core.ask(*id, Class::Prefetch, true))
        .collect();
    answers.extend(late.iter().map(|id| core.ask(*id, Class::Demand, true)));
    let _waiting = [(); 10].map(|()| admit(&mut core, 300_000));
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for turn in 0..16 {
        match core.pick(0, room()) {
            Some(Start::Fetch(group)) => reads.extend(group.iter().map(|one| one.entry)),
            Some(Start::Write { .. }) => writes.push(turn),
            other => panic!("{other:?}"),
        }
    }
    // One start in eight is read ahead.
    let (first, rest) = (&early[..1], &early[1..]);
    assert_eq!(reads, [&late[..1], first, &late[1..], rest].concat());
    assert_eq!(writes.len(), 4);
    assert!(
        writes.windows(2).all(|pair| pair[1] - pair[0] == 4),
        "{writes:?}"
    );
}

#[test]
fn neighbours_are_read_in_one_go_and_others_are_not() {
    let mut core = core();
    let ids = parked(&mut core, 4, 4096);
    let _answers: Vec<_> = [ids[0], ids[1], ids[3]]
        .map(|id| core.ask(id, Class::Demand, true))
        .into();
    let mut groups = Vec::new();
    while let Some(Start::Fetch(group)) = core.pick(0, room()) {
        groups.push(group.iter().map(|one| one.entry).collect::<Vec<_>>());
    }
    assert_eq!(groups, [vec![ids[0], ids[1]], vec![ids[3]]]);
}

#[test]
fn a_full_house_starts_nothing_but_answers_from_memory() {
    let mut core = core();
    let id = admit(&mut core, 300_000);
    let _answer = core.ask(id, Class::Demand, false);
    let full = Room {
        flight: false,
        ..room()
    };
    assert!(matches!(core.pick(0, full), Some(Start::Copy { .. })));
    assert!(core.pick(0, full).is_none());
}

#[test]
fn what_is_parked_and_kept_is_counted() {
    let mut core = core();
    let ids = parked(&mut core, 3, 4096);
    let _empty = admit(&mut core, 0);
    let _answer = core.ask(ids[0], Class::Demand, true);
    let Some(Start::Fetch(group)) = core.pick(0, room()) else {
        panic!("it is on the disk");
    };
    assert_eq!(core.stats().parked, 4);
    core.abandon(ids[0]);
    core.abandon(ids[0]);
    assert_eq!(core.stats().parked, 3, "it is gone, although it is read");
    core.end_read(group[0].read, Err(Error::Withdrawn));
    core.abandon(ids[1]);
    let stats = core.stats();
    assert_eq!((stats.parked, stats.kept_bytes), (2, 0));
}

#[test]
fn a_crash_of_a_thread_ends_all_waiting() {
    let mut core = core();
    let id = admit(&mut core, 300_000);
    let mut outcome = core.watch(id);
    let mut answer = core.ask(id, Class::Demand, true);
    core.crash();
    let after = std::mem::take(&mut core.after);
    assert!(
        outcome.try_recv().is_err(),
        "nobody is woken under the lock"
    );
    after.run();
    assert!(matches!(answer.try_recv(), Ok(Err(Error::Closed))));
    assert!(matches!(outcome.try_recv(), Ok(Err(Error::Closed))));
    assert!(core.is_settled(core.horizon()) && core.is_drained());
    let refused = core.admit(Data::from(vec![1]), None, Instant::now());
    let refused = refused.unwrap_err();
    assert!(matches!(refused.error, Error::Closed));
}
