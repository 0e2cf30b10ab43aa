use super::*;
use crate::{engine::Broken, store::entry::CHUNK_BYTES};

/// Writes what a directory has to write.
fn write_all(core: &mut Core, dir: usize) {
    while let Some(start) = core.pick(dir, room()) {
        match start {
            Start::Write { parts, .. } => parts.into_iter().for_each(|part| core.written(part)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_tensor_that_is_partly_on_a_broken_disk_stays_in_memory() {
    let mut core = bare(2);
    for dir in 0..2 {
        core.grown(dir, Ok(1 << 30), Instant::now());
    }
    let id = admit(&mut core, 2 * CHUNK_BYTES);
    let mut outcome = core.watch(id);
    write_all(&mut core, 0);
    core.broke(0, &Arc::new(Broken("a test says so".to_owned()).into()));
    write_all(&mut core, 1);
    std::mem::take(&mut core.after).run();
    let error = outcome.try_recv().expect("it is settled");
    let error = error.expect_err("half of it would never come back");
    assert_eq!(error.kind(), "io");
    let _answer = core.ask(id, Class::Demand, false);
    assert!(matches!(core.pick(0, room()), Some(Start::Copy { .. })));
    let stats = core.stats();
    assert_eq!(stats.kept_bytes, 2 * CHUNK_BYTES as u64);
    assert_eq!(stats.used_bytes, 0);
}

#[test]
fn a_tensor_that_is_elsewhere_does_not_mind_a_broken_disk() {
    let mut core = bare(2);
    core.grown(1, Ok(1 << 30), Instant::now());
    let id = admit(&mut core, CHUNK_BYTES);
    let mut outcome = core.watch(id);
    core.broke(0, &Arc::new(Broken("a test says so".to_owned()).into()));
    write_all(&mut core, 0);
    write_all(&mut core, 1);
    std::mem::take(&mut core.after).run();
    assert!(matches!(outcome.try_recv(), Ok(Ok(()))));
}
