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

#[test]
fn a_store_at_its_capacity_does_so_too() {
    let mut core = bare(1);
    core.config.capacity_bytes = 4 << 20;
    core.grown(0, Ok(4 << 20), Instant::now());
    let mut core = fragmented(core, 4);
    assert_eq!(writes(&mut core, 64), [4; 16]);
}
