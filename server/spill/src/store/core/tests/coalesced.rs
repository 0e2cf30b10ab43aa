//! Small tensors share writes, also where free space is in many small runs.

use super::*;

const SMALL: usize = 32 << 10;

/// Fills all segments with small tensors and drops every other `run` of them.
fn fragmented(mut core: Core, run: usize) -> Core {
    let count = usize::try_from(core.disks[0].space.bytes()).unwrap() / SMALL;
    let ids = parked(&mut core, count, SMALL);
    assert_eq!(core.disks[0].space.free_bytes(), 0);
    let dropped = ids.chunks(run).step_by(2).flatten();
    dropped.for_each(|id| core.abandon(*id));
    core
}

/// Offloads small tensors and returns how many each operation wrote.
fn writes(core: &mut Core, count: usize) -> Vec<usize> {
    for _ in 0..count {
        admit(core, SMALL);
    }
    let mut writes = Vec::new();
    while let Some(start) = core.pick(0, room()) {
        match start {
            Start::Grow(bytes) => core.grown(0, Ok(bytes), Instant::now()),
            Start::Write { parts, .. } => {
                writes.push(parts.len());
                parts.into_iter().for_each(|part| core.written(part));
            }
            other => panic!("{other:?}"),
        }
    }
    writes
}

#[test]
fn a_fragmented_store_grows_for_a_shared_write() {
    let mut core = bare(1);
    core.config.segment_bytes = 4 << 20;
    core.grown(0, Ok(4 << 20), Instant::now());
    let mut core = fragmented(core, 1);
    assert_eq!(writes(&mut core, 64), [32, 32]);
    assert_eq!(core.stats().coalesced, 128 + 64);
}

#[test]
fn a_fragmented_store_that_cannot_grow_shares_writes_as_long_as_its_runs() {
    let mut core = bare(1);
    core.grown(0, Ok(4 << 20), Instant::now());
    no_more_room(&mut core, 0);
    let mut core = fragmented(core, 4);
    assert_eq!(writes(&mut core, 62), [[4; 15].as_slice(), &[2]].concat());
}

/// Engines have room for 1,024 files.
#[test]
fn a_large_capacity_in_small_segments_is_all_used() {
    let mut core = bare(1);
    (core.config.capacity_bytes, core.config.segment_bytes) = (64 << 20, 4096);
    let mut segments = 0;
    for _ in 0..(64 << 20) / SMALL {
        admit(&mut core, SMALL);
    }
    while let Some(start) = core.pick(0, room()) {
        match start {
            Start::Grow(_) if segments == 1024 => panic!("no file is left"),
            Start::Grow(bytes) => {
                segments += 1;
                core.grown(0, Ok(bytes), Instant::now());
            }
            Start::Write { parts, .. } => parts.into_iter().for_each(|part| core.written(part)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(core.stats().used_bytes, 64 << 20);
}

#[test]
fn a_store_at_its_capacity_does_so_too() {
    let mut core = bare(1);
    core.config.capacity_bytes = 4 << 20;
    core.grown(0, Ok(4 << 20), Instant::now());
    let mut core = fragmented(core, 4);
    assert_eq!(writes(&mut core, 64), [4; 16]);
}
