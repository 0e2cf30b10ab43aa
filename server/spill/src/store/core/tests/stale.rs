//! Parts in the queues whose tensors are written no more.

use super::*;

#[test]
fn what_is_dropped_while_it_waits_is_not_written() {
    let mut core = core();
    let ids: Vec<_> = (0..40).map(|_| admit(&mut core, 300_000)).collect();
    let (kept, dropped): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id % 3 == 0);
    dropped.into_iter().for_each(|id| core.abandon(id));
    assert_eq!(core.disks[0].writes.len(), 40, "nothing was searched");
    let mut written = Vec::new();
    while let Some(Start::Write { parts, .. }) = core.pick(0, room()) {
        written.extend(parts.iter().map(|part| part.entry));
        parts.into_iter().for_each(|part| core.written(part));
    }
    assert_eq!(written, kept);
    assert_eq!((core.stale, core.is_settled(core.horizon())), (0, true));
}

#[test]
fn a_tensor_dropped_in_the_midst_of_its_blocks_gives_its_run_back() {
    let mut core = core();
    let free = core.disks[0].space.free_bytes();
    let id = admit(&mut core, 8 << 20);
    let Some(Start::Write { parts, .. }) = core.pick(0, room()) else {
        panic!("there is room");
    };
    core.abandon(id);
    assert!(core.pick(0, room()).is_none());
    parts.into_iter().for_each(|part| core.written(part));
    assert_eq!(core.disks[0].space.free_bytes(), free);
}

#[test]
fn the_queue_does_not_grow_with_what_comes_and_goes() {
    let mut core = core();
    let _stays = admit(&mut core, 300_000);
    for _ in 0..10_000 {
        let id = admit(&mut core, 4096);
        core.abandon(id);
        assert!(core.disks[0].writes.len() < 200);
    }
    assert!(matches!(core.pick(0, room()), Some(Start::Write { .. })));
    assert!(core.pick(0, room()).is_none());
    assert_eq!((core.stale, core.disks[0].writes.len()), (0, 0));
}
