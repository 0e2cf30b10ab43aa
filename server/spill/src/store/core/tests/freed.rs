//! Memory is freed when the lock is released, not under it.

use bytes::Bytes;

use super::*;
use crate::memory::{HostBuf, Pool};

const LEN: usize = 1 << 20;

/// Begins to read a tensor of two blocks.
fn begun(core: &mut Core, pool: &Pool) -> (oneshot::Receiver<Answer>, Vec<ReadPart>) {
    let id = parked(core, 1, 2 * LEN)[0];
    let answer = core.ask(id, Class::Demand, false);
    let Some(Start::Fetch(group)) = core.pick(0, room()) else {
        panic!("it is on the disk");
    };
    let pieces = pool.lease(2 * LEN).into_pieces(LEN);
    let part = |(block, piece): (&Block, _)| ReadPart {
        read: group[0].read,
        entry: id,
        block: *block,
        piece: Some(piece),
        again: false,
    };
    let parts = group[0].blocks.iter().zip(pieces).map(part).collect();
    (answer, parts)
}

#[track_caller]
fn assert_freed_after(core: &mut Core, pool: &Pool) {
    assert!(pool.usage().leased_bytes > 0, "it is freed under the lock");
    std::mem::take(&mut core.after).run();
    assert_eq!(pool.usage().leased_bytes, 0);
}

#[test]
fn the_memory_of_a_read_that_nobody_waits_for_any_more() {
    let (mut core, pool) = (core(), Pool::new(0));
    let (answer, parts) = begun(&mut core, &pool);
    core.ready(parts);
    drop(answer);
    assert!(core.pick(0, room()).is_none());
    assert_freed_after(&mut core, &pool);
}

#[test]
fn the_memory_of_a_read_of_which_a_block_failed() {
    let (mut core, pool) = (core(), Pool::new(0));
    let (_answer, mut parts) = begun(&mut core, &pool);
    let mut bad = parts.remove(1);
    let mut good = parts.remove(0);
    bad.piece = None;
    let piece = good.piece.take().unwrap();
    core.was_read(good, piece);
    core.not_read(bad, Error::Closed);
    assert_freed_after(&mut core, &pool);
}

#[test]
fn bytes_that_are_copied_while_their_tensor_is_dropped() {
    let (mut core, pool) = (core(), Pool::new(0));
    let data = Data::from(Bytes::from_owner(pool.lease(LEN)));
    let id = core.admit(data, None, Instant::now()).unwrap();
    let _answer = core.ask(id, Class::Demand, false);
    let Some(Start::Copy { read, lent, .. }) = core.pick(0, room()) else {
        panic!("it is in memory");
    };
    core.abandon(id);
    std::mem::take(&mut core.after).run();
    let copy: HostBuf = Pool::new(0).lease(LEN);
    core.copied(read, copy, lent);
    assert_freed_after(&mut core, &pool);
}
